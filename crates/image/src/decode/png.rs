//! PNG by the `png` crate; rows are turned into RGB one by one, so only the result is held whole.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, DecodingError, InterlaceInfo, Limits, Transformations};

use super::samples::{Palette, push_colours, push_greys, unpack};
use super::{DecodeOptions, Decoded, Format, broken, exif};
use crate::{Error, RgbImage};

/// Bytes that the decoder may take beside the image: rows, metadata, a colour profile.
const WORKING_BYTES: usize = 256 << 20;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: WORKING_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::IDENTITY);
    let header = decoder.read_header_info().map_err(wrong)?;
    let (width, height) = options.check_size(Format::Png, header.width.into(), header.height.into())?;

    let mut reader = decoder.read_info().map_err(wrong)?;
    let info = reader.info();
    let orientation = info.exif_metadata.as_deref().map_or(exif::UPRIGHT, exif::orientation);
    let bits = info.bit_depth as u8;
    let convert = Convert {
        color: info.color_type,
        wide: info.bit_depth == BitDepth::Sixteen,
        bits,
        palette: palette(info, bits),
    };
    if convert.color == ColorType::Indexed && info.palette.is_none() {
        return Err(broken(Format::Png, "colours by index, but no palette"));
    }

    let stride = width * 3;
    let mut pixels;
    if info.interlaced {
        pixels = vec![0; stride * height];
        let mut row = Vec::with_capacity(stride);
        while let Some(packed) = reader.next_interlaced_row().map_err(wrong)? {
            row.clear();
            convert.row(&mut row, packed.data(), width);
            if let InterlaceInfo::Adam7(place) = packed.interlace() {
                png::expand_interlaced_row(&mut pixels, stride, &row, place, 24);
            }
        }
    } else {
        pixels = Vec::with_capacity(stride * height);
        // The rows are counted, so that nothing behind the last one is looked at: Pillow does not either.
        for _ in 0..height {
            let Some(packed) = reader.next_row().map_err(wrong)? else {
                return Err(broken(Format::Png, "rows are missing"));
            };
            convert.row(&mut pixels, packed.data(), width);
        }
    }
    Ok(Decoded { image: RgbImage::new(width, height, pixels)?, orientation })
}

fn palette(info: &png::Info<'_>, bits: u8) -> Palette {
    match (&info.palette, info.color_type) {
        (Some(colours), ColorType::Indexed) => {
            Palette::new(colours.chunks_exact(3).filter_map(|c| c.first_chunk().copied()))
        }
        _ => Palette::grey(bits),
    }
}

/// How the rows of a file become RGB.
struct Convert {
    color: ColorType,
    /// Two bytes a sample.
    wide: bool,
    bits: u8,
    palette: Palette,
}

impl Convert {
    /// Appends at most `width` pixels.
    fn row(&self, out: &mut Vec<u8>, row: &[u8], width: usize) {
        let narrow: Vec<u8>;
        let row = if self.wide {
            // The high byte, not the rounded value: samples lie with the high byte first.
            narrow = row.iter().step_by(2).copied().collect();
            &narrow
        } else {
            row
        };
        match self.color {
            ColorType::Rgb => push_colours(out, row, 3),
            ColorType::Rgba => push_colours(out, row, 4),
            ColorType::GrayscaleAlpha => push_greys(out, row, 2),
            ColorType::Grayscale if self.bits >= 8 => push_greys(out, row, 1),
            ColorType::Grayscale | ColorType::Indexed => {
                // Fewer pixels in the passes of an interlaced image; the bits that fill the last byte are cut by the width.
                for index in unpack(row, self.bits).take(width) {
                    out.extend(self.palette.colour(index));
                }
            }
        }
    }
}

fn wrong(error: DecodingError) -> Error {
    broken(Format::Png, error)
}
