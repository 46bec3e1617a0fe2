//! An index of photo folders, and exact search in it.
//!
//! An index is a folder of Parquet segments and one small note, `index.json`, which names the model and the segments that
//! count. A segment is never changed: what is new, changed, failed or gone is written as rows of a new segment, and a later
//! row of a path stands above an earlier one. A commit writes the segment, makes it durable and then replaces the note by a
//! rename, so whatever instant a process dies at, the index is what it was before or after that commit.
//!
//! [`Index`] writes (one process at a time), [`Searcher`] holds the embeddings in memory and answers.
//!
//! ```
//! use mobileclip::index::{Embed, Index, ModelNote, Searcher, UpdateOptions};
//! use std::{ops::ControlFlow, path::PathBuf};
//!
//! /// Stands for a model: two numbers that tell something of the file.
//! struct Toy;
//! impl Embed for Toy {
//!     fn model(&self) -> ModelNote {
//!         ModelNote { name: "toy".into(), fingerprint: "toy-1".into(), dimension: 2 }
//!     }
//!     fn embed_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>, String>> {
//!         paths.iter().map(|p| if p.ends_with("sea.png") { Ok(vec![0.6, 0.8]) } else { Ok(vec![1.0, 0.0]) }).collect()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let (photos, dir) = (folder.path().join("photos"), folder.path().join("index"));
//! # std::fs::create_dir(&photos)?;
//! std::fs::write(photos.join("sea.png"), "…")?;
//! std::fs::write(photos.join("wood.jpg"), "…")?;
//!
//! let mut index = Index::open_or_create(&dir, &Toy.model())?;
//! let report = index.update(&[photos], &Toy, &UpdateOptions::default(), &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!((report.embedded, report.failed.len()), (2, 0));
//!
//! let searcher = Searcher::load(&dir, &Toy.model())?;
//! let hits = searcher.search(&[0.0, 1.0], 1)?;
//! assert!(hits[0].path.ends_with("sea.png"));
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

mod disk;
mod error;
mod note;
mod search;
mod segment;
mod sheet;
mod store;
mod thumbnail;
mod update;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use disk::{Disk, RealDisk};
pub use error::{Error, Result};
pub use note::ModelNote;
pub use search::{Hit, Searcher};
pub use sheet::{contact_sheet, escape};
pub use store::Index;
pub use thumbnail::{small_jpeg, thumbnail};
pub use update::{Progress, Report, UpdateOptions};
pub use walk::{Found, PHOTO_EXTENSIONS, Stamp, Walk, find_photos};

/// What an index needs of a model.
pub trait Embed {
    /// Which model this is: embeddings of two models are not comparable, so an index remembers it.
    fn model(&self) -> ModelNote;

    /// The L2-normalised embeddings of some photos, in the order of `paths`, or why a photo has none.
    fn embed_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>, String>>;
}
