//! open_clip's inference transform: resize, crop, to f32, minus the mean, divided by the standard deviation.

use serde::{Deserialize, Serialize};

use crate::rgb::{Rect, RgbImage};
use crate::{Error, Filter, PassOrder, resize};

mod cfg;

pub use cfg::PreprocessCfg;

/// Mean of OpenAI's training images in each channel; open_clip's default. (The shortest decimals of its f32 values.)
pub const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of OpenAI's training images in each channel; open_clip's default.
pub const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// The largest height or width that can be asked for.
const MAX_SIZE: usize = 16_384;

/// How a photo comes to the size of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// The shorter side becomes the size, then the centre is cut out.
    #[default]
    Shortest,
    /// Both sides become the size; the aspect is lost.
    Squash,
    /// The longer side becomes the size, then the rest is filled.
    Longest,
}

/// What happens to a photo before a model sees it. Belongs to a checkpoint.
///
/// ```
/// use mobileclip_image::{Preprocess, RgbImage};
/// let preprocess = Preprocess { size: (2, 2), mean: [0.0; 3], std: [1.0; 3], ..Preprocess::default() };
/// let grey = RgbImage::new(4, 3, vec![51; 36])?;
/// assert_eq!(preprocess.apply(&grey)?, vec![0.2; 12]);
/// # Ok::<(), mobileclip_image::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preprocess {
    /// Height and width of the result.
    pub size: (usize, usize),
    /// How the photo comes to that size.
    pub resize_mode: ResizeMode,
    /// The filter of the resize.
    pub interpolation: Filter,
    /// Taken from every channel after the bytes were divided by 255.
    pub mean: [f32; 3],
    /// What every channel is divided by then.
    pub std: [f32; 3],
    /// What surrounds a photo in [`ResizeMode::Longest`].
    pub fill_color: u8,
    /// Which Pillow is followed.
    pub pass_order: PassOrder,
}

impl Default for Preprocess {
    /// open_clip's defaults: 224 x 224, shortest side, bicubic, OpenAI's mean and deviation.
    fn default() -> Preprocess {
        Preprocess {
            size: (224, 224),
            resize_mode: ResizeMode::Shortest,
            interpolation: Filter::Bicubic,
            mean: OPENAI_MEAN,
            std: OPENAI_STD,
            fill_color: 0,
            pass_order: PassOrder::Pillow13,
        }
    }
}

/// Where things lie when a photo of some size is prepared: all of it is known before a pixel is touched.
struct Plan {
    /// Width and height of the whole resized photo.
    resized: (usize, usize),
    /// What is cut out of the resized photo; may reach beyond it.
    window: Rect,
    fill: u8,
    filter: Filter,
}

impl Preprocess {
    /// Number of f32 values of a result: 3 x height x width.
    pub fn tensor_len(&self) -> usize {
        3 * self.size.0 * self.size.1
    }

    /// The prepared photo: [3, height, width].
    ///
    /// # Errors
    /// As [`Preprocess::crop`].
    pub fn apply(&self, image: &RgbImage) -> Result<Vec<f32>, Error> {
        self.check()?;
        let mut tensor = vec![0.0; self.tensor_len()];
        self.apply_into(image, &mut tensor)?;
        Ok(tensor)
    }

    /// As [`Preprocess::apply`] into `tensor`: [3, height, width].
    ///
    /// # Errors
    /// [`Error::TensorLength`] if `tensor` has another length; else as [`Preprocess::crop`].
    pub fn apply_into(&self, image: &RgbImage, tensor: &mut [f32]) -> Result<(), Error> {
        let crop = self.crop(image)?;
        self.normalize(&crop, tensor)
    }

    /// The photo resized and cropped to [`Preprocess::size`], still in bytes. Only the pixels of the crop are computed.
    ///
    /// # Errors
    /// [`Error::Preprocess`] if a field is out of range, [`Error::Side`] if the photo is too long or too thin to be resized.
    pub fn crop(&self, image: &RgbImage) -> Result<RgbImage, Error> {
        self.check()?;
        let plan = self.plan(image.width(), image.height());
        let (across, columns) = inside(plan.window.left, plan.window.width, plan.resized.0);
        let (down, rows) = inside(plan.window.top, plan.window.height, plan.resized.1);
        let whole = columns.len() == plan.window.width && rows.len() == plan.window.height;
        let part =
            resize::resize_view(image.view(), plan.resized, (columns, rows), plan.filter, self.pass_order)?;
        if whole {
            return Ok(part);
        }
        let (height, width) = self.size;
        let mut canvas = RgbImage::from_parts(width, height, vec![plan.fill; 3 * width * height]);
        canvas.paste(part.view(), across, down);
        Ok(canvas)
    }

