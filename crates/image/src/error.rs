//! What can go wrong with a photo.

use std::io;
use std::path::PathBuf;

use crate::Format;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something about one file; the cause says what.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The file could not be read.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// There is no byte.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of no format that is read here.
    #[error("not an image that can be read (JPEG, PNG, WebP, GIF, BMP, TIFF): found {found}")]
    UnknownFormat {
        /// What the bytes look like.
        found: String,
    },
    /// The file has more bytes than allowed.
    #[error("the file has more than {limit} bytes, the limit that is set")]
    FileTooLarge {
        /// [`DecodeOptions::max_file_bytes`](crate::DecodeOptions::max_file_bytes).
        limit: u64,
    },
    /// The image has more pixels than allowed.
    #[error("{width} x {height} pixels exceed the limit of {limit} pixels")]
    TooManyPixels {
        /// Columns that the header promises.
        width: u64,
        /// Rows that the header promises.
        height: u64,
        /// [`DecodeOptions::max_pixels`](crate::DecodeOptions::max_pixels).
        limit: u64,
    },
    /// The file breaks its format's rules, or ends too early.
    #[error("broken {format} file: {reason}")]
    Broken {
        /// The format that the first bytes name.
        format: Format,
        /// Where it breaks.
        reason: String,
    },
    /// The file may be right, but uses a part of its format that is not read here.
    #[error("{format} file not supported: {reason}")]
    Unsupported {
        /// The format that the first bytes name.
        format: Format,
        /// Which part.
        reason: String,
    },
    /// The bytes given for an image are too few or too many.
    #[error("an image of {width} x {height} pixels cannot have {found} bytes")]
    PixelCount {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A side is too long to be resized, or zero.
    #[error("a side of {found} pixels cannot be resized (1 to {limit})")]
    Side {
        /// The side's length.
        found: usize,
        /// The longest that can be.
        limit: usize,
    },
    /// A field of a [`Preprocess`](crate::Preprocess) is out of range.
    #[error("preprocessing: `{field}` must be {expected}, found {found}")]
    Preprocess {
        /// The field.
        field: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// The tensor to be written has the wrong length.
    #[error("the tensor has {found} values, the result {expected}")]
    TensorLength {
        /// Its length.
        found: usize,
        /// Length of the result.
        expected: usize,
    },
}
