//! A JPEG decoder whose bytes equal libjpeg-turbo's with its defaults, as Pillow uses it: the accurate integer
//! inverse DCT, triangle ("fancy") chroma upsampling, block smoothing of unfinished progressive files.
//!
//! ```
//! use mobileclip_jpeg::{Limits, decode, read_header};
//!
//! let file = include_bytes!("../../../golden/images/photos/tiny_17x11_420.jpg");
//! let header = read_header(file)?;
//! assert_eq!((header.width, header.height, header.components), (17, 11, 3));
//! let image = decode(file, Limits::default())?;
//! assert_eq!((image.channels, image.pixels.len()), (3, 17 * 11 * 3));
//! # Ok::<(), mobileclip_jpeg::Error>(())
//! ```
//!
//! Decoded are baseline, extended sequential and progressive Huffman-coded files of 8 bits with 1, 3 or 4
//! components (gray, YCbCr, RGB, CMYK, YCCK) in every sampling that libjpeg-turbo takes. Arithmetic coding, lossless
//! and hierarchical files and 12 bits are errors.
//!
//! **Damaged files.** What Pillow refuses is refused: broken headers, and data that ends before the image is
//! complete. What libjpeg only warns of and Pillow ignores is decoded to the same pixels: bad codes in the entropy data
//! read as zeros, a marker inside a segment leaves the rest of it gray, and a lost restart marker is resynchronised.
//! Differences are rare: a sequential file whose image data is complete decodes here even without its end marker,
//! where Pillow's answer depends on how full libjpeg's bit buffer is at that moment.

#![forbid(unsafe_code)]

mod bits;
mod decode;
mod entropy;
mod error;
mod exif;
mod frame;
mod huffman;
mod markers;
mod output;
mod progressive;
mod reduction;
mod sequential;
mod smoothing;

pub use decode::{Header, Image, Limits, decode, decode_reduced, read_header};
pub use error::Error;
pub use reduction::Reduction;
