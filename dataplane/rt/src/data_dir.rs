//! The directory that a node keeps its data in, and the lock that makes it one node's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::layout::{self, Layout};
use crate::{LogDir, Result, RtError};

const LOCK_NAME: &str = "LOCK";
const RESET_KEY_NAME: &str = "reset-key";
/// The length of the key in [`DataDir::reset_key`].
pub const RESET_KEY_BYTES: usize = 32;
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
        Self::lock_as(path, &format!("pid {} at {address}", std::process::id()))
    }

    /// Locks a directory that is there, for a tool that looks into it; `holder` is what others are told.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub fn lock_as(path: PathBuf, holder: &str) -> Result<Self> {
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
                io::ErrorKind::WouldBlock => RtError::DataDirInUse { path, holder: read_holder(&lock) },
                _ => RtError::File { what: "lock", path: lock_path, source },
            });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{holder}"))
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

    /// The key of the node's stateless resets, made when it is first asked for: it has to outlive the process, so that
    /// clients of a node that was killed learn it at once. Only the owner may read it.
    ///
    /// # Errors
    /// [`RtError::ResetKeyCorrupt`], [`RtError::Entropy`], [`RtError::File`].
    pub fn reset_key(&self) -> Result<[u8; RESET_KEY_BYTES]> {
        let path = self.path.join(RESET_KEY_NAME);
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| RtError::ResetKeyCorrupt { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_reset_key(&path),
            Err(source) => Err(RtError::file("read", path)(source)),
        }
    }

    /// Either the whole key is on disk when this returns, or none.
    fn make_reset_key(&self, path: &Path) -> Result<[u8; RESET_KEY_BYTES]> {
        let mut key = [0; RESET_KEY_BYTES];
        crate::entropy(&mut key)?;
        let temporary = self.path.join(format!("{RESET_KEY_NAME}.new"));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(RtError::file("create", &temporary))?;
        file.write_all(&key).map_err(RtError::file("write", &temporary))?;
        file.sync_all().map_err(RtError::file("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(RtError::file("rename", &temporary))?;
        sync_dir(&self.path)?;
        Ok(key)
    }

    /// The directory of one shard's log, created where it is missing.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub fn log_dir(&self, shard: usize) -> Result<LogDir> {
        LogDir::open(self.log_path(shard))
    }

    /// Where the log of a shard is.
    #[must_use]
    pub fn log_path(&self, shard: usize) -> PathBuf {
        self.path.join(shard_dir_name(shard))
    }
}

/// The name of the directory of one shard, below the data directory.
#[must_use]
pub fn shard_dir_name(shard: usize) -> String {
    format!("shard-{shard:03}")
}

/// Who wrote the lock file.
fn read_holder(lock: &File) -> String {
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
    fn a_reset_key_changes_with_a_restart_or_can_be_read_by_others() {
        use std::os::unix::fs::PermissionsExt;

        let temp = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::lock(temp.path(), address()).expect("the lock");
        let key = dir.reset_key().expect("a new key");
        assert_ne!(key, [0; RESET_KEY_BYTES]);
        drop(dir);
        let dir = DataDir::lock(temp.path(), address()).expect("the lock");
        assert_eq!(dir.reset_key().expect("the key"), key);
        let path = temp.path().join(RESET_KEY_NAME);
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, [1; 31]).expect("damage");
        let error = dir.reset_key().expect_err("a damaged key").to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("delete"), "{error}");
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let temp = tempfile::NamedTempFile::new().expect("temporary file");
        let path = temp.path().join("data");
        let error = DataDir::lock(&path, address()).expect_err("a directory in a file").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
