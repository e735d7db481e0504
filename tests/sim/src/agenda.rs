//! What is to be done, and when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use wire::Time;

struct Entry<T> {
    at: Time,
    order: u64,
    task: T,
}

/// Tasks in the order of their instants, equals in the order in which they were added.
pub(crate) struct Agenda<T> {
    tasks: BinaryHeap<Entry<T>>,
    order: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { tasks: BinaryHeap::new(), order: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn add(&mut self, at: Time, task: T) {
        self.order += 1;
        self.tasks.push(Entry { at, order: self.order, task });
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.tasks.peek().map(|entry| entry.at)
    }

    pub(crate) fn due(&mut self, now: Time) -> Option<T> {
        let is_due = self.tasks.peek()?.at <= now;
        is_due.then(|| self.tasks.pop()).flatten().map(|entry| entry.task)
    }
}

/// The earliest is the greatest: the heap gives the greatest first.
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
