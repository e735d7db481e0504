//! Whole pages for memory that the kernel reads and writes behind our back.

use std::io;
use std::ptr::NonNull;

/// Private anonymous pages, zeroed, page-aligned, resident only once touched; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Maps `len` bytes (rounded up by the kernel to whole pages).
    pub(crate) fn map(len: usize) -> io::Result<Self> {
        assert!(len > 0, "an empty mapping has no address");
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Self { start, len })
    }

    /// The address of byte `offset`.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "offset {offset} of {}", self.len);
        // SAFETY: the offset is inside the mapping, checked above.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Bytes `offset..offset + len`.
    ///
    /// # Safety
    /// The kernel must own no part of the range while the slice lives.
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset <= self.len && len <= self.len - offset, "{offset}+{len} of {}", self.len);
        // SAFETY: inside the mapping, checked above; initialized, because anonymous pages read as zero; the caller keeps
        // the kernel from writing.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), len) }
    }

    /// The same, to be changed.
    ///
    /// # Safety
    /// As of [`Self::slice`].
    pub(crate) unsafe fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset <= self.len && len <= self.len - offset, "{offset}+{len} of {}", self.len);
        // SAFETY: inside the mapping, checked above; initialized, because anonymous pages read as zero; unique,
        // because `self` is borrowed mutably and the caller keeps the kernel out.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `map` with this length and is unmapped nowhere else.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
