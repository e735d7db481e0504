//! One segment, written durably around the page cache.

use std::io;
use std::path::{Path, PathBuf};

use glommio::GlommioError;
use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions};
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

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Every write is its own sync (O_DSYNC): one request to the device.
    WithWrite,
    /// A write, then fdatasync.
    AfterWrite,
}

enum File {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

/// A segment open for durable writing.
pub struct LogFile {
    file: File,
    path: PathBuf,
    sync: Sync,
}

impl LogFile {
    pub(super) async fn open(path: PathBuf, sync: Sync) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if sync == Sync::WithWrite {
            options.custom_flags(libc::O_DSYNC);
        }
        let file = match options.dma_open(&path).await {
            Ok(file) => File::Direct(file),
            // The filesystem has no O_DIRECT.
            Err(error) if errno(&error) == Some(libc::EINVAL) => {
                let buffered = options.buffered_open(&path).await;
                File::Buffered(buffered.map_err(|error| failed("open", &path, error))?)
            }
            Err(error) => return Err(failed("open", &path, error)),
        };
        Ok(Self { file, path, sync })
    }

    /// Whether writes go around the page cache; false on filesystems that cannot, where they are as durable but
    /// slower.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        matches!(self.file, File::Direct(_))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the first `bytes` of `buffer` at `offset`, both multiples of 4 KiB; durable when it returns.
    ///
    /// The operation is begun and ended by the executor's own rings: in a loop that does not end its turns by
    /// waiting, call [`crate::poll_files`] while it is in flight.
    ///
    /// # Errors
    /// [`RtError::File`], [`RtError::ShortWrite`]: final, what the disk holds is unknown, do not write again.
    /// [`RtError::Misaligned`]: nothing was written.
    pub async fn write(&self, buffer: LogBuffer, bytes: usize, offset: u64) -> Result<()> {
        let whole = bytes.is_multiple_of(BLOCK_BYTES) && offset.is_multiple_of(BLOCK_BYTES as u64);
        if !whole || bytes == 0 || bytes > buffer.0.len() {
            let path = self.path.clone();
            return Err(RtError::Misaligned { path, offset, len: bytes, align: BLOCK_BYTES });
        }
        let mut buffer = buffer.0;
        buffer.trim_to_size(bytes);
        let written = match &self.file {
            File::Direct(file) => file.write_at(buffer, offset).await,
            File::Buffered(file) => file.write_at(buffer.as_bytes().to_vec(), offset).await,
        };
        let written = written.map_err(|error| failed("write", &self.path, error))?;
        if written != bytes {
            return Err(RtError::ShortWrite { path: self.path.clone(), offset, len: bytes, written });
        }
        if self.sync == Sync::AfterWrite {
            let synced = match &self.file {
                File::Direct(file) => file.fdatasync().await,
                File::Buffered(file) => file.fdatasync().await,
            };
            synced.map_err(|error| failed("sync", &self.path, error))?;
        }
        Ok(())
    }

    /// Closes the file and returns when it is closed.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub async fn close(self) -> Result<()> {
        let Self { file, path, .. } = self;
        let closed = match file {
            File::Direct(file) => file.close().await,
            File::Buffered(file) => file.close().await,
        };
        closed.map_err(|error| failed("close", &path, error))
    }
}

fn errno(error: &GlommioError<()>) -> Option<i32> {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

fn failed(what: &'static str, path: &Path, error: GlommioError<()>) -> RtError {
    let source = errno(&error).map_or_else(|| io::Error::from(error), io::Error::from_raw_os_error);
    RtError::File { what, path: path.into(), source }
}
