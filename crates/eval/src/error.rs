//! Why there is no result.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error(transparent)]
    Model(#[from] mobileclip::Error),

    #[error(transparent)]
    Shards(#[from] mobileclip_shards::Error),

    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{}: {reason}", path.display())]
    Layout { path: PathBuf, reason: String },

    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Content { path: PathBuf, expected: String, found: String },

    #[error("{}: there is nothing to evaluate: all {failed} samples failed, the first: {first}", path.display())]
    NothingLeft { path: PathBuf, failed: usize, first: String },

    #[error("{}: class `{class}` has {found} pictures, {needed} are asked for", path.display())]
    FewShots { path: PathBuf, class: String, found: usize, needed: usize },

    #[error("{}: {classes} classes, but the test set has {expected}", path.display())]
    OtherClasses { path: PathBuf, classes: usize, expected: usize },

    #[error("{}: line {line}: {reason}", path.display())]
    Line { path: PathBuf, line: usize, reason: String },

    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
