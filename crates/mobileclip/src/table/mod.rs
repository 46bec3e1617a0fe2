//! Embeddings in a file: `.npy`, `.jsonl` or `.parquet`, made in one go or in several.
//!
//! While embeddings are computed, they go to a pair of files beside the output: `OUT.partial`, the rows as plain numbers,
//! and `OUT.journal`, which says whose they are. Whatever kills the process, the pair holds all rows but the last batch.
//! [`EmbeddingTable::finish`] writes the output from it, in the order of the inputs, under its name only when it is whole.
//! So inputs may come and go between an interrupted run and the next, and each still gets its row once.
//!
//! ```
//! use mobileclip::index::ModelNote;
//! use mobileclip::table::{Column, EmbeddingTable, Input, TableSpec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let out = folder.path().join("captions.npy");
//! let model = ModelNote { name: "toy".into(), fingerprint: "toy-1".into(), dimension: 2 };
//! let spec = TableSpec { column: Column::Text, model, is_normalised: true };
//! let inputs = [Input::text("a dog"), Input::text("a cat")];
//!
//! let mut table = EmbeddingTable::resume(&out, &spec)?;
//! for input in inputs.iter().filter(|input| !table.is_done(input)).cloned().collect::<Vec<_>>() {
//!     table.append(&[(input, vec![0.6, 0.8])])?;
//! }
//! assert_eq!(table.finish(&inputs)?, 2);
//! assert_eq!(std::fs::metadata(&out)?.len(), 128 + 2 * 2 * 4);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

mod format;
mod spool;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use format::Format;
use spool::Spool;

use crate::index::{ModelNote, Stamp};

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a table of embeddings cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{path}: its name must end in .npy, .jsonl or .parquet")]
    UnknownFormat { path: PathBuf },

    #[error("{path}: another process is writing this table")]
    Locked { path: PathBuf },

    #[error(
        "{path}: was begun with {found}, now it is {given}; go on as it was begun, or start anew without resuming"
    )]
    OtherRun { path: PathBuf, found: Box<TableSpec>, given: Box<TableSpec> },

    #[error("{path}: not the journal of a table: {reason}; delete it, or start anew without resuming")]
    Journal { path: PathBuf, reason: String },

    #[error("`{input}`: its embedding has {found} numbers, the table's have {expected}")]
    Dimension { input: String, found: usize, expected: usize },

    #[error("`{input}`: its embedding holds a number that is not finite")]
    NotFinite { input: String },

    #[error("{path}: cannot be written as Parquet: {source}")]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
}

/// What the inputs of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Column {
    /// Paths of photos.
    Path,
    /// Texts.
    Text,
}

impl Column {
    /// Its name in the files: `path` or `text`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Text => "text",
        }
    }
}

/// What a table holds. A run can only go on with what another began if theirs are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSpec {
    /// What the inputs are.
    pub column: Column,
    /// The model.
    pub model: ModelNote,
    /// Whether the embeddings are L2-normalised, or features as the model gives them.
    pub is_normalised: bool,
}

impl std::fmt::Display for TableSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_normalised { "normalised embeddings" } else { "raw features" };
        write!(f, "{kind} of {}s by {}", self.column.name(), self.model)
    }
}

/// What gets a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    /// The path or the text.
    name: String,
    /// For a photo, its stamp: if it changes before the table is finished, its row no longer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<Stamp>,
}

impl Input {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { name: text.into(), stamp: None }
    }

    /// A photo. What of its path is not UTF-8 is replaced by `�` in the table.
    pub fn photo(path: &Path, stamp: Stamp) -> Self {
        Self { name: path.to_string_lossy().into_owned(), stamp: Some(stamp) }
    }

    /// The path or the text.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A table of embeddings that is being written.
pub struct EmbeddingTable {
    out: PathBuf,
    format: Format,
    spec: TableSpec,
    spool: Spool,
}

impl EmbeddingTable {
    /// Begins a table anew. What an interrupted run left is discarded; an older file at `out` stays until the new one is whole.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`], [`Error::Locked`] or [`Error::Io`].
    pub fn create(out: impl Into<PathBuf>, spec: &TableSpec) -> Result<Self> {
        Self::open(out.into(), spec, false)
    }

    /// Goes on with what an interrupted run left, if there is anything.
    ///
    /// # Errors
    /// [`Error::OtherRun`] if that was for another model, or other kinds of rows; [`Error::Journal`]; and as
    /// [`EmbeddingTable::create`].
    pub fn resume(out: impl Into<PathBuf>, spec: &TableSpec) -> Result<Self> {
        Self::open(out.into(), spec, true)
    }

    fn open(out: PathBuf, spec: &TableSpec, is_resuming: bool) -> Result<Self> {
        let format = Format::of(&out)?;
        let spool = Spool::open(&out, spec, is_resuming)?;
        Ok(Self { out, format, spec: spec.clone(), spool })
    }

    /// Whether this input has its row already.
    pub fn is_done(&self, input: &Input) -> bool {
        self.spool.row(input).is_some()
    }

    /// Adds rows, in any order, and makes them durable: worth calling with a batch at a time.
    ///
    /// # Errors
    /// [`Error::Dimension`], [`Error::NotFinite`] or [`Error::Io`].
    pub fn append(&mut self, rows: &[(Input, Vec<f32>)]) -> Result<()> {
        let expected = self.spec.model.dimension;
        for (input, embedding) in rows {
            if embedding.len() != expected {
                return Err(Error::Dimension { input: input.name.clone(), found: embedding.len(), expected });
            }
            if !embedding.iter().all(|x| x.is_finite()) {
                return Err(Error::NotFinite { input: input.name.clone() });
            }
        }
        self.spool.append(rows)
    }

    /// Writes the table: a row for each of `inputs` that has one, in their order (an input that stands twice gets two).
    /// How many rows that are. What was appended for other inputs is dropped.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Parquet`]; the table can then be resumed.
    pub fn finish(mut self, inputs: &[Input]) -> Result<usize> {
        let rows: Vec<(&str, u64)> =
            inputs.iter().filter_map(|input| Some((input.name(), self.spool.row(input)?))).collect();
        format::write(&self.out, self.format, &self.spec, &rows, &mut self.spool)?;
        self.spool.discard()?;
        Ok(rows.len())
    }
}

/// For `map_err`: an input or output error with its file.
fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
