//! The file: a header, then frames. A frame holds the operations of one batch; it counts or it does not.
//!
//! Frame: magic (4 bytes), length of the body (4, little endian), CRC-32C of what follows (4), sequence number
//! (8, little endian), body. A frame is written and synced before the next is begun, so only the last can be
//! torn: an invalid frame with a valid one behind it is corruption, and the file is refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use wire::varint::Reader;

use super::state::{LIVE_BYTES_MAX, Op, State};
use crate::{KEY_BYTES_MAX, StoreError, VALUE_BYTES_MAX};

const FILE_MAGIC: [u8; 8] = *b"AFMETA\x00\x01";
const FRAME_MAGIC: [u8; 4] = *b"\xafFr\x01";
const FRAME_HEADER_BYTES: usize = 20;
/// The largest body of a frame.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// Operations are gathered into one frame up to this size.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// A file smaller than this is not compacted.
const COMPACT_BYTES_MIN: u64 = 4 << 20;
/// Above this share of dead bytes it is.
const COMPACT_RATIO: u64 = 4;

const _: () = assert!(BATCH_BYTES_MAX + VALUE_BYTES_MAX + KEY_BYTES_MAX + 64 <= FRAME_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX as u64 * COMPACT_RATIO <= LIVE_BYTES_MAX);

/// The open file, locked against other processes.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    sequence: u64,
    // Locked until dropped. Not the file itself: compaction replaces that.
    _lock: File,
}

impl LogFile {
    /// Opens or creates the file, cuts a torn tail, and replays the rest.
    pub(super) fn open(path: &Path) -> Result<(Self, State), StoreError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(StoreError::io("create the directory of", path))?;
        }
        let lock = lock(path)?;
        if !path.try_exists().map_err(StoreError::io("look for", path))? {
            let state = State::default();
            let (file, bytes, sequence) = write_snapshot(path, &state)?;
            return Ok((Self { path: path.to_owned(), file, bytes, sequence, _lock: lock }, state));
        }
        let mut file =
            OpenOptions::new().read(true).append(true).open(path).map_err(StoreError::io("open", path))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(StoreError::io("read", path))?;
        let recovered = recover(&content).map_err(|(offset, reason)| StoreError::Corrupt {
            path: path.to_owned(),
            offset: offset as u64,
            reason,
        })?;
        if recovered.valid_bytes < content.len() {
            let cut = content.len() - recovered.valid_bytes;
            tracing::warn!(path = %path.display(), cut_bytes = cut, "cut the torn tail of the store: it was never acknowledged");
            file.set_len(recovered.valid_bytes as u64).map_err(StoreError::io("cut the tail of", path))?;
            file.sync_all().map_err(StoreError::io("sync", path))?;
        }
        let (bytes, sequence) = (recovered.valid_bytes as u64, recovered.sequence);
        let mut log = Self { path: path.to_owned(), file, bytes, sequence, _lock: lock };
        if log.bytes > recovered.state.live_bytes() * 2 {
            log.compact(&recovered.state)?;
        }
        Ok((log, recovered.state))
    }

    /// Appends these operations and syncs them, in one frame unless they are many. After an error the file must
    /// not be used again: how much of them is there is unknown.
    pub(super) fn append(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let mut body = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            op.encode(&mut body);
            if body.len() >= BATCH_BYTES_MAX || at + 1 == ops.len() {
                let frame = seal(self.sequence + 1, &body);
                self.file.write_all(&frame).map_err(StoreError::io("append to", &self.path))?;
                self.file.sync_data().map_err(StoreError::io("sync", &self.path))?;
                self.sequence += 1;
                self.bytes += frame.len() as u64;
                body.clear();
            }
        }
        Ok(())
    }

    /// Whether most of the file is dead.
    pub(super) fn is_mostly_dead(&self, state: &State) -> bool {
        self.bytes > COMPACT_BYTES_MIN.max(state.live_bytes() * COMPACT_RATIO)
    }

    /// Replaces the file by one that holds just `state`.
    pub(super) fn compact(&mut self, state: &State) -> Result<(), StoreError> {
        (self.file, self.bytes, self.sequence) = write_snapshot(&self.path, state)?;
        Ok(())
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let open = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let file = open.map_err(StoreError::io("open", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &lock_path)(error)),
    }
}

/// Writes `state` to a new file that then takes the place of the one at `path`, or leaves that as it is.
fn write_snapshot(path: &Path, state: &State) -> Result<(File, u64, u64), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new_path = PathBuf::from(name);
    if let Err(error) = std::fs::remove_file(&new_path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(StoreError::io("remove", &new_path)(error));
    }
    let open = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&new_path);
    let mut file = open.map_err(StoreError::io("create", &new_path))?;
    let mut bytes = 0;
    let mut put = |part: &[u8]| {
        bytes += part.len() as u64;
        file.write_all(part).map_err(StoreError::io("write", &new_path))
    };
    put(&FILE_MAGIC)?;
    let mut sequence = 0;
    let mut body = Vec::new();
    for op in state.snapshot() {
        op.encode(&mut body);
        if body.len() >= BATCH_BYTES_MAX {
            sequence += 1;
            put(&seal(sequence, &body))?;
            body.clear();
        }
    }
    if !body.is_empty() {
        sequence += 1;
        put(&seal(sequence, &body))?;
    }
    file.sync_all().map_err(StoreError::io("sync", &new_path))?;
    std::fs::rename(&new_path, path).map_err(StoreError::io("replace", path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = File::open(parent).map_err(StoreError::io("open", parent))?;
    directory.sync_all().map_err(StoreError::io("sync", parent))?;
    Ok((file, bytes, sequence))
}

fn seal(sequence: u64, body: &[u8]) -> Vec<u8> {
    let sequence = sequence.to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&sequence), body);
    let length = u32::try_from(body.len()).expect("a frame is under 4 GiB");
    [&FRAME_MAGIC[..], &length.to_le_bytes(), &crc.to_le_bytes(), &sequence, body].concat()
}

