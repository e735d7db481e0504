//! The ticket: what the control plane seals, the client carries and the node opens.
//!
//! Sealed form: key id (4 bytes, big endian), nonce (12), AES-256-GCM ciphertext and tag. The key id is the
//! associated data. Described in `PROTOCOL.md`, section "Ticket".

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

use crate::access::{Access, Grant};
use crate::guuid::Guuid;
use crate::header::TAG_BYTES;
use crate::limits::{DOCUMENT_ID_BYTES_MAX, TICKET_BYTES_MAX, TICKET_GRANTS_MAX};
use crate::varint::{Malformed, Reader, put_bytes, put_varint};

const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;

/// The most keys that a ring holds: the current one, its forerunners whose tickets still live, one to come.
pub const TICKET_KEYS_MAX: usize = 16;

/// What a ticket says, once opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The session that it proves.
    pub session_id: Guuid,
    /// The client instance: its op ids are this plus a counter. Its low 40 bits are zero.
    pub writer_id: Guuid,
    /// The pre-shared key of the handshake.
    pub psk: [u8; 32],
    /// Not valid from this moment on, Unix seconds.
    pub expires_unix_s: u64,
    /// What the session may do.
    pub grants: Vec<Grant>,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("session_id", &self.session_id)
            .field("writer_id", &self.writer_id)
            .field("expires_unix_s", &self.expires_unix_s)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}

/// Why a ticket was not sealed or not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TicketError {
    /// Its grants do not fit the first datagram.
    #[error(
        "ticket of {bytes} bytes is over the limit of {TICKET_BYTES_MAX}: grant fewer or shorter patterns"
    )]
    TooLarge {
        /// The sealed size.
        bytes: usize,
    },
    /// Sealed with a key that this node does not hold.
    #[error("ticket sealed with unknown key {0}")]
    UnknownKey(u32),
    /// Changed, or sealed by somebody else.
    #[error("ticket does not authenticate")]
    Forged,
    /// Its time is over.
    #[error("ticket expired at Unix second {0}")]
    Expired(u64),
    /// Authentic, but not in a format that we read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The keys that seal and open tickets, newest first.
#[derive(Default)]
pub struct TicketKeyRing {
    keys: Vec<(u32, LessSafeKey)>,
}

