//! The first frame of a GIF, by the `gif` crate.

use std::borrow::Cow;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions as GifOptions, DecodingError, MemoryLimit};

use super::samples::Palette;
use super::{DecodeOptions, Decoded, Format, broken, exif};
use crate::{Error, RgbImage};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let mut gif = GifOptions::new();
    gif.set_color_output(ColorOutput::Indexed);
    gif.set_memory_limit(MemoryLimit::Bytes(NonZeroU64::new(options.max_pixels).unwrap_or(NonZeroU64::MIN)));
    let bytes = with_global_palette(bytes);
    let mut decoder = gif.read_info(&*bytes).map_err(wrong)?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(wrong)?.ok_or_else(|| broken(Format::Gif, "no frame"))?;

    // Pillow lets a frame that reaches beyond the screen enlarge it.
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let width = u64::from(screen.0).max(u64::from(frame.left) + u64::from(frame.width));
    let height = u64::from(screen.1).max(u64::from(frame.top) + u64::from(frame.height));
    let (width, height) = options.check_size(Format::Gif, width, height)?;
    options.check_size(Format::Gif, frame.width.into(), frame.height.into())?;

    // Around the frame lies the transparent colour if there is one, else the first: alpha is dropped, so it shows.
    let around = frame.transparent.unwrap_or(0);
    let mut indices = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut indices).map_err(wrong)?;
    let palette = Palette::new_or_grey(
        decoder.palette().map_err(wrong)?.chunks_exact(3).filter_map(|c| c.first_chunk().copied()),
    );

    let mut pixels = Vec::with_capacity(width * height * 3);
    let mut rows = indices.chunks_exact(frame_width);
    for y in 0..height {
        let row = if (top..top + frame_height).contains(&y) { rows.next().unwrap_or(&[]) } else { &[] };
        for x in 0..width {
            let index = x.checked_sub(left).and_then(|at| row.get(at)).copied().unwrap_or(around);
            pixels.extend(palette.colour(index));
        }
    }
    Ok(Decoded { image: RgbImage::new(width, height, pixels)?, orientation: exif::UPRIGHT })
}

/// The file, with shades of grey for a global palette where it has none: a frame without any palette is grey for Pillow and an error
/// for the `gif` crate.
fn with_global_palette(bytes: &[u8]) -> Cow<'_, [u8]> {
    const HAS_PALETTE: u8 = 0x80;
    /// The size of 256 colours.
    const FULL: u8 = 7;
    match (bytes.get(..10), bytes.get(10), bytes.get(11..13), bytes.get(13..)) {
        (Some(start), Some(flags), Some(background), Some(rest)) if flags & HAS_PALETTE == 0 => {
            let mut file = start.to_vec();
            file.push(flags | HAS_PALETTE | FULL);
            file.extend(background);
            file.extend((0..=255).flat_map(|shade| [shade; 3]));
            file.extend(rest);
            file.into()
        }
        _ => bytes.into(),
    }
}

fn wrong(error: DecodingError) -> Error {
    broken(Format::Gif, error)
}
