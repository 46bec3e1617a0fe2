//! Affine transformations that weigh neighbouring pixels: Pillow's bilinear and bicubic, in f64 as there.

use super::Matrix;
use crate::{Filter, RgbImage};

pub(super) fn affine(source: &RgbImage, m: &Matrix, filter: Filter, out: &mut RgbImage) {
    let (width, height) = (source.width() as f64, source.height() as f64);
    let stride = source.width() * 3;
    for (y, line) in out.pixels_mut().chunks_exact_mut(stride).enumerate() {
        for (x, pixel) in line.chunks_exact_mut(3).enumerate() {
            let (across, down) = (x as f64 + 0.5, y as f64 + 0.5);
            let at = (m[0] * across + m[1] * down + m[2], m[3] * across + m[4] * down + m[5]);
            if (0.0..width).contains(&at.0) && (0.0..height).contains(&at.1) {
                for (c, sample) in pixel.iter_mut().enumerate() {
                    // `as` cuts off and clamps.
                    *sample = match filter {
                        Filter::Bilinear => bilinear(source, at, c),
                        _ => bicubic(source, at, c),
                    } as u8;
                }
            }
        }
    }
}

/// Whole part and fraction of a position, from the pixels' centres.
fn split(v: f64) -> (i64, f64) {
    let from_centre = v - 0.5;
    let whole = from_centre.floor();
    (whole as i64, from_centre - whole)
}

/// Channel `c` of the pixel at (x, y), or of the one nearest to it that exists.
fn sample(source: &RgbImage, x: i64, y: i64, c: usize) -> f64 {
    let clamp = |v: i64, limit: usize| usize::try_from(v).unwrap_or(0).min(limit - 1);
    let row = source.view().row(clamp(y, source.height()));
    f64::from(row[clamp(x, source.width()) * 3 + c])
}

fn bilinear(source: &RgbImage, (x, y): (f64, f64), c: usize) -> f64 {
    let ((x, dx), (y, dy)) = (split(x), split(y));
    let line = |y| {
        let (a, b) = (sample(source, x, y, c), sample(source, x + 1, y, c));
        a + (b - a) * dx
    };
    let (above, below) = (line(y), line(y + 1));
    above + (below - above) * dy
}

fn bicubic(source: &RgbImage, (x, y): (f64, f64), c: usize) -> f64 {
    let ((x, dx), (y, dy)) = (split(x), split(y));
    let rows = [-1, 0, 1, 2]
        .map(|down| cubic([-1, 0, 1, 2].map(|right| sample(source, x + right, y + down, c)), dx));
    cubic(rows, dy)
}

/// The cubic through v[1] and v[2] with Pillow's coefficients, a = -1.
fn cubic(v: [f64; 4], d: f64) -> f64 {
    let p2 = -v[0] + v[2];
    let p3 = 2.0 * (v[0] - v[1]) + v[2] - v[3];
    let p4 = -v[0] + v[1] - v[2] + v[3];
    v[1] + d * (p2 + d * (p3 + d * p4))
}
