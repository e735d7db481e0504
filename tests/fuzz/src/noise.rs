//! The Noise handshake once more, from its specification (revision 34) and `PROTOCOL.md`: for peers that are
//! not ours, and so that two readings of it meet.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

/// The protocol's name, which is as long as a hash.
const NAME: &[u8; 32] = b"Noise_NNpsk0_25519_AESGCM_SHA256";

/// One side of a handshake.
pub struct Noise {
    chaining_key: [u8; 32],
    hash: [u8; 32],
    key: Option<LessSafeKey>,
    nonce: u64,
    ephemeral: PrivateKey,
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Noise {
    /// Begins with an ephemeral key made of `private`.
    #[must_use]
    pub fn new(psk: &[u8; 32], prologue: &[u8], private: &[u8; 32]) -> Self {
        let ephemeral = PrivateKey::from_private_key(&X25519, private).expect("any 32 bytes are a key");
        let mut noise = Self { chaining_key: *NAME, hash: *NAME, key: None, nonce: 0, ephemeral };
        noise.mix_hash(prologue);
        let [chaining_key, hash, key] = noise.expand::<3>(psk);
        noise.chaining_key = chaining_key;
        noise.mix_hash(&hash);
        noise.set_key(&key);
        noise
    }

    /// Writes the first message.
    pub fn write_first(&mut self, payload: &[u8]) -> Vec<u8> {
        let public = self.write_ephemeral();
        [&public[..], &self.seal(payload)].concat()
    }

    /// Reads the first message; returns the other's ephemeral key and the payload.
    pub fn read_first(&mut self, message: &[u8]) -> Option<([u8; 32], Vec<u8>)> {
        let (public, sealed) = message.split_first_chunk::<32>()?;
        self.mix_ephemeral(public);
        Some((*public, self.open(sealed)?))
    }

    /// Writes the second message, to whom wrote the first with the ephemeral key `other`.
    pub fn write_second(&mut self, other: &[u8; 32], payload: &[u8]) -> Option<Vec<u8>> {
        let public = self.write_ephemeral();
        self.mix_shared(other)?;
        Some([&public[..], &self.seal(payload)].concat())
    }

    /// Reads the second message; returns the payload.
    pub fn read_second(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (public, sealed) = message.split_first_chunk::<32>()?;
        self.mix_ephemeral(public);
        self.mix_shared(public)?;
        self.open(sealed)
    }

    /// The secrets of both directions: that of whom wrote the first message, then the other's.
    #[must_use]
    pub fn split(&self) -> ([u8; 32], [u8; 32]) {
        let [first, second] = self.expand::<2>(&[]);
        (first, second)
    }

    fn write_ephemeral(&mut self) -> [u8; 32] {
        let public = self.ephemeral.compute_public_key().expect("a private key has a public one");
        let public = public.as_ref().try_into().expect("32 bytes");
        self.mix_ephemeral(&public);
        public
    }

    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    fn mix_shared(&mut self, other: &[u8; 32]) -> Option<()> {
        let other = UnparsedPublicKey::new(&X25519, other);
        let shared = agree(&self.ephemeral, other, (), |shared| Ok(shared.to_vec())).ok()?;
        self.mix_key(&shared);
        Some(())
    }

    fn mix_hash(&mut self, data: &[u8]) {
        let hash = digest(&SHA256, &[&self.hash, data].concat());
        self.hash.copy_from_slice(hash.as_ref());
    }

    fn mix_key(&mut self, input: &[u8]) {
        let [chaining_key, key] = self.expand::<2>(input);
        self.chaining_key = chaining_key;
        self.set_key(&key);
    }

    fn set_key(&mut self, key: &[u8; 32]) {
        self.key = Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes")));
        self.nonce = 0;
    }

    fn expand<const N: usize>(&self, input: &[u8]) -> [[u8; 32]; N] {
        let secret = Salt::new(HKDF_SHA256, &self.chaining_key).extract(input);
        let mut out = [[0; 32]; N];
        let okm = secret.expand(&[], Length(32 * N)).expect("far under HKDF's limit");
        okm.fill(out.as_flattened_mut()).expect("the length that was asked for");
        out
    }

    fn take_nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_be_bytes());
        self.nonce += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let (nonce, hash) = (self.take_nonce(), self.hash);
        let mut sealed = payload.to_vec();
        let key = self.key.as_ref().expect("the pre-shared key comes first");
        key.seal_in_place_append_tag(nonce, Aad::from(hash), &mut sealed).expect("a short message");
        self.mix_hash(&sealed);
        sealed
    }

    fn open(&mut self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, hash) = (self.take_nonce(), self.hash);
        let mut payload = sealed.to_vec();
        let length = self.key.as_ref()?.open_in_place(nonce, Aad::from(hash), &mut payload).ok()?.len();
        payload.truncate(length);
        self.mix_hash(sealed);
        Some(payload)
    }
}
