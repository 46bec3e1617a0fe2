//! Windows and OS/2 bitmaps. Own code: the format is small, and what Pillow does with short palettes, five-bit colours and runs is
//! not what other decoders do.

use super::samples::{Palette, unpack};
use super::{DecodeOptions, Decoded, Format, broken, exif, unsupported};
use crate::{Error, RgbImage};

/// Length of the file header, where the bitmap header begins.
const FILE_HEADER: usize = 14;
/// Where the masks of red, green and blue stand, inside a long header or behind a short one.
const MASKS: usize = FILE_HEADER + 40;

struct Header {
    width: usize,
    height: usize,
    is_top_down: bool,
    bits: u16,
    packing: Packing,
    /// Where the pixels begin.
    data: usize,
    /// Where the palette begins, its number of colours and the bytes of each.
    palette: (usize, usize, usize),
}

#[derive(Clone, Copy)]
enum Packing {
    Raw,
    Rle8,
    Rle4,
    Masks([u32; 3]),
}

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let header = Header::read(bytes, options)?;
    let data =
        bytes.get(header.data..).ok_or_else(|| broken(Format::Bmp, "the file ends before the pixels"))?;
    let mut pixels = match header.packing {
        Packing::Rle8 | Packing::Rle4 => {
            let palette = header.palette(bytes);
            let indices = runs(data, header.data, &header)?;
            let mut pixels = Vec::with_capacity(indices.len() * 3);
            pixels.extend(indices.iter().flat_map(|&index| palette.colour(index)));
            pixels
        }
        Packing::Raw | Packing::Masks(_) => raw(data, &header, &header.palette(bytes))?,
    };
    if !header.is_top_down {
        flip(&mut pixels, header.width * 3);
    }
    Ok(Decoded { image: RgbImage::new(header.width, header.height, pixels)?, orientation: exif::UPRIGHT })
}

impl Header {
    fn read(bytes: &[u8], options: &DecodeOptions) -> Result<Header, Error> {
        let cut = || broken(Format::Bmp, "the file ends in its header");
        let u16_at = |at: usize| {
            bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| u16::from_le_bytes(*b)).ok_or_else(cut)
        };
        let u32_at = |at: usize| {
            bytes.get(at..).and_then(|b| b.first_chunk()).map(|b| u32::from_le_bytes(*b)).ok_or_else(cut)
        };
        let usize_at = |at: usize| usize::try_from(u32_at(at)?).map_err(|_| cut());

        let header_len = usize_at(FILE_HEADER)?;
        let (width, height, is_top_down, bits, compression, colours, colour_len) = match header_len {
            12 => (i64::from(u16_at(18)?), i64::from(u16_at(20)?), false, u16_at(24)?, 0, 0, 3),
            40 | 52 | 56 | 64 | 108 | 124 => {
                // A negative height says that the first row is the upper one.
                let height = i64::from(u32_at(22)?.cast_signed());
                let width = i64::from(u32_at(18)?.cast_signed());
                (width, height.abs(), height < 0, u16_at(28)?, u32_at(30)?, usize_at(46)?, 4)
            }
            _ => return Err(unsupported(Format::Bmp, format!("a header of {header_len} bytes"))),
        };
        if width < 0 {
            return Err(broken(Format::Bmp, format!("the width is {width}")));
        }
        let (width, height) = options.check_size(Format::Bmp, width.unsigned_abs(), height.unsigned_abs())?;
        if !matches!(bits, 1 | 4 | 8 | 16 | 24 | 32) {
            return Err(unsupported(Format::Bmp, format!("{bits} bits a pixel")));
        }
        let mut after_header = FILE_HEADER + header_len;
        let packing = match (compression, bits) {
            (0, 16) => Packing::Masks([0x7c00, 0x3e0, 0x1f]),
            (0, _) => Packing::Raw,
            (1, 8) => Packing::Rle8,
            (2, 4) => Packing::Rle4,
            (3, 16 | 24 | 32) => {
                let masks = [u32_at(MASKS)?, u32_at(MASKS + 4)?, u32_at(MASKS + 8)?];
                after_header = after_header.max(MASKS + 12);
                // No masks at all: the usual order.
                Packing::Masks(if masks == [0; 3] { [0xff_0000, 0xff00, 0xff] } else { masks })
            }
            _ => {
                return Err(unsupported(
                    Format::Bmp,
                    format!("compression {compression} with {bits} bits a pixel"),
                ));
            }
        };
        let colours = match (bits, colours) {
            (16.., _) => 0,
            (_, 0) => 1 << bits,
            (_, n) if n > 1 << 16 => return Err(broken(Format::Bmp, format!("a palette of {n} colours"))),
            (_, n) => n,
        };
        let after_palette = after_header + colours * colour_len;
        let data = match usize_at(10)? {
            0 => after_palette,
            // Some writers forget the palette here.
            at if at == FILE_HEADER + header_len => after_palette,
            at => at,
        };
        Ok(Header {
            width,
            height,
            is_top_down,
            bits,
            packing,
            data,
            palette: (after_header, colours, colour_len),
        })
    }

    fn palette(&self, bytes: &[u8]) -> Palette {
        let (at, colours, colour_len) = self.palette;
        let table = bytes.get(at..).unwrap_or(&[]).chunks_exact(colour_len).take(colours);
        let colours = table.filter_map(|c| c.first_chunk::<3>()).map(|&[b, g, r]| [r, g, b]);
        // A palette of black alone, or of black and white, is no palette for Pillow either.
        if self.bits == 1 && colours.clone().eq([[0; 3]]) {
            Palette::grey(1)
        } else {
            Palette::new_or_grey(colours)
        }
    }
}

