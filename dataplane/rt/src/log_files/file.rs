//! One segment, written durably around the page cache.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
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

enum File {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

/// A segment open for durable writing: every write is its own sync (O_DSYNC), one request to the device. It is
/// written through [`crate::PacketRing::begin_log_write`].
pub struct LogFile {
    file: File,
    path: PathBuf,
}

impl LogFile {
    pub(super) async fn open(path: PathBuf) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DSYNC);
        let file = match options.dma_open(&path).await {
            Ok(file) => File::Direct(file),
            // The filesystem has no O_DIRECT.
            Err(error) if errno(&error) == Some(libc::EINVAL) => {
                let buffered = options.buffered_open(&path).await;
                File::Buffered(buffered.map_err(|error| failed("open", &path, error))?)
            }
            Err(error) => return Err(failed("open", &path, error)),
        };
        Ok(Self { file, path })
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

    /// Closes the file and returns when it is closed.
    ///
    /// # Errors
    /// [`RtError::File`].
    pub async fn close(self) -> Result<()> {
        let Self { file, path } = self;
        let closed = match file {
            File::Direct(file) => file.close().await,
            File::Buffered(file) => file.close().await,
        };
        closed.map_err(|error| failed("close", &path, error))
    }
}

impl AsRawFd for LogFile {
    fn as_raw_fd(&self) -> RawFd {
        match &self.file {
            File::Direct(file) => file.as_raw_fd(),
            File::Buffered(file) => file.as_raw_fd(),
        }
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
