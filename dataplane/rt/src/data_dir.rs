//! The directory that a node keeps its data in, and the lock that makes it one node's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::layout::{self, Layout};
use crate::{LogDir, Result, RtError};

const LOCK_NAME: &str = "LOCK";
/// The most of a lock file that an error repeats, bytes.
const HOLDER_BYTES_MAX: u64 = 256;

/// A data directory that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock by being open.
    _lock: File,
}

impl DataDir {
    /// Creates the directory where it is missing and locks it. `address` is written into the lock file, so that
    /// whoever is refused can be told by whom.
    ///
    /// # Errors
    /// [`RtError::DataDirInUse`] with the holder's process id and address, [`RtError::File`] with the path.
    pub fn lock(path: impl Into<PathBuf>, address: SocketAddr) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(RtError::file("create directory", &path))?;
        let lock_path = path.join(LOCK_NAME);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(RtError::file("open", &lock_path))?;
        // SAFETY: a descriptor that `lock` keeps open; flock takes no pointers.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let source = io::Error::last_os_error();
            return Err(match source.kind() {
                io::ErrorKind::WouldBlock => RtError::DataDirInUse { path, holder: holder(&lock) },
                _ => RtError::File { what: "lock", path: lock_path, source },
            });
        }
        let holder = format!("pid {} at {address}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(holder.as_bytes()))
            .map_err(RtError::file("write", &lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The layout that the directory was created with; `None` in a new one.
    ///
    /// # Errors
    /// [`RtError::LayoutTooNew`], [`RtError::LayoutCorrupt`], [`RtError::File`].
    pub fn layout(&self) -> Result<Option<Layout>> {
        layout::read(&self.path)
    }

    /// Records the layout: either the whole of it is on disk when this returns, or nothing has changed.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn write_layout(&self, layout: &Layout) -> Result<()> {
        layout::write(&self.path, layout)
    }

    /// The directory of one shard's log, created where it is missing.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn log_dir(&self, shard: usize) -> Result<LogDir> {
        LogDir::open(self.path.join(format!("shard-{shard:03}")))
    }
}

/// Who wrote the lock file.
fn holder(lock: &File) -> String {
    let mut text = String::new();
    let read = lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    match text.trim() {
        name if read.is_ok() && !name.is_empty() => name.to_owned(),
        _ => "another process".to_owned(),
    }
}

/// Returns when the directory's entries are on the disk.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(RtError::file("sync directory", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        ([127, 0, 0, 1], 4433).into()
    }

    #[test]
    fn two_nodes_cannot_share_a_directory_and_the_second_learns_whose_it_is() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let path = temp.path().join("data/node");
        let first = DataDir::lock(&path, address()).expect("the first lock");
        let error = DataDir::lock(&path, address()).expect_err("the second lock").to_string();
        assert!(error.contains(&format!("pid {} at 127.0.0.1:4433", std::process::id())), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        drop(first);
        DataDir::lock(&path, address()).expect("the lock after its holder is gone");
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let temp = tempfile::NamedTempFile::new().expect("temporary file");
        let path = temp.path().join("data");
        let error = DataDir::lock(&path, address()).expect_err("a directory in a file").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
