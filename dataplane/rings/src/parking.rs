//! Who must be woken: a flag between one thread that goes to sleep and any number that put work where it looks.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p rings --release` runs the model checker over it.

use crate::sync::{AtomicBool, Ordering, fence};

/// Says whether a thread sleeps, so that waking it costs nothing while it does not.
///
/// The sleeper calls [`park`](Self::park), looks at everything that others fill once more, sleeps only if there is nothing, and
/// calls [`unpark`](Self::unpark) when it is awake. The others put their work there, then ask
/// [`must_wake`](Self::must_wake). Either the sleeper sees the work, or one of them is told to wake it.
#[derive(Debug)]
pub struct Parking {
    is_parked: AtomicBool,
}

impl Parking {
    /// Of a thread that is awake.
    #[must_use]
    pub fn new() -> Self {
        Self { is_parked: AtomicBool::new(false) }
    }

    /// Whether the caller, who has put work there, must wake the sleeper now. One of several callers is told so.
    #[inline]
    pub fn must_wake(&self) -> bool {
        // Pairs with the fence in `park`: our work, then our look at the flag; its flag, then its look at the work. In
        // either order of the two fences one side sees the other.
        fence(Ordering::SeqCst);
        self.is_parked.load(Ordering::Relaxed) && self.is_parked.swap(false, Ordering::AcqRel)
    }

    /// The sleeper is going to sleep: it must look at its work once more after this.
    #[inline]
    pub fn park(&self) {
        // Exchanges on both sides, not stores, keep the flag's changes in one order.
        self.is_parked.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake.
    #[inline]
    pub fn unpark(&self) {
        self.is_parked.swap(false, Ordering::Relaxed);
    }
}

impl Default for Parking {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::sync::atomic::AtomicUsize;
    use loom::sync::{Arc, Notify};

    use super::*;

    /// Preemptions of a run: each order of more of them takes the checker minutes.
    const PREEMPTIONS_MAX: usize = 3;

    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS_MAX);
        builder.check(model);
    }

    #[derive(Default)]
    struct Shared {
        parking: Parking,
        /// Stands for the eventfd: a ring is kept until it ends a sleep.
        event: Notify,
        work: [AtomicUsize; 2],
    }

    impl Shared {
        fn done(&self) -> [usize; 2] {
            [0, 1].map(|at| self.work[at].load(Ordering::Acquire))
        }

        fn put(&self, at: usize, number: usize) {
            self.work[at].store(number, Ordering::Release);
            if self.parking.must_wake() {
                self.event.notify();
            }
        }

        /// Sleeps until all of `expected` is there, looking each time that something woke it.
        fn wait_for(&self, expected: [usize; 2]) {
            while self.done() != expected {
                let seen = self.done();
                self.parking.park();
                if seen != expected && self.done() == seen {
                    self.event.wait();
                }
                self.parking.unpark();
            }
        }
    }

    /// The model fails when the sleeper sleeps and nobody is left to wake it.
    #[test]
    fn work_put_while_the_sleeper_lies_down_is_not_seen() {
        check(|| {
            let shared = Arc::new(Shared::default());
            let other = shared.clone();
            let putter = loom::thread::spawn(move || {
                other.put(0, 1);
                other.put(0, 2);
            });
            shared.wait_for([2, 0]);
            putter.join().unwrap();
        });
    }

    #[test]
    fn the_wake_up_of_one_swallows_that_of_another() {
        check(|| {
            let shared = Arc::new(Shared::default());
            let putters = [0, 1].map(|at| {
                let shared = shared.clone();
                loom::thread::spawn(move || shared.put(at, 1))
            });
            shared.wait_for([1, 1]);
            for putter in putters {
                putter.join().unwrap();
            }
        });
    }
}
