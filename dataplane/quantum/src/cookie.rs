//! Cookies: a node without memory of a client knows again what it told it (`PROTOCOL.md`, section "Retry").

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use wire::header::{HEADER_BYTES, TAG_BYTES};
use wire::{Guuid, Header, PacketType};
use zerocopy::IntoBytes;

use crate::keys::EntropyPool;

const LABEL_PROOF: &[u8] = b"aetherflow quantum 1 retry";
const TIME_BYTES: usize = 8;
/// A cookie: which key, when, and the authentication of both with address and connection id.
pub(crate) const COOKIE_BYTES: usize = 1 + TIME_BYTES + TAG_BYTES;
/// A RETRY packet: the cookie, and the proof that it comes from who can open the ticket.
pub(crate) const RETRY_BYTES: usize = HEADER_BYTES + COOKIE_BYTES + TAG_BYTES;
/// How long a cookie is good for: as long as a handshake may take by default.
pub(crate) const COOKIE_MS_MAX: u64 = 10_000;

/// What a client carries back to the node; it means nothing to the client.
pub(crate) type Cookie = [u8; COOKIE_BYTES];

struct CookieKey {
    key: hmac::Key,
    generation: u8,
    since_ms: u64,
}

/// The key that issues cookies, and the one before.
#[derive(Default)]
pub(crate) struct CookieKeys {
    current: Option<CookieKey>,
    previous: Option<CookieKey>,
}

impl CookieKeys {
    /// A cookie for whoever receives at `to`.
    pub(crate) fn issue(
        &mut self,
        entropy: &mut EntropyPool,
        now_ms: u64,
        to: SocketAddr,
        id: &Guuid,
    ) -> Cookie {
        let key = self.current(entropy, now_ms);
        let mut cookie = [0; COOKIE_BYTES];
        cookie[0] = key.generation;
        cookie[1..=TIME_BYTES].copy_from_slice(&now_ms.to_be_bytes());
        let tag = authenticate(&key.key, &cookie, to, id);
        cookie[1 + TIME_BYTES..].copy_from_slice(&tag);
        cookie
    }

    /// When the cookie was issued; none when it is not ours, too old, or another's.
    pub(crate) fn check(&self, now_ms: u64, from: SocketAddr, id: &Guuid, cookie: &Cookie) -> Option<u64> {
        let keys = self.current.iter().chain(&self.previous);
        let key = keys.into_iter().find(|key| key.generation == cookie[0])?;
        let tag = authenticate(&key.key, cookie, from, id);
        verify_slices_are_equal(&tag, &cookie[1 + TIME_BYTES..]).ok()?;
        let issued_ms = cookie[1..=TIME_BYTES].iter().fold(0, |ms, &byte| ms << 8 | u64::from(byte));
        (now_ms.abs_diff(issued_ms) <= COOKIE_MS_MAX).then_some(issued_ms)
    }

    /// The key for now: a new one when the present one is as old as a cookie may become.
    fn current(&mut self, entropy: &mut EntropyPool, now_ms: u64) -> &CookieKey {
        let is_old = |key: &CookieKey| now_ms.abs_diff(key.since_ms) > COOKIE_MS_MAX;
        if self.current.as_ref().is_none_or(is_old) {
            let generation = self.current.as_ref().map_or(0, |key| key.generation.wrapping_add(1));
            self.previous = self.current.take();
            let key = hmac::Key::new(hmac::HMAC_SHA256, &entropy.draw());
            self.current = Some(CookieKey { key, generation, since_ms: now_ms });
        }
        self.current.as_ref().expect("made where it was missing")
    }
}

fn authenticate(key: &hmac::Key, cookie: &Cookie, address: SocketAddr, id: &Guuid) -> [u8; TAG_BYTES] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut context = hmac::Context::with_key(key);
    context.update(&cookie[..=TIME_BYTES]);
    context.update(&ip.octets());
    context.update(&address.port().to_be_bytes());
    context.update(id.as_bytes());
    cut(context)
}