impl fmt::Debug for TicketKeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl TicketKeyRing {
    /// Takes the keys, newest first; those past [`TICKET_KEYS_MAX`] are left out.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (u32, [u8; 32])>) -> Self {
        let key = |secret: &[u8; 32]| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, secret).expect("AES-256 takes 32 bytes"))
        };
        Self { keys: keys.into_iter().take(TICKET_KEYS_MAX).map(|(id, secret)| (id, key(&secret))).collect() }
    }

    /// Whether it can open nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Seals with the newest key. `nonce` must never repeat under one key: take it at random.
    pub fn seal(&self, ticket: &Ticket, nonce: [u8; NONCE_BYTES]) -> Result<Vec<u8>, TicketError> {
        let (id, key) = self.keys.first().ok_or(TicketError::UnknownKey(0))?;
        let mut body = Vec::with_capacity(TICKET_BYTES_MAX);
        ticket.encode(&mut body);
        let bytes = KEY_ID_BYTES + NONCE_BYTES + body.len() + TAG_BYTES;
        if bytes > TICKET_BYTES_MAX || ticket.grants.len() > TICKET_GRANTS_MAX {
            return Err(TicketError::TooLarge { bytes });
        }
        let id = id.to_be_bytes();
        seal_body(key, nonce, &id, &mut body);
        Ok([&id[..], &nonce, &body].concat())
    }

    /// Opens and checks the expiry against `now_unix_s`.
    pub fn open(&self, sealed: &[u8], now_unix_s: u64) -> Result<Ticket, TicketError> {
        Ok(self.open_into(sealed, now_unix_s, &mut [0; TICKET_BYTES_MAX])?.to_ticket()?)
    }

    /// Opens whatever its expiry: for the control plane, when a client continues an old ticket.
    pub fn open_expired(&self, sealed: &[u8]) -> Result<Ticket, TicketError> {
        Ok(self.decrypt(sealed, &mut [0; TICKET_BYTES_MAX])?.to_ticket()?)
    }

    /// As [`open`](Self::open), into `buffer`: allocates nothing, so that what is forged or replayed costs little.
    pub fn open_into<'a>(
        &self,
        sealed: &[u8],
        now_unix_s: u64,
        buffer: &'a mut [u8; TICKET_BYTES_MAX],
    ) -> Result<OpenedTicket<'a>, TicketError> {
        let ticket = self.decrypt(sealed, buffer)?;
        if now_unix_s >= ticket.expires_unix_s {
            return Err(TicketError::Expired(ticket.expires_unix_s));
        }
        Ok(ticket)
    }

    fn decrypt<'a>(
        &self,
        sealed: &[u8],
        buffer: &'a mut [u8; TICKET_BYTES_MAX],
    ) -> Result<OpenedTicket<'a>, TicketError> {
        let mut reader = Reader::new(sealed);
        let id_bytes = reader.array::<KEY_ID_BYTES>("ticket key id")?;
        let nonce = reader.array::<NONCE_BYTES>("ticket nonce")?;
        let id = u32::from_be_bytes(id_bytes);
        let key = self.keys.iter().find(|(held, _)| *held == id).map(|(_, key)| key);
        let key = key.ok_or(TicketError::UnknownKey(id))?;
        let plain = open_body(key, nonce, &id_bytes, reader.rest(), buffer).ok_or(TicketError::Forged)?;
        Ok(OpenedTicket::parse(plain)?)
    }
}

/// A ticket that lies, opened, in a buffer: its grants have not been looked at.
pub struct OpenedTicket<'a> {
    /// See [`Ticket::psk`].
    pub psk: [u8; 32],
    /// See [`Ticket::expires_unix_s`].
    pub expires_unix_s: u64,
    session_id: Guuid,
    writer_id: Guuid,
    grants: Reader<'a>,
}

impl fmt::Debug for OpenedTicket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedTicket").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

impl<'a> OpenedTicket<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        if reader.u8("ticket format")? != FORMAT {
            return Err(Malformed { what: "ticket format", offset: 0 });
        }
        let session_id = Guuid::from_bytes(reader.array("session id")?);
        let writer_id = Guuid::from_bytes(reader.array("writer id")?).writer();
        let psk = reader.array("psk")?;
        let expires_unix_s = reader.varint("expiry")?;
        Ok(Self { psk, expires_unix_s, session_id, writer_id, grants: reader })
    }

    /// Reads the grants, too.
    pub fn to_ticket(&self) -> Result<Ticket, Malformed> {
        let Self { psk, expires_unix_s, session_id, writer_id, .. } = *self;
        let mut reader = self.grants.clone();
        let count = reader.malformed("grant count");
        let grants = match reader.varint("grant count")? {
            found if found > TICKET_GRANTS_MAX as u64 => return Err(count),
            found => (0..found).map(|_| decode_grant(&mut reader)).collect::<Result<_, _>>()?,
        };
        Ok(Ticket { session_id, writer_id, psk, expires_unix_s, grants })
    }
}

fn seal_body(key: &LessSafeKey, nonce: [u8; NONCE_BYTES], associated: &[u8], body: &mut Vec<u8>) {
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), body)
        .expect("a ticket is shorter than AES-GCM's limit");
}

fn open_body<'a>(
    key: &LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    associated: &[u8],
    sealed: &[u8],
    buffer: &'a mut [u8],
) -> Option<&'a [u8]> {
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let plain = buffer.get_mut(..body.len())?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_separate_gather(nonce, Aad::from(associated), body, tag, plain).ok()?;
    Some(plain)
}

