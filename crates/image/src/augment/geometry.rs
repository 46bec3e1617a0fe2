//! Pillow's affine transformation, and the matrices that torchvision gives it. A matrix maps a pixel of the result to the source.

use std::ops::Range;

use super::parameters::{Operation, Transform};
use crate::{Filter, RgbImage};

mod between;

/// x of the source = m[0] x + m[1] y + m[2]; y = m[3] x + m[4] y + m[5]; at the pixels' centres.
pub(super) type Matrix = [f64; 6];

/// The matrix of a geometric operation on a picture; `None` if it changes nothing or is no geometric one.
pub(super) fn matrix(transform: &Transform, width: usize, height: usize) -> Option<Matrix> {
    let Transform { operation, magnitude } = *transform;
    let centre = (width as f64 * 0.5, height as f64 * 0.5);
    // torchvision takes shears in degrees and turns them back.
    let degrees = magnitude.atan().to_degrees();
    match operation {
        Operation::ShearX => Some(inverse((0.0, 0.0), (0.0, 0.0), (degrees, 0.0))),
        Operation::ShearY => Some(inverse((0.0, 0.0), (0.0, 0.0), (0.0, degrees))),
        Operation::TranslateX => Some(inverse(centre, (magnitude.trunc(), 0.0), (0.0, 0.0))),
        Operation::TranslateY => Some(inverse(centre, (0.0, magnitude.trunc()), (0.0, 0.0))),
        Operation::Rotate if magnitude.rem_euclid(360.0) != 0.0 => Some(rotation(magnitude, centre)),
        _ => None,
    }
}

/// torchvision's `_get_inverse_affine_matrix` without rotation and scale, operation by operation.
fn inverse((cx, cy): (f64, f64), (tx, ty): (f64, f64), (shear_x, shear_y): (f64, f64)) -> Matrix {
    let (sx, sy) = (shear_x.to_radians(), shear_y.to_radians());
    let a = (-sy).cos() / sy.cos();
    let b = -(-sy).cos() * sx.tan() / sy.cos();
    let c = (-sy).sin() / sy.cos();
    let d = -(-sy).sin() * sx.tan() / sy.cos() + 1.0;
    let at = |m0: f64, m1: f64, centre: f64| m0 * (-cx - tx) + m1 * (-cy - ty) + centre;
    [d, -b, at(d, -b, cx), -c, a, at(-c, a, cy)]
}

/// Pillow's `Image.rotate`: counter-clockwise, sine and cosine rounded to 15 places.
fn rotation(degrees: f64, (cx, cy): (f64, f64)) -> Matrix {
    let angle = -degrees.rem_euclid(360.0).to_radians();
    // Decimal rounding of the exact value, as Python's `round`.
    let round = |v: f64| format!("{v:.15}").parse().unwrap_or(v);
    let (cos, sin): (f64, f64) = (round(angle.cos()), round(angle.sin()));
    let (m3, m4) = (round(-angle.sin()), cos);
    [cos, sin, cos * -cx + sin * -cy + cx, m3, m4, m3 * -cx + m4 * -cy + cy]
}

/// A picture of the same size; what lies outside the source has the colour `fill`.
pub(super) fn affine(source: &RgbImage, m: &Matrix, filter: Filter, fill: [u8; 3]) -> RgbImage {
    let (width, height) = (source.width(), source.height());
    let mut out = filled(width, height, fill);
    match filter {
        Filter::Bilinear | Filter::Bicubic => between::affine(source, m, filter, &mut out),
        _ if m[1] == 0.0 && m[3] == 0.0 => scale(source, m, &mut out),
        _ if fits_fixed(m, width, height) => fixed(source, m, &mut out),
        _ => floating(source, m, &mut out),
    }
    out
}

fn filled(width: usize, height: usize, fill: [u8; 3]) -> RgbImage {
    let mut pixels = vec![0; width * height * 3];
    if fill != [0; 3] {
        pixels.as_chunks_mut::<3>().0.fill(fill);
    }
    RgbImage::from_parts(width, height, pixels)
}

/// Pillow's `COORD`: cut off towards zero, nothing below it; `None` outside.
fn coordinate(v: f64, limit: usize) -> Option<usize> {
    // `as` keeps what is too large too large.
    (v >= 0.0).then_some(v as usize).filter(|&v| v < limit)
}

/// Nothing turns or shears: rows and columns have their coordinates apart, which accumulate.
fn scale(source: &RgbImage, m: &Matrix, out: &mut RgbImage) {
    let (width, height) = (source.width(), source.height());
    let accumulated = |from: f64, step: f64, count: usize, limit: usize| -> Vec<Option<usize>> {
        let positions = std::iter::successors(Some(from), move |at| Some(at + step));
        positions.take(count).map(|at| coordinate(at, limit)).collect()
    };
    let columns = accumulated(m[2] + m[0] * 0.5, m[0], width, width);
    let rows = accumulated(m[5] + m[4] * 0.5, m[4], height, height);
    let copied = RowCopy::new(&columns);
    for (line, y) in out.pixels_mut().chunks_exact_mut(width * 3).zip(rows) {
        let Some(y) = y else { continue };
        let row = source.view().row(y);
        match &copied {
            Some(RowCopy { from, to }) => {
                line[to.start * 3..to.end * 3].copy_from_slice(&row[from * 3..][..to.len() * 3])
            }
            None => {
                for (pixel, x) in line.chunks_exact_mut(3).zip(&columns) {
                    if let Some(x) = x {
                        pixel.copy_from_slice(&row[x * 3..][..3]);
                    }
                }
            }
        }
    }
}