    /// Bytes to f32: (v / 255 - mean) / std, each step rounded to f32, into `tensor`: [3, height, width] of the image.
    ///
    /// # Errors
    /// [`Error::TensorLength`] if `tensor` has another length than the image has bytes.
    pub fn normalize(&self, image: &RgbImage, tensor: &mut [f32]) -> Result<(), Error> {
        if tensor.len() != image.pixels().len() {
            return Err(Error::TensorLength { found: tensor.len(), expected: image.pixels().len() });
        }
        let plane_len = image.width() * image.height();
        for (c, plane) in tensor.chunks_exact_mut(plane_len).enumerate() {
            // 256 values are divided once instead of every pixel twice; the results are the same.
            let mut table = [0.0; 256];
            for (v, entry) in table.iter_mut().enumerate() {
                *entry = (v as f32 / 255.0 - self.mean[c]) / self.std[c];
            }
            for (value, pixel) in plane.iter_mut().zip(image.pixels().chunks_exact(3)) {
                *value = table[usize::from(pixel[c])];
            }
        }
        Ok(())
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    /// [`Error::Preprocess`] with the field's name and what was found.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, expected, found| Err(Error::Preprocess { field, expected, found });
        if [self.size.0, self.size.1].iter().any(|side| !(1..=MAX_SIZE).contains(side)) {
            return wrong("size", "sides of 1 to 16384", format!("{:?}", self.size));
        }
        if self.mean.iter().any(|v| !v.is_finite()) {
            return wrong("mean", "finite numbers", format!("{:?}", self.mean));
        }
        if self.std.iter().any(|v| !v.is_finite() || *v == 0.0) {
            return wrong("std", "finite numbers other than 0", format!("{:?}", self.std));
        }
        Ok(())
    }

    fn plan(&self, width: usize, height: usize) -> Plan {
        let (target_height, target_width) = self.size;
        let square = target_height == target_width;
        let (resized, fill, filter) = match self.resize_mode {
            ResizeMode::Squash => ((target_width, target_height), 0, self.interpolation),
            ResizeMode::Shortest if square => {
                (shortest_size(width, height, target_width), 0, self.interpolation)
            }
            // open_clip takes another road for targets that are not square, and forgets the interpolation there.
            ResizeMode::Shortest => (keep_ratio(width, height, self.size, f64::min), 0, Filter::Bicubic),
            ResizeMode::Longest => {
                (keep_ratio(width, height, self.size, f64::max), self.fill_color, self.interpolation)
            }
        };
        let window = Rect {
            left: centre(resized.0, target_width),
            top: centre(resized.1, target_height),
            width: target_width,
            height: target_height,
        };
        Plan { resized, window, fill, filter }
    }
}

/// Width and height after torchvision's `Resize(size)`: the shorter side becomes `size`, the longer one is rounded down.
pub fn shortest_size(width: usize, height: usize, size: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| {
        let scaled = size as u128 * long as u128 / short as u128;
        usize::try_from(scaled).unwrap_or(usize::MAX)
    };
    if width <= height { (size, longer(height, width)) } else { (longer(width, height), size) }
}

/// open_clip's `ResizeKeepRatio`: both sides divided by one ratio, rounded half to even. (Where that gives 0 the reference fails.)
fn keep_ratio(
    width: usize,
    height: usize,
    target: (usize, usize),
    choose: fn(f64, f64) -> f64,
) -> (usize, usize) {
    let ratio = choose(height as f64 / target.0 as f64, width as f64 / target.1 as f64);
    let scaled = |side: usize| ((side as f64 / ratio).round_ties_even() as usize).max(1);
    (scaled(width), scaled(height))
}

