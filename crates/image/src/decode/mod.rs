//! Files to RGB, with the bytes that `Image.open(f).convert("RGB")` of Pillow gives: alpha is dropped, never composited; palettes are
//! looked up; 16-bit colours keep their high byte; of an animation the first frame counts; colour profiles are ignored.
//!
//! One thing is not as in Pillow: grey samples of 16 bits keep their high byte too, where Pillow clips them at 255.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::{Error, RgbImage};

mod bmp;
mod exif;
mod gif;
mod jpeg;
mod png;
mod samples;
mod sniff;
mod tiff;
mod webp;

/// Formats that are read, found out by the first bytes of a file, never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JPEG, baseline and progressive.
    Jpeg,
    /// PNG; of an animated one the default image.
    Png,
    /// WebP, lossy and lossless; of an animation the first frame.
    WebP,
    /// GIF, the first frame.
    Gif,
    /// Windows and OS/2 bitmaps.
    Bmp,
    /// TIFF, the first page.
    Tiff,
}

impl Format {
    /// The format that `bytes` begin as.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        sniff::format(bytes)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jpeg => "JPEG",
            Format::Png => "PNG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
            Format::Tiff => "TIFF",
        })
    }
}

/// What a decoder may use and whether it turns the photo.
///
/// The default is the reference's: not turned, and refused where Pillow refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// Images of more pixels are refused before memory is taken for them. The default, 178,956,970, is the number from which Pillow
    /// takes a file for a decompression bomb.
    pub max_pixels: u64,
    /// Files of more bytes are refused; 1 GiB by default.
    pub max_file_bytes: u64,
    /// Whether the EXIF orientation is applied, as viewers do it for people's photos. The reference does not (but turns a TIFF by its
    /// own orientation tag whatever is asked).
    pub apply_orientation: bool,
    /// If set, a JPEG is decoded at a half, a quarter or an eighth of its size where that leaves at least so many pixels in width and
    /// height, as after Pillow's `draft(None, size)`. Quicker, but the pixels are others than those of the whole photo resized.
    pub reduce_to: Option<(usize, usize)>,
}

impl Default for DecodeOptions {
    fn default() -> DecodeOptions {
        DecodeOptions {
            max_pixels: 178_956_970,
            max_file_bytes: 1 << 30,
            apply_orientation: false,
            reduce_to: None,
        }
    }
}

impl DecodeOptions {
    /// The default, but photos are turned as their EXIF orientation says.
    pub fn upright() -> DecodeOptions {
        DecodeOptions { apply_orientation: true, ..DecodeOptions::default() }
    }

    /// The same with another limit of pixels.
    #[must_use]
    pub fn with_max_pixels(self, max_pixels: u64) -> DecodeOptions {
        DecodeOptions { max_pixels, ..self }
    }

    /// The same with another limit of bytes in a file.
    #[must_use]
    pub fn with_max_file_bytes(self, max_file_bytes: u64) -> DecodeOptions {
        DecodeOptions { max_file_bytes, ..self }
    }

    /// The same with JPEGs reduced while they stay so wide and high, see [`DecodeOptions::reduce_to`].
    #[must_use]
    pub fn with_reduction_to(self, width: usize, height: usize) -> DecodeOptions {
        DecodeOptions { reduce_to: Some((width, height)), ..self }
    }

    /// Columns and rows as numbers of memory, if there are any and they are allowed.
    fn check_size(&self, format: Format, width: u64, height: u64) -> Result<(usize, usize), Error> {
        if width == 0 || height == 0 {
            return Err(broken(format, format!("the image has {width} x {height} pixels")));
        }
        let too_many = || Error::TooManyPixels { width, height, limit: self.max_pixels };
        if width.checked_mul(height).is_none_or(|pixels| pixels > self.max_pixels) {
            return Err(too_many());
        }
        // Whatever the limit, 16 bytes for each pixel (four 32-bit samples) must be countable.
        let countable = |side: u64| usize::try_from(side).ok();
        match (countable(width), countable(height)) {
            (Some(w), Some(h)) if w.checked_mul(h).and_then(|n| n.checked_mul(16)).is_some() => Ok((w, h)),
            _ => Err(too_many()),
        }
    }
}

/// Decodes an image file that is in memory.
///
/// # Errors
/// What is wrong with the file: see [`Error`].
pub fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    if u64::try_from(bytes.len()).is_ok_and(|len| len > options.max_file_bytes) {
        return Err(Error::FileTooLarge { limit: options.max_file_bytes });
    }
    let Some(format) = Format::detect(bytes) else {
        return Err(if bytes.is_empty() {
            Error::Empty
        } else {
            Error::UnknownFormat { found: sniff::describe(bytes) }
        });
    };
    let decoded = match format {
        Format::Jpeg => jpeg::decode(bytes, options),
        Format::Png => png::decode(bytes, options),
        Format::WebP => webp::decode(bytes, options),
        Format::Gif => gif::decode(bytes, options),
        Format::Bmp => bmp::decode(bytes, options),
        Format::Tiff => tiff::decode(bytes, options),
    }?;
    // A TIFF has no other orientation than its own, and the reference applies that one.
    if options.apply_orientation || format == Format::Tiff {
        return Ok(exif::turn(decoded.image, decoded.orientation));
    }
    Ok(decoded.image)
}

/// Reads and decodes an image file.
///
/// # Errors
/// [`Error::File`] with the path, and what is wrong with the file.
pub fn decode_file(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let read = || {
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large from one that just fits, whatever its size is said to be.
        File::open(path)?.take(options.max_file_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        decode(&bytes, options)
    };
    read().map_err(|source| Error::File { path: path.to_owned(), source: Box::new(source) })
}

/// An image as it lies in the file, and how it is to be turned.
struct Decoded {
    image: RgbImage,
    /// EXIF's number, 1 to 8.
    orientation: u8,
}

fn broken(format: Format, reason: impl fmt::Display) -> Error {
    Error::Broken { format, reason: reason.to_string() }
}

fn unsupported(format: Format, reason: impl fmt::Display) -> Error {
    Error::Unsupported { format, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_foreign_files_are_named() {
        let options = DecodeOptions::default();
        assert!(matches!(decode(b"", &options), Err(Error::Empty)));
        let error = decode(b"<html><body>404", &options).unwrap_err().to_string();
        assert!(error.contains("HTML"), "{error}");
        let error = decode(b"GIF89a", &options.with_max_file_bytes(5)).unwrap_err();
        assert!(matches!(error, Error::FileTooLarge { limit: 5 }));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = decode_file("no/such/photo.jpg", &DecodeOptions::default()).unwrap_err().to_string();
        assert!(error.starts_with("no/such/photo.jpg: cannot read"), "{error}");
    }

    #[test]
    fn sizes_are_checked_before_memory_is_taken() {
        let options = DecodeOptions::default();
        assert!(options.check_size(Format::Png, 178_956_970, 1).is_ok());
        assert!(matches!(options.check_size(Format::Png, 20_000, 10_000), Err(Error::TooManyPixels { .. })));
        assert!(matches!(options.check_size(Format::Png, 0, 9), Err(Error::Broken { .. })));
        let raised = options.with_max_pixels(u64::MAX);
        assert!(raised.check_size(Format::Png, 20_000, 10_000).is_ok());
        assert!(matches!(raised.check_size(Format::Png, u64::MAX, 2), Err(Error::TooManyPixels { .. })));
        assert!(matches!(raised.check_size(Format::Png, 1 << 62, 1), Err(Error::TooManyPixels { .. })));
    }
}
