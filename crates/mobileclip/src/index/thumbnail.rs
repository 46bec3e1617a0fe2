//! Small pictures for the contact sheet.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use jpeg_encoder::{ColorType, Encoder};
use mobileclip_image::{DecodeOptions, Filter, PassOrder, RgbImage, decode_file, resize};

/// The longer side, in pixels: a card of the sheet is 210 pixels wide, and some screens have more than one dot a pixel.
const SIDE: usize = 320;
const QUALITY: u8 = 80;

/// A photo as a small JPEG, for [`contact_sheet`](super::contact_sheet): media type and bytes; `None` if it cannot be read.
pub fn thumbnail(path: &Path, options: &DecodeOptions) -> Option<(String, Vec<u8>)> {
    Some(("image/jpeg".to_owned(), jpeg(decode_file(path, options).ok()?, SIDE)?))
}

/// A photo as a small JPEG, whose longer side has at most `side` pixels, in the form of an address for an `img` element; `None` if its sides are
/// too long.
pub fn small_jpeg(photo: RgbImage, side: usize) -> Option<String> {
    Some(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg(photo, side)?)))
}

fn jpeg(photo: RgbImage, side: usize) -> Option<Vec<u8>> {
    let photo = shrink(photo, side)?;
    let (width, height) = (u16::try_from(photo.width()).ok()?, u16::try_from(photo.height()).ok()?);
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, QUALITY).encode(photo.pixels(), width, height, ColorType::Rgb).ok()?;
    Some(jpeg)
}

fn shrink(photo: RgbImage, most: usize) -> Option<RgbImage> {
    let (width, height) = (photo.width(), photo.height());
    let longer = width.max(height);
    if longer <= most {
        return Some(photo);
    }
    let side = |length: usize| (length * most / longer).max(1);
    resize(&photo, side(width), side(height), Filter::Bilinear, PassOrder::default()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobileclip_image::decode;

    #[test]
    fn thumbnails_are_small_and_keep_the_shape() {
        let photo = mobileclip_testing::golden::path("images/photos/china.jpg"); // 640 x 427
        let (media_type, bytes) = thumbnail(&photo, &DecodeOptions::upright()).unwrap();
        assert_eq!(media_type, "image/jpeg");
        let small = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!((small.width(), small.height()), (320, 213));
        assert!(bytes.len() < 40_000, "{} bytes", bytes.len());
    }

    #[test]
    fn thin_and_tiny_photos_are_possible_and_broken_ones_have_none() {
        let thin = RgbImage::new(4000, 1, vec![9; 12_000]).unwrap();
        let thin = shrink(thin, SIDE).unwrap();
        assert_eq!((thin.width(), thin.height()), (320, 1));
        let tiny = mobileclip_testing::golden::path("images/photos/one_pixel.png");
        assert!(thumbnail(&tiny, &DecodeOptions::default()).is_some());
        let broken = mobileclip_testing::golden::path("images/bad/text.jpg");
        assert_eq!(thumbnail(&broken, &DecodeOptions::default()), None);
    }
}
