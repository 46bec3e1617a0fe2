//! A file that is written under no name, and appears whole.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::local;
#[cfg(feature = "stores")]
use crate::remote;

/// A file that is being written. If it is dropped, there was nothing.
pub struct Draft(To);

/// A file that is whole and waits for its name.
pub struct Finished {
    to: To,
    bytes: u64,
}

enum To {
    /// A file beside its place.
    Disk { file: NamedTempFile<File>, target: PathBuf },
    /// A file without a name, which is sent when it is whole: nothing is left of it on the disk or on the store, however the process ends, and
    /// a store that fails for a while does not hold up who writes.
    #[cfg(feature = "stores")]
    Store { file: File, object: remote::Object },
}

impl Draft {
    pub(crate) fn local(target: &Path, drafts: Option<&Path>) -> io::Result<Self> {
        let file = local::draft(target, drafts)?;
        Ok(Self(To::Disk { file, target: target.to_path_buf() }))
    }

    #[cfg(feature = "stores")]
    pub(crate) fn remote(object: remote::Object) -> io::Result<Self> {
        Ok(Self(To::Store { file: local::nameless()?, object }))
    }

    fn file(&mut self) -> &mut File {
        match &mut self.0 {
            To::Disk { file, .. } => file.as_file_mut(),
            #[cfg(feature = "stores")]
            To::Store { file, .. } => file,
        }
    }

    /// Ends the file; on a disk, brings it there.
    ///
    /// # Errors
    /// If that fails.
    pub fn finish(mut self) -> io::Result<Finished> {
        match &self.0 {
            To::Disk { file, .. } => file.as_file().sync_all()?,
            #[cfg(feature = "stores")]
            To::Store { .. } => {}
        }
        let bytes = self.file().stream_position()?;
        Ok(Finished { to: self.0, bytes })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Finished {
    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its name, in place of what is there.
    ///
    /// # Errors
    /// If that fails; what was there is still there then.
    pub fn publish(self) -> io::Result<()> {
        match self.to {
            To::Disk { file, target } => {
                file.persist(&target).map_err(|error| error.error)?;
                local::sync_folder(&target)
            }
            #[cfg(feature = "stores")]
            To::Store { mut file, object } => object.upload(&mut file, self.bytes, false).map(|_| ()),
        }
    }

    /// Gives the file its name if there is no other; false if there is one, which stays.
    ///
    /// # Errors
    /// If that fails.
    pub fn publish_new(self) -> io::Result<bool> {
        match self.to {
            To::Disk { file, target } => match file.persist_noclobber(&target) {
                Ok(_) => local::sync_folder(&target).map(|()| true),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.error),
            },
            #[cfg(feature = "stores")]
            To::Store { mut file, object } => object.upload(&mut file, self.bytes, true),
        }
    }
}
