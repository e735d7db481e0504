//! What all connections of an endpoint together may hold of messages that cannot be delivered yet (`PROTOCOL.md`,
//! section "Flow control"). Each peer has credit for a window; if all of them filled it the memory would not do.

use std::cmp::Reverse;

use crate::connection::ConnectionKey;

/// The sum over all connections, and its bound.
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    held_bytes: u64,
    held_bytes_max: u64,
}

impl ReceiveBudget {
    pub(crate) const fn new(held_bytes_max: u64) -> Self {
        Self { held_bytes: 0, held_bytes_max }
    }

    /// What a connection holds has changed.
    pub(crate) const fn change(&mut self, before: u64, after: u64) {
        self.held_bytes = self.held_bytes - before + after;
    }

    pub(crate) const fn is_exceeded(&self) -> bool {
        self.held_bytes > self.held_bytes_max
    }

    /// Which connections must go: those that hold the most, until a quarter of the bound is free, so that this is seldom
    /// asked.
    pub(crate) fn to_close(&self, holders: impl Iterator<Item = (ConnectionKey, u64)>) -> Vec<ConnectionKey> {
        let mut holders: Vec<_> = holders.filter(|(_, held)| *held > 0).collect();
        holders.sort_unstable_by_key(|(key, held)| (Reverse(*held), *key));
        let mut left = self.held_bytes;
        let target = self.held_bytes_max / 4 * 3;
        let to_close = holders.into_iter().map_while(|(key, held)| {
            let is_too_much = left > target;
            left = left.saturating_sub(held);
            is_too_much.then_some(key)
        });
        to_close.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_hold_little_are_closed() {
        let mut budget = ReceiveBudget::new(100);
        let held = [5, 60, 0, 30, 6];
        held.iter().for_each(|&held| budget.change(0, held));
        assert!(budget.is_exceeded());
        let key = |slot: usize| ConnectionKey::new(slot as u32, 1);
        let holders = || held.iter().enumerate().map(|(slot, &held)| (key(slot), held));
        assert_eq!(budget.to_close(holders()), [key(1)]);
        budget.change(60, 0);
        assert!(!budget.is_exceeded());
        assert!(budget.to_close(holders()).is_empty());
    }
}
