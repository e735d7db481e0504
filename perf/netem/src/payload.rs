//! What a link carries.

/// Bytes that travel with each payload: the headers of IPv4 and UDP. Rates, queues and policers count them.
pub(crate) const HEADER_BYTES: u64 = 20 + 8;

/// A packet, as far as a link is concerned. A pair of anything and a payload is one, too: a tag that comes out with it.
pub trait Payload: Clone {
    /// Bytes of it, without the headers below it.
    fn bytes(&self) -> usize;
    /// Flips the bit of this number, which is under eight times [`Self::bytes`].
    fn flip_bit(&mut self, bit: usize);
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
}

/// Bytes of it on the wire.
pub(crate) fn wire_bytes(payload: &impl Payload) -> u64 {
    payload.bytes() as u64 + HEADER_BYTES
}
