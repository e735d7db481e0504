//! Credit flow control (`PROTOCOL.md`, section "Flow control"). Credit counts bytes of message payload, each
//! once, however often it is sent.

use crate::config::CREDIT_MAX;

/// What the peer lets us send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendCredit {
    limit: u64,
    used: u64,
    /// The first limit: what the peer holds at once.
    window: u64,
    /// The summed lengths of messages that were sent in part.
    cut_bytes: u64,
}

impl SendCredit {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { limit, used: 0, window: limit, cut_bytes: 0 }
    }

    /// The peer's limit; a smaller one than before is old news.
    pub(crate) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit.min(CREDIT_MAX));
    }

    /// The peer's first limit is known.
    pub(crate) fn open(&mut self, limit: u64) {
        self.raise(limit);
        self.window = self.limit;
    }

    /// Whether a message of this length may be begun that is sent in part at first. Once a part of it has come the peer can
    /// take it to its end, whatever else it holds: parts of several that filled its window would wait for each other for ever.
    pub(crate) const fn may_cut(&self, length: u64) -> bool {
        self.cut_bytes == 0 || self.cut_bytes + length <= self.window
    }

    /// A part of a message of this length was sent, and there is more of it.
    pub(crate) const fn cut(&mut self, length: u64) {
        self.cut_bytes += length;
    }

    /// The rest of it was sent.
    pub(crate) const fn complete(&mut self, length: u64) {
        self.cut_bytes = self.cut_bytes.saturating_sub(length);
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
    fn parts_of_messages_fill_a_window_that_holds_none_of_them() {
        let mut credit = SendCredit::new(10);
        assert!(credit.may_cut(100), "before the peer has said what it holds, there is one");
        credit.cut(100);
        credit.open(150);
        assert!(credit.may_cut(50) && !credit.may_cut(51));
        credit.complete(100);
        assert!(credit.may_cut(150), "any, when it is the only one");
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
