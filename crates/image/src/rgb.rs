//! The image that everything here works on, and cutting windows out of it.

use crate::Error;

/// An 8-bit RGB image: rows from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// A rectangle in pixels; `left` and `top` may lie outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Column of the left edge.
    pub left: i64,
    /// Row of the top edge.
    pub top: i64,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Rect {
    /// Whether it lies within a picture of this size.
    pub fn is_inside(&self, width: usize, height: usize) -> bool {
        let fits = |start: i64, len: usize, limit: usize| {
            usize::try_from(start).is_ok_and(|start| start.checked_add(len).is_some_and(|end| end <= limit))
        };
        fits(self.left, self.width, width) && fits(self.top, self.height, height)
    }
}

impl RgbImage {
    /// An image of `height` rows of `width` pixels; `pixels`: [height, width, 3].
    ///
    /// # Errors
    /// [`Error::PixelCount`] if `pixels` has another length or the image has no pixel.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<RgbImage, Error> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(pixels.len()) {
            return Err(Error::PixelCount { width, height, found: pixels.len() });
        }
        Ok(RgbImage { width, height, pixels })
    }

    /// An image whose bytes this crate has just produced in the right number.
    pub(crate) fn from_parts(width: usize, height: usize, pixels: Vec<u8>) -> RgbImage {
        debug_assert_eq!(pixels.len(), width * height * 3);
        RgbImage { width, height, pixels }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes: [height, width, 3].
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes without the image around them.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The pixel in column `x` of row `y`, if there is one.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[u8; 3]> {
        if x >= self.width {
            return None;
        }
        self.pixels.get((y * self.width + x) * 3..)?.first_chunk().copied()
    }

    /// The pixels of `rect`; those outside the image have the value `fill` in each channel.
    pub fn crop(&self, rect: Rect, fill: u8) -> RgbImage {
        let mut out = RgbImage::from_parts(rect.width, rect.height, vec![fill; rect.width * rect.height * 3]);
        let (x0, x1) = overlap(rect.left, rect.width, self.width);
        let (y0, y1) = overlap(rect.top, rect.height, self.height);
        if x0 < x1 && y0 < y1 {
            let inside = self.window(x0, y0, x1 - x0, y1 - y0);
            out.paste(inside, offset(rect.left, x0), offset(rect.top, y0));
        }
        out
    }

    /// A view of a window that lies inside.
    pub(crate) fn window(&self, left: usize, top: usize, width: usize, height: usize) -> View<'_> {
        View { bytes: &self.pixels[(top * self.width + left) * 3..], stride: self.width * 3, width, height }
    }

    /// The whole image as a view.
    pub(crate) fn view(&self) -> View<'_> {
        self.window(0, 0, self.width, self.height)
    }

    /// Copies `view` to (`left`, `top`), where it fits.
    pub(crate) fn paste(&mut self, view: View<'_>, left: usize, top: usize) {
        for y in 0..view.height {
            let at = ((top + y) * self.width + left) * 3;
            self.pixels[at..at + view.width * 3].copy_from_slice(view.row(y));
        }
    }

    /// For writing rows in place.
    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }
}

impl std::fmt::Debug for RgbImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RgbImage")
            .field("width", &self.width)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}

/// A window of an image, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl<'a> View<'a> {
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..][..self.width * 3]
    }
}

/// Indices of `start .. start + len` that lie in `0 .. limit`, as a half-open range.
fn overlap(start: i64, len: usize, limit: usize) -> (usize, usize) {
    let end = start.saturating_add(i64::try_from(len).unwrap_or(i64::MAX));
    let inside = |v: i64| usize::try_from(v.max(0)).unwrap_or(usize::MAX).min(limit);
    (inside(start), inside(end))
}

/// How far `position` lies behind `start`.
fn offset(start: i64, position: usize) -> usize {
    usize::try_from(i64::try_from(position).unwrap_or(i64::MAX).saturating_sub(start)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(width: usize, height: usize) -> RgbImage {
        RgbImage::from_parts(width, height, (0..width * height * 3).map(|v| v as u8).collect())
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(RgbImage::new(2, 2, vec![0; 12]).is_ok());
        assert!(RgbImage::new(2, 2, vec![0; 11]).is_err());
        assert!(RgbImage::new(0, 2, vec![]).is_err());
        assert!(RgbImage::new(usize::MAX, 2, vec![0; 6]).is_err());
    }

    #[test]
    fn crops_inside_across_and_outside() {
        let image = numbered(3, 2);
        let rect = |left, top, width, height| Rect { left, top, width, height };
        assert_eq!(image.crop(rect(1, 1, 2, 1), 9).pixels(), &image.pixels()[12..18]);
        assert_eq!(image.crop(rect(-1, -1, 2, 2), 9).pixels(), [9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 1, 2]);
        assert_eq!(image.crop(rect(2, 1, 2, 2), 7).pixels(), [15, 16, 17, 7, 7, 7, 7, 7, 7, 7, 7, 7]);
        assert_eq!(image.crop(rect(i64::MAX, i64::MIN, 1, 1), 5).pixels(), [5, 5, 5]);
    }

    #[test]
    fn pixels_by_position() {
        let image = numbered(3, 2);
        assert_eq!(image.pixel(2, 1), Some([15, 16, 17]));
        assert_eq!(image.pixel(3, 0), None);
        assert_eq!(image.pixel(0, 2), None);
    }
}
