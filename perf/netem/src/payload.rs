//! What a link carries.

use wire::Time;

/// Bytes that travel with each payload: the headers of IPv4 and UDP. Rates, queues and policers count them.
pub(crate) const HEADER_BYTES: u64 = 20 + 8;

/// A packet, as far as a link is concerned. A pair of anything and a payload is one, too: a tag that comes out with it.
pub trait Payload: Clone {
    /// Bytes of it, without the headers below it.
    fn bytes(&self) -> usize;
    /// Flips the bit of this number, which is under eight times [`Self::bytes`].
    fn flip_bit(&mut self, bit: usize);
    /// It goes no further, and is about to be dropped. Of use to those who tell a packet's story; does nothing unless
    /// implemented.
    fn on_dropped(&mut self, at: Time, why: DropReason) {
        let _ = (at, why);
    }
}

/// Why a packet does not arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DropReason {
    /// The medium lost it.
    Lost,
    /// The queue of the bottleneck was full.
    QueueFull,
    /// It exceeded the policer's rate.
    Policed,
    /// The medium was down.
    Blackhole,
    /// As many packets were under way as the link holds in memory.
    Overflow,
    /// The NAT had forgotten the mapping that it was sent to.
    Unmapped,
}

impl Payload for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn flip_bit(&mut self, bit: usize) {
        if let Some(byte) = self.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

impl<T: Clone, P: Payload> Payload for (T, P) {
    fn bytes(&self) -> usize {
        self.1.bytes()
    }

    fn flip_bit(&mut self, bit: usize) {
        self.1.flip_bit(bit);
    }

    fn on_dropped(&mut self, at: Time, why: DropReason) {
        self.1.on_dropped(at, why);
    }
}

/// Bytes of it on the wire.
pub(crate) fn wire_bytes(payload: &impl Payload) -> u64 {
    payload.bytes() as u64 + HEADER_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::Path;

    /// A packet that tells of its end.
    #[derive(Clone)]
    struct Told(Arc<Mutex<Vec<DropReason>>>);

    impl Payload for Told {
        fn bytes(&self) -> usize {
            1_000
        }

        fn flip_bit(&mut self, _: usize) {}

        fn on_dropped(&mut self, _: Time, why: DropReason) {
            self.0.lock().expect("one thread").push(why);
        }
    }

    #[test]
    fn a_packet_is_dropped_without_a_word() {
        let reasons_of = |text: &str| {
            let reasons = Arc::new(Mutex::new(Vec::new()));
            let mut path = Path::new(text.parse().expect("a network"), 1);
            for _ in 0..3 {
                path.handle_up(Time::ZERO, Told(reasons.clone()));
            }
            path.poll_packet(Time::from_us(1_000_000));
            path.handle_down(Time::ZERO, crate::Mapping(7), Told(reasons.clone()));
            while path.poll_packet(Time::from_us(2_000_000)).is_some() {}
            let mut told = reasons.lock().expect("one thread").clone();
            told.dedup();
            told
        };
        assert_eq!(reasons_of("delay=1ms"), [DropReason::Unmapped]);
        assert_eq!(reasons_of("up.loss=100%"), [DropReason::Lost, DropReason::Unmapped]);
        assert_eq!(reasons_of("up.blackhole=0,1s"), [DropReason::Blackhole, DropReason::Unmapped]);
        assert_eq!(reasons_of("up.policer=1kbit,1kb"), [DropReason::Policed, DropReason::Unmapped]);
        assert_eq!(
            reasons_of("up.rate=1mbit up.queue=1packets"),
            [DropReason::QueueFull, DropReason::Unmapped]
        );
    }
}
