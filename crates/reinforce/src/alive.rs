//! Signs of life: whether a process of this machine has ended.
//!
//! A process keeps a lock on a file of its own, which the system drops whatever way the process ends. The file lies in the folder that the
//! processes share, or in that of temporary files if they share a store.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;

use mobileclip_store::Place;

const PREFIX: &str = ".alive-";

/// The sign of this process, from its beginning to its end.
pub(crate) struct Sign {
    folder: PathBuf,
    name: String,
    /// Locked; nothing where there are no locks, so that others wait for a lease's term.
    file: Option<File>,
}

/// What is known of another process.
#[derive(Debug)]
pub(crate) enum Life {
    Lives,
    /// Its file, with the lock that it has lost: of several that ask, one is told. The file goes when that one is done.
    Dead {
        path: PathBuf,
        _lock: File,
    },
    /// It is no process of this machine, or there are no locks.
    Unknown,
}

impl Sign {
    /// Gives a sign for the processes that share `folder`.
    pub(crate) fn give(folder: &Place) -> Self {
        let folder = match folder.is_remote() {
            true => std::env::temp_dir(),
            false => folder.address().to_path_buf(),
        };
        let mut sign = Self { folder, name: String::new(), file: None };
        // It appears locked, or another process would take it for one of a dead process.
        let locked = || -> io::Result<(String, File)> {
            let mut drawn = tempfile::Builder::new()
                .prefix(".sign-")
                .make_in(&sign.folder, |path| File::options().write(true).create_new(true).open(path))?;
            drawn.as_file_mut().try_lock()?;
            let name = drawn.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            let path = sign.folder.join(format!("{PREFIX}{name}"));
            Ok((name, drawn.persist_noclobber(path).map_err(|error| error.error)?))
        };
        if let Ok((name, file)) = locked() {
            (sign.name, sign.file) = (name, Some(file));
        } else {
            sign.name = format!("{}-without-locks", std::process::id());
        }
        sign
    }

    /// What the process is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is known of another process.
    pub(crate) fn of_other(&self, name: &str) -> Life {
        // A lease is a file that anybody may have written.
        if name.is_empty() || name.contains(['/', '\\']) {
            return Life::Unknown;
        }
        let path = self.folder.join(format!("{PREFIX}{name}"));
        let Ok(file) = File::options().write(true).open(&path) else { return Life::Unknown };
        match file.try_lock() {
            Ok(()) => Life::Dead { path, _lock: file },
            Err(TryLockError::WouldBlock) => Life::Lives,
            Err(TryLockError::Error(_)) => Life::Unknown,
        }
    }

    /// As the system does it when a process is killed: the lock goes, the file stays.
    #[cfg(test)]
    pub(crate) fn die(&mut self) {
        self.file = None;
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(self.folder.join(format!("{PREFIX}{}", self.name)));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Life::Dead { path, .. } = self {
            let _ = fs::remove_file(path);
        }
    }
}
