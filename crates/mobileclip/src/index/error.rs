//! Errors: each names the file and what to do about it.

use std::path::PathBuf;

use super::ModelNote;

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an index cannot be written or searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{dir}: holds no index (it has no index.json); index some photos into it first")]
    NotAnIndex { dir: PathBuf },

    #[error("{dir}: holds other files and no index; give the index a folder of its own")]
    NotEmpty { dir: PathBuf },

    #[error("{dir}: another process is indexing into this folder; wait for it or end it")]
    Locked { dir: PathBuf },

    #[error("{path}: not a usable note of an index: {reason}; delete the index's folder and index again")]
    Note { path: PathBuf, reason: String },

    #[error(
        "{path}: is of format version {found}, this program knows version {known}; take the program's newest release"
    )]
    Version { path: PathBuf, found: u64, known: u64 },

    #[error(
        "{path}: damaged: {reason}; repair the index (it forgets the photos of this segment until they are indexed again), or \
         delete the index's folder and index again"
    )]
    Segment { path: PathBuf, reason: String },

    #[error(
        "{dir}: was made with {index}, which is not {given}; use that model, or index into another folder"
    )]
    OtherModel { dir: PathBuf, index: Box<ModelNote>, given: Box<ModelNote> },

    #[error("the query has {found} numbers, the embeddings of this index have {expected}")]
    QueryDimension { found: usize, expected: usize },

    #[error("the query's embedding is not usable: {reason}")]
    Query { reason: String },

    #[error("{root}: {reason}; nothing was dropped from the index")]
    Root { root: PathBuf, reason: String },

    #[error(
        "{root}: holds no photo any more, and the index knows {known} there; is its disk mounted? Nothing was dropped from the \
         index; if the photos are really gone, let it drop those of emptied folders"
    )]
    EmptiedRoot { root: PathBuf, known: usize },

    #[error("the model gave {found} for {expected}")]
    Embedder { found: String, expected: String },

    #[error("{path}: the index cannot be written as Parquet: {reason}")]
    Encode { path: PathBuf, reason: String },
}

/// For `map_err`: an input or output error with its file.
pub(crate) fn io_error(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
