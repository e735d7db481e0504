//! The segments as recovery reads them: plain blocking calls, before the shard has anything else to do.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use wal::Storage;

use super::LogDir;
use crate::data_dir::sync_dir;
use crate::{Result, RtError};

const ZEROES_BYTES: usize = 64 * 1024;

/// [`wal::Storage`] over a [`LogDir`]: sequential reads through the page cache, which reads ahead.
#[derive(Debug)]
pub struct LogStorage {
    dir: LogDir,
    can_write: bool,
    /// The segment read last.
    open: Option<(u32, File)>,
}

impl LogStorage {
    pub(super) fn new(dir: LogDir) -> Self {
        Self { dir, can_write: true, open: None }
    }

    /// Cannot change anything.
    pub(super) fn read_only(dir: LogDir) -> Self {
        Self { dir, can_write: false, open: None }
    }

    fn file(&mut self, segment: u32) -> Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            let path = self.dir.segment_path(segment);
            let file = OpenOptions::new().read(true).write(self.can_write).open(&path);
            let file = file.map_err(RtError::file("open", path))?;
            // SAFETY: a descriptor that `file` keeps open; the advice changes no content.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
            self.open = Some((segment, file));
        }
        let (_, file) = self.open.as_ref().expect("opened above");
        Ok(file)
    }
}

impl Storage for LogStorage {
    type Error = RtError;

    fn segments(&mut self) -> Result<Vec<u32>> {
        self.dir.segments()
    }

    fn read(&mut self, segment: u32, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let path = self.dir.segment_path(segment);
        self.file(segment)?.read_at(buffer, offset).map_err(RtError::file("read", path))
    }

    fn zero(&mut self, segment: u32, range: Range<u64>) -> Result<()> {
        let path = self.dir.segment_path(segment);
        let file = self.file(segment)?;
        let zeroes = vec![0u8; ZEROES_BYTES];
        let mut offset = range.start;
        while offset < range.end {
            let bytes = (range.end - offset).min(ZEROES_BYTES as u64);
            file.write_all_at(&zeroes[..bytes as usize], offset).map_err(RtError::file("zero", &path))?;
            offset += bytes;
        }
        Ok(())
    }

    fn sync(&mut self, segment: u32) -> Result<()> {
        let path = self.dir.segment_path(segment);
        self.file(segment)?.sync_all().map_err(RtError::file("sync", path))?;
        sync_dir(&self.dir.path)
    }
}

impl Drop for LogStorage {
    fn drop(&mut self) {
        // What recovery read would only stand in the way of direct writes to the same pages.
        if let Some((_, file)) = &self.open {
            // SAFETY: a descriptor that is open until after this; the advice changes no content.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }
}
