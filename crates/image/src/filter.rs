//! The filters of Pillow's `Resample.c` and their weights, in f64 as there.

use std::f64::consts::PI;
use std::ops::Range;

use mobileclip_kernels::resize::{Taps, WEIGHT_BITS};
use serde::{Deserialize, Serialize};

/// How a resize weighs the source pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Filter {
    /// The one source pixel under the output pixel's centre.
    Nearest,
    /// Box of width 1.
    Box,
    /// Triangle of width 2.
    Bilinear,
    /// Sinc of width 2 under a Hamming window.
    Hamming,
    /// Cubic of width 4 with a = -0.5. open_clip's `random` means this one at inference.
    #[serde(alias = "random")]
    Bicubic,
    /// Sinc of width 6 under a Lanczos window.
    Lanczos,
}

impl Filter {
    /// Half the width in source pixels when nothing is shrunk; `None` for [`Filter::Nearest`], which does not weigh.
    fn support(self) -> Option<f64> {
        match self {
            Filter::Nearest => None,
            Filter::Box => Some(0.5),
            Filter::Bilinear | Filter::Hamming => Some(1.0),
            Filter::Bicubic => Some(2.0),
            Filter::Lanczos => Some(3.0),
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Nearest => 1.0,
            Filter::Box => {
                if x > -0.5 && x <= 0.5 {
                    1.0
                } else {
                    0.0
                }
            }
            Filter::Bilinear => {
                let x = x.abs();
                if x < 1.0 { 1.0 - x } else { 0.0 }
            }
            Filter::Hamming => {
                let x = x.abs();
                if x == 0.0 {
                    1.0
                } else if x >= 1.0 {
                    0.0
                } else {
                    let x = x * PI;
                    // The constants are f32 in Pillow; with f64 ones 5 % of the integer weights are another by one.
                    x.sin() / x * (f64::from(0.54f32) + f64::from(0.46f32) * x.cos())
                }
            }
            Filter::Bicubic => {
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
            Filter::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// The weights of outputs `outputs` when `n_in` samples are resized to `n_out`.
///
/// The sums stay below 2³¹ because the weights of an output add to 2²² and the negative ones to at most a third of that.
pub(crate) fn taps(n_in: usize, n_out: usize, outputs: Range<usize>, filter: Filter) -> Taps {
    let scale = n_in as f64 / n_out as f64;
    let stretch = scale.max(1.0);
    let support = filter.support().unwrap_or(0.5) * stretch;
    let inverse = 1.0 / stretch;
    let mut taps = Taps::new(n_in);
    let mut real = Vec::new();
    let mut whole = Vec::new();
    for i in outputs {
        let center = (i as f64 + 0.5) * scale;
        // `as` truncates towards zero and takes negative numbers to 0, as the reference does in two steps.
        let low = (center - support + 0.5) as usize;
        let high = ((center + support + 0.5) as usize).min(n_in);
        real.clear();
        real.extend((low..high).map(|j| filter.weight((j as f64 - center + 0.5) * inverse)));
        let sum: f64 = real.iter().sum();
        whole.clear();
        whole.extend(real.iter().map(|&w| fixed(if sum == 0.0 { w } else { w / sum })));
        taps.push(low, &whole);
    }
    taps
}

/// Rounds half away from zero to a multiple of 2⁻²².
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << WEIGHT_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Source indices of outputs `outputs` for [`Filter::Nearest`]: the coordinate accumulates from half a step, rounding at each step.
pub(crate) fn nearest(n_in: usize, n_out: usize, outputs: Range<usize>) -> Vec<usize> {
    let step = n_in as f64 / n_out as f64;
    let mut position = step * 0.5;
    let mut indices = Vec::with_capacity(outputs.len());
    for i in 0..outputs.end {
        if i >= outputs.start {
            indices.push((position as usize).min(n_in - 1));
        }
        position += step;
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Filter; 5] =
        [Filter::Box, Filter::Bilinear, Filter::Hamming, Filter::Bicubic, Filter::Lanczos];

    #[test]
    fn weights_of_an_output_add_to_one() {
        for filter in ALL {
            for (n_in, n_out) in [(1, 7), (7, 1), (100, 33), (33, 100), (64, 64), (3, 1000)] {
                let taps = taps(n_in, n_out, 0..n_out, filter);
                for i in 0..n_out {
                    let (_, weights) = taps.output(i);
                    let sum: i64 = weights.iter().map(|&w| i64::from(w)).sum();
                    // Each weight is rounded by at most one half.
                    assert!(
                        (sum - (1 << WEIGHT_BITS)).unsigned_abs() as usize <= weights.len(),
                        "{filter:?} {n_in} {n_out} {i}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_cannot_leave_32_bits() {
        for filter in ALL {
            for n_in in 1..40 {
                for n_out in 1..120 {
                    let taps = taps(n_in, n_out, 0..n_out, filter);
                    for i in 0..n_out {
                        let (_, weights) = taps.output(i);
                        let up: i64 = weights.iter().map(|&w| i64::from(w.max(0))).sum();
                        let down: i64 = weights.iter().map(|&w| i64::from(w.min(0))).sum();
                        assert!(
                            up * 255 + (1 << 21) <= i64::from(i32::MAX) && down * 255 >= i64::from(i32::MIN),
                            "{filter:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn hamming_has_constants_of_32_bits() {
        // As Pillow 13.0.0; with constants of 64 bits the second weight is 279607.
        assert_eq!(taps(22, 2, 0..1, Filter::Hamming).output(0).1[..4], [201_580, 279_608, 356_407, 421_424]);
    }

    #[test]
    fn a_window_of_outputs_is_the_part_of_the_whole() {
        let whole = taps(500, 77, 0..77, Filter::Lanczos);
        let part = taps(500, 77, 20..31, Filter::Lanczos);
        for i in 0..11 {
            assert_eq!(part.output(i), whole.output(i + 20));
        }
        assert_eq!(nearest(500, 77, 20..31), nearest(500, 77, 0..77)[20..31]);
    }
}
