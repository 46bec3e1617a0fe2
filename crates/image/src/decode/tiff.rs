//! The first page of a TIFF, by the `tiff` crate, which unpacks the samples; what they mean is decided here, as Pillow does.

use std::borrow::Cow;
use std::io::Cursor;

use tiff::decoder::{Decoder, Limits};
use tiff::tags::{SampleFormat, Tag};
use tiff::{ColorType, TiffError};

use super::samples::{Palette, cmyk, push_colours, push_greys, unpack};
use super::{DecodeOptions, Decoded, Format, broken, exif, unsupported};
use crate::{Error, RgbImage};

/// Photometric interpretations.
const BLACK_IS_ZERO: u16 = 1;
const INDEXED: u16 = 3;
/// `ExtraSamples` of an alpha that the colours were multiplied with.
const ASSOCIATED_ALPHA: u16 = 1;

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let mut file = open(Cow::Borrowed(bytes))?;
    let (width, height) = file.dimensions().map_err(wrong)?;
    let (width, height) = options.check_size(Format::Tiff, width.into(), height.into())?;
    let orientation = file.find_tag_unsigned::<u8>(Tag::Orientation).ok().flatten().unwrap_or(exif::UPRIGHT);
    let meaning = file.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(wrong)?;
    let mut palette = None;
    if meaning == Some(INDEXED) {
        palette = Some(colour_map(&mut file)?);
        file = open(Cow::Owned(as_grey(bytes)?))?;
    }
    let extra = file.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(wrong)?.unwrap_or_default();
    let is_premultiplied = extra.first() == Some(&ASSOCIATED_ALPHA);

    let color = file.colortype().map_err(wrong)?;
    let layout = file.image_buffer_layout().map_err(wrong)?;
    // At most 16 bytes a pixel, whatever the number of samples that the file claims.
    if layout.complete_len > width * height * 16 {
        return Err(unsupported(Format::Tiff, format!("{color:?}")));
    }
    let mut raw = vec![0; layout.complete_len];
    file.read_image_bytes(&mut raw).map_err(wrong)?;
    if let (true, Some(plane_len)) = (layout.planes > 1, layout.plane_stride) {
        raw = interleave(&raw, plane_len.get(), usize::from(color.bit_depth() / 8));
    }
    let is_float = layout.sample_format == SampleFormat::IEEEFP;
    let is_signed = layout.sample_format == SampleFormat::Int;

    let mut pixels = Vec::with_capacity(width * height * 3);
    match color {
        ColorType::Gray(bits @ (1 | 2 | 4)) => {
            let palette = palette.unwrap_or_else(|| Palette::grey(bits));
            for row in raw.chunks_exact((width * usize::from(bits)).div_ceil(8)).take(height) {
                pixels.extend(unpack(row, bits).take(width).flat_map(|index| palette.colour(index)));
            }
        }
        ColorType::Gray(8) => match palette {
            Some(palette) => pixels.extend(raw.iter().flat_map(|&index| palette.colour(index))),
            None => push_greys(&mut pixels, &raw, 1),
        },
        _ if palette.is_some() => return Err(unsupported(Format::Tiff, "a palette with more than 8 bits")),
        ColorType::Gray(16) if !is_signed && !is_float => push_greys(&mut pixels, &high_bytes(&raw), 1),
        ColorType::Gray(16) if is_signed => {
            clip(&mut pixels, &raw, |v: [u8; 2]| i16::from_ne_bytes(v).into())
        }
        ColorType::Gray(32) if is_float => clip(&mut pixels, &raw, |v: [u8; 4]| f32::from_ne_bytes(v).into()),
        ColorType::Gray(32) => clip(&mut pixels, &raw, |v: [u8; 4]| i32::from_ne_bytes(v).into()),
        ColorType::Multiband { bit_depth: 8, num_samples: 2 } => push_greys(&mut pixels, &raw, 2),
        ColorType::RGB(bits @ (8 | 16)) => push_colours(&mut pixels, &bytes_of(&raw, bits), 3),
        ColorType::RGBA(bits @ (8 | 16)) if is_premultiplied => {
            for pixel in bytes_of(&raw, bits).chunks_exact(4) {
                if let Some(&[r, g, b, a]) = pixel.first_chunk() {
                    pixels.extend([r, g, b].map(|v| divide(v, a)));
                }
            }
        }
        ColorType::RGBA(bits @ (8 | 16)) => push_colours(&mut pixels, &bytes_of(&raw, bits), 4),
        ColorType::CMYK(bits @ (8 | 16)) | ColorType::CMYKA(bits @ (8 | 16)) => {
            for inks in bytes_of(&raw, bits).chunks_exact(usize::from(color.num_samples())) {
                pixels.extend(cmyk(inks.first_chunk().copied().unwrap_or_default()));
            }
        }
        _ => return Err(unsupported(Format::Tiff, format!("{color:?}"))),
    }
    Ok(Decoded { image: RgbImage::new(width, height, pixels)?, orientation })
}

