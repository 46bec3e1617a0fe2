//! The operations of RandAugment, on 8-bit pixels.

use mobileclip_kernels::tone::{blend_constant, blend_grey, grey_sum, sharpen};

use super::config::RandAugment;
use super::geometry::{affine, matrix};
use super::parameters::{Operation, Transform};
use crate::RgbImage;

/// What each value of a channel becomes.
type Table = [u8; 256];

/// Carries out one operation that is possible ([`Transform::is_possible`]).
pub(super) fn apply(config: &RandAugment, transform: &Transform, image: RgbImage) -> RgbImage {
    match transform.operation {
        Operation::Identity => image,
        Operation::ShearX
        | Operation::ShearY
        | Operation::TranslateX
        | Operation::TranslateY
        | Operation::Rotate => match matrix(transform, image.width(), image.height()) {
            Some(m) => affine(&image, &m, config.interpolation, config.fill),
            None => image,
        },
        Operation::Brightness | Operation::Color | Operation::Contrast | Operation::Sharpness => {
            enhance(transform, image)
        }
        Operation::Posterize => {
            // 8 or more bits keep everything.
            let dropped = 8u32.saturating_sub(transform.magnitude as u32);
            let mask = 0xFFu32.checked_shl(dropped).unwrap_or(0) as u8;
            map(image, |v| v & mask)
        }
        Operation::Solarize => {
            // A value below a fraction is at most its whole part.
            let threshold = transform.magnitude.ceil().clamp(0.0, 256.0) as u16;
            map(image, |v| if u16::from(v) < threshold { v } else { 255 - v })
        }
        Operation::AutoContrast => look_up(auto_contrast, image),
        Operation::Equalize => look_up(equalize, image),
    }
}

/// Blends with a dull twin of the picture.
fn enhance(transform: &Transform, mut image: RgbImage) -> RgbImage {
    let factor = transform.factor();
    let (width, height) = (image.width(), image.height());
    match transform.operation {
        // Pillow's shortcut; the sum would give the same.
        _ if factor == 1.0 => {}
        Operation::Brightness => blend_constant(image.pixels_mut(), 0, factor),
        Operation::Contrast => {
            let mean = grey_sum(image.pixels()) as f64 / (width * height) as f64;
            blend_constant(image.pixels_mut(), (mean + 0.5) as u8, factor);
        }
        Operation::Color => blend_grey(image.pixels_mut(), factor),
        _ => {
            let mut sharp = vec![0; image.pixels().len()];
            sharpen(image.pixels(), &mut sharp, width, height, factor);
            image = RgbImage::from_parts(width, height, sharp);
        }
    }
    image
}

fn map(mut image: RgbImage, of: impl Fn(u8) -> u8) -> RgbImage {
    image.pixels_mut().iter_mut().for_each(|v| *v = of(*v));
    image
}

/// Changes each channel by the table that belongs to its histogram, if there is one.
fn look_up(table: fn(&[u32; 256]) -> Option<Table>, mut image: RgbImage) -> RgbImage {
    let same: Table = std::array::from_fn(|v| v as u8);
    let histograms = histograms(&image);
    if let [None, None, None] = histograms.each_ref().map(table) {
        return image;
    }
    let [red, green, blue] = histograms.map(|histogram| table(&histogram).unwrap_or(same));
    for [r, g, b] in image.pixels_mut().as_chunks_mut::<3>().0 {
        *r = red[usize::from(*r)];
        *g = green[usize::from(*g)];
        *b = blue[usize::from(*b)];
    }
    image
}

/// How often each value occurs in red, green and blue.
fn histograms(image: &RgbImage) -> [[u32; 256]; 3] {
    // Neighbours are often equal; counted in the same place, each would wait for the one before.
    let mut even = [[0u32; 256]; 3];
    let mut odd = [[0u32; 256]; 3];
    let (pairs, last) = image.pixels().as_chunks::<6>();
    let count = |histograms: &mut [[u32; 256]; 3], pixel: &[u8]| {
        for (histogram, &v) in histograms.iter_mut().zip(pixel) {
            histogram[usize::from(v)] += 1;
        }
    };
    for pair in pairs {
        count(&mut even, &pair[..3]);
        count(&mut odd, &pair[3..]);
    }
    count(&mut even, last);
    std::array::from_fn(|c| std::array::from_fn(|v| even[c][v] + odd[c][v]))
}

/// Stretches the values that occur to 0..=255.
fn auto_contrast(histogram: &[u32; 256]) -> Option<Table> {
    let low = histogram.iter().position(|&n| n > 0)?;
    let high = histogram.iter().rposition(|&n| n > 0)?;
    if high <= low {
        return None;
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    // `as` cuts off and clamps.
    Some(std::array::from_fn(|v| (v as f64 * scale + offset) as u8))
}

/// Makes all values about equally frequent.
fn equalize(histogram: &[u32; 256]) -> Option<Table> {
    let high = histogram.iter().rposition(|&n| n > 0)?;
    let step = histogram[..high].iter().map(|&n| u64::from(n)).sum::<u64>() / 255;
    if step == 0 {
        return None;
    }
    let mut n = step / 2;
    Some(std::array::from_fn(|v| {
        let value = (n / step).min(255) as u8;
        n += u64::from(histogram[v]);
        value
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_few_values() {
        let histogram = |counts: &[(usize, u32)]| {
            let mut all = [0; 256];
            counts.iter().for_each(|&(v, n)| all[v] = n);
            all
        };
        assert_eq!(auto_contrast(&histogram(&[(7, 100)])), None);
        let table = auto_contrast(&histogram(&[(50, 1), (60, 5), (101, 1)])).unwrap();
        assert_eq!([49, 50, 60, 101, 102].map(|v| table[v]), [0, 0, 50, 255, 255]);
        assert_eq!(equalize(&histogram(&[(7, 100_000)])), None);
        assert_eq!(equalize(&histogram(&[(7, 254), (9, 1_000)])), None);
        let table = equalize(&histogram(&[(7, 510), (9, 100), (11, 3)])).unwrap();
        assert_eq!([0, 7, 8, 9, 10, 255].map(|v| table[v]), [0, 0, 255, 255, 255, 255]);
    }
}