/// The answer to the first packet of the connection `id`, whose last bytes are `initial_tag`.
pub(crate) fn write_retry(
    id: Guuid,
    cookie: &Cookie,
    psk: &[u8; 32],
    initial_tag: &[u8; TAG_BYTES],
) -> [u8; RETRY_BYTES] {
    let mut packet = [0; RETRY_BYTES];
    let (head, proof_out) = packet.split_at_mut(HEADER_BYTES + COOKIE_BYTES);
    head[..HEADER_BYTES].copy_from_slice(Header::new(PacketType::Retry, id, 0, 0).as_bytes());
    head[HEADER_BYTES..].copy_from_slice(cookie);
    proof_out.copy_from_slice(&proof(head, psk, initial_tag));
    packet
}

/// The cookie in a RETRY, if a node that could open our ticket made it for our first packet.
pub(crate) fn read_retry(datagram: &[u8], psk: &[u8; 32], initial_tag: &[u8; TAG_BYTES]) -> Option<Cookie> {
    let (head, found) = datagram.split_at_checked(HEADER_BYTES + COOKIE_BYTES)?;
    verify_slices_are_equal(&proof(head, psk, initial_tag), found).ok()?;
    head[HEADER_BYTES..].try_into().ok()
}

fn proof(head: &[u8], psk: &[u8; 32], initial_tag: &[u8; TAG_BYTES]) -> [u8; TAG_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, psk));
    context.update(LABEL_PROOF);
    context.update(head);
    context.update(initial_tag);
    cut(context)
}

fn cut(context: hmac::Context) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_serves_another_or_for_ever() {
        let (mut keys, mut entropy) = (CookieKeys::default(), EntropyPool::new([1; 32]));
        let here = SocketAddr::from(([10, 0, 0, 1], 5));
        let id = Guuid::new(1, [1; 10]);
        assert_eq!(keys.check(1_000, here, &id, &[0; COOKIE_BYTES]), None);
        let cookie = keys.issue(&mut entropy, 1_000, here, &id);
        assert_eq!(keys.check(11_000, here, &id, &cookie), Some(1_000));
        assert_eq!(keys.check(11_001, here, &id, &cookie), None, "old");
        assert_eq!(keys.check(1_000, SocketAddr::from(([10, 0, 0, 1], 6)), &id, &cookie), None);
        assert_eq!(keys.check(1_000, SocketAddr::from(([10, 0, 0, 2], 5)), &id, &cookie), None);
        assert_eq!(keys.check(1_000, here, &id.with_shard(2), &cookie), None);
        for at in 0..COOKIE_BYTES {
            let mut forged = cookie;
            forged[at] ^= 1;
            assert_eq!(keys.check(1_000, here, &id, &forged), None, "byte {at}");
        }
    }

    #[test]
    fn a_new_key_takes_cookies_away_or_the_old_one_stays() {
        let (mut keys, mut entropy) = (CookieKeys::default(), EntropyPool::new([1; 32]));
        let (here, id) = (SocketAddr::from(([10, 0, 0, 1], 5)), Guuid::NIL);
        keys.issue(&mut entropy, 0, here, &id);
        let late = keys.issue(&mut entropy, 10_000, here, &id);
        let next = keys.issue(&mut entropy, 10_001, here, &id);
        assert_ne!(late[0], next[0], "the key is replaced");
        assert_eq!(keys.check(20_000, here, &id, &late), Some(10_000));
        keys.issue(&mut entropy, 30_000, here, &id);
        assert_eq!(keys.check(20_000, here, &id, &late), None, "two keys are kept");
    }

    #[test]
    fn a_forged_retry_is_taken() {
        let (psk, tag) = ([7; 32], [8; TAG_BYTES]);
        let packet = write_retry(Guuid::NIL, &[9; COOKIE_BYTES], &psk, &tag);
        assert_eq!(read_retry(&packet, &psk, &tag), Some([9; COOKIE_BYTES]));
        assert_eq!(read_retry(&packet, &[6; 32], &tag), None);
        assert_eq!(read_retry(&packet, &psk, &[0; TAG_BYTES]), None, "made for another first packet");
        assert_eq!(read_retry(&packet[..RETRY_BYTES - 1], &psk, &tag), None);
        for at in 0..RETRY_BYTES {
            let mut forged = packet;
            forged[at] ^= 1;
            assert_eq!(read_retry(&forged, &psk, &tag), None, "byte {at}");
        }
    }
}
