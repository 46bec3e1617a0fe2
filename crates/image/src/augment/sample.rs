//! Drawing augmentations.

use super::config::{RandAugment, RandomCrop, RandomErase, RandomResizedCrop};
use super::draws::Draws;
use super::parameters::{Operation, Transform};
use super::{Config, Error, Parameters, PictureParameters};
use crate::Rect;

/// How often a box is drawn before torchvision gives up.
const TRIES: usize = 10;

impl Config {
    /// Draws augmentation `index` of the sample `uid`, whose picture has the size `(width, height)`.
    ///
    /// The distributions are torchvision's. The numbers come from Philox4x32-10 keyed by `seed`, `uid` and `index`, so that they are
    /// the same whoever draws them, in whatever order and on whatever machine. Pictures are never mixed.
    ///
    /// # Errors
    /// [`Error::Picture`] if the picture has no pixel or `random_crop` is larger than it.
    pub fn sample(
        &self,
        seed: u64,
        uid: &str,
        index: u32,
        (mut width, mut height): (usize, usize),
    ) -> Result<Parameters, Error> {
        if width == 0 || height == 0 {
            return Err(Error::Picture { key: "size", reason: format!("{width} x {height} pixels") });
        }
        let mut draws = Draws::new(seed, uid, index);
        let mut drawn = PictureParameters::default();
        if let Some(resize) = &self.resize {
            drawn.resize = Some(resize.size.clone());
            (width, height) = resize.target(width, height);
        }
        if let Some(size) = &self.center_crop {
            (height, width) = size.both();
        }
        if let Some(crop) = &self.random_crop {
            drawn.random_crop = Some(crop.draw(&mut draws, width, height)?);
            (height, width) = crop.size.both();
        }
        if let Some(crop) = &self.random_resized_crop {
            drawn.random_resized_crop = Some(crop.draw(&mut draws, width, height));
            (height, width) = crop.size.both();
        }
        if let Some(probability) = self.random_horizontal_flip {
            drawn.random_horizontal_flip = Some(draws.unit() < probability);
        }
        if let Some(augment) = &self.rand_augment {
            drawn.rand_augment = augment.draw(&mut draws, width, height);
        }
        if let Some(erase) = &self.random_erase {
            drawn.random_erase = erase.draw(&mut draws, width, height);
        }
        Ok(Parameters { picture: drawn, ..Parameters::default() })
    }
}

/// Sides of a box with that area and that quotient of the first side by the second, rounded.
fn sides(area: f64, quotient: f64) -> (usize, usize) {
    let round = |v: f64| v.sqrt().round_ties_even() as usize;
    (round(area * quotient), round(area / quotient))
}

/// A quotient, evenly on the logarithmic scale. (The platform's own exponential might differ in the last place.)
fn quotient(draws: &mut Draws, ratio: [f64; 2]) -> f64 {
    libm::exp(draws.between(ratio.map(libm::log)))
}

/// A place for a box inside a picture.
fn place(
    draws: &mut Draws,
    (width, height): (usize, usize),
    (box_width, box_height): (usize, usize),
) -> Rect {
    let mut start = |room: usize| i64::try_from(draws.below(room + 1)).unwrap_or(0);
    let (top, left) = (start(height - box_height), start(width - box_width));
    Rect { left, top, width: box_width, height: box_height }
}

impl RandomCrop {
    fn draw(&self, draws: &mut Draws, width: usize, height: usize) -> Result<[i64; 2], Error> {
        let [left, top, right, bottom] = self.border(width, height);
        let (width, height) = (width.saturating_add(left + right), height.saturating_add(top + bottom));
        let (crop_height, crop_width) = self.size.both();
        if crop_width > width || crop_height > height {
            let reason =
                format!("{crop_width} x {crop_height} pixels cannot be cut out of {width} x {height}");
            return Err(Error::Picture { key: "random_crop", reason });
        }
        let area = place(draws, (width, height), (crop_width, crop_height));
        Ok([area.top, area.left])
    }
}

