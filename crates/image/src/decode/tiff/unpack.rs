//! Compressed strips and tiles to samples. Output grows as it comes, so a chunk costs no more than it really holds.

use std::io::Read;

use mobileclip_jpeg::Limits;
use weezl::{BitOrder, LzwStatus, decode::Decoder};

use super::directory::{Directory, tag};
use super::{Format, PHOTOMETRIC_RGB, broken, unsupported};
use crate::Error;

pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Jpeg,
}

impl Compression {
    pub(super) fn read(directory: &Directory<'_>) -> Result<Compression, Error> {
        match directory.number(tag::COMPRESSION).unwrap_or(1) {
            1 => Ok(Compression::None),
            5 => Ok(Compression::Lzw),
            7 => Ok(Compression::Jpeg),
            8 | 32946 => Ok(Compression::Deflate),
            32773 => Ok(Compression::PackBits),
            other => {
                let name = match other {
                    2..=4 => " (CCITT fax)",
                    6 => " (the JPEG of TIFF 6.0, which was withdrawn)",
                    34925 => " (LZMA)",
                    50000 => " (Zstandard)",
                    50001 => " (WebP)",
                    _ => "",
                };
                Err(unsupported(Format::Tiff, format!("compression {other}{name}")))
            }
        }
    }

    /// Differences between neighbours are stored with these methods only; elsewhere the tag means nothing.
    pub(super) fn can_predict(&self) -> bool {
        matches!(self, Compression::Lzw | Compression::Deflate)
    }
}

/// Exactly `needed` bytes, or an error.
pub(super) fn decompress(compression: &Compression, data: &[u8], needed: usize) -> Result<Vec<u8>, Error> {
    let mut unpacked = match compression {
        Compression::None => data.get(..needed).unwrap_or(data).to_vec(),
        Compression::Lzw => lzw(data, needed)?,
        Compression::PackBits => pack_bits(data, needed),
        Compression::Deflate => {
            let limit = u64::try_from(needed).unwrap_or(u64::MAX);
            let mut unpacked = Vec::new();
            let result = flate2::read::ZlibDecoder::new(data).take(limit).read_to_end(&mut unpacked);
            result.map_err(|error| broken(Format::Tiff, error))?;
            unpacked
        }
        Compression::Jpeg => return Err(unsupported(Format::Tiff, "JPEG in planes")),
    };
    unpacked.truncate(needed);
    if unpacked.len() < needed {
        return Err(broken(
            Format::Tiff,
            format!("a strip or tile has {} of {needed} bytes", unpacked.len()),
        ));
    }
    Ok(unpacked)
}

fn lzw(mut data: &[u8], needed: usize) -> Result<Vec<u8>, Error> {
    if data.starts_with(&[0, 1]) {
        return Err(unsupported(Format::Tiff, "LZW with the lowest bit first, of before TIFF 5.0"));
    }
    let mut decoder = Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut unpacked = Vec::new();
    let mut block = [0; 1 << 14];
    while unpacked.len() < needed {
        let step = decoder.decode_bytes(data, &mut block);
        data = data.get(step.consumed_in..).unwrap_or(&[]);
        unpacked.extend_from_slice(block.get(..step.consumed_out).unwrap_or(&[]));
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            // Many writers leave the end mark out; whether enough came is seen by the caller.
            Ok(_) => break,
            Err(error) => return Err(broken(Format::Tiff, error)),
        }
    }
    Ok(unpacked)
}

/// Runs and literals: a signed count, then one byte to repeat or so many bytes (TIFF 6.0, section 9).
fn pack_bits(mut data: &[u8], needed: usize) -> Vec<u8> {
    let mut unpacked = Vec::new();
    while unpacked.len() < needed {
        let Some((&count, rest)) = data.split_first() else { break };
        data = rest;
        match count {
            0..=127 => {
                let literal = data.get(..usize::from(count) + 1).unwrap_or(data);
                unpacked.extend_from_slice(literal);
                data = data.get(literal.len()..).unwrap_or(&[]);
            }
            128 => {}
            129.. => {
                let Some((&value, rest)) = data.split_first() else { break };
                unpacked.resize(unpacked.len() + 257 - usize::from(count), value);
                data = rest;
            }
        }
    }
    unpacked
}

/// Adds to each sample the one before it in the row.
pub(super) fn undo_prediction(row: &mut [u8], samples: usize, bits: u8, is_little_endian: bool) {
    let len = usize::from(bits / 8).max(1);
    let distance = samples * len;
    for at in (distance..row.len()).step_by(len) {
        let (before, rest) = row.split_at_mut(at);
        let before = before.get(at - distance..).and_then(|b| b.get(..len)).unwrap_or(&[]);
        // From the lowest byte up, with what is carried over.
        let mut carry = 0;
        for k in 0..len.min(rest.len()) {
            let k = if is_little_endian { k } else { len - 1 - k };
            if let (Some(value), Some(&add)) = (rest.get_mut(k), before.get(k)) {
                let sum = u16::from(*value) + u16::from(add) + carry;
                let [low, high] = sum.to_le_bytes();
                *value = low;
                carry = u16::from(high);
            }
        }
    }
}

/// A strip or tile that is a JPEG file without its tables, which stand in a tag: `size` is (width, rows).
pub(super) fn jpeg(
    directory: &Directory<'_>,
    data: &[u8],
    (width, rows): (usize, usize),
    samples: usize,
) -> Result<Vec<u8>, Error> {
    if !matches!(samples, 1 | 3) {
        return Err(unsupported(Format::Tiff, format!("JPEG of {samples} samples")));
    }
    let mut file = vec![0xff, 0xd8];
    if samples == 3 {
        // The meaning of the components is the directory's to say; Adobe's segment says it to a JPEG decoder.
        let is_rgb = directory.number(tag::PHOTOMETRIC) == Some(PHOTOMETRIC_RGB);
        file.extend(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0");
        file.push(u8::from(!is_rgb));
    }
    let body = |part: &'_ [u8]| part.strip_prefix(b"\xff\xd8").unwrap_or(part).to_vec();
    if let Some(tables) = directory.bytes(tag::JPEG_TABLES) {
        file.extend(body(tables.strip_suffix(b"\xff\xd9").unwrap_or(tables)));
    }
    file.extend(body(data));

    let wrong = |error| broken(Format::Tiff, error);
    let header = mobileclip_jpeg::read_header(&file).map_err(wrong)?;
    if header.width != width || header.height < rows || header.components != samples {
        let found =
            format!("{} x {} pixels of {} components", header.width, header.height, header.components);
        return Err(broken(
            Format::Tiff,
            format!("a JPEG strip or tile of {found}, expected {width} x {rows} of {samples}"),
        ));
    }
    // Rows beyond those needed are allowed: some writers pad the last strip.
    let pixels = u64::try_from(header.width.saturating_mul(header.height)).unwrap_or(u64::MAX);
    let most = u64::try_from(width.saturating_mul(rows.next_multiple_of(16))).unwrap_or(u64::MAX);
    if pixels > most {
        return Err(broken(Format::Tiff, "a JPEG strip or tile that is too high"));
    }
    let limits =
        Limits { max_pixels: most, max_bytes: most.saturating_mul(12).max(1 << 26), ..Limits::default() };
    let image = mobileclip_jpeg::decode(&file, limits).map_err(wrong)?;
    let used = image.pixels.get(..width * rows * image.channels).unwrap_or(&image.pixels);
    Ok(if image.channels == 1 { used.iter().flat_map(|&v| [v; 3]).collect() } else { used.to_vec() })
}
