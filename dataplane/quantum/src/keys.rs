//! Packet protection: AES-128-GCM with the packet number as nonce (`PROTOCOL.md`, section "Packet
//! protection").

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use wire::header::{HEADER_BYTES, TAG_BYTES};

const KEY_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const LABEL_KEY: &[u8] = b"aetherflow quantum 1 key";
const LABEL_IV: &[u8] = b"aetherflow quantum 1 iv";
const LABEL_UPDATE: &[u8] = b"aetherflow quantum 1 ku";

const LABEL_DRAW: &[u8] = b"aetherflow quantum 1 draw";
const LABEL_SEED: &[u8] = b"aetherflow quantum 1 seed";

/// The keys of one connection, as one of its ends sees them. Never seal two datagrams with the same number.
pub struct PacketKeys {
    pub(crate) sealing: DirectionKey,
    pub(crate) opening: DirectionKey,
}

/// The keys of one direction, and the secret that they and their successors come from.
pub(crate) struct DirectionKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for PacketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacketKeys")
    }
}

/// A length, as HKDF wants it.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl PacketKeys {
    /// From the two secrets of the Noise split: to the node, to the client.
    #[must_use]
    pub fn new((to_node, to_client): ([u8; 32], [u8; 32]), is_client: bool) -> Self {
        let (to_node, to_client) = (DirectionKey::derive(&to_node), DirectionKey::derive(&to_client));
        match is_client {
            true => Self { sealing: to_node, opening: to_client },
            false => Self { sealing: to_client, opening: to_node },
        }
    }

    /// Seals a datagram in place: header, payload, room for the tag. The header is the associated data.
    ///
    /// # Panics
    ///
    /// When there is no room for header and tag.
    pub fn seal(&self, packet_number: u64, datagram: &mut [u8]) {
        let (header, body) = datagram.split_at_mut(HEADER_BYTES);
        let (payload, tag_out) = body.split_at_mut(body.len() - TAG_BYTES);
        self.sealing.seal(packet_number, header, payload, tag_out);
    }

    /// Opens a datagram in place; returns its payload, or nothing when it does not authenticate.
    pub fn open<'a>(&self, packet_number: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        self.opening.open(packet_number, datagram)
    }
}

impl DirectionKey {
    fn derive(secret_bytes: &[u8; SECRET_BYTES]) -> Self {
        let secret = Prk::new_less_safe(HKDF_SHA256, secret_bytes);
        let (mut key, mut iv) = ([0; KEY_BYTES], [0; NONCE_LEN]);
        expand(&secret, LABEL_KEY, &mut key);
        expand(&secret, LABEL_IV, &mut iv);
        Self::new(&key, iv, *secret_bytes)
    }

    fn new(key: &[u8; KEY_BYTES], iv: [u8; NONCE_LEN], secret: [u8; SECRET_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_128_GCM, key).expect("AES-128 takes 16 bytes");
        Self { key: LessSafeKey::new(key), iv, secret }
    }

    /// The keys of the next phase (`PROTOCOL.md`, section "Key update").
    pub(crate) fn next(&self) -> Self {
        let mut secret = [0; SECRET_BYTES];
        expand(&Prk::new_less_safe(HKDF_SHA256, &self.secret), LABEL_UPDATE, &mut secret);
        Self::derive(&secret)
    }