/// Rows of pixels of a fixed width; every row but the last is padded to four bytes.
fn raw(data: &[u8], header: &Header, palette: &Palette) -> Result<Vec<u8>, Error> {
    let row_len = (header.width * usize::from(header.bits)).div_ceil(8);
    let stride = row_len.next_multiple_of(4);
    let needed = stride.checked_mul(header.height - 1).and_then(|n| n.checked_add(row_len));
    if needed.is_none_or(|needed| needed > data.len()) {
        return Err(broken(Format::Bmp, format!("the pixels end after {} bytes", data.len())));
    }
    let fields = match header.packing {
        Packing::Masks(masks) => Some(masks.map(Field::new)),
        Packing::Raw | Packing::Rle8 | Packing::Rle4 => None,
    };
    let mut pixels = Vec::with_capacity(header.width * header.height * 3);
    for row in data.chunks(stride).take(header.height) {
        let row = row.get(..row_len).unwrap_or(row);
        match (header.bits, fields) {
            (1 | 4 | 8, _) => {
                let bits = u8::try_from(header.bits).unwrap_or(8);
                pixels.extend(unpack(row, bits).take(header.width).flat_map(|index| palette.colour(index)));
            }
            (_, Some(fields)) => {
                for pixel in row.chunks_exact(usize::from(header.bits / 8)) {
                    let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
                    pixels.extend(fields.map(|field| field.sample(value)));
                }
            }
            (bits, None) => {
                for pixel in row.chunks_exact(usize::from(bits / 8)) {
                    if let Some(&[b, g, r]) = pixel.first_chunk() {
                        pixels.extend([r, g, b]);
                    }
                }
            }
        }
    }
    Ok(pixels)
}

/// Where a channel lies in a pixel of 16 to 32 bits.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    max: u32,
}

impl Field {
    fn new(mask: u32) -> Field {
        let shift = mask.trailing_zeros().min(31);
        Field { shift, max: mask >> shift }
    }

    /// The channel scaled to 0..=255, rounded down as Pillow does it.
    fn sample(self, pixel: u32) -> u8 {
        let value = u64::from(pixel >> self.shift & self.max);
        u8::try_from(value * 255 / u64::from(self.max.max(1))).unwrap_or(255)
    }
}

