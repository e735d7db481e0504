//! The segment files of one shard's log.
//!
//! A segment is made whole before it has its name: allocated, zeroed and synced, so that a write into it changes
//! no metadata and one durable write is one request to the device. A crash in between leaves a `.new` file, which
//! the next start removes. The file of a removed segment is kept as a spare, whatever it holds, and becomes another
//! segment once it is zeroed.
//!
//! All of that is done by [`SegmentFiles`] on a thread of its own.

mod background;
mod file;
mod prepare;
mod storage;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use wal::{parse_segment_file_name, segment_file_name};

pub use background::{SegmentEvent, SegmentFiles, SegmentFilesConfig};
pub use file::{LogBuffer, LogFile};
pub use storage::LogStorage;

use crate::data_dir::sync_dir;
use crate::{Doorbell, Result, RtError};

/// What an unfinished segment's name ends with.
const UNFINISHED: &str = ".new";
/// What the name of a file ends with that waits to become another segment.
const SPARE: &str = ".spare";

/// The directory of one shard's log.
#[derive(Clone, Debug)]
pub struct LogDir {
    path: PathBuf,
}

impl LogDir {
    /// Opens the directory, creating it where it is missing, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(RtError::file("create directory", &path))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
        let dir = Self { path };
        for name in names(&dir.path)?.into_iter().filter(|name| name.ends_with(UNFINISHED)) {
            let path = dir.path.join(name);
            fs::remove_file(&path).map_err(RtError::file("remove", &path))?;
        }
        Ok(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The segments that exist, in order. Other files are left alone.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn segments(&self) -> Result<Vec<u32>> {
        let mut segments: Vec<u32> =
            names(&self.path)?.iter().filter_map(|name| parse_segment_file_name(name)).collect();
        segments.sort_unstable();
        Ok(segments)
    }

    /// Makes a segment of `segment_bytes` zeros, on disk with its name when this returns; an existing one is
    /// extended with zeros where it is shorter. Blocks for as long as the device takes.
    ///
    /// # Errors
    /// [`RtError::File`], also when the device is full.
    pub fn prepare_segment(&self, segment: u32, segment_bytes: u64) -> Result<()> {
        let stop = AtomicBool::new(false);
        prepare::Files { dir: &self.path, segment_bytes, stop: &stop }.prepare(segment)
    }

    /// Handles the files on a thread of its own, off the shard's core; `done` is rung when something is done.
    ///
    /// # Errors
    /// [`RtError::File`] when no thread can be had.
    pub fn segment_files(&self, config: SegmentFilesConfig, done: Doorbell) -> Result<SegmentFiles> {
        SegmentFiles::start(self, config, done)
    }

    /// Opens a prepared segment for durable writing. Blocks.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn open_segment(&self, segment: u32) -> Result<LogFile> {
        LogFile::open(self.segment_path(segment))
    }

    /// The files as recovery wants them.
    #[must_use]
    pub fn storage(&self) -> LogStorage {
        LogStorage::new(self.clone())
    }

    /// The log below `path` as it is, for those who only look: nothing is created, tidied up or written.
    #[must_use]
    pub fn reader(path: impl Into<PathBuf>) -> (Self, LogStorage) {
        let dir = Self { path: path.into() };
        let storage = LogStorage::read_only(dir.clone());
        (dir, storage)
    }

    /// Bytes of all segment files.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for segment in self.segments()? {
            let path = self.segment_path(segment);
            bytes += fs::metadata(&path).map_err(RtError::file("look at", &path))?.len();
        }
        Ok(bytes)
    }

    /// The file of a segment.
    #[must_use]
    pub fn segment_path(&self, segment: u32) -> PathBuf {
        self.path.join(segment_file_name(segment))
    }
}

/// The names in a directory.
fn names(dir: &Path) -> Result<Vec<String>> {
    let failed = || RtError::file("list directory", dir);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        // A name that is no text is not one of ours.
        names.extend(name.into_string().ok());
    }
    Ok(names)
}
