//! What each session has used of its rates, over all its connections to the shard.

use std::collections::HashMap;

use slab::Slab;
use wire::{Guuid, Time};

use crate::FixedHasher;
use crate::rates::Meter;

/// Sessions without a connection that are remembered because they went faster than allowed: else who connects anew would
/// begin anew.
const ABSENT_MAX: usize = 4_096;

/// What one session has used.
#[derive(Debug, Default)]
pub(crate) struct SessionUse {
    pub(crate) ops: Meter,
    pub(crate) op_bytes: Meter,
    pub(crate) joins: Meter,
    pub(crate) presence: Meter,
    connections: usize,
}

impl SessionUse {
    fn is_even(&self, now: Time) -> bool {
        [self.ops, self.op_bytes, self.joins, self.presence].into_iter().all(|meter| meter.is_even(now))
    }
}

/// The sessions of a shard.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    ids: HashMap<Guuid, usize, FixedHasher>,
    uses: Slab<SessionUse>,
    absent: usize,
}

impl Sessions {
    /// A connection of a session opens; its number here until it closes.
    pub(crate) fn open(&mut self, session: Guuid) -> usize {
        let index = *self.ids.entry(session).or_insert_with(|| {
            self.absent += 1;
            self.uses.insert(SessionUse::default())
        });
        let found = &mut self.uses[index];
        self.absent -= usize::from(found.connections == 0);
        found.connections += 1;
        index
    }

    /// A connection of a session has closed.
    pub(crate) fn close(&mut self, now: Time, index: usize) {
        let found = &mut self.uses[index];
        found.connections -= 1;
        if found.connections > 0 {
            return;
        }
        self.absent += 1;
        if self.absent > ABSENT_MAX || found.is_even(now) {
            self.sweep(now);
        }
    }

    /// Forgets who is gone and owes nothing; all who are gone, when they are too many.
    fn sweep(&mut self, now: Time) {
        let (ids, uses) = (&mut self.ids, &mut self.uses);
        for is_last_resort in [false, true] {
            if is_last_resort && self.absent <= ABSENT_MAX {
                break;
            }
            ids.retain(|_, index| {
                let found = &uses[*index];
                let keep = found.connections > 0 || (!is_last_resort && !found.is_even(now));
                if !keep {
                    uses.remove(*index);
                    self.absent -= 1;
                }
                keep
            });
        }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut SessionUse {
        &mut self.uses[index]
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.uses.len()
    }
}

#[cfg(test)]
mod tests {
    use wire::Span;

    use super::*;
    use crate::rates::Demand;

    fn session(number: u64) -> Guuid {
        Guuid::new(number, [1; 10])
    }

    fn owe(sessions: &mut Sessions, index: usize) {
        let demand = Demand { amount: 10, per_s: 1, burst: Span::from_ms(10_000) };
        sessions.get_mut(index).ops.charge(Time::ZERO, &demand);
    }

    #[test]
    fn who_connects_anew_owes_nothing_any_more() {
        let mut sessions = Sessions::default();
        let index = sessions.open(session(1));
        assert_eq!(sessions.open(session(1)), index, "two connections of one session");
        owe(&mut sessions, index);
        sessions.close(Time::ZERO, index);
        sessions.close(Time::ZERO, index);
        let again = sessions.open(session(1));
        assert!(!sessions.get_mut(again).ops.is_even(Time::from_us(9_999_999)));
        sessions.close(Time::from_us(10_000_000), again);
        assert_eq!(sessions.len(), 0, "a session that owes nothing is remembered");
    }

    #[test]
    fn sessions_that_are_gone_pile_up() {
        let mut sessions = Sessions::default();
        let stays = sessions.open(session(0));
        owe(&mut sessions, stays);
        for number in 1..3 * ABSENT_MAX as u64 {
            let index = sessions.open(session(number));
            owe(&mut sessions, index);
            sessions.close(Time::ZERO, index);
            assert!(sessions.len() <= ABSENT_MAX + 1);
        }
        assert!(!sessions.get_mut(stays).ops.is_even(Time::ZERO), "one with a connection was forgotten");
    }
}
