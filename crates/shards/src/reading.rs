//! How far a file was read, and whether it was the file that failed: a disk or a store that does, is no damage of a shard.

use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// What is known of a file that is being read, for others than its reader.
#[derive(Clone, Default)]
pub(crate) struct Reading(Arc<State>);

#[derive(Default)]
struct State {
    position: AtomicU64,
    failure: Mutex<Option<(io::ErrorKind, String)>>,
}

/// The file.
pub(crate) struct Watched {
    file: Box<dyn Read + Send>,
    reading: Reading,
}

impl Reading {
    /// The file, from whose reading this knows.
    pub(crate) fn watch(&self, file: impl Read + Send + 'static) -> Watched {
        Watched { file: Box::new(file), reading: self.clone() }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> u64 {
        self.0.position.load(Ordering::Relaxed)
    }

    /// Whether all that was wanted could be read.
    ///
    /// # Errors
    /// [`Error::Io`] if the file failed.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        match &*self.0.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some((kind, reason)) => {
                let source = io::Error::new(*kind, reason.clone());
                Err(Error::Io { path: path.to_path_buf(), source })
            }
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = &self.reading.0;
        match self.file.read(buffer) {
            Ok(read) => {
                state.position.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    let failure = (error.kind(), error.to_string());
                    *state.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                }
                Err(error)
            }
        }
    }
}
