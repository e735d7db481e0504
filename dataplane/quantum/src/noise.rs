//! The Noise handshake `NNpsk0` (`PROTOCOL.md`, section "Handshake") with the cryptography of aws-lc-rs.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};
use wire::header::TAG_BYTES;

/// The protocol, in Noise's naming.
const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
/// An X25519 key.
const KEY_BYTES: usize = 32;
/// What a handshake message is longer than its payload: ephemeral key and tag.
pub(crate) const NOISE_OVERHEAD_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// Starts the client's side. `entropy` becomes its ephemeral key, and must never be used twice.
pub(crate) fn initiator(psk: &[u8; 32], prologue: &[u8], entropy: [u8; 32]) -> Result<HandshakeState, Error> {
    builder(psk, prologue, entropy)?.build_initiator()
}

/// Starts the node's side.
pub(crate) fn responder(psk: &[u8; 32], prologue: &[u8], entropy: [u8; 32]) -> Result<HandshakeState, Error> {
    builder(psk, prologue, entropy)?.build_responder()
}

fn builder<'a>(psk: &'a [u8; 32], prologue: &'a [u8], entropy: [u8; 32]) -> Result<Builder<'a>, Error> {
    Builder::with_resolver(PATTERN.parse()?, Box::new(Resolver { entropy })).psk(0, psk)?.prologue(prologue)
}

struct Resolver {
    entropy: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(GivenEntropy(Some(self.entropy))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519Key>::default() as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::<Sha256>::default() as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::AESGCM).then(|| Box::<Aes256Gcm>::default() as _)
    }
}

/// Hands out the caller's 32 bytes once: one handshake needs one ephemeral key.
struct GivenEntropy(Option<[u8; 32]>);

impl Random for GivenEntropy {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let entropy = self.0.take().ok_or(Error::Rng)?;
        out.copy_from_slice(entropy.get(..out.len()).ok_or(Error::Rng)?);
        Ok(())
    }
}

#[derive(Default)]
struct X25519Key {
    key: Option<PrivateKey>,
    private: [u8; KEY_BYTES],
    public: [u8; KEY_BYTES],
}

impl X25519Key {
    fn install(&mut self, private: [u8; KEY_BYTES]) -> Result<(), Error> {
        let key = PrivateKey::from_private_key(&X25519, &private).map_err(|_| Error::Dh)?;
        let public = key.compute_public_key().map_err(|_| Error::Dh)?;
        self.public.copy_from_slice(public.as_ref().get(..KEY_BYTES).ok_or(Error::Dh)?);
        self.private = private;
        self.key = Some(key);
        Ok(())
    }
}

impl Dh for X25519Key {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_BYTES
    }

    fn priv_len(&self) -> usize {
        KEY_BYTES
    }

    fn set(&mut self, private: &[u8]) {
        // A key that cannot be installed leaves none, and the exchange fails.
        self.key = None;
        if let Ok(private) = private.try_into() {
            let _ = self.install(private);
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = [0; KEY_BYTES];
        rng.try_fill_bytes(&mut private)?;
        self.install(private)
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let key = self.key.as_ref().ok_or(Error::Dh)?;
        let public = UnparsedPublicKey::new(&X25519, public.get(..KEY_BYTES).ok_or(Error::Dh)?);
        agree(key, public, Error::Dh, |secret| {
            out.get_mut(..KEY_BYTES).ok_or(Error::Dh)?.copy_from_slice(secret);
            Ok(())
        })
    }
}

#[derive(Default)]
struct Aes256Gcm {
    key: Option<LessSafeKey>,
}

/// Noise's AESGCM nonce: four zero bytes and the counter, big endian.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl Cipher for Aes256Gcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new);
    }

    fn encrypt(&self, counter: u64, associated: &[u8], plain: &[u8], out: &mut [u8]) -> usize {
        let (sealed, rest) = out.split_at_mut(plain.len());
        sealed.copy_from_slice(plain);
        let key = self.key.as_ref().expect("snow sets a key before it encrypts");
        let tag = key.seal_in_place_separate_tag(nonce(counter), Aad::from(associated), sealed);
        rest[..TAG_BYTES].copy_from_slice(tag.expect("a datagram is under AES-GCM's limit").as_ref());
        plain.len() + TAG_BYTES
    }

    fn decrypt(
        &self,
        counter: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let key = self.key.as_ref().ok_or(Error::Decrypt)?;
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(Error::Decrypt)?;
        let (body, tag) = sealed.split_at(length);
        let out = out.get_mut(..length).ok_or(Error::Decrypt)?;
        key.open_separate_gather(nonce(counter), Aad::from(associated), body, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(length)
    }
}

struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let finished = std::mem::take(self).0.finish();
        out[..32].copy_from_slice(finished.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wycheproof::vectors;

    #[test]
    fn the_two_sides_derive_different_keys() {
        let mut client = initiator(&[1; 32], b"prologue", [2; 32]).unwrap();
        let mut node = responder(&[1; 32], b"prologue", [3; 32]).unwrap();
        let (mut sealed, mut plain) = ([0; 200], [0; 200]);
        let length = client.write_message(b"hello", &mut sealed).unwrap();
        assert_eq!(length, 5 + NOISE_OVERHEAD_BYTES);
        assert_eq!(node.read_message(&sealed[..length], &mut plain).unwrap(), 5);
        assert_eq!(&plain[..5], b"hello");
        let length = node.write_message(b"welcome", &mut sealed).unwrap();
        assert_eq!(client.read_message(&sealed[..length], &mut plain).unwrap(), 7);
        assert_eq!(client.dangerously_get_raw_split(), node.dangerously_get_raw_split());
    }

    #[test]
    fn another_prologue_or_psk_is_accepted() {
        for (psk, prologue) in [([1; 32], &b"changed"[..]), ([9; 32], b"prologue")] {
            let mut client = initiator(&[1; 32], b"prologue", [2; 32]).unwrap();
            let mut node = responder(&psk, prologue, [3; 32]).unwrap();
            let (mut sealed, mut plain) = ([0; 200], [0; 200]);
            let length = client.write_message(b"hello", &mut sealed).unwrap();
            assert!(node.read_message(&sealed[..length], &mut plain).is_err());
        }
    }

    #[test]
    fn one_entropy_makes_two_keys() {
        let mut rng = GivenEntropy(Some([5; 32]));
        let mut out = [0; 32];
        rng.try_fill_bytes(&mut out).unwrap();
        assert!(rng.try_fill_bytes(&mut out).is_err());
    }

    #[test]
    fn a_vector_of_wycheproof_agrees_on_another_secret() {
        let (mut agreed, mut refused) = (0, 0);
        for vector in vectors(include_str!("../../../tests/wycheproof/x25519.txt")) {
            let [public, private, shared] = std::array::from_fn(|column| vector.bytes(column));
            let mut key = X25519Key::default();
            key.set(&private);
            let mut out = [0; KEY_BYTES];
            if vector.is_valid {
                key.dh(&public, &mut out).unwrap();
                assert_eq!(out[..], shared, "{}", vector.id);
                agreed += 1;
            } else {
                // A key of small order: the secret would be zero, whatever the private key.
                assert!(key.dh(&public, &mut out).is_err(), "{}", vector.id);
                refused += 1;
            }
        }
        assert!(agreed > 80 && refused > 20, "{agreed} and {refused}");
    }
}
