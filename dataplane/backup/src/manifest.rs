//! What a backup consists of.

use serde::{Deserialize, Serialize};

use crate::error::BackupError;

/// The format that is written, and the latest that is read.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const MANIFEST_NAME: &str = "manifest.json";
/// Before the checksum on the last line.
const CHECKSUM_MARK: &str = "\ncrc32c ";

/// What a backup consists of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    pub format: u32,
    /// Its name.
    pub id: String,
    /// The node that it is of.
    pub node_id: String,
    /// When it was begun, Unix milliseconds: what was acknowledged before is in it.
    pub began_unix_ms: u64,
    /// When it was whole, Unix milliseconds.
    pub ended_unix_ms: u64,
    /// The shards of the node.
    pub shards: usize,
    /// The identity of its logs.
    pub log_id: String,
    /// All parts, in the order in which they were written.
    pub parts: Vec<Part>,
}

/// A piece of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Where it is below the backup.
    pub name: String,
    /// Whose it is.
    pub shard: usize,
    /// What it holds.
    pub kind: PartKind,
    /// Its length.
    pub bytes: u64,
    /// Its checksum.
    pub crc32c: u32,
}

/// What a part holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Entries of the store.
    Store,
    /// A stretch of a segment of the log, behind the stretches before it.
    Segment(u32),
}

impl Manifest {
    /// As it is stored: JSON, and its checksum on a line of its own.
    pub(crate) fn encode(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("text and numbers");
        format!("{json}{CHECKSUM_MARK}{:08x}\n", crc32c::crc32c(json.as_bytes()))
    }

    pub(crate) fn decode(id: &str, stored: &[u8]) -> Result<Self, BackupError> {
        let damaged = |reason: &str| BackupError::Damaged {
            id: id.to_owned(),
            part: MANIFEST_NAME.to_owned(),
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(stored).map_err(|_| damaged("it is no text"))?;
        let (json, checksum) = text.rsplit_once(CHECKSUM_MARK).ok_or_else(|| damaged("it is cut short"))?;
        let checksum =
            u32::from_str_radix(checksum.trim_end(), 16).map_err(|_| damaged("it is cut short"))?;
        if checksum != crc32c::crc32c(json.as_bytes()) {
            return Err(damaged("its checksum is wrong"));
        }
        let value: serde_json::Value =
            serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(BackupError::TooNew { id: id.to_owned(), found, known: FORMAT });
        }
        serde_json::from_value(value).map_err(|error| damaged(&error.to_string()))
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}
