//! JPEG by the sibling crate, whose bytes are libjpeg-turbo's.

use mobileclip_jpeg::{Error as JpegError, Limits, Reduction};

use super::samples::push_greys;
use super::{DecodeOptions, Decoded, Format, broken, exif, unsupported};
use crate::{Error, RgbImage};

/// What a pixel may cost while a file is decoded: three bytes and, in a progressive one, three coefficients of two bytes, some of
/// them for the padding of the last blocks.
const BYTES_PER_PIXEL: u64 = 12;
/// What small images may cost: their blocks are padded to 16 or 32 pixels each way.
const LEAST_BYTES: u64 = 1 << 26;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let header = mobileclip_jpeg::read_header(bytes).map_err(wrong)?;
    let size = |side: usize| u64::try_from(side).unwrap_or(u64::MAX);
    options.check_size(Format::Jpeg, size(header.width), size(header.height))?;
    let limits = Limits {
        max_pixels: options.max_pixels,
        max_bytes: options.max_pixels.saturating_mul(BYTES_PER_PIXEL).max(LEAST_BYTES),
        ..Limits::default()
    };
    let whole = (header.width, header.height);
    let reduction = options.reduce_to.map_or(Reduction::None, |least| Reduction::to(whole, least));
    let image = mobileclip_jpeg::decode_reduced(bytes, limits, reduction).map_err(wrong)?;
    let mut pixels = image.pixels;
    if image.channels == 1 {
        let grey = pixels;
        pixels = Vec::with_capacity(grey.len() * 3);
        push_greys(&mut pixels, &grey, 1);
    }
    let image = RgbImage::new(image.width, image.height, pixels)?;
    Ok(Decoded { image, orientation: header.orientation.unwrap_or(exif::UPRIGHT) })
}

fn wrong(error: JpegError) -> Error {
    match error {
        JpegError::Unsupported { what } => unsupported(Format::Jpeg, what),
        other => broken(Format::Jpeg, other),
    }
}