/// torchvision's `CenterCrop`: the middle `width` x `height` pixels; what reaches beyond the image is black.
pub fn center_crop(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    image.crop(
        Rect { left: centre(image.width(), width), top: centre(image.height(), height), width, height },
        0,
    )
}

/// Where a window of `crop` samples starts to be central in `len`: half the difference, rounded half to even, and, where the window
/// is larger, the half before the image rounded down.
fn centre(len: usize, crop: usize) -> i64 {
    let signed = |v: usize| i64::try_from(v).unwrap_or(i64::MAX);
    if crop > len {
        return -signed((crop - len) / 2);
    }
    let (half, odd) = ((len - crop) / 2, (len - crop) % 2);
    signed(half + if odd == 1 { half & 1 } else { 0 })
}

/// The part of `start .. start + len` inside `0 .. limit`, and how far into the window it begins.
fn inside(start: i64, len: usize, limit: usize) -> (usize, std::ops::Range<usize>) {
    let skip = usize::try_from(-start.min(0)).unwrap_or(usize::MAX);
    let from = usize::try_from(start.max(0)).unwrap_or(usize::MAX);
    (skip, from..from.saturating_add(len.saturating_sub(skip)).min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn centres_round_half_to_even_and_pad_after() {
        assert_eq!([1, 3, 5, 7, 2, 0].map(|d| centre(10 + d, 10)), [0, 2, 2, 4, 1, 0]);
        assert_eq!([1, 2, 3, 4].map(|d| centre(10, 10 + d)), [0, -1, -1, -2]);
    }

    #[test]
    fn sizes_follow_the_reference() {
        assert_eq!(shortest_size(299, 150, 75), (149, 75));
        assert_eq!(shortest_size(150, 299, 75), (75, 149));
        // round(640 / (480 / 224)) = round(298.66…); round(480 / (640 / 224)) = 168
        assert_eq!(keep_ratio(640, 480, (224, 256), f64::min), (299, 224));
        assert_eq!(keep_ratio(640, 480, (224, 224), f64::max), (224, 168));
    }

    #[test]
    fn longest_fills_and_keeps_thin_photos() {
        let preprocess = Preprocess {
            size: (4, 4),
            resize_mode: ResizeMode::Longest,
            fill_color: 7,
            ..Preprocess::default()
        };
        let photo = RgbImage::from_parts(8, 4, vec![100; 96]);
        let crop = preprocess.crop(&photo).unwrap();
        assert_eq!(crop.pixels().chunks(12).map(|row| row[0]).collect::<Vec<_>>(), [7, 100, 100, 7]);
        let thin = RgbImage::from_parts(1, 20_000, vec![50; 60_000]);
        assert_eq!(preprocess.crop(&thin).unwrap().pixel(1, 0), Some([50; 3]));
    }

    #[test]
    fn only_the_window_of_a_long_photo_is_computed() {
        for (width, height) in [(1, 20_000), (20_000, 1), (1, 1)] {
            let photo = RgbImage::from_parts(width, height, vec![9; width * height * 3]);
            for interpolation in [Filter::Nearest, Filter::Bicubic] {
                for pass_order in [PassOrder::Pillow13, PassOrder::HorizontalFirst] {
                    let preprocess = Preprocess { interpolation, pass_order, ..Preprocess::default() };
                    assert!(preprocess.crop(&photo).unwrap().pixels().iter().all(|&v| v == 9));
                }
            }
        }
    }

    #[test]
    fn fields_out_of_range_are_errors() {
        let photo = RgbImage::from_parts(1, 1, vec![0; 3]);
        for bad in [
            Preprocess { size: (0, 224), ..Preprocess::default() },
            Preprocess { size: (224, 1 << 40), ..Preprocess::default() },
            Preprocess { mean: [f32::NAN, 0.0, 0.0], ..Preprocess::default() },
            Preprocess { std: [1.0, 0.0, 1.0], ..Preprocess::default() },
        ] {
            assert!(matches!(bad.apply(&photo), Err(Error::Preprocess { .. })));
        }
        assert!(matches!(
            Preprocess::default().apply_into(&photo, &mut [0.0; 5]),
            Err(Error::TensorLength { found: 5, .. })
        ));
    }
}
