//! Images that are resized before their alpha is dropped, as some loaders of the reference do it.

use crate::resize::resize;
use crate::{Error, Filter, PassOrder, RgbImage};

/// An 8-bit image with alpha: rows from the top, four bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbaImage {
    colours: RgbImage,
    /// [height, width]
    alpha: Vec<u8>,
}

impl RgbaImage {
    /// An image of `height` rows of `width` pixels; `pixels`: [height, width, 4].
    ///
    /// # Errors
    /// [`Error::PixelCount`] if `pixels` has another length or the image has no pixel.
    pub fn new(width: usize, height: usize, pixels: &[u8]) -> Result<RgbaImage, Error> {
        let (groups, rest) = pixels.as_chunks::<4>();
        let alpha: Vec<u8> = groups.iter().map(|&[_, _, _, a]| a).collect();
        let colours =
            RgbImage::new(width, height, groups.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect());
        match colours {
            Ok(colours) if rest.is_empty() => Ok(RgbaImage { colours, alpha }),
            _ => Err(Error::PixelCount { width, height, found: pixels.len() }),
        }
    }

    /// Pillow's resize of an image with alpha: colours are multiplied with their alpha, resized, and divided again.
    ///
    /// # Errors
    /// As [`resize`].
    pub fn resize(
        &self,
        width: usize,
        height: usize,
        filter: Filter,
        order: PassOrder,
    ) -> Result<RgbaImage, Error> {
        let (w, h) = (self.colours.width(), self.colours.height());
        let is_weighed = filter != Filter::Nearest && (w, h) != (width, height);
        let mut colours = self.colours.clone();
        if is_weighed {
            for (pixel, &alpha) in colours.pixels_mut().chunks_exact_mut(3).zip(&self.alpha) {
                for v in pixel {
                    *v = multiply(*v, alpha);
                }
            }
        }
        // The channels do not see each other, so alpha goes through as a grey image.
        let shades = RgbImage::from_parts(w, h, self.alpha.iter().flat_map(|&a| [a; 3]).collect());
        let mut colours = resize(&colours, width, height, filter, order)?;
        let shades = resize(&shades, width, height, filter, order)?;
        let alpha: Vec<u8> = shades.pixels().iter().step_by(3).copied().collect();
        if is_weighed {
            for (pixel, &alpha) in colours.pixels_mut().chunks_exact_mut(3).zip(&alpha) {
                for v in pixel {
                    *v = divide(*v, alpha);
                }
            }
        }
        Ok(RgbaImage { colours, alpha })
    }

    /// The colours; alpha is dropped, so what it hid shows.
    pub fn into_rgb(self) -> RgbImage {
        self.colours
    }

    /// The bytes: [height, width, 4].
    pub fn to_pixels(&self) -> Vec<u8> {
        let colours = self.colours.pixels().as_chunks::<3>().0;
        colours.iter().zip(&self.alpha).flat_map(|(&[r, g, b], &a)| [r, g, b, a]).collect()
    }
}

/// value * alpha / 255, rounded.
fn multiply(value: u8, alpha: u8) -> u8 {
    let t = u32::from(value) * u32::from(alpha) + 128;
    (((t >> 8) + t) >> 8) as u8
}

/// The other way, rounded down; nothing can be won back where alpha is 0.
fn divide(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => value,
        _ => (u32::from(value) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_transparent_does_not_bleed() {
        let image = RgbaImage::new(2, 1, &[200, 100, 50, 255, 9, 9, 9, 0]).unwrap();
        let small = image.resize(1, 1, Filter::Box, PassOrder::Pillow13).unwrap();
        assert_eq!(small.to_pixels(), [199, 99, 49, 128]);
        let nearest = image.resize(2, 2, Filter::Nearest, PassOrder::Pillow13).unwrap();
        assert_eq!(nearest.into_rgb().pixels()[..6], [200, 100, 50, 9, 9, 9]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(RgbaImage::new(1, 1, &[0; 4]).is_ok());
        assert!(RgbaImage::new(1, 1, &[0; 5]).is_err());
        assert!(RgbaImage::new(2, 1, &[0; 4]).is_err());
    }
}
