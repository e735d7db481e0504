//! A hint to the processor's caches.

use std::collections::VecDeque;

/// A cache line.
const LINE_BYTES: usize = 64;

/// Has the processor fetch the memory of `value`, of which nothing is read now: where thousands of connections take turns
/// each is out of the cache when its turn comes, and fetched line by line it would cost more than all the work on it. Does
/// nothing where the processor has no such instruction.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start: *const i8 = std::ptr::from_ref(value).cast();
    for offset in (0..size_of_val(value)).step_by(LINE_BYTES) {
        fetch(start.wrapping_add(offset));
    }
}

/// The same for the first entry of a queue; for the one to come where there is none, if the queue was
/// [cleared](VecDeque::clear).
#[inline]
pub fn prefetch_front<T>(queue: &VecDeque<T>) {
    let start: *const i8 = queue.as_slices().0.as_ptr().cast();
    fetch(start);
    fetch(start.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch(at: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch neither reads nor writes as the program sees it, and is ignored where nothing is mapped.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
const fn fetch(_: *const i8) {}
