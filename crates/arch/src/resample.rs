//! Position tables at another size than the trained one.

use crate::ops::{Positions, Resample};

/// Fits a table of `grid` (+ a class row) rows of `width` numbers to `target`, in double precision.
///
/// # Panics
/// If `Resample::Prefix` asks for more rows than there are.
pub fn resample(table: &[f64], positions: &Positions) -> Vec<f64> {
    let (from, to) = (positions.grid, positions.target);
    if from == to {
        return table.to_vec();
    }
    let width = positions.shape[positions.shape.len() - 1];
    let (class, rows) = table.split_at(if positions.class_row { width } else { 0 });
    let mut resampled = class.to_vec();
    match positions.resample {
        Resample::Prefix => resampled.extend_from_slice(&rows[..to.0 * to.1 * width]),
        Resample::Linear => {
            let taps = linear_taps(from.0 * from.1, to.0 * to.1);
            resampled.extend(apply(rows, 1, from.0 * from.1, width, &taps));
        }
        Resample::Bicubic => {
            let narrowed = apply(rows, from.0, from.1, width, &cubic_taps(from.1, to.1));
            resampled.extend(apply(&narrowed, 1, from.0, to.1 * width, &cubic_taps(from.0, to.0)));
        }
    }
    resampled
}

/// A text's positions `[old][width]` for another context length, as open_clip resizes them when it loads a checkpoint of
/// another length: linearly over all rows, a class token's too, in double precision.
pub fn resize_text_positions(table: &[f64], width: usize, rows: usize) -> Vec<f64> {
    let old = table.len() / width;
    apply(table, 1, old, width, &linear_taps(old, rows))
}

/// Which inputs make one output: the first one's index and the weights.
type Taps = Vec<(usize, Vec<f64>)>;

/// Weighted sums along the middle dimension of `outer × count × inner` numbers.
fn apply(values: &[f64], outer: usize, count: usize, inner: usize, taps: &Taps) -> Vec<f64> {
    let mut out = vec![0.0; outer * taps.len() * inner];
    for o in 0..outer {
        for (i, (first, weights)) in taps.iter().enumerate() {
            let to = &mut out[(o * taps.len() + i) * inner..][..inner];
            for (j, weight) in weights.iter().enumerate() {
                let from = &values[(o * count + first + j) * inner..][..inner];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
            }
        }
    }
    out
}

/// torch's `interpolate(mode="linear", align_corners=False)`, with coordinates in double precision.
fn linear_taps(from: usize, to: usize) -> Taps {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let first = (at as usize).min(from - 1);
            match first + 1 < from {
                true => (first, vec![1.0 - at.fract(), at.fract()]),
                false => (first, vec![1.0]),
            }
        })
        .collect()
}

/// torch's `interpolate(mode="bicubic", antialias=True, align_corners=False)`: Keys' cubic with a = −0.5, widened when
/// shrinking, normalised at the borders.
fn cubic_taps(from: usize, to: usize) -> Taps {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = 2.0 * stretch;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let mut weights: Vec<f64> =
                (first..last).map(|j| cubic((j as f64 - center + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
            (first, weights)
        })
        .collect()
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
