//! Credit flow control (`PROTOCOL.md`, section "Flow control"). Credit counts bytes of message payload, each
//! once, however often it is sent.

use crate::config::CREDIT_MAX;

/// What the peer lets us send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendCredit {
    limit: u64,
    used: u64,
}

impl SendCredit {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// The peer's limit; a smaller one than before is old news.
    pub(crate) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit.min(CREDIT_MAX));
    }

    pub(crate) const fn room(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(crate) const fn spend(&mut self, bytes: u64) {
        self.used += bytes;
    }
}

/// What we let the peer send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveCredit {
    window: u64,
    received: u64,
    delivered: u64,
    consumed: u64,
    announced: u64,
}

impl ReceiveCredit {
    pub(crate) const fn new(window: u64) -> Self {
        Self { window, received: 0, delivered: 0, consumed: 0, announced: window }
    }

    /// Takes up new bytes; false when they exceed what was announced.
    #[must_use]
    pub(crate) const fn receive(&mut self, bytes: u64) -> bool {
        self.received += bytes;
        self.received <= self.announced
    }

    /// All bytes that have come, each counted once.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) const fn deliver(&mut self, bytes: u64) {
        self.delivered += bytes;
    }

    /// The application has taken delivered bytes.
    pub(crate) fn consume(&mut self, bytes: u64) {
        self.consumed = (self.consumed + bytes).min(self.delivered);
    }

    /// Whether the peer should hear of more credit: a quarter of the window has been freed.
    pub(crate) const fn is_update_due(&self) -> bool {
        let freed = self.consumed + self.window - self.announced;
        // Who has spent all of it may be in the middle of a message, and nothing more is consumed before that has come.
        let is_spent = freed > 0 && self.received >= self.announced;
        is_spent || freed >= self.window / 4
    }

    /// The limit to announce.
    pub(crate) const fn announce(&mut self) -> u64 {
        self.announced = self.consumed + self.window;
        self.announced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_sends_beyond_its_credit() {
        let mut credit = ReceiveCredit::new(100);
        assert!(credit.receive(100));
        credit.deliver(60);
        credit.consume(100);
        assert!(credit.is_update_due());
        assert_eq!(credit.announce(), 160, "only what was delivered can be consumed");
        assert!(credit.receive(60));
        assert!(!credit.receive(1));
    }

    #[test]
    fn a_peer_waits_for_ever_with_the_end_of_a_message() {
        let mut credit = ReceiveCredit::new(100);
        assert!(credit.receive(10));
        credit.deliver(10);
        credit.consume(10);
        assert!(!credit.is_update_due(), "less than a quarter, and there is credit left");
        assert!(credit.receive(90), "the beginning of a message of 95");
        assert!(credit.is_update_due());
        assert_eq!(credit.announce(), 110);
        assert!(!credit.is_update_due());
    }

    #[test]
    fn an_old_limit_takes_credit_back() {
        let mut credit = SendCredit::new(10);
        credit.raise(50);
        credit.raise(20);
        credit.spend(45);
        assert_eq!(credit.room(), 5);
        credit.raise(u64::MAX);
        assert_eq!(credit.room(), CREDIT_MAX - 45);
    }
}
