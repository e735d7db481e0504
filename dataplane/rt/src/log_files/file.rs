//! One segment, written durably around the page cache.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use glommio::io::DmaBuffer;
use wal::{AlignedBuffer, BLOCK_BYTES};

use crate::{Result, RtError};

/// Memory that a batch is gathered in and written from, aligned to 4 KiB.
#[derive(Debug)]
pub struct LogBuffer(DmaBuffer);

impl LogBuffer {
    /// A buffer of `bytes`, at least one block, with undefined but initialized content.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let mut buffer = glommio::allocate_dma_buffer_global(bytes.max(BLOCK_BYTES));
        let len = buffer.len();
        // SAFETY: the buffer's own memory, for its own length; afterwards all of it is initialized.
        unsafe { std::ptr::write_bytes(buffer.as_mut_ptr(), 0, len) };
        Self(buffer)
    }
}

impl AlignedBuffer for LogBuffer {
    fn as_slice(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.0.as_bytes_mut()
    }
}

/// A segment open for writing around the page cache, through [`crate::PacketRing::begin_log_write`], which syncs what it
/// writes. Not O_DSYNC: the kernel ends such writes on a worker of the core that the device interrupts, and while others
/// keep that core busy each write waits for its turn there twice.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    path: PathBuf,
    is_direct: bool,
}

impl LogFile {
    /// Waits for the filesystem.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let open = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
        let (opened, is_direct) = match open(libc::O_DIRECT) {
            // The filesystem has no O_DIRECT.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (open(0), false),
            opened => (opened, true),
        };
        let file = opened.map_err(RtError::file("open", &path))?;
        Ok(Self { file, path, is_direct })
    }

    /// Over a file that is open already.
    #[cfg(test)]
    pub(super) const fn over(file: File, path: PathBuf) -> Self {
        Self { file, path, is_direct: false }
    }

    /// Whether writes go around the page cache; false on filesystems that cannot, where they are as durable but
    /// slower.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRawFd for LogFile {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Whether the device, or the user's share of it, is full: no error of the medium, and it may pass.
pub(super) fn is_disk_full(error: &RtError) -> bool {
    let RtError::File { source, .. } = error else { return false };
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
