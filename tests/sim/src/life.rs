//! One life of a world: turn after turn, until it is over or something that must hold does not.

use wire::Time;

use crate::invariants::{Check, Invariant, Violation};
use crate::trace::{Line, Trace};
use crate::whole_node::NodeCounts;

/// What became of a world.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) violation: Option<Violation>,
    /// Equal for equal runs.
    pub(crate) digest: u64,
    pub(crate) datagrams: u64,
    pub(crate) messages: u64,
    /// When it ended, in virtual time.
    pub(crate) ended: Time,
    /// What happened to the node, in worlds of a whole one.
    pub(crate) counts: NodeCounts,
}

/// A world. A turn goes to the next instant at which something happens, and does all that is due there.
pub(crate) trait Life: Sized {
    /// Turns at most: beyond, something does not end.
    const TURNS_MAX: u64;

    fn turn(&mut self) -> Check;

    fn is_over(&self) -> bool;

    fn now(&self) -> Time;

    fn trace(&mut self) -> &mut Trace;

    /// What it came to, and its story.
    fn end(self, violation: Option<Violation>) -> (Outcome, Vec<Line>);

    /// Lives it to its end.
    fn live(mut self) -> (Outcome, Vec<Line>) {
        let mut turns = 0;
        let mut violation = None;
        while violation.is_none() && !self.is_over() {
            turns += 1;
            let result = if turns > Self::TURNS_MAX {
                Err((Invariant::Timers, format!("{} turns, and no end", Self::TURNS_MAX)))
            } else {
                self.turn()
            };
            let at = self.now();
            violation = result.err().map(|(invariant, seen)| Violation { invariant, at, seen });
        }
        if let Some(violation) = &violation {
            let at = self.now();
            self.trace().say(at, "INVARIANT", || format!("violated: {violation}"));
        }
        self.end(violation)
    }
}
