//! How a node that has forgotten a connection tells its client (`PROTOCOL.md`, section "Stateless reset").

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use wire::frame::Parameters;
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::{Guuid, Header, PacketType};
use zerocopy::IntoBytes;

const LABEL: &[u8] = b"aetherflow quantum 1 reset";
/// The length of a token: that of a tag, so that a RESET is as long as the shortest packet.
pub const RESET_TOKEN_BYTES: usize = TAG_BYTES;
/// The length of a RESET packet. It is never sent in answer to anything as short.
pub(crate) const RESET_BYTES: usize = HEADER_BYTES + RESET_TOKEN_BYTES;

/// What shows a client that a reset comes from its node.
pub type ResetToken = [u8; RESET_TOKEN_BYTES];

/// The secret from which a node derives the tokens of all its connections; it outlives the node's process.
#[derive(Clone)]
pub struct ResetKey(hmac::Key);

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

impl ResetKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// The token of a connection id.
#[must_use]
pub fn reset_token(key: &ResetKey, id: &Guuid) -> ResetToken {
    let mut context = hmac::Context::with_key(&key.0);
    context.update(LABEL);
    context.update(id.as_bytes());
    let mut token = [0; RESET_TOKEN_BYTES];
    token.copy_from_slice(&context.sign().as_ref()[..RESET_TOKEN_BYTES]);
    token
}

/// The packet that resets the connection `id`.
pub(crate) fn write_reset(key: &ResetKey, id: Guuid) -> [u8; RESET_BYTES] {
    let mut packet = [0; RESET_BYTES];
    packet[..HEADER_BYTES].copy_from_slice(Header::new(PacketType::Reset, id, 0, 0).as_bytes());
    packet[HEADER_BYTES..].copy_from_slice(&reset_token(key, &id));
    packet
}

/// Whether a datagram, of which the header has been read, ends with `token`. Takes the same time whatever it holds.
pub(crate) fn is_reset(datagram: &[u8], token: &ResetToken) -> bool {
    datagram.len() == RESET_BYTES && verify_slices_are_equal(&datagram[HEADER_BYTES..], token).is_ok()
}

/// Puts a token into the parameters that a node sends.
pub(crate) fn put_token(parameters: &mut Parameters, token: &ResetToken) {
    let number = u128::from_be_bytes(*token);
    parameters.reset_token_high = (number >> 64) as u64;
    parameters.reset_token_low = number as u64;
}

/// The token in a node's parameters; none when it sent none.
pub(crate) fn token_of(parameters: &Parameters) -> Option<ResetToken> {
    let number = u128::from(parameters.reset_token_high) << 64 | u128::from(parameters.reset_token_low);
    (number != 0).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_resets_another_connection_or_comes_of_another_key() {
        let (key, other) = (ResetKey::new(&[1; 32]), ResetKey::new(&[2; 32]));
        let (one, two) = (Guuid::new(1, [1; 10]), Guuid::new(1, [1; 10]).with_shard(9));
        let packet = write_reset(&key, one);
        assert!(is_reset(&packet, &reset_token(&key, &one)));
        assert!(
            !is_reset(&packet, &reset_token(&key, &two)) && !is_reset(&packet, &reset_token(&other, &one))
        );
        for at in HEADER_BYTES..RESET_BYTES {
            let mut forged = packet;
            forged[at] ^= 1;
            assert!(!is_reset(&forged, &reset_token(&key, &one)), "byte {at}");
        }
        assert!(!is_reset(&packet[..RESET_BYTES - 1], &reset_token(&key, &one)));
    }

    #[test]
    fn a_token_changes_on_its_way_through_the_parameters() {
        let mut parameters = Parameters::default();
        assert_eq!(token_of(&parameters), None);
        let token = reset_token(&ResetKey::new(&[1; 32]), &Guuid::NIL);
        put_token(&mut parameters, &token);
        assert_eq!(token_of(&parameters), Some(token));
    }
}