impl RandomResizedCrop {
    fn draw(&self, draws: &mut Draws, width: usize, height: usize) -> Rect {
        let area = width as f64 * height as f64;
        for _ in 0..TRIES {
            let target = area * draws.between(self.scale);
            let (w, h) = sides(target, quotient(draws, self.ratio));
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                return place(draws, (width, height), (w, h));
            }
        }
        // The central crop of the nearest allowed quotient.
        let [least, most] = self.ratio;
        let ratio = width as f64 / height as f64;
        let round = |v: f64, limit: usize| (v.round_ties_even() as usize).clamp(1, limit);
        let (w, h) = if ratio < least {
            (width, round(width as f64 / least, height))
        } else if ratio > most {
            (round(height as f64 * most, width), height)
        } else {
            (width, height)
        };
        let half = |room: usize| i64::try_from(room / 2).unwrap_or(0);
        Rect { left: half(width - w), top: half(height - h), width: w, height: h }
    }
}

impl RandAugment {
    fn draw(&self, draws: &mut Draws, width: usize, height: usize) -> Option<Vec<Transform>> {
        let is_used = draws.unit() < self.probability;
        is_used.then(|| (0..self.num_ops).map(|_| self.draw_one(draws, width, height)).collect())
    }

    fn draw_one(&self, draws: &mut Draws, width: usize, height: usize) -> Transform {
        let operation = Operation::ALL.get(draws.below(Operation::ALL.len())).copied();
        let operation = operation.unwrap_or(Operation::Identity);
        let (magnitude, is_signed) = self.magnitude(operation, width, height);
        let is_negative = is_signed && draws.below(2) == 1;
        Transform { operation, magnitude: if is_negative { -magnitude } else { magnitude } }
    }

    /// The magnitude of the configured bin, an f32 as in torchvision, and whether it can be negative.
    fn magnitude(&self, operation: Operation, width: usize, height: usize) -> (f64, bool) {
        let (bins, bin) = (self.num_magnitude_bins, self.magnitude);
        let space = |start: f64, end: f64| f64::from(linspace(start as f32, end as f32, bins, bin));
        match operation {
            Operation::ShearX | Operation::ShearY => (space(0.0, 0.3), true),
            Operation::TranslateX => (space(0.0, 150.0 / 331.0 * width as f64), true),
            Operation::TranslateY => (space(0.0, 150.0 / 331.0 * height as f64), true),
            Operation::Rotate => (space(0.0, 30.0), true),
            Operation::Brightness | Operation::Color | Operation::Contrast | Operation::Sharpness => {
                (space(0.0, 0.9), true)
            }
            Operation::Posterize => {
                let quarter = (bins - 1) as f64 / 4.0;
                (8.0 - f64::from((bin as f32 / quarter as f32).round_ties_even()), false)
            }
            Operation::Solarize => (space(255.0, 0.0), false),
            Operation::Identity | Operation::AutoContrast | Operation::Equalize => (0.0, false),
        }
    }
}

/// Value `i` of torch's `linspace`: from the nearer end, and fused (its builds are compiled so; unfused, a third of the values differ).
fn linspace(start: f32, end: f32, count: usize, i: usize) -> f32 {
    let step = (end - start) / (count - 1) as f32;
    if i < count / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((count - 1 - i) as f32, end) }
}

impl RandomErase {
    /// The reference erases the whole picture where no box fits; here nothing is, as in torchvision.
    fn draw(&self, draws: &mut Draws, width: usize, height: usize) -> Option<Rect> {
        if draws.unit() >= self.probability {
            return None;
        }
        let area = width as f64 * height as f64;
        for _ in 0..TRIES {
            let target = area * draws.between(self.scale);
            let (h, w) = sides(target, quotient(draws, self.ratio));
            if h < height && w < width {
                return Some(place(draws, (width, height), (w, h)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
