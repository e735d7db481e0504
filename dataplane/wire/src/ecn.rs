//! Explicit congestion notification: two bits of the IP header (RFC 3168, section 5).

/// What the two bits say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Ecn {
    /// The sender does not understand ECN.
    #[default]
    NotEct = 0b00,
    /// The sender understands ECN: ECT(1).
    Ect1 = 0b01,
    /// The sender understands ECN: ECT(0).
    Ect0 = 0b10,
    /// A queue on the way was congested.
    Ce = 0b11,
}

impl Ecn {
    /// From the byte of the IP header that they end: type of service, or traffic class.
    #[must_use]
    pub const fn from_tos(tos: u8) -> Self {
        match tos & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_bits_of_the_byte_change_what_is_read() {
        for ecn in [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce] {
            assert!((0..=0b11_1111).all(|others| Ecn::from_tos(others << 2 | ecn as u8) == ecn));
        }
    }
}