/// Run-length coded indices, the lowest row first. `at` is where `data` begins in the file: runs are padded to even places of it.
fn runs(data: &[u8], at: usize, header: &Header) -> Result<Vec<u8>, Error> {
    let nibbles = matches!(header.packing, Packing::Rle4);
    let (width, len) = (header.width, header.width * header.height);
    let cut = || broken(Format::Bmp, "the runs end too early");
    let mut indices = Vec::new();
    let mut x = 0;
    let mut position = 0;
    let byte = |position: usize| data.get(position).copied().ok_or_else(cut);
    while indices.len() < len {
        let (count, value) = (usize::from(byte(position)?), byte(position + 1)?);
        position += 2;
        match (count, value) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            // The end of the bitmap; what is missing has the first colour.
            (0, 1) => indices.resize(len, 0),
            (0, 2) => {
                let (right, up) = (usize::from(byte(position)?), usize::from(byte(position + 1)?));
                position += 2;
                indices.resize((indices.len() + right + up * width).min(len), 0);
                x = indices.len() % width;
            }
            (0, _) => {
                let count = usize::from(value).min(len - indices.len());
                let packed = if nibbles { count.div_ceil(2) } else { count };
                let literal = data.get(position..position + packed).ok_or_else(cut)?;
                indices.extend(unpack(literal, if nibbles { 4 } else { 8 }).take(count));
                x += usize::from(value);
                position += packed;
                position += (at + position) % 2;
            }
            _ => {
                // A run does not go on in the next row.
                let count = count.min(width.saturating_sub(x));
                let pair = if nibbles { [value >> 4, value & 15] } else { [value; 2] };
                indices.extend(pair.iter().cycle().take(count));
                x += count;
            }
        }
    }
    indices.truncate(len);
    Ok(indices)
}

/// Turns the order of the rows round.
fn flip(pixels: &mut [u8], stride: usize) {
    let half = pixels.len() / stride / 2 * stride;
    let (upper, lower) = pixels.split_at_mut(half);
    for (a, b) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
        a.swap_with_slice(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bitmap with a header of 40 bytes.
    fn file(width: i32, height: i32, bits: u16, compression: u32, rest: &[u8], data_at: u32) -> Vec<u8> {
        let mut bytes = b"BM\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(data_at.to_le_bytes());
        bytes.extend(40u32.to_le_bytes());
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(compression.to_le_bytes());
        bytes.extend([0; 20]);
        bytes.extend(rest);
        bytes
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        decode(bytes, &DecodeOptions::default()).map(|d| d.image.into_pixels()).unwrap()
    }

    #[test]
    fn rows_from_below_and_from_above() {
        let rows = [3, 2, 1, 0, 6, 5, 4];
        assert_eq!(pixels(&file(1, 2, 24, 0, &rows, 54)), [4, 5, 6, 1, 2, 3]);
        assert_eq!(pixels(&file(1, -2, 24, 0, &rows, 0)), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn five_and_six_bits_are_scaled_down() {
        // 17 * 255 / 31 = 139.8, 31 * 255 / 63 = 125.5
        let value = (17u16 << 10 | 1).to_le_bytes();
        assert_eq!(pixels(&file(1, 1, 16, 0, &value, 54)), [139, 0, 8]);
        let mut masked = [0xf800u32, 0x7e0, 0x1f].map(u32::to_le_bytes).concat();
        masked.extend((31u16 << 5).to_le_bytes());
        assert_eq!(pixels(&file(1, 1, 16, 3, &masked, 66)), [0, 125, 0]);
    }

    #[test]
    fn runs_of_eight_bits() {
        let mut rest = vec![0; 1024];
        rest[4..8].copy_from_slice(&[30, 20, 10, 0]);
        // Two of colour 1 (cut to the row), end of row, three literal ones and their padding, end.
        rest.extend([5, 1, 0, 0, 0, 3, 1, 0, 1, 0, 0, 1]);
        let row = |indices: [u8; 3]| {
            indices.iter().flat_map(|&i| if i == 1 { [10, 20, 30] } else { [0; 3] }).collect::<Vec<_>>()
        };
        let expected = [row([1, 0, 1]), row([1, 1, 1])].concat();
        assert_eq!(pixels(&file(3, 2, 8, 1, &rest, 54 + 1024)), expected);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let options = DecodeOptions::default();
        for bytes in [
            file(2, 2, 24, 0, &[0; 13], 54),
            file(-2, 2, 24, 0, &[0; 64], 54),
            file(0, 2, 24, 0, &[0; 64], 54),
            file(2, 2, 3, 0, &[0; 64], 54),
            file(2, 2, 24, 4, &[0; 64], 54),
            file(2, 2, 8, 1, &[0; 1024], 54 + 1024),
            file(i32::MAX, i32::MIN, 24, 0, &[0; 64], 54),
            file(2, 2, 24, 0, &[0; 64], u32::MAX),
        ] {
            assert!(decode(&bytes, &options).is_err());
        }
    }
}
