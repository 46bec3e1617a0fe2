//! The first page of a TIFF. Own code over kept decompressors: the `tiff` crate knows no palettes, wants an end mark that many
//! writers leave out, and panics on planes of several strips.

use super::samples::{Palette, cmyk, divide, push_colours, push_greys, unpack as unpack_bits};
use super::{DecodeOptions, Decoded, Format, broken, exif, unsupported};
use crate::{Error, RgbImage};

mod chunks;
mod directory;
mod unpack;

use chunks::{Chunk, Layout};
use directory::{Directory, tag};

/// Photometric interpretations.
const WHITE_IS_ZERO: u64 = 0;
const BLACK_IS_ZERO: u64 = 1;
const PHOTOMETRIC_RGB: u64 = 2;
const INDEXED: u64 = 3;
const SEPARATED: u64 = 5;
const YCBCR: u64 = 6;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let directory =
        Directory::first(bytes).ok_or_else(|| broken(Format::Tiff, "the directory lies outside the file"))?;
    let layout = Layout::read(&directory, options)?;
    let meaning = Meaning::read(&directory, &layout)?;
    let orientation =
        directory.number(tag::ORIENTATION).and_then(|v| u8::try_from(v).ok()).unwrap_or(exif::UPRIGHT);

    let (width, height) = (layout.width, layout.height);
    let mut image = RgbImage::new(width, height, vec![0; width * height * 3])?;
    for index in 0..layout.chunks() {
        let place = layout.place(index);
        let colours = match layout.read_chunk(&directory, index)? {
            Chunk::Rgb(pixels) => pixels,
            Chunk::Samples(samples) => {
                let mut pixels = Vec::with_capacity(place.rows * layout.chunk_width * 3);
                for row in samples.chunks_exact(layout.row_len()).take(place.rows) {
                    meaning.push_row(&mut pixels, row, layout.chunk_width);
                }
                pixels
            }
        };
        // Tiles reach beyond the image on the right and below.
        let stride = layout.chunk_width * 3;
        for (y, row) in colours.chunks_exact(stride).take(place.rows).enumerate() {
            let at = ((place.top + y) * width + place.left) * 3;
            let columns = layout.chunk_width.min(width - place.left) * 3;
            if let (Some(to), Some(from)) = (image.pixels_mut().get_mut(at..at + columns), row.get(..columns))
            {
                to.copy_from_slice(from);
            }
        }
    }
    Ok(Decoded { image, orientation })
}

/// What the samples of a pixel stand for.
struct Meaning {
    kind: Kind,
    bits: u8,
    samples: usize,
    is_little_endian: bool,
}

enum Kind {
    /// One sample of at most 8 bits, looked up; others behind it are ignored.
    Palette(Box<Palette>),
    Grey {
        is_inverted: bool,
    },
    /// Numbers of a wide type, clipped to bytes.
    Number(Number),
    Rgb,
    /// The colours were multiplied with the fourth sample.
    Premultiplied,
    Cmyk,
}

#[derive(Clone, Copy)]
enum Number {
    I16,
    I32,
    F32,
}

impl Meaning {
    fn read(directory: &Directory<'_>, layout: &Layout) -> Result<Meaning, Error> {
        let (bits, samples) = (layout.bits, layout.samples);
        let format = directory.number(tag::SAMPLE_FORMAT).unwrap_or(1);
        let photometric = directory.number(tag::PHOTOMETRIC);
        let is_premultiplied = directory.number(tag::EXTRA_SAMPLES) == Some(1);
        let other = || {
            let what = format!(
                "photometric interpretation {photometric:?}, {samples} samples of {bits} bits, format {format}"
            );
            unsupported(Format::Tiff, what)
        };
        let kind = match (photometric.unwrap_or(BLACK_IS_ZERO), samples, bits, format) {
            (INDEXED, 1.., 1..=8, 1) => Kind::Palette(Box::new(palette(directory)?)),
            (WHITE_IS_ZERO, 1, 1..=8, 1) => Kind::Palette(Box::new(Palette::grey(bits).inverted(bits))),
            (BLACK_IS_ZERO, 1.., 8, _) | (BLACK_IS_ZERO, 1, 1 | 2 | 4, 1) => {
                Kind::Palette(Box::new(Palette::grey(bits)))
            }
            (WHITE_IS_ZERO, 1, 16, 1) => Kind::Grey { is_inverted: true },
            (BLACK_IS_ZERO, 1.., 16, 1) => Kind::Grey { is_inverted: false },
            (BLACK_IS_ZERO, 1, 16, 2) => Kind::Number(Number::I16),
            // Pillow reads unsigned numbers as signed ones.
            (BLACK_IS_ZERO, 1, 32, 1 | 2) => Kind::Number(Number::I32),
            (BLACK_IS_ZERO, 1, 32, 3) => Kind::Number(Number::F32),
            (PHOTOMETRIC_RGB, 4.., 8 | 16, 1) if is_premultiplied => Kind::Premultiplied,
            (PHOTOMETRIC_RGB, 3.., 8 | 16, 1) => Kind::Rgb,
            (SEPARATED, 4.., 8 | 16, 1) if !layout.is_jpeg() => Kind::Cmyk,
            // The JPEG decoder gives colours.
            (YCBCR, 3, 8, 1) if layout.is_jpeg() => Kind::Rgb,
            _ => return Err(other()),
        };
        if bits < 8 && samples != 1 {
            return Err(other());
        }
        Ok(Meaning { kind, bits, samples, is_little_endian: directory.is_little_endian() })
    }

