//! Counting allocations, thread by thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // No destructor and no lazy start: both would allocate.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts how often each thread asks it for memory. For programs that measure:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: rt::CountingAllocator = rt::CountingAllocator;
///
/// let before = rt::thread_allocations().expect("installed");
/// let boxed = std::hint::black_box(Box::new(7));
/// assert_eq!(rt::thread_allocations(), Some(before + 1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// How often the calling thread has asked for memory, growth of what it had included; `None` where
/// [`CountingAllocator`] is not the program's allocator (or the thread has not asked yet).
#[must_use]
pub fn thread_allocations() -> Option<u64> {
    ALLOCATIONS.try_with(Cell::get).ok().filter(|&count| count > 0)
}

fn count() {
    // Not while the thread ends and its locals are gone.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local number only and
// neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`; the block came from the system's allocator.
        unsafe { System.realloc(block, layout, bytes) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`; the block came from the system's allocator.
        unsafe { System.dealloc(block, layout) };
    }
}
