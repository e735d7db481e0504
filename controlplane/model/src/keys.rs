//! The keys that seal tickets, and when the next one is due.

use std::fmt;

use serde::{Deserialize, Serialize};
use wire::ticket::TICKET_KEYS_MAX;

use crate::cluster::hex32;

/// Keys that are kept: a client may continue a ticket that was sealed with any of them.
pub const KEYS_KEPT: usize = 8;
/// A new key seals only after nodes have had this long to receive it.
pub const KEY_SETTLE_S: u64 = 30;

const _: () = assert!(KEYS_KEPT <= TICKET_KEYS_MAX && KEYS_KEPT >= 3);

/// One key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Named in the ticket; grows by one from key to key.
    pub key_id: u32,
    /// AES-256.
    #[serde(with = "hex32")]
    pub secret: [u8; 32],
    /// When it was made, Unix seconds.
    pub created_unix_s: u64,
}

impl fmt::Debug for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRecord")
            .field("key_id", &self.key_id)
            .field("created_unix_s", &self.created_unix_s)
            .finish_non_exhaustive()
    }
}

/// The keys, newest first; never empty once made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct KeyRing {
    /// Newest first, at most [`KEYS_KEPT`].
    pub keys: Vec<KeyRecord>,
}

impl KeyRing {
    /// Whether a new key is due.
    #[must_use]
    pub fn is_due(&self, now_unix_s: u64, rotate_s: u32) -> bool {
        self.keys.first().is_none_or(|key| now_unix_s >= key.created_unix_s + u64::from(rotate_s))
    }

    /// The ring with one key more; the oldest goes when there are too many.
    #[must_use]
    pub fn rotated(&self, secret: [u8; 32], now_unix_s: u64) -> Self {
        let key_id = self.keys.first().map_or(1, |key| key.key_id.wrapping_add(1));
        let newest = KeyRecord { key_id, secret, created_unix_s: now_unix_s };
        Self { keys: std::iter::once(newest).chain(self.keys.iter().cloned()).take(KEYS_KEPT).collect() }
    }

    /// The keys with the one first that seals now: the newest that has settled, or the only one.
    pub fn sealing_order(&self, now_unix_s: u64) -> impl Iterator<Item = &KeyRecord> {
        let settled = |key: &KeyRecord| now_unix_s >= key.created_unix_s.saturating_add(KEY_SETTLE_S);
        let first = self.keys.iter().position(settled).unwrap_or(self.keys.len().saturating_sub(1));
        self.keys[first..].iter().chain(&self.keys[..first])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealing_id(ring: &KeyRing, now_unix_s: u64) -> u32 {
        ring.sealing_order(now_unix_s).next().unwrap().key_id
    }

    #[test]
    fn a_ticket_is_sealed_with_a_key_that_no_node_has_yet() {
        let first = KeyRing::default().rotated([1; 32], 1_000);
        assert_eq!(sealing_id(&first, 1_000), 1);
        let second = first.rotated([2; 32], 2_000);
        assert_eq!(sealing_id(&second, 2_000 + KEY_SETTLE_S - 1), 1);
        assert_eq!(sealing_id(&second, 2_000 + KEY_SETTLE_S), 2);
        assert_eq!(second.sealing_order(2_000).count(), 2);
    }

    #[test]
    fn keys_pile_up_or_are_never_replaced() {
        let mut ring = KeyRing::default();
        assert!(ring.is_due(0, 100));
        for round in 0..20 {
            ring = ring.rotated([round; 32], u64::from(round) * 100);
            assert!(!ring.is_due(u64::from(round) * 100 + 99, 100));
            assert!(ring.is_due(u64::from(round) * 100 + 100, 100));
        }
        assert_eq!(ring.keys.len(), KEYS_KEPT);
        assert_eq!(ring.keys[0].key_id, 20);
        assert!(!format!("{ring:?}").contains("secret"));
    }
}
