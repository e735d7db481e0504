//! Making segments ahead of their use.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Instant;

use wal::segment_file_name;

use super::UNFINISHED;
use crate::data_dir::sync_dir;
use crate::{Doorbell, Result, RtError, executor};

const ZEROES_BYTES: usize = 1 << 20;

/// A segment that is being made on another thread.
#[derive(Debug)]
pub struct PreparingSegment {
    segment: u32,
    thread: JoinHandle<Result<()>>,
}

impl PreparingSegment {
    pub(super) fn start(dir: PathBuf, segment: u32, segment_bytes: u64, done: Doorbell) -> Result<Self> {
        let path = dir.clone();
        let thread = std::thread::Builder::new()
            .name("log-segment".to_owned())
            .spawn(move || {
                executor::unpin_current_thread();
                let prepared = prepare(&dir, segment, segment_bytes);
                done.ring();
                prepared
            })
            .map_err(RtError::file("start a thread to prepare a segment in", path))?;
        Ok(Self { segment, thread })
    }

    /// Which segment.
    #[must_use]
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Whether [`Self::finish`] would not block. The doorbell rings a moment before: look again, do not sleep
    /// without a limit on the first ring.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the segment to be ready.
    ///
    /// # Errors
    /// [`RtError::File`], [`RtError::ShardPanicked`].
    pub fn finish(self) -> Result<()> {
        self.thread.join().unwrap_or_else(|_| {
            Err(RtError::ShardPanicked { name: "log-segment".to_owned(), message: "see above".to_owned() })
        })
    }
}

pub(super) fn prepare(dir: &Path, segment: u32, segment_bytes: u64) -> Result<()> {
    let path = dir.join(segment_file_name(segment));
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() >= segment_bytes => Ok(()),
        Ok(metadata) => {
            let file = OpenOptions::new().append(true).open(&path).map_err(RtError::file("open", &path))?;
            zero_fill(&file, metadata.len(), segment_bytes).map_err(RtError::file("extend", &path))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let unfinished = dir.join(format!("{}{UNFINISHED}", segment_file_name(segment)));
            let file = File::create(&unfinished).map_err(RtError::file("create", &unfinished))?;
            zero_fill(&file, 0, segment_bytes).map_err(RtError::file("zero", &unfinished))?;
            fs::rename(&unfinished, &path).map_err(RtError::file("rename", &unfinished))?;
            sync_dir(dir)
        }
        Err(source) => Err(RtError::file("look at", path)(source)),
    }
}

/// Writes zeros at the file's position from `from` to `to`, syncs, and drops them from the page cache, where the
/// log, which goes around it, would only stumble over them. Piece by piece, each synced, and half of the time
/// nothing: the log's writes share the device, and one that comes behind 32 MiB waits for them all.
fn zero_fill(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    // Contiguous where the filesystem can, and a full device is found now; one that cannot is no worse off.
    // SAFETY: a descriptor that `file` keeps open; no pointers.
    let allocated =
        unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, to as libc::off_t) };
    if allocated != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(error);
        }
    }
    let zeroes = vec![0u8; ZEROES_BYTES];
    let mut left = to - from;
    while left > 0 {
        let bytes = left.min(ZEROES_BYTES as u64);
        let begun = Instant::now();
        file.write_all(&zeroes[..bytes as usize])?;
        file.sync_data()?;
        std::thread::sleep(begun.elapsed());
        left -= bytes;
    }
    file.sync_all()?;
    // SAFETY: as above; the advice changes no content, and its failure costs only memory.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Ok(())
}
