//! Doing recorded augmentations again.

use std::borrow::Cow;

use super::config::{RandomCrop, RandomResizedCrop, Resize};
use super::parameters::Size;
use super::{Config, CutMix, Error, Parameters, PictureParameters, geometry, tone};
use crate::{Filter, PassOrder, Rect, RgbImage, center_crop, crop_resize, resize, shortest_size};

/// The most pixels that a picture may have between two transformations, or a crop that leaves the picture.
pub const MAX_PIXELS: usize = 1 << 26;

/// How parameters are replayed: what the student's side decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Height and width of random resized crops; `None`: the configuration's. (Translations and erased parts are stored in pixels of the
    /// size they were drawn for, and are not scaled; neither does the reference.)
    pub size: Option<(usize, usize)>,
    /// The filter of random resized crops; `None`: the configuration's.
    pub interpolation: Option<Filter>,
    /// Which Pillow the teachers' pictures were made with. The published sets come from one before 12.2.
    pub pass_order: PassOrder,
}

/// Two pictures mixed into one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// From 0 to 1, before normalisation: [3, height, width].
    pub values: Vec<f32>,
}

impl Config {
    /// The picture after its recorded augmentation, byte-equal to the reference's.
    ///
    /// A transformation with options (sizes, filters) must be in the configuration to be carried out; flips and erased parts have none.
    ///
    /// # Errors
    /// [`Error::Picture`] if it was mixed with another ([`Config::replay_mixed`]), the parameters do not fit the configuration, or a
    /// picture on the way would have more than [`MAX_PIXELS`] pixels; [`Error::Image`] if it cannot be resized.
    pub fn replay(
        &self,
        parameters: &Parameters,
        picture: &RgbImage,
        how: &Replay,
    ) -> Result<RgbImage, Error> {
        if let Some((id, _)) = &parameters.partner {
            let reason = format!("the picture was mixed with that of sample {id}, which is not given");
            return Err(Error::Picture { key: "partner", reason });
        }
        self.replay_alone(&parameters.picture, picture, how)
    }

    /// The picture mixed with its partner's ([`Parameters::partner`]).
    ///
    /// # Errors
    /// [`Error::Picture`] if it was not mixed, or the two have different sizes when they are; else as [`Config::replay`].
    pub fn replay_mixed(
        &self,
        parameters: &Parameters,
        picture: &RgbImage,
        partner: &RgbImage,
        how: &Replay,
    ) -> Result<Mixed, Error> {
        let wrong = |reason| Error::Picture { key: "partner", reason };
        let Some((_, of_partner)) = &parameters.partner else {
            return Err(wrong("the picture was not mixed".to_owned()));
        };
        let first = self.replay_alone(&parameters.picture, picture, how)?;
        let second = self.replay_alone(of_partner, partner, how)?;
        let (width, height) = (first.width(), first.height());
        if (second.width(), second.height()) != (width, height) {
            let (w, h) = (second.width(), second.height());
            return Err(wrong(format!("{width} x {height} pixels cannot be mixed with {w} x {h}")));
        }
        let mut values = planes(&first);
        let others = planes(&second);
        if let Some(lambda) = parameters.mixup {
            let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
            values.iter_mut().zip(&others).for_each(|(v, o)| *v = own * *v + other * o);
        }
        if let Some(CutMix { top, left, bottom, right, .. }) = parameters.cutmix {
            let (left, right) = (left.min(width), right.min(width));
            let rows = values.chunks_exact_mut(width).zip(others.chunks_exact(width)).enumerate();
            for (_, (row, other)) in rows.filter(|(i, _)| (top..bottom).contains(&(i % height))) {
                if left < right {
                    row[left..right].copy_from_slice(&other[left..right]);
                }
            }
        }
        Ok(Mixed { width, height, values })
    }

    fn replay_alone(
        &self,
        parameters: &PictureParameters,
        picture: &RgbImage,
        how: &Replay,
    ) -> Result<RgbImage, Error> {
        let mut image = Cow::Borrowed(picture);
        if let (Some(config), Some(_)) = (&self.resize, &parameters.resize) {
            image = Cow::Owned(resized(config, &image, how.pass_order)?);
        }
        if let Some(size) = &self.center_crop {
            let (height, width) = size.both();
            check("center_crop", width, height)?;
            image = Cow::Owned(center_crop(&image, width, height));
        }
        if let (Some(config), Some(corner)) = (&self.random_crop, parameters.random_crop) {
            image = Cow::Owned(config.cut(&image, corner)?);
        }
        if let (Some(config), Some(area)) = (&self.random_resized_crop, parameters.random_resized_crop) {
            image = Cow::Owned(resized_crop(config, &image, area, how)?);
        }
        let mut image = image.into_owned();
        if parameters.random_horizontal_flip == Some(true) {
            geometry::flip(&mut image);
        }
        if let (Some(config), Some(transforms)) = (&self.rand_augment, &parameters.rand_augment) {
            let wrong = |reason| Error::Picture { key: "rand_augment", reason };
            let Some(transforms) = transforms.get(..config.num_ops) else {
                let reason = format!("{} operations, `num_ops` is {}", transforms.len(), config.num_ops);
                return Err(wrong(reason));
            };
            for transform in transforms {
                if !transform.is_possible() {
                    let (name, magnitude) = (transform.operation.name(), transform.magnitude);
                    return Err(wrong(format!("{name} cannot have the magnitude {magnitude}")));
                }
                image = tone::apply(config, transform, image);
            }
        }
        if let Some(area) = parameters.random_erase {
            erase(&mut image, area);
        }
        Ok(image)
    }
}

