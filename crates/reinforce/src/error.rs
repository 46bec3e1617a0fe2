//! What ends a run. (What is wrong with one sample does not: it is a [`Fault`].)

use std::path::{Path, PathBuf};

use mobileclip::image::augment;
use mobileclip_shards::Fault;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error(transparent)]
    Shards(#[from] mobileclip_shards::Error),

    #[error(transparent)]
    Model(#[from] mobileclip::Error),

    #[error("{}: {source}", path.display())]
    Augmentation { path: PathBuf, source: augment::Error },

    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{}: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },

    /// Options that contradict each other, or the models.
    #[error("{0}")]
    Options(String),

    #[error(
        "{}: the folder was made with another `{key}`: {found} there, {given} now; take another folder, or the same options",
        path.display()
    )]
    OtherSettings { path: PathBuf, key: String, found: String, given: String },

    #[error(
        "{}: was made from an input of {found} bytes, {} has {given}; take another folder",
        shard.display(), input.display()
    )]
    OtherInput { shard: PathBuf, input: PathBuf, found: u64, given: u64 },

    #[error("{} and {} would both become {}; number the shards instead", first.display(), second.display(), shard.display())]
    SameName { first: PathBuf, second: PathBuf, shard: PathBuf },

    #[error("{}: a thread panicked; this is a mistake in the program", path.display())]
    Panic { path: PathBuf },
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { path: path.to_path_buf(), source }
    }
}

/// What goes wrong with a sample: its own fault, or one that every other would have, too.
pub(crate) enum Failure {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
}

impl From<mobileclip::Error> for Failure {
    fn from(error: mobileclip::Error) -> Failure {
        Failure::Error(error.into())
    }
}
