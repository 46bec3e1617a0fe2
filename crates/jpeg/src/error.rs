use thiserror::Error;

/// Why a file was not decoded.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file does not begin with the bytes `FF D8 FF`.
    #[error("not a JPEG file (it does not begin with FF D8 FF)")]
    NotJpeg,

    /// The file ends before the image is complete.
    #[error("JPEG file is truncated: it ends inside {inside}")]
    Truncated {
        /// The part of the file that is cut.
        inside: &'static str,
    },

    /// A valid JPEG process that this decoder leaves out.
    #[error("unsupported JPEG: {what}")]
    Unsupported {
        /// The process or property.
        what: &'static str,
    },

    /// A segment breaks a rule that cannot be mended.
    #[error("malformed JPEG: {segment} segment: {reason}")]
    Malformed {
        /// The segment's name in the standard (SOF, DHT, ...).
        segment: &'static str,
        /// The broken rule.
        reason: &'static str,
    },

    /// The image has more pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error("JPEG of {width} x {height} pixels exceeds the limit of {max_pixels} pixels")]
    TooManyPixels {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The limit that was set.
        max_pixels: u64,
    },

    /// Decoding needs more memory than [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error("decoding this JPEG needs {bytes} bytes, the limit is {max_bytes}")]
    TooMuchMemory {
        /// Output, coefficients and working rows together.
        bytes: u64,
        /// The limit that was set.
        max_bytes: u64,
    },

    /// The file has more scans than [`Limits::max_scans`](crate::Limits::max_scans).
    #[error("JPEG has more than {max_scans} scans")]
    TooManyScans {
        /// The limit that was set.
        max_scans: u32,
    },
}
