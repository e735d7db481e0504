//! Making segments ahead of their use, and taking away those of yesterday.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wal::segment_file_name;

use super::{SPARE, UNFINISHED};
use crate::data_dir::sync_dir;
use crate::{Result, RtError};

const ZEROES_BYTES: usize = 1 << 20;

/// The segment files of one directory: made, recycled and removed with blocking calls.
#[derive(Debug)]
pub(super) struct Files<'a> {
    pub(super) dir: &'a Path,
    pub(super) segment_bytes: u64,
    /// Asks to leave off; what was begun is then an error of the kind `Interrupted`.
    pub(super) stop: &'a AtomicBool,
}

impl Files<'_> {
    /// Sees to it that the segment has its size and is on the disk with its name. One that is not there is made of a
    /// spare file, if there is one, or anew.
    pub(super) fn prepare(&self, segment: u32) -> Result<()> {
        let path = self.dir.join(segment_file_name(segment));
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() >= self.segment_bytes => Ok(()),
            Ok(metadata) => {
                let file =
                    OpenOptions::new().write(true).open(&path).map_err(RtError::file("open", &path))?;
                self.zero_fill(&file, metadata.len()).map_err(RtError::file("extend", &path))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.spares()?.pop() {
                Some(spare) => self.recycle(&spare, &path),
                None => self.create(segment, &path),
            },
            Err(source) => Err(RtError::file("look at", path)(source)),
        }
    }

    fn create(&self, segment: u32, path: &Path) -> Result<()> {
        let unfinished = self.dir.join(format!("{}{UNFINISHED}", segment_file_name(segment)));
        let file = File::create(&unfinished).map_err(RtError::file("create", &unfinished))?;
        let zeroed = self.zero_fill(&file, 0);
        if zeroed.is_err() {
            // A full device gets back what was taken; whether that works is seen at the next attempt.
            let _ = fs::remove_file(&unfinished);
        }
        zeroed.map_err(RtError::file("zero", &unfinished))?;
        self.rename(&unfinished, path)
    }

    /// Every byte is zero, on the disk, before the file has the name of a segment: recovery must never find records of
    /// its former life behind the end of the log.
    fn recycle(&self, spare: &Path, path: &Path) -> Result<()> {
        let file = OpenOptions::new().write(true).open(spare).map_err(RtError::file("open", spare))?;
        let length = file.metadata().map_err(RtError::file("look at", spare))?.len();
        if length > self.segment_bytes {
            file.set_len(self.segment_bytes).map_err(RtError::file("shorten", spare))?;
        }
        self.zero_fill(&file, 0).map_err(RtError::file("zero", spare))?;
        self.rename(spare, path)
    }

    /// Takes a segment away, durably: it becomes a spare file while there are fewer than `spares_max`. True when it did.
    pub(super) fn remove(&self, segment: u32, spares_max: usize) -> Result<bool> {
        let path = self.dir.join(segment_file_name(segment));
        let is_kept = self.spares()?.len() < spares_max;
        if is_kept {
            self.rename(&path, &self.dir.join(format!("{}{SPARE}", segment_file_name(segment))))?;
        } else {
            fs::remove_file(&path).map_err(RtError::file("remove", &path))?;
            sync_dir(self.dir)?;
        }
        Ok(is_kept)
    }

    /// Removes spare files beyond `spares_max`.
    pub(super) fn remove_spares(&self, spares_max: usize) -> Result<()> {
        for spare in self.spares()?.into_iter().skip(spares_max) {
            fs::remove_file(&spare).map_err(RtError::file("remove", &spare))?;
        }
        Ok(())
    }

    fn spares(&self) -> Result<Vec<PathBuf>> {
        let names = super::names(self.dir)?.into_iter().filter(|name| name.ends_with(SPARE));
        Ok(names.map(|name| self.dir.join(name)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(RtError::file("rename", from))?;
        sync_dir(self.dir)
    }

    /// Writes zeros from `from` to the size of a segment, syncs, and drops them from the page cache, where the log,
    /// which goes around it, would only stumble over them. Piece by piece, each synced, and half of the time nothing:
    /// the log's writes share the device, and one that comes behind 32 MiB waits for them all.
    fn zero_fill(&self, file: &File, from: u64) -> io::Result<()> {
        // Contiguous where the filesystem can, and a full device is found now; one that cannot is no worse off.
        // SAFETY: a descriptor that `file` keeps open; no pointers.
        let allocated = unsafe {
            libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, self.segment_bytes as libc::off_t)
        };
        if allocated != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(error);
            }
        }
        let zeroes = vec![0u8; ZEROES_BYTES];
        let mut at = from;
        while at < self.segment_bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let bytes = (self.segment_bytes - at).min(ZEROES_BYTES as u64);
            let begun = Instant::now();
            file.write_all_at(&zeroes[..bytes as usize], at)?;
            file.sync_data()?;
            at += bytes;
            if at < self.segment_bytes {
                std::thread::sleep(begun.elapsed());
            }
        }
        file.sync_all()?;
        // SAFETY: as above; the advice changes no content, and its failure costs only memory.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        Ok(())
    }
}