/// Columns that are copied as they stand: `to` of a row from column `from` on.
struct RowCopy {
    from: usize,
    to: Range<usize>,
}

impl RowCopy {
    /// If all columns that come from inside follow each other on both sides.
    fn new(columns: &[Option<usize>]) -> Option<RowCopy> {
        let start = columns.iter().position(Option::is_some)?;
        let from = (*columns.get(start)?)?;
        let count = columns.iter().flatten().count();
        let follows =
            columns.iter().skip(start).take(count).zip(from..).all(|(x, expected)| *x == Some(expected));
        follows.then_some(RowCopy { from, to: start..start + count })
    }
}

/// Whether Pillow computes in 16.16 fixed point: no corner is mapped further than 2¹⁵.
fn fits_fixed(m: &Matrix, width: usize, height: usize) -> bool {
    let (w, h) = (width as f64, height as f64);
    [(0.0, 0.0), (w, h), (0.0, h), (w, 0.0)].into_iter().all(|(x, y)| {
        (x * m[0] + y * m[1] + m[2]).abs() < 32768.0 && (x * m[3] + y * m[4] + m[5]).abs() < 32768.0
    })
}

fn fixed(source: &RgbImage, m: &Matrix, out: &mut RgbImage) {
    let (width, height) = (source.width(), source.height());
    let fix = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (x_step, x_row, y_step, y_row) = (fix(m[0]), fix(m[1]), fix(m[3]), fix(m[4]));
    let mut x0 = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
    let mut y0 = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    for line in out.pixels_mut().chunks_exact_mut(width * 3) {
        let across = inside(x0, x_step, width, width);
        let down = inside(y0, y_step, height, width);
        let (start, end) = (across.start.max(down.start), across.end.min(down.end));
        if start < end {
            let at = |from: i64, step: i64| (from + step * start as i64) as usize;
            let part = &mut line[start * 3..end * 3];
            if x_step == 1 << 16 && y_step == 0 {
                let row = source.view().row(at(y0, 0) >> 16);
                part.copy_from_slice(&row[(at(x0, x_step) >> 16) * 3..][..part.len()]);
            } else {
                gather(source, (at(x0, x_step), x_step), (at(y0, y_step), y_step), part);
            }
        }
        x0 += x_row;
        y0 += y_row;
    }
}

/// The part of a line whose coordinates, `from` + `step` i in 16.16, lie in 0..`limit`; of `count` pixels.
fn inside(from: i64, step: i64, limit: usize, count: usize) -> Range<usize> {
    let limit = (limit as i64) << 16;
    // The first i with from + step i >= bound.
    let reaches = |from: i64, step: i64, bound: i64| (bound - from + step - 1).div_euclid(step);
    let (start, end) = match step {
        0 if (0..limit).contains(&from) => (0, count as i64),
        0 => (0, 0),
        1.. => (reaches(from, step, 0), reaches(from, step, limit)),
        // Walked the other way: -from - |step|… rises.
        _ => (reaches(-from, -step, 1 - limit), reaches(-from, -step, 1)),
    };
    let within = |i: i64| i.clamp(0, count as i64) as usize;
    within(start)..within(end)
}

/// Pixels whose coordinates all lie inside.
fn gather(source: &RgbImage, (mut x, x_step): (usize, i64), (mut y, y_step): (usize, i64), line: &mut [u8]) {
    let (pixels, _) = source.pixels().as_chunks::<3>();
    let width = source.width();
    for pixel in line.as_chunks_mut::<3>().0 {
        if let Some(found) = pixels.get((y >> 16) * width + (x >> 16)) {
            *pixel = *found;
        }
        x = x.wrapping_add_signed(x_step as isize);
        y = y.wrapping_add_signed(y_step as isize);
    }
}

/// For pictures too large for fixed point: the coordinates accumulate.
fn floating(source: &RgbImage, m: &Matrix, out: &mut RgbImage) {
    let (width, height) = (source.width(), source.height());
    let (mut x0, mut y0) = (m[2] + m[1] * 0.5 + m[0] * 0.5, m[5] + m[4] * 0.5 + m[3] * 0.5);
    for line in out.pixels_mut().chunks_exact_mut(width * 3) {
        let (mut x, mut y) = (x0, y0);
        for pixel in line.chunks_exact_mut(3) {
            if let (Some(x), Some(y)) = (coordinate(x, width), coordinate(y, height)) {
                pixel.copy_from_slice(&source.view().row(y)[x * 3..][..3]);
            }
            x += m[0];
            y += m[3];
        }
        x0 += m[1];
        y0 += m[4];
    }
}

/// Mirrors left and right.
pub(super) fn flip(image: &mut RgbImage) {
    let stride = image.width() * 3;
    for row in image.pixels_mut().chunks_exact_mut(stride) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

#[cfg(test)]
mod tests;