impl Size {
    /// Height and width.
    pub(super) fn both(&self) -> (usize, usize) {
        // The configuration has bounded the values.
        let side = |v: &u64| usize::try_from(*v).unwrap_or(usize::MAX);
        match self.values() {
            [height, width] => (side(height), side(width)),
            values => values.first().map_or((0, 0), |v| (side(v), side(v))),
        }
    }
}

impl Resize {
    /// Width and height of what a picture becomes.
    pub(super) fn target(&self, width: usize, height: usize) -> (usize, usize) {
        match self.size.values() {
            [_] => shortest_size(width, height, self.size.both().0),
            _ => (self.size.both().1, self.size.both().0),
        }
    }
}

impl RandomCrop {
    /// Left, top, right and bottom of what is added around a picture. Where a side is too short, torchvision adds what is missing on both
    /// ends.
    pub(super) fn border(&self, width: usize, height: usize) -> [usize; 4] {
        let [left, top, right, bottom] = self.padding;
        let (target_height, target_width) = self.size.both();
        let missing =
            |target: usize, side: usize| if self.pad_if_needed { target.saturating_sub(side) } else { 0 };
        let across = missing(target_width, width.saturating_add(left + right));
        let down = missing(target_height, height.saturating_add(top + bottom));
        [left + across, top + down, right + across, bottom + down]
    }

    fn cut(&self, image: &RgbImage, [top, left]: [i64; 2]) -> Result<RgbImage, Error> {
        let (height, width) = self.size.both();
        check("random_crop", width, height)?;
        let [before, above, after, below] = self.border(image.width(), image.height());
        let signed = |v: usize| i64::try_from(v).unwrap_or(i64::MAX);
        let area = Rect {
            left: left.saturating_sub(signed(before)),
            top: top.saturating_sub(signed(above)),
            width,
            height,
        };
        let mut out = image.crop(area, 0);
        if self.fill != [0; 3] {
            let (image_width, image_height) = (signed(image.width()), signed(image.height()));
            for (i, pixel) in out.pixels_mut().as_chunks_mut::<3>().0.iter_mut().enumerate() {
                let x = area.left.saturating_add(signed(i % width));
                let y = area.top.saturating_add(signed(i / width));
                let is_picture = (0..image_width).contains(&x) && (0..image_height).contains(&y);
                let is_border = (-signed(before)..image_width + signed(after)).contains(&x)
                    && (-signed(above)..image_height + signed(below)).contains(&y);
                if is_border && !is_picture {
                    *pixel = self.fill;
                }
            }
        }
        Ok(out)
    }
}

/// Whether a picture of this size may be made.
fn check(key: &'static str, width: usize, height: usize) -> Result<(), Error> {
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => {
            let reason = format!("{width} x {height} pixels exceed the limit of {MAX_PIXELS} pixels");
            Err(Error::Picture { key, reason })
        }
    }
}

fn resized(config: &Resize, image: &RgbImage, pass_order: PassOrder) -> Result<RgbImage, Error> {
    let (width, height) = config.target(image.width(), image.height());
    check("resize", width, height)?;
    Ok(resize(image, width, height, config.interpolation, pass_order)?)
}

fn resized_crop(
    config: &RandomResizedCrop,
    image: &RgbImage,
    area: Rect,
    how: &Replay,
) -> Result<RgbImage, Error> {
    let key = "random_resized_crop";
    let (height, width) = how.size.unwrap_or_else(|| config.size.both());
    check(key, width, height)?;
    if !area.is_inside(image.width(), image.height()) {
        // Only then is the part copied.
        check(key, area.width, area.height)?;
    }
    let filter = how.interpolation.unwrap_or(config.interpolation);
    Ok(crop_resize(image, area, width, height, filter, how.pass_order)?)
}

/// Blackens a part, as far as it lies in the picture.
fn erase(image: &mut RgbImage, area: Rect) {
    let (Ok(top), Ok(left)) = (usize::try_from(area.top), usize::try_from(area.left)) else { return };
    let (width, height) = (image.width(), image.height());
    let columns = left.min(width) * 3..left.saturating_add(area.width).min(width) * 3;
    let rows = image.pixels_mut().chunks_exact_mut(width * 3);
    for row in rows.take(top.saturating_add(area.height).min(height)).skip(top) {
        row[columns.clone()].fill(0);
    }
}

/// Bytes to numbers from 0 to 1: [3, height, width].
fn planes(image: &RgbImage) -> Vec<f32> {
    let channel = |c: usize| image.pixels().iter().skip(c).step_by(3).map(|&v| f32::from(v) / 255.0);
    (0..3).flat_map(channel).collect()
}
