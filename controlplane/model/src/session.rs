//! Sessions: who may do what, and until when.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wire::limits::{DOCUMENT_ID_BYTES_MAX, TICKET_GRANTS_MAX};
use wire::{Access, Grant, Guuid};

use crate::cluster::{guuid_text, hex32};

/// The longest life of a session: 30 days.
pub const SESSION_TTL_S_MAX: u32 = 30 * 24 * 3_600;
/// The longest name of a user, in bytes of UTF-8.
pub const USER_BYTES_MAX: usize = 256;

/// An authenticated user's right to speak.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    /// A UUIDv7.
    #[serde(with = "guuid_text")]
    pub session_id: Guuid,
    /// Whoever the application says it is.
    pub user: String,
    /// What it may do.
    #[serde(with = "grants_json")]
    pub grants: Vec<Grant>,
    /// When it began, Unix milliseconds.
    pub created_unix_ms: u64,
    /// Not valid from this moment on, Unix milliseconds.
    pub expires_unix_ms: u64,
    /// Ended by an operator.
    pub revoked: bool,
    /// SHA-256 of its token: the token itself is nowhere kept.
    #[serde(with = "hex32")]
    pub token_sha256: [u8; 32],
}

/// Why a session is refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SessionError {
    /// No user, or one with a long name.
    #[error("user must be 1 to {USER_BYTES_MAX} bytes, found {0}")]
    User(usize),
    /// No grants, or too many.
    #[error("a session takes 1 to {TICKET_GRANTS_MAX} grants, found {0}")]
    Grants(usize),
    /// A pattern that could name nothing.
    #[error(
        "pattern \"{0}\" must be a document id, or a prefix and a final `*`, of at most {DOCUMENT_ID_BYTES_MAX} bytes"
    )]
    Pattern(String),
    /// Too long a life.
    #[error("ttl_s must be at most {SESSION_TTL_S_MAX}, found {0}")]
    Ttl(u32),
}

/// Whether `pattern` is a document id, or a prefix and a final `*`.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    !pattern.is_empty() && pattern.len() <= DOCUMENT_ID_BYTES_MAX && !prefix.contains('*')
}

/// An access from its name in configuration and REST.
#[must_use]
pub fn access_from_name(name: &str) -> Option<Access> {
    match name {
        "presence" => Some(Access::Presence),
        "read" => Some(Access::Read),
        "write" => Some(Access::Write),
        "admin" => Some(Access::Admin),
        _ => None,
    }
}

/// Checks what a new session asks for.
pub fn check(user: &str, grants: &[Grant], ttl_s: u32) -> Result<(), SessionError> {
    if user.is_empty() || user.len() > USER_BYTES_MAX {
        return Err(SessionError::User(user.len()));
    }
    if grants.is_empty() || grants.len() > TICKET_GRANTS_MAX {
        return Err(SessionError::Grants(grants.len()));
    }
    if let Some(grant) = grants.iter().find(|grant| !is_pattern(&grant.pattern)) {
        return Err(SessionError::Pattern(grant.pattern.clone()));
    }
    if ttl_s > SESSION_TTL_S_MAX {
        return Err(SessionError::Ttl(ttl_s));
    }
    Ok(())
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The 32 bytes of 64 hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, d| byte << 4 | d)).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

/// Grants as pairs of pattern and number of the access.
mod grants_json {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use wire::{Access, Grant};

    pub(super) fn serialize<S: Serializer>(grants: &[Grant], serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<_> = grants.iter().map(|grant| (&grant.pattern, grant.access as u8)).collect();
        pairs.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Grant>, D::Error> {
        let grant = |(pattern, number)| match Access::from_u8(number) {
            Some(access) => Ok(Grant { pattern, access }),
            None => Err(D::Error::custom(format!("{number} is no access"))),
        };
        Vec::<(String, u8)>::deserialize(deserializer)?.into_iter().map(grant).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(pattern: &str) -> Grant {
        Grant { pattern: pattern.to_owned(), access: Access::Write }
    }

    #[test]
    fn a_session_that_no_ticket_can_carry_is_taken() {
        assert_eq!(check("ann", &[grant("team/*"), grant("*"), grant("plan")], 60), Ok(()));
        assert_eq!(check("", &[grant("*")], 60), Err(SessionError::User(0)));
        assert_eq!(check(&"x".repeat(257), &[grant("*")], 60), Err(SessionError::User(257)));
        assert_eq!(check("ann", &[], 60), Err(SessionError::Grants(0)));
        assert_eq!(check("ann", &vec![grant("*"); 33], 60), Err(SessionError::Grants(33)));
        for bad in ["", "a*b", "**", &"x".repeat(257)] {
            assert_eq!(check("ann", &[grant(bad)], 60), Err(SessionError::Pattern(bad.to_owned())));
        }
        assert!(matches!(check("ann", &[grant("*")], u32::MAX), Err(SessionError::Ttl(_))));
    }

    #[test]
    fn a_stored_session_reads_other_than_it_was_written() {
        let session = Session {
            session_id: Guuid::new(5, [9; 10]),
            user: "ann".to_owned(),
            grants: vec![grant("team/*")],
            created_unix_ms: 5,
            expires_unix_ms: 6,
            revoked: true,
            token_sha256: std::array::from_fn(|i| i as u8 * 8),
        };
        let json = serde_json::to_vec(&session).unwrap();
        assert_eq!(serde_json::from_slice::<Session>(&json).unwrap(), session);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex(&"a".repeat(63)), None);
    }
}
