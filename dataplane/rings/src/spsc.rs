//! A ring with one producer and one consumer.
//!
//! Two counters run freely and wrap: `head`, which only the consumer advances, and `tail`, which only the
//! producer advances. The slots from `head` up to `tail` hold a value. Each end has a copy of the other's
//! counter and looks at the real one only when the copy says full or empty, so that a cache line changes cores
//! once a batch rather than once a message. A batch ([`push_batch`](Producer::push_batch),
//! [`pop_batch`](Consumer::pop_batch)) is published by one store, however many messages it has.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rings --release` runs the model checker over it (with a target
//! directory of its own, such as `CARGO_TARGET_DIR=/tmp/loom-target`); `tests/run` does.

use std::fmt;
use std::mem::MaybeUninit;

use thiserror::Error;

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell};

/// The most slots that a ring may have.
pub const SLOTS_MAX: usize = 1 << 20;

const _: () = assert!(SLOTS_MAX.is_power_of_two());

/// Two cache lines: the adjacent-line prefetcher of x86 fetches them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

struct Ring<T> {
    /// Messages taken so far. The consumer's.
    head: Padded<AtomicUsize>,
    /// Messages put so far. The producer's.
    tail: Padded<AtomicUsize>,
    producer_gone: AtomicBool,
    consumer_gone: AtomicBool,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a ring is reached only through its one producer and its one consumer. They hand a slot to each other
// by a release store and an acquire load of the counters and never touch the same slot at the same time (see
// `try_push` and `pop`), so all that crosses threads is the values themselves, which are `Send`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; the ring owns the values in it.
unsafe impl<T: Send> Send for Ring<T> {}

/// The sending end. Dropping it disconnects the ring; what is in it can still be taken. Aligned, so that the counters of
/// two ends that happen to lie side by side share no cache line.
#[repr(align(128))]
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// The consumer's counter as last seen: never ahead of the real one.
    head_seen: usize,
}

/// The receiving end. Dropping it disconnects the ring; what is in it is dropped with it.
#[repr(align(128))]
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// The producer's counter as last seen.
    tail_seen: usize,
}

/// A message that found no free slot, given back.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("the ring is full")]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full")
    }
}

/// Makes a ring of at least `capacity` slots, rounded up to a power of two.
///
/// # Panics
///
/// When `capacity` is zero or above [`SLOTS_MAX`].
#[must_use]
pub fn channel<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(
        capacity > 0 && capacity <= SLOTS_MAX,
        "a ring of {capacity} slots; 1 to {SLOTS_MAX} are possible"
    );
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring {
        head: Padded(AtomicUsize::new(0)),
        tail: Padded(AtomicUsize::new(0)),
        producer_gone: AtomicBool::new(false),
        consumer_gone: AtomicBool::new(false),
        slots,
    });
    let producer = Producer { ring: ring.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { ring, head: 0, tail_seen: 0 })
}

impl<T> Ring<T> {
    fn slot(&self, count: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[count & (self.slots.len() - 1)]
    }
}

impl<T> Producer<T> {
    /// Puts a message in, or gives it back when all slots are taken. A message for a consumer that is gone is
    /// taken as long as there is room; look at [`is_disconnected`](Self::is_disconnected).
    #[inline]
    pub fn try_push(&mut self, message: T) -> Result<(), Full<T>> {
        if !self.has_room() {
            return Err(Full(message));
        }
        self.write(message);
        self.publish();
        Ok(())
    }

    /// Puts in what `next` gives until it gives nothing or no slot is free, and shows all of it to the consumer at once.
    /// `next` is asked only when there is a slot for what it gives. Returns how many.
    #[inline]
    pub fn push_batch(&mut self, mut next: impl FnMut() -> Option<T>) -> usize {
        // Publishes also when `next` panics: what was written has left its former owner.
        let batch = Publish { began: self.tail, producer: self };
        while batch.producer.has_room() {
            let Some(message) = next() else { break };
            batch.producer.write(message);
        }
        batch.producer.tail.wrapping_sub(batch.began)
    }