impl Ticket {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT);
        out.extend_from_slice(self.session_id.as_bytes());
        out.extend_from_slice(self.writer_id.as_bytes());
        out.extend_from_slice(&self.psk);
        put_varint(out, self.expires_unix_s);
        put_varint(out, self.grants.len() as u64);
        for grant in &self.grants {
            out.push(grant.access as u8);
            put_bytes(out, grant.pattern.as_bytes());
        }
    }
}

fn decode_grant(reader: &mut Reader<'_>) -> Result<Grant, Malformed> {
    let bad = reader.malformed("grant");
    let access = Access::from_u8(reader.u8("grant")?).ok_or(bad)?;
    let pattern = reader.string("grant pattern")?;
    if pattern.len() > DOCUMENT_ID_BYTES_MAX {
        return Err(bad);
    }
    Ok(Grant { pattern: pattern.to_owned(), access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wycheproof::vectors;

    fn ticket() -> Ticket {
        Ticket {
            session_id: Guuid::new(1, [1; 10]),
            writer_id: Guuid::new(2, [2; 10]).writer(),
            psk: [3; 32],
            expires_unix_s: 1_000,
            grants: vec![Grant { pattern: "team/*".to_owned(), access: Access::Write }],
        }
    }

    #[test]
    fn a_ticket_opens_with_other_contents() {
        let sealed = TicketKeyRing::new([(2, [8; 32]), (1, [7; 32])]).seal(&ticket(), [5; 12]).unwrap();
        let rotated = TicketKeyRing::new([(3, [9; 32]), (2, [8; 32])]);
        assert_eq!(rotated.open(&sealed, 999).unwrap(), ticket());
        assert_eq!(rotated.open(&sealed, 1_000), Err(TicketError::Expired(1_000)));
        assert_eq!(rotated.open_expired(&sealed).unwrap(), ticket());
    }

    #[test]
    fn a_forged_ticket_opens() {
        let ring = TicketKeyRing::new([(1, [7; 32])]);
        let sealed = ring.seal(&ticket(), [5; 12]).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(ring.open(&forged, 0).is_err(), "byte {at}");
            assert!(ring.open(&sealed[..at], 0).is_err(), "cut at {at}");
        }
        assert_eq!(TicketKeyRing::new([(9, [7; 32])]).open(&sealed, 0), Err(TicketError::UnknownKey(1)));
        assert!(ring.open(&[0, 0, 0, 1].repeat(1_000), 0).is_err());
    }

    #[test]
    fn a_ticket_outgrows_the_first_datagram() {
        let ring = TicketKeyRing::new([(1, [7; 32])]);
        let grants = vec![Grant { pattern: "x".repeat(200), access: Access::Read }; 4];
        let error = ring.seal(&Ticket { grants, ..ticket() }, [5; 12]).unwrap_err();
        assert!(matches!(error, TicketError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_vector_of_wycheproof_seals_or_opens_otherwise() {
        let (mut valid, mut invalid) = (0, 0);
        for vector in vectors(include_str!("../../../tests/wycheproof/aes_256_gcm.txt")) {
            let [key, nonce, associated, plain, sealed, tag] =
                std::array::from_fn(|column| vector.bytes(column));
            let ring = TicketKeyRing::new([(1, key.try_into().unwrap())]);
            let (key, nonce) = (&ring.keys[0].1, nonce.try_into().unwrap());
            let mut buffer = [0; TICKET_BYTES_MAX];
            let opened = open_body(key, nonce, &associated, &[&sealed[..], &tag].concat(), &mut buffer);
            assert_eq!(opened, vector.is_valid.then_some(&plain[..]), "{}", vector.id);
            if vector.is_valid {
                let mut body = plain;
                seal_body(key, nonce, &associated, &mut body);
                assert_eq!(body, [&sealed[..], &tag].concat(), "{}", vector.id);
                valid += 1;
            } else {
                invalid += 1;
            }
        }
        assert_eq!((valid, invalid), (39, 27));
    }
}
