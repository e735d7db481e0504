//! What is to be done, and when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use netem::Direction;
use wire::Time;

use super::attacker::Injection;
use crate::scenario::Ending;

#[derive(Debug)]
pub(super) enum Task {
    /// A client begins its next connection.
    Connect {
        client: usize,
    },
    /// A flow has something to say.
    Say {
        attempt: usize,
        flow: usize,
        tick: u32,
    },
    /// An application takes some of what was delivered in this direction.
    Eat {
        attempt: usize,
        direction: Direction,
    },
    End {
        attempt: usize,
        ending: Ending,
    },
    Incident {
        number: usize,
    },
    Inject(Box<Injection>),
    ForgeInitial,
    Heal,
    Inspect,
    /// Everything has been said and heard: everybody closes.
    CloseAll,
}

struct Entry {
    at: Time,
    order: u64,
    task: Task,
}

/// Tasks in the order of their instants, equals in the order in which they were added.
#[derive(Default)]
pub(super) struct Agenda {
    tasks: BinaryHeap<Entry>,
    order: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Time, task: Task) {
        self.order += 1;
        self.tasks.push(Entry { at, order: self.order, task });
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.tasks.peek().map(|entry| entry.at)
    }

    pub(super) fn due(&mut self, now: Time) -> Option<Task> {
        let is_due = self.tasks.peek()?.at <= now;
        is_due.then(|| self.tasks.pop()).flatten().map(|entry| entry.task)
    }
}

/// The earliest is the greatest: the heap gives the greatest first.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