    pub(crate) fn open<'a>(&self, packet_number: u64, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        let (header, body) = datagram.split_at_mut_checked(HEADER_BYTES)?;
        self.open_body(packet_number, header, body)
    }

    fn seal(&self, packet_number: u64, header: &[u8], payload: &mut [u8], tag_out: &mut [u8]) {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(packet_number), Aad::from(header), payload);
        tag_out.copy_from_slice(tag.expect("a datagram is under AES-GCM's limit").as_ref());
    }

    fn open_body<'a>(&self, packet_number: u64, header: &[u8], body: &'a mut [u8]) -> Option<&'a [u8]> {
        let opened = self.key.open_in_place(self.nonce(packet_number), Aad::from(header), body);
        opened.ok().map(|payload| &*payload)
    }

    fn nonce(&self, packet_number: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(packet_number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Draws secrets from a seed, one after the other; what was drawn cannot be computed from what remains.
pub(crate) struct EntropyPool {
    seed: [u8; 32],
}

impl EntropyPool {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    pub(crate) fn draw(&mut self) -> [u8; 32] {
        let secret = Prk::new_less_safe(HKDF_SHA256, &self.seed);
        let mut out = [0; 32];
        expand(&secret, LABEL_DRAW, &mut out);
        expand(&secret, LABEL_SEED, &mut self.seed);
        out
    }
}

fn expand(secret: &Prk, label: &[u8], out: &mut [u8]) {
    let labels = [label];
    let okm = secret.expand(&labels, Length(out.len())).expect("far under HKDF's limit");
    okm.fill(out).expect("the length that was asked for");
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf::Salt;

    use super::*;
    use crate::wycheproof::vectors;

    #[test]
    fn a_changed_packet_opens() {
        let secrets = ([1; 32], [2; 32]);
        let (client, node) = (PacketKeys::new(secrets, true), PacketKeys::new(secrets, false));
        let mut datagram = [0; HEADER_BYTES + 5 + TAG_BYTES];
        datagram[HEADER_BYTES..HEADER_BYTES + 5].copy_from_slice(b"hello");
        client.seal(7, &mut datagram);
        assert_ne!(&datagram[HEADER_BYTES..HEADER_BYTES + 5], b"hello");
        assert_eq!(node.open(7, &mut datagram.clone()), Some(&b"hello"[..]));
        assert_eq!(node.open(8, &mut datagram.clone()), None);
        assert_eq!(client.open(7, &mut datagram.clone()), None, "its own direction");
        for at in 0..datagram.len() {
            let mut changed = datagram;
            changed[at] ^= 0x40;
            assert_eq!(node.open(7, &mut changed), None, "byte {at}");
        }
    }

    #[test]
    fn a_vector_of_wycheproof_seals_or_opens_otherwise() {
        let (mut valid, mut invalid) = (0, 0);
        for vector in vectors(include_str!("../../../tests/wycheproof/aes_128_gcm.txt")) {
            let [key, nonce, header, plain, sealed, tag] = std::array::from_fn(|column| vector.bytes(column));
            // The vector's nonce is what the iv and the packet number make.
            let number = 0x0123_4567_89ab_cdef_u64;
            let mut iv: [u8; NONCE_LEN] = nonce.try_into().unwrap();
            iv[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
            let key = DirectionKey::new(&key.try_into().unwrap(), iv, [0; SECRET_BYTES]);
            let mut body = [&sealed[..], &tag].concat();
            let opened = key.open_body(number, &header, &mut body);
            assert_eq!(opened, vector.is_valid.then_some(&plain[..]), "{}", vector.id);
            if vector.is_valid {
                let (mut payload, mut tag_out) = (plain, [0; TAG_BYTES]);
                key.seal(number, &header, &mut payload, &mut tag_out);
                assert_eq!((payload, tag_out.to_vec()), (sealed, tag), "{}", vector.id);
                valid += 1;
            } else {
                invalid += 1;
            }
        }
        assert_eq!((valid, invalid), (40, 27));
    }

    #[test]
    fn a_vector_of_wycheproof_derives_otherwise() {
        let vectors = vectors(include_str!("../../../tests/wycheproof/hkdf_sha256.txt"));
        for vector in &vectors {
            let [input, salt, label] = std::array::from_fn(|column| vector.bytes(column));
            let expected = vector.bytes(4);
            let mut out = vec![0; expected.len()];
            expand(&Salt::new(HKDF_SHA256, &salt).extract(&input), &label, &mut out);
            assert_eq!(out, expected, "{}", vector.id);
        }
        assert_eq!(vectors.len(), 80);
    }
}
