//! How a node that has forgotten a connection tells its client (`PROTOCOL.md`, section "Stateless reset").

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use wire::frame::Parameters;
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::{Guuid, Header, PacketType};
use zerocopy::IntoBytes;

const LABEL: &[u8] = b"aetherflow quantum 1 reset";
const PROOF_LABEL: &[u8] = b"aetherflow quantum 1 reset proof";
/// The length of a token, and of a proof: that of a tag, so that a RESET is as long as the shortest packet.
pub const RESET_TOKEN_BYTES: usize = TAG_BYTES;
/// The length of a RESET packet, bytes. It is never sent in answer to anything as short.
pub const RESET_BYTES: usize = HEADER_BYTES + RESET_TOKEN_BYTES;

/// What a client shares with its node to know that node's resets. It is never sent in the clear.
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

/// What shows who has the token that a reset was made at `unix_ms`.
fn proof(token: &ResetToken, unix_ms: u64) -> [u8; RESET_TOKEN_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, token));
    context.update(PROOF_LABEL);
    context.update(&unix_ms.to_be_bytes());
    let mut proof = [0; RESET_TOKEN_BYTES];
    proof.copy_from_slice(&context.sign().as_ref()[..RESET_TOKEN_BYTES]);
    proof
}

/// The packet that resets the connection `id`, made at `unix_ms`.
#[must_use]
pub fn reset_packet(key: &ResetKey, id: Guuid, unix_ms: u64) -> [u8; RESET_BYTES] {
    let mut packet = [0; RESET_BYTES];
    packet[..HEADER_BYTES].copy_from_slice(Header::new(PacketType::Reset, id, unix_ms, 0).as_bytes());
    packet[HEADER_BYTES..].copy_from_slice(&proof(&reset_token(key, &id), unix_ms));
    packet
}

/// When a reset for the connection of `token` was made, Unix milliseconds; none: it is none. The proof is compared in the same
/// time whatever it holds.
pub(crate) fn reset_made_at(datagram: &[u8], token: &ResetToken) -> Option<u64> {
    let (header, _) = Header::parse(datagram).ok()?;
    let unix_ms = header.packet_number();
    let is_proven = datagram.len() == RESET_BYTES
        && verify_slices_are_equal(&datagram[HEADER_BYTES..], &proof(token, unix_ms)).is_ok();
    is_proven.then_some(unix_ms)
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
        let token = reset_token(&key, &one);
        let packet = reset_packet(&key, one, 1_700_000_000_123);
        assert_eq!(reset_made_at(&packet, &token), Some(1_700_000_000_123));
        assert_eq!(reset_made_at(&packet, &reset_token(&key, &two)), None);
        assert_eq!(reset_made_at(&packet, &reset_token(&other, &one)), None);
        for at in (8..16).chain(HEADER_BYTES..RESET_BYTES) {
            let mut forged = packet;
            forged[at] ^= 1;
            assert_eq!(reset_made_at(&forged, &token), None, "byte {at}");
        }
        assert_eq!(reset_made_at(&packet[..RESET_BYTES - 1], &token), None);
        assert!(!packet.windows(token.len()).any(|window| window == token), "the token is told to everybody");
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