    /// Appends a row of `width` pixels.
    fn push_row(&self, out: &mut Vec<u8>, row: &[u8], width: usize) {
        match &self.kind {
            Kind::Palette(palette) => {
                let indices = unpack_bits(row, self.bits).step_by(self.samples).take(width);
                out.extend(indices.flat_map(|index| palette.colour(index)));
            }
            Kind::Number(number) => {
                let len = if matches!(number, Number::I16) { 2 } else { 4 };
                out.extend(row.chunks_exact(len).flat_map(|v| [clip(self.number(*number, v)); 3]));
            }
            Kind::Grey { is_inverted } => {
                let from = out.len();
                push_greys(out, &self.bytes(row), self.samples);
                if *is_inverted {
                    out.iter_mut().skip(from).for_each(|v| *v = !*v);
                }
            }
            Kind::Rgb => push_colours(out, &self.bytes(row), self.samples),
            Kind::Premultiplied => {
                for pixel in self.bytes(row).chunks_exact(self.samples) {
                    if let Some(&[r, g, b, alpha]) = pixel.first_chunk() {
                        out.extend([r, g, b].map(|v| if alpha == 0 { 0 } else { divide(v, alpha) }));
                    }
                }
            }
            Kind::Cmyk => {
                for inks in self.bytes(row).chunks_exact(self.samples) {
                    out.extend(cmyk(inks.first_chunk().copied().unwrap_or_default()));
                }
            }
        }
    }

    /// Samples of 8 bits as they are, of 16 bits by their high bytes.
    fn bytes<'a>(&self, row: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if self.bits == 8 {
            return row.into();
        }
        row.iter().skip(usize::from(self.is_little_endian)).step_by(2).copied().collect()
    }

    fn number(&self, number: Number, bytes: &[u8]) -> f64 {
        let mut raw = [0; 4];
        // As big-endian numbers of 32 bits; a shorter one stands in the upper half.
        for (to, &from) in raw.iter_mut().zip(bytes) {
            *to = from;
        }
        if self.is_little_endian {
            let len = bytes.len().min(4);
            if let Some(used) = raw.get_mut(..len) {
                used.reverse();
            }
        }
        match number {
            Number::I16 => f64::from(i32::from_be_bytes(raw) >> 16),
            Number::I32 => f64::from(i32::from_be_bytes(raw)),
            Number::F32 => f64::from(f32::from_be_bytes(raw)),
        }
    }
}

/// Pillow clips wide numbers to bytes and rounds towards zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn clip(number: f64) -> u8 {
    // `as` saturates, truncates, and makes NaN black.
    number as u8
}

/// The palette: all reds, all greens, all blues, of 16 bits each.
fn palette(directory: &Directory<'_>) -> Result<Palette, Error> {
    let map = directory
        .numbers(tag::COLOR_MAP)
        .ok_or_else(|| broken(Format::Tiff, "colours by index, but no palette"))?;
    let high = |v: &u64| u8::try_from(v >> 8 & 0xff).unwrap_or(0);
    let (reds, rest) = map.split_at(map.len() / 3);
    let (greens, blues) = rest.split_at(rest.len() / 2);
    Ok(Palette::new(reds.iter().zip(greens).zip(blues).map(|((r, g), b)| [high(r), high(g), high(b)])))
}

#[cfg(test)]
mod tests;
