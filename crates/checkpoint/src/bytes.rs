//! The bytes of a file: mapped, or held in memory.
#![allow(unsafe_code)] // The line that maps a file, and the one that lets go of its pages.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The whole contents of one checkpoint file.
pub(crate) enum Bytes {
    Mapped(Mmap),
    Held(Cow<'static, [u8]>),
}

impl Bytes {
    /// Maps `path` read-only. An empty file becomes empty bytes: it cannot be mapped.
    pub(crate) fn map(path: &Path) -> Result<Bytes> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        if meta.is_dir() {
            return Err(io(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        if meta.len() == 0 {
            return Ok(Bytes::Held(Cow::default()));
        }
        // SAFETY: the map is read-only and private to `Bytes`, and every slice of it borrows from `Bytes`. What the compiler
        // cannot see is another process changing the file meanwhile. Values read may then be stale, which no code here relies
        // on for memory safety (all indices are checked against lengths taken once); a file cut short raises SIGBUS, which is
        // the documented condition of `TensorFile::open`. Our own writers replace files by rename, so never under a map.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Bytes::Mapped(map))
    }

    /// Gives the memory of mapped pages back; the next read takes them from the file's cache again.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = self {
            // SAFETY: the map is read-only and backed by the file, so that a page read again holds the same bytes; nothing
            // written can be lost. If the advice is refused, nothing changes.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}
