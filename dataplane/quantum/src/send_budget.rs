//! What all connections of an endpoint together may hold of messages that are to be sent, or are sent and not acknowledged.
//! Each has a bound of its own; if all of them reached it the memory would not do.

/// What a connection may hold however much the others do, or one message that is larger: so a peer that reads its
/// messages always gets some.
pub(crate) const SEND_SHARE_BYTES_MIN: usize = 64 << 10;

/// The sum over all connections, and its bound.
#[derive(Debug)]
pub(crate) struct SendBudget {
    queued_bytes: u64,
    queued_bytes_max: u64,
}

impl SendBudget {
    pub(crate) const fn new(queued_bytes_max: u64) -> Self {
        Self { queued_bytes: 0, queued_bytes_max }
    }

    /// What a connection holds has changed.
    pub(crate) const fn change(&mut self, before: usize, after: usize) {
        self.queued_bytes = self.queued_bytes - before as u64 + after as u64;
    }

    /// Whether a connection that holds so much may take a message that counts as `charge`.
    pub(crate) const fn admits(&self, held: usize, charge: usize) -> bool {
        held == 0
            || held + charge <= SEND_SHARE_BYTES_MIN
            || self.queued_bytes + charge as u64 <= self.queued_bytes_max
    }

    pub(crate) const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_takes_the_room_of_all() {
        let mut budget = SendBudget::new(1 << 20);
        budget.change(0, 1 << 20);
        assert!(!budget.admits(1 << 20, 1));
        assert!(!budget.admits(SEND_SHARE_BYTES_MIN, 1));
        assert!(budget.admits(SEND_SHARE_BYTES_MIN - 1_000, 1_000), "nobody else is sent anything");
        assert!(budget.admits(0, 2 * SEND_SHARE_BYTES_MIN), "a large message is sent to nobody");
        assert!(!budget.admits(SEND_SHARE_BYTES_MIN - 1, 1_000));
        budget.change(1 << 20, 0);
        assert!(budget.admits(SEND_SHARE_BYTES_MIN, 1));
        assert_eq!(budget.queued_bytes(), 0);
    }
}
