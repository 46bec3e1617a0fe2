//! WebP by the `image-webp` crate. Of an animation the first frame is decoded as a still image of its own, because a frame that is
//! composited loses the colours under its transparent pixels, which the reference keeps.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::samples::push_colours;
use super::{DecodeOptions, Decoded, Format, broken, exif};
use crate::{Error, RgbImage};

pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Decoded, Error> {
    let file = Chunks::of_file(bytes);
    let orientation = file
        .clone()
        .find(|chunk| &chunk.name == b"EXIF")
        .map_or(exif::UPRIGHT, |chunk| exif::orientation(chunk.data));
    let header = file.clone().next().filter(|chunk| &chunk.name == b"VP8X");
    let animated = header.is_some_and(|chunk| chunk.data.first().is_some_and(|flags| flags & ANIMATED != 0));
    let (Some(header), true) = (header, animated) else {
        return Ok(Decoded { image: still(bytes, options)?, orientation });
    };

    let size = (u24(header.data, 4), u24(header.data, 7));
    let (Some(width), Some(height)) = size else {
        return Err(broken(Format::WebP, "the header ends too early"));
    };
    let (width, height) = options.check_size(Format::WebP, u64::from(width) + 1, u64::from(height) + 1)?;
    let Some(frame) = file.clone().find(|chunk| &chunk.name == b"ANMF") else {
        return Err(broken(Format::WebP, "an animation without a frame"));
    };
    let place = (u24(frame.data, 0), u24(frame.data, 3));
    let (Some(left), Some(top), Some(image)) = (place.0, place.1, frame.data.get(FRAME_HEADER..)) else {
        return Err(broken(Format::WebP, "the first frame ends too early"));
    };
    let image = still(&as_still(frame.data, image), options)?;
    // Stored in units of two pixels.
    let (left, top) = (2 * usize::try_from(left).unwrap_or(0), 2 * usize::try_from(top).unwrap_or(0));
    if left + image.width() > width || top + image.height() > height {
        return Err(broken(Format::WebP, "the first frame reaches beyond the image"));
    }
    let mut canvas = RgbImage::new(width, height, vec![0; width * height * 3])?;
    canvas.paste(image.view(), left, top);
    Ok(Decoded { image: canvas, orientation })
}

/// Bytes before the image in an `ANMF` chunk.
const FRAME_HEADER: usize = 16;
/// Flags of the `VP8X` chunk.
const ANIMATED: u8 = 0x02;
const ALPHA: u8 = 0x10;

fn still(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(wrong)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = options.check_size(Format::WebP, width.into(), height.into())?;
    // A lossy image has a size of its own, for which the decoder takes memory before it compares the two.
    for (width, height) in Chunks::of_file(bytes).filter_map(|chunk| chunk.lossy_size()) {
        options.check_size(Format::WebP, width, height)?;
    }
    let samples = if decoder.has_alpha() { 4 } else { 3 };
    let mut pixels = vec![0; width * height * samples];
    decoder.read_image(&mut pixels).map_err(wrong)?;
    if samples == 4 {
        let mut colours = Vec::with_capacity(width * height * 3);
        push_colours(&mut colours, &pixels, samples);
        pixels = colours;
    }
    RgbImage::new(width, height, pixels)
}

/// The file of a still image that holds what `image` (the chunks of a frame) holds.
fn as_still(frame: &[u8], image: &[u8]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    let chunks = Chunks(image);
    if chunks.clone().any(|chunk| &chunk.name == b"ALPH") {
        body.extend(b"VP8X\x0a\0\0\0");
        body.extend([ALPHA, 0, 0, 0]);
        // Width and height less one, as in the frame's header.
        body.extend(frame.get(6..12).unwrap_or(&[0; 6]));
    }
    for chunk in chunks.filter(|chunk| [b"ALPH", b"VP8 ", b"VP8L"].contains(&&chunk.name)) {
        body.extend(chunk.name);
        body.extend(u32::try_from(chunk.data.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend(chunk.data);
        if chunk.data.len() % 2 == 1 {
            body.push(0);
        }
    }
    let mut file = b"RIFF".to_vec();
    file.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(body);
    file
}

#[derive(Clone, Copy)]
struct Chunk<'a> {
    name: [u8; 4],
    data: &'a [u8],
}

impl Chunk<'_> {
    /// The size in a VP8 frame's header (RFC 6386, 9.1), whose upper two bits are a scale.
    fn lossy_size(&self) -> Option<(u64, u64)> {
        let [w0, w1, h0, h1] = *self.data.get(6..)?.first_chunk::<4>()?;
        let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
        (&self.name == b"VP8 ").then(|| (side(w0, w1), side(h0, h1)))
    }
}

/// The chunks of a RIFF list; ends where the bytes do.
#[derive(Clone)]
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    fn of_file(bytes: &'a [u8]) -> Chunks<'a> {
        Chunks(bytes.get(12..).unwrap_or(&[]))
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (name, rest) = self.0.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let data = rest.get(..len)?;
        // Chunks begin at even places.
        self.0 = rest.get(len + len % 2..).unwrap_or(&[]);
        Some(Chunk { name: *name, data })
    }
}

fn u24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

fn wrong(error: DecodingError) -> Error {
    broken(Format::WebP, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        for (name, data) in chunks {
            bytes.extend(*name);
            bytes.extend((data.len() as u32).to_le_bytes());
            bytes.extend(*data);
            bytes.extend(vec![0; data.len() % 2]);
        }
        let len = bytes.len() as u32 - 8;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    #[test]
    fn a_frame_larger_than_its_canvas_takes_no_memory() {
        // A canvas of 2 x 2 around a lossy frame that says 16,383 x 16,383.
        let frame = [&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f][..], &[0; 40]].concat();
        let bytes = file(&[(b"VP8X", &[0, 0, 0, 0, 1, 0, 0, 1, 0, 0]), (b"VP8 ", &frame)]);
        let error = decode(&bytes, &DecodeOptions::default()).err();
        assert!(
            matches!(error, Some(Error::TooManyPixels { width: 16_383, height: 16_383, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn broken_animations_are_errors() {
        let header = [ANIMATED, 0, 0, 0, 9, 0, 0, 9, 0, 0];
        for frame in [&[][..], &[0; 10], &[0; FRAME_HEADER], &[0; 40]] {
            let bytes = file(&[(b"VP8X", &header), (b"ANMF", frame)]);
            assert!(matches!(decode(&bytes, &DecodeOptions::default()), Err(Error::Broken { .. })));
        }
        let bytes = file(&[(b"VP8X", &header)]);
        assert!(matches!(decode(&bytes, &DecodeOptions::default()), Err(Error::Broken { .. })));
        let bytes = file(&[(b"VP8X", &header[..5])]);
        assert!(matches!(decode(&bytes, &DecodeOptions::default()), Err(Error::Broken { .. })));
    }
}