fn open(bytes: Cow<'_, [u8]>) -> Result<Decoder<Cursor<Cow<'_, [u8]>>>, Error> {
    let mut limits = Limits::default();
    // Nothing that is read from the file can be longer than it; the image itself was checked before.
    limits.ifd_value_size = bytes.len();
    limits.intermediate_buffer_size = bytes.len();
    limits.decoding_buffer_size = usize::MAX;
    Ok(Decoder::new(Cursor::new(bytes)).map_err(wrong)?.with_limits(limits))
}

/// The palette: all reds, all greens, all blues, of 16 bits each.
fn colour_map<R: std::io::Read + std::io::Seek>(file: &mut Decoder<R>) -> Result<Palette, Error> {
    let map = file.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(wrong)?;
    let map = map.ok_or_else(|| broken(Format::Tiff, "colours by index, but no palette"))?;
    let high = |v: &u16| v.to_be_bytes().first().copied().unwrap_or_default();
    let (reds, rest) = map.split_at(map.len() / 3);
    let (greens, blues) = rest.split_at(rest.len() / 2);
    Ok(Palette::new(reds.iter().zip(greens).zip(blues).map(|((r, g), b)| [high(r), high(g), high(b)])))
}

/// A copy of the file that says that its indices are shades of grey: the `tiff` crate knows no palettes, but the indices are stored
/// as shades are.
fn as_grey(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut copy = bytes.to_vec();
    let place = photometric_value(bytes).and_then(|(at, value)| Some((copy.get_mut(at..at + 2)?, value)));
    let (place, value) = place.ok_or_else(|| broken(Format::Tiff, "the directory ends too early"))?;
    place.copy_from_slice(&value);
    Ok(copy)
}

/// Where the photometric interpretation of the first page stands, and the bytes that mean [`BLACK_IS_ZERO`].
fn photometric_value(bytes: &[u8]) -> Option<(usize, [u8; 2])> {
    let little = bytes.starts_with(b"II");
    let is_big = bytes.get(2..4)?.contains(&43);
    let number = |at: usize, len: usize| {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let step = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        let value = if little { bytes.iter().rev().fold(0, step) } else { bytes.iter().fold(0, step) };
        usize::try_from(value).ok()
    };
    let (directory, count_len, entry_len, value_at) =
        if is_big { (number(8, 8)?, 8, 20, 12) } else { (number(4, 4)?, 2, 12, 8) };
    let first = directory.checked_add(count_len)?;
    let entries = number(directory, count_len)?.min(bytes.len() / entry_len);
    let entry =
        (0..entries).map(|i| first.saturating_add(i * entry_len)).find(|&at| number(at, 2) == Some(262))?;
    let value = if little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    Some((entry.checked_add(value_at)?, value))
}

/// Planes one after the other to samples side by side.
fn interleave(raw: &[u8], plane_len: usize, sample_len: usize) -> Vec<u8> {
    let planes: Vec<&[u8]> = raw.chunks_exact(plane_len).collect();
    let mut mixed = Vec::with_capacity(raw.len());
    for at in (0..plane_len).step_by(sample_len.max(1)) {
        for plane in &planes {
            mixed.extend_from_slice(plane.get(at..at + sample_len).unwrap_or(&[]));
        }
    }
    mixed
}

/// Samples of 8 bits as they are, of 16 bits by their high bytes.
fn bytes_of(raw: &[u8], bits: u8) -> Cow<'_, [u8]> {
    if bits == 16 { Cow::Owned(high_bytes(raw)) } else { Cow::Borrowed(raw) }
}

fn high_bytes(raw: &[u8]) -> Vec<u8> {
    let high = |v: &[u8]| v.first_chunk().map_or(0, |v| u16::from_ne_bytes(*v) >> 8);
    raw.chunks_exact(2).map(|v| u8::try_from(high(v)).unwrap_or(255)).collect()
}

/// Grey numbers of a wide type: Pillow clips them to bytes and rounds towards zero.
fn clip<const N: usize>(out: &mut Vec<u8>, raw: &[u8], number: fn([u8; N]) -> f64) {
    for value in raw.chunks_exact(N).filter_map(|v| v.first_chunk()) {
        // `as` saturates, truncates, and makes NaN black.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        out.extend([number(*value) as u8; 3]);
    }
}

/// A colour without the alpha that it was multiplied with, as Pillow unpacks `RGBa`.
fn divide(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        255 => value,
        _ => u8::try_from(u16::from(value) * 255 / u16::from(alpha)).unwrap_or(255),
    }
}

fn wrong(error: TiffError) -> Error {
    match error {
        TiffError::UnsupportedError(what) => unsupported(Format::Tiff, what),
        other => broken(Format::Tiff, other),
    }
}
