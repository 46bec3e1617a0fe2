//! What can go wrong between a graph and a file.

use std::path::PathBuf;

use mobileclip_arch::Tower;

/// Why a model could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An input that does not fit the graph.
    #[error("the {tower:?} tower takes no {}", match tower {
        Tower::Image => format!("pixels of {height} x {width}"),
        Tower::Text => format!("row of {width} tokens"),
    })]
    InputSize {
        /// The tower.
        tower: Tower,
        /// Rows of pixels; 1 for text.
        height: usize,
        /// Columns of pixels, or tokens.
        width: usize,
    },
    /// A captioner's tower.
    #[error("the towers of a captioner are not written as ONNX models ({what})")]
    Captioner {
        /// An operation that only captioners have.
        what: String,
    },
    /// A damaged weight.
    #[error("`{name}` has the value {value} at {index}")]
    NotFinite {
        /// The constant's name in the model.
        name: String,
        /// The value.
        value: f32,
        /// Its place.
        index: usize,
    },
    /// A weight of another size than the graph says.
    #[error("`{name}` has {found} numbers, the graph needs {expected}")]
    Length {
        /// The constant's name in the model.
        name: String,
        /// Numbers that the weights gave.
        found: usize,
        /// Numbers that the graph needs.
        expected: usize,
    },
    /// The file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
