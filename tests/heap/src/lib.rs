//! What a thread takes of the heap: for tests of what a connection or a document costs, and of paths that take nothing.
//!
//! A test makes [`CountingAllocator`] its program's allocator and compares what is counted before and after. Not for
//! programs: those count with `rt`, which counts no bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // No destructor and no lazy start: both would allocate.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread asks of it. Growth counts as a new block.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// How often the calling thread has asked for memory.
#[must_use]
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Bytes that the calling thread has taken and not given back; negative: it has given back what others took.
#[must_use]
pub fn live_bytes() -> i64 {
    LIVE_BYTES.with(Cell::get)
}

fn count(bytes: i64) {
    LIVE_BYTES.with(|live| live.set(live.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it is; counting touches thread-locals that need neither allocation
// nor destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        count(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
