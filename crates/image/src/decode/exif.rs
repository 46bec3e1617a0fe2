//! The orientation in EXIF data, and turning an image by it.

use crate::RgbImage;

/// What a photo has that says nothing about its orientation.
pub(super) const UPRIGHT: u8 = 1;

const ORIENTATION: u16 = 0x0112;

/// The orientation that a block of EXIF data holds (with or without `Exif\0\0` before it), 1 if it holds none that is valid.
pub(super) fn orientation(exif: &[u8]) -> u8 {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    find(tiff).filter(|v| (1..=8).contains(v)).unwrap_or(UPRIGHT)
}

fn find(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let u32_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk::<4>()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let directory = usize::try_from(u32_at(4)?).ok()?;
    let entries = usize::from(u16_at(directory)?);
    for i in 0..entries {
        let at = directory.checked_add(2 + 12 * i)?;
        if u16_at(at)? == ORIENTATION {
            // 3 = SHORT and 4 = LONG, one value, which then stands in the entry itself.
            return match (u16_at(at + 2)?, u32_at(at + 4)?) {
                (3, 1) => u8::try_from(u16_at(at + 8)?).ok(),
                (4, 1) => u8::try_from(u32_at(at + 8)?).ok(),
                _ => None,
            };
        }
    }
    None
}

/// The image as it is to be looked at when its file says `orientation` (EXIF 2.32, 4.6.4: where row 0 and column 0 are shown).
pub(super) fn turn(image: RgbImage, orientation: u8) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let (swaps, right_to_left, bottom_to_top) = match orientation {
        2 => (false, true, false),
        3 => (false, true, true),
        4 => (false, false, true),
        5 => (true, false, false),
        6 => (true, false, true),
        7 => (true, true, true),
        8 => (true, true, false),
        _ => return image,
    };
    let source = image.pixels();
    let mut pixels = Vec::with_capacity(source.len());
    let (out_width, out_height) = if swaps { (height, width) } else { (width, height) };
    for y in 0..out_height {
        for x in 0..out_width {
            let (column, row) = if swaps { (y, x) } else { (x, y) };
            let column = if right_to_left { width - 1 - column } else { column };
            let row = if bottom_to_top { height - 1 - row } else { row };
            let at = (row * width + column) * 3;
            pixels.extend_from_slice(source.get(at..at + 3).unwrap_or(&[0; 3]));
        }
    }
    RgbImage::from_parts(out_width, out_height, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: [u8; 2], value: [u8; 4]) -> Vec<u8> {
        let mut bytes = b"MM\0*\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\0\x01abc\0\x01\x12".to_vec();
        bytes.extend(kind);
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(value);
        bytes
    }

    #[test]
    fn reads_short_and_long() {
        assert_eq!(orientation(&block([0, 3], [0, 6, 0, 0])), 6);
        assert_eq!(orientation(&block([0, 4], [0, 0, 0, 8])), 8);
        assert_eq!(orientation(&[b"Exif\0\0", &block([0, 3], [0, 2, 0, 0])[..]].concat()), 2);
    }

    #[test]
    fn nonsense_is_upright() {
        let good = block([0, 3], [0, 6, 0, 0]);
        for cut in 0..good.len() - 4 {
            assert_eq!(orientation(&good[..cut]), UPRIGHT);
        }
        assert_eq!(orientation(&block([0, 3], [0, 9, 0, 0])), UPRIGHT);
        assert_eq!(orientation(&block([0, 3], [0, 0, 0, 0])), UPRIGHT);
        assert_eq!(orientation(&block([0, 5], [0, 6, 0, 0])), UPRIGHT);
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), UPRIGHT);
    }

    #[test]
    fn turns_where_the_standard_says() {
        // a b      The letters are the shades of six pixels.
        // c d
        // e f
        let image = RgbImage::new(2, 3, b"aaabbbcccdddeeefff".to_vec()).unwrap();
        let shades = |o| {
            let turned = turn(image.clone(), o);
            let text: Vec<u8> = turned.pixels().chunks(3).map(|p| p[0]).collect();
            (turned.width(), String::from_utf8(text).unwrap())
        };
        let expected = [
            (2, "abcdef"),
            (2, "badcfe"),
            (2, "fedcba"),
            (2, "efcdab"),
            (3, "acebdf"),
            (3, "ecafdb"),
            (3, "fdbeca"),
            (3, "bdface"),
        ];
        for (o, (width, text)) in (1..).zip(expected) {
            assert_eq!(shades(o), (width, text.to_owned()), "orientation {o}");
        }
    }
}
