//! What is measured: a state and a step.

use std::time::{Duration, Instant};

/// A state that can take the measured step again and again.
pub trait Workload {
    /// How many steps a state is good for. The next one is made outside of the measurement.
    const STEPS: u64;
    /// Whether callgrind counts it as well; not where making the state would take it minutes.
    const IS_COUNTED: bool = true;

    /// What is measured.
    fn step(&mut self);
}

/// Is shown every workload.
pub trait Visitor {
    /// A workload, as `group/case`, and how to make its state.
    fn visit<W: Workload>(&mut self, name: &str, make: impl Fn() -> W);
}

/// Takes steps, with a new state when one is used up.
#[derive(Debug)]
pub struct Stepper<W, F> {
    make: F,
    state: Option<W>,
    steps_left: u64,
}

impl<W: Workload, F: Fn() -> W> Stepper<W, F> {
    /// Makes no state before the first step.
    pub const fn new(make: F) -> Self {
        Self { make, state: None, steps_left: 0 }
    }

    /// Takes `count` steps and says how long they took, the making of states left out.
    pub fn run(&mut self, count: u64) -> Duration {
        let (mut taken, mut elapsed) = (0, Duration::ZERO);
        while taken < count {
            let (state, steps_left) = self.state();
            let steps = steps_left.min(count - taken);
            let started = Instant::now();
            for _ in 0..steps {
                state.step();
            }
            elapsed += started.elapsed();
            self.steps_left -= steps;
            taken += steps;
        }
        elapsed
    }

    /// Takes `count` steps, each by way of `step`.
    pub fn run_with(&mut self, count: u64, step: impl Fn(&mut W)) {
        for _ in 0..count {
            step(self.state().0);
            self.steps_left -= 1;
        }
    }

    /// The state, a new one when the last is used up, and the steps that it is good for.
    fn state(&mut self) -> (&mut W, u64) {
        if self.steps_left == 0 {
            // The old one first: two large documents at once would be one too many.
            self.state = None;
            self.steps_left = W::STEPS;
        }
        (self.state.get_or_insert_with(&self.make), self.steps_left)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Three(u32);

    impl Workload for Three {
        const STEPS: u64 = 3;

        fn step(&mut self) {
            self.0 += 1;
            assert!(self.0 <= 3, "a fourth step");
        }
    }

    #[test]
    fn a_used_up_state_is_stepped_on() {
        let made = Cell::new(0);
        let mut stepper = Stepper::new(|| {
            made.set(made.get() + 1);
            Three(0)
        });
        stepper.run(7);
        stepper.run_with(3, Three::step);
        assert_eq!(made.get(), 4);
        stepper.run(2);
        assert_eq!(made.get(), 4, "the last state had two steps left");
    }
}
