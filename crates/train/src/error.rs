//! Why a run does not begin or does not go on.

use std::path::{Path, PathBuf};

use crate::loss::ObjectiveError;

/// A result of training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The recipe is no TOML, has an unknown field, or a field of another type.
    #[error("{}: {reason}", path.display())]
    Recipe { path: PathBuf, reason: String },
    /// A field of the configuration contradicts another, or the data or the model.
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: String },
    /// A checkpoint of a run that is not whole, or of another run.
    #[error("{}: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    /// The data.
    #[error(transparent)]
    Shards(#[from] mobileclip_shards::Error),
    /// No sample of the whole set can be used.
    #[error("no sample of {samples} can be used; the first: {first}")]
    NoSample { samples: usize, first: String },
    /// A model that is to be read or written.
    #[error(transparent)]
    Model(#[from] mobileclip_checkpoint::Error),
    /// The objective, or a batch that does not fit it.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// The loss is no number any more.
    #[error("step {step}: {what} is {value}; {}; the batch: {}", last_good(checkpoint), shown(keys))]
    NotFinite { step: u64, what: &'static str, value: f64, checkpoint: Option<PathBuf>, keys: Vec<String> },
}

fn last_good(checkpoint: &Option<PathBuf>) -> String {
    checkpoint.as_ref().map_or("there is no checkpoint yet".to_owned(), |path| {
        format!("the last good checkpoint is {}", path.display())
    })
}

/// The first keys; of a batch of thousands, the rest is in the error's field.
fn shown(keys: &[String]) -> String {
    const SHOWN: usize = 256;
    let more = keys.len().saturating_sub(SHOWN);
    let list = keys.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{list} and {more} more") } else { list }
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    }

    pub(crate) fn field(field: &'static str, reason: impl Into<String>) -> Error {
        Error::Field { field, reason: reason.into() }
    }
}