    /// Whether a slot is free. Looks at the consumer's counter only when the copy says no.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        let capacity = self.capacity();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
        }
        self.tail.wrapping_sub(self.head_seen) != capacity
    }

    /// Writes into a slot that [`has_room`](Self::has_room) found free.
    #[inline]
    fn write(&mut self, message: T) {
        debug_assert!(self.tail.wrapping_sub(self.head_seen) < self.capacity(), "a free slot");
        self.ring.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot `tail` is outside head..tail, so the consumer does not read it before the
            // release store in `publish`, and is done with its former value: it advanced `head` past it, which
            // the acquire load in `has_room` showed us. There is one producer, and `&mut self` keeps it to one
            // caller.
            unsafe { (*slot).write(message) };
        });
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn publish(&self) {
        self.ring.tail.0.store(self.tail, Ordering::Release);
    }

    /// Slots in the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Messages in the ring. The consumer may take some of them any moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.ring.head.0.load(Ordering::Acquire))
    }

    /// Whether nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the consumer is gone: what is pushed now is never taken.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.ring.consumer_gone.load(Ordering::Acquire)
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest message.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if !self.has_message() {
            return None;
        }
        let message = self.read();
        self.publish();
        Some(message)
    }

    /// Gives `take` up to `messages_max` messages, oldest first, and hands their slots back all at once. Returns how many.
    #[inline]
    pub fn pop_batch(&mut self, messages_max: usize, mut take: impl FnMut(T)) -> usize {
        // Hands back also when `take` panics: a message that was read must not be read again.
        let batch = HandBack { began: self.head, consumer: self };
        while batch.consumer.head.wrapping_sub(batch.began) < messages_max && batch.consumer.has_message() {
            let message = batch.consumer.read();
            take(message);
        }
        batch.consumer.head.wrapping_sub(batch.began)
    }

    /// Whether there is a message. Looks at the producer's counter only when the copy says no.
    #[inline]
    fn has_message(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
        }
        self.head != self.tail_seen
    }

    /// Reads the message that [`has_message`](Self::has_message) found.
    #[inline]
    fn read(&mut self) -> T {
        debug_assert_ne!(self.head, self.tail_seen, "a message");
        let message = self.ring.slot(self.head).with_mut(|slot| {
            // SAFETY: the slot `head` is inside head..tail: the producer initialised it before the release
            // store that our acquire load saw, and does not write it again before the release store in
            // `publish`. The value is read once, because `head` moves past it. `&mut self` keeps us to one
            // caller.
            unsafe { (*slot).assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        message
    }

    #[inline]
    fn publish(&self) {
        self.ring.head.0.store(self.head, Ordering::Release);
    }

    /// Slots in the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Messages in the ring. The producer may add some any moment.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether nothing is there to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the producer is gone and everything has been taken: nothing will ever come.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        // In this order: the producer pushed before it went, so what it pushed is visible once its going is.
        self.ring.producer_gone.load(Ordering::Acquire) && self.is_empty()
    }
}

/// Shows the consumer what a batch has written, when it ends in whatever way.
struct Publish<'a, T> {
    producer: &'a mut Producer<T>,
    began: usize,
}

impl<T> Drop for Publish<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.producer.tail != self.began {
            self.producer.publish();
        }
    }
}

/// Hands the producer the slots that a batch has read, when it ends in whatever way.
struct HandBack<'a, T> {
    consumer: &'a mut Consumer<T>,
    began: usize,
}

impl<T> Drop for HandBack<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.consumer.head != self.began {
            self.consumer.publish();
        }
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.ring.producer_gone.store(true, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.ring.consumer_gone.store(true, Ordering::Release);
        // What is pushed in this very moment is dropped with the ring.
        while self.pop().is_some() {}
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let mut head = self.head.0.load(Ordering::Acquire);
        let tail = self.tail.0.load(Ordering::Acquire);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: both ends are gone, so this is the only access. The slots head..tail hold values
                // that nobody has taken.
                unsafe { (*slot).assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} of {})", self.len(), self.capacity())
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} of {})", self.len(), self.capacity())
    }
}

#[cfg(test)]
mod tests;