struct Recovered {
    state: State,
    valid_bytes: usize,
    sequence: u64,
}

/// Replays a file's content. An invalid end is left out; anything else invalid is an error at its offset.
fn recover(content: &[u8]) -> Result<Recovered, (usize, &'static str)> {
    if !content.starts_with(&FILE_MAGIC) {
        return Err((0, "not a store of this version"));
    }
    let mut found = Recovered { state: State::default(), valid_bytes: FILE_MAGIC.len(), sequence: 0 };
    while found.valid_bytes < content.len() {
        let at = found.valid_bytes;
        let Some((sequence, body)) = read_frame(&content[at..]) else {
            if holds_frame(&content[at + 1..]) {
                return Err((at, "invalid record"));
            }
            break;
        };
        if sequence != found.sequence + 1 {
            return Err((at, "record out of sequence"));
        }
        let mut reader = Reader::new(body);
        while !reader.is_empty() {
            let op = Op::decode(&mut reader).map_err(|_| (at, "record of an unknown form"))?;
            found.state.apply(&op);
        }
        found.sequence = sequence;
        found.valid_bytes = at + FRAME_HEADER_BYTES + body.len();
    }
    Ok(found)
}

fn read_frame(content: &[u8]) -> Option<(u64, &[u8])> {
    let mut reader = Reader::new(content);
    if reader.array::<4>("magic").ok()? != FRAME_MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(reader.array("length").ok()?) as usize;
    let crc = u32::from_le_bytes(reader.array("checksum").ok()?);
    let sequence: [u8; 8] = reader.array("sequence").ok()?;
    let body = reader.take(length, "body").ok().filter(|_| length <= FRAME_BYTES_MAX)?;
    let found = crc32c::crc32c_append(crc32c::crc32c(&sequence), body);
    (found == crc).then_some((u64::from_le_bytes(sequence), body))
}

/// Whether a whole frame begins anywhere in `content`.
fn holds_frame(content: &[u8]) -> bool {
    let starts = content.windows(FRAME_MAGIC.len()).enumerate().filter(|(_, window)| *window == FRAME_MAGIC);
    starts.into_iter().any(|(at, _)| read_frame(&content[at..]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compare;

    /// A log of three frames, each of one put, and where each begins.
    fn three_frames(path: &Path) -> Vec<usize> {
        let (mut log, mut state) = LogFile::open(path).unwrap();
        let mut starts = Vec::new();
        for key in ["a", "b", "c"] {
            starts.push(log.bytes as usize);
            state.put(key.to_owned(), b"a value of some length".repeat(9), Compare::Absent, None).unwrap();
            log.append(&state.take_made()).unwrap();
        }
        starts
    }

    #[test]
    fn a_torn_tail_is_replayed_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let starts = three_frames(&path);
        let whole = std::fs::read(&path).unwrap();
        for length in starts[2]..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut log, mut state) = LogFile::open(&path).unwrap();
            assert_eq!(state.list("").entries.len(), 2, "cut at {length}");
            assert_eq!(state.revision(), 2);
            state.put("d".to_owned(), Vec::new(), Compare::Absent, None).unwrap();
            log.append(&state.take_made()).unwrap();
            drop(log);
            assert_eq!(LogFile::open(&path).unwrap().1.list("").entries.len(), 3);
        }
    }

    #[test]
    fn a_corrupt_middle_is_cut_like_a_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let starts = three_frames(&path);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..starts[2]).step_by(3) {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let error = LogFile::open(&path).unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "byte {at}: {error}");
            assert_eq!(std::fs::read(&path).unwrap(), bad, "a refused file is changed");
        }
        std::fs::write(&path, [&whole[..starts[1]], &whole[starts[2]..]].concat()).unwrap();
        assert!(matches!(LogFile::open(&path).unwrap_err(), StoreError::Corrupt { .. }), "a hole");
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(LogFile::open(&path).unwrap_err(), StoreError::Corrupt { .. }), "an empty file");
    }

    #[test]
    fn two_processes_write_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let held = LogFile::open(&path).unwrap();
        assert!(matches!(LogFile::open(&path).unwrap_err(), StoreError::InUse(_)));
        drop(held);
        LogFile::open(&path).unwrap();
    }

    #[test]
    fn compaction_forgets_a_revision_or_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta");
        let (mut log, mut state) = LogFile::open(&path).unwrap();
        for round in 0..100_u32 {
            state.put("k".to_owned(), round.to_le_bytes().to_vec(), Compare::Any, None).unwrap();
            log.append(&state.take_made()).unwrap();
        }
        let before = log.bytes;
        drop(log);
        let (log, reopened) = LogFile::open(&path).unwrap();
        assert!(log.bytes < before / 10, "{} of {before}", log.bytes);
        assert_eq!((reopened.revision(), reopened.get("k")), (100, state.get("k")));
    }
}
