//! The reading in double precision: slow and plain, the oracle of every other one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::names::Names;
use crate::ops::{Activation, Attention, Conv, Linear, Ops, Positions, Shape, Take};
use crate::resample::resample;
use crate::weights::Weights;

/// Numbers of a [`Shape`], stored channel by channel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The shape.
    pub shape: Shape,
    /// `shape.elements()` numbers.
    pub values: Vec<f64>,
}

impl Array {
    /// # Panics
    /// If there are not `shape.elements()` values.
    pub fn new(shape: Shape, values: Vec<f64>) -> Self {
        assert_eq!(shape.elements(), values.len(), "{shape:?}");
        Self { shape, values }
    }

    /// Token ids as numbers.
    pub fn ids(ids: &[u32]) -> Self {
        Self::new(Shape::tokens(1, ids.len()), ids.iter().map(|&id| f64::from(id)).collect())
    }

    fn channel(&self, c: usize) -> &[f64] {
        &self.values[c * self.shape.pixels()..][..self.shape.pixels()]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self { shape: self.shape, values: self.values.iter().map(|&v| f(v)).collect() }
    }

    fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.shape, other.shape);
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| f(a, b)).collect();
        Self { shape: self.shape, values }
    }

    /// `scale[c] · x + shift[c]`.
    fn affine(&self, scale: &[f64], shift: &[f64]) -> Self {
        let mut out = self.clone();
        for (c, channel) in out.values.chunks_mut(self.shape.pixels().max(1)).enumerate() {
            channel.iter_mut().for_each(|v| *v = scale[c] * *v + shift[c]);
        }
        out
    }
}

/// Runs the program on arrays.
pub struct Reference<W> {
    weights: W,
    names: Names,
    taps: RefCell<BTreeMap<String, Array>>,
}

impl<W: Weights> Reference<W> {
    /// A reading of these weights, in whichever form they are.
    pub fn new(weights: W) -> Self {
        Self { weights, names: Names::default(), taps: RefCell::default() }
    }

    /// Every tapped scope's output so far, by name.
    pub fn into_taps(self) -> BTreeMap<String, Array> {
        self.taps.into_inner()
    }

    fn leaf(&self, name: &str, leaf: &str) -> Vec<f64> {
        self.weights.f64(&self.names.leaf(name, leaf))
    }
}

impl<W: Weights> Ops for Reference<W> {
    type Tensor = Array;

    fn scope<R>(&self, name: &str, body: impl FnOnce(&Self) -> R) -> R {
        self.names.scope(name, || body(self))
    }

    fn shape(&self, x: &Array) -> Shape {
        x.shape
    }

    fn tap(&self, x: Array) -> Array {
        self.taps.borrow_mut().insert(self.names.here(), x.clone());
        x
    }

    fn parameter(&self, _name: &str, _shape: &[usize]) {}

    fn conv(&self, name: &str, x: &Array, conv: &Conv) -> Array {
        let bias = if conv.bias { self.leaf(name, "bias") } else { vec![0.0; conv.outputs] };
        convolve(x, conv, &self.leaf(name, "weight"), &bias)
    }

    fn linear(&self, x: &Array, linear: &Linear) -> Array {
        let mut weight = self.leaf(linear.weight, "");
        if linear.transposed {
            let stored = weight.clone();
            for o in 0..linear.outputs {
                for i in 0..linear.inputs {
                    weight[o * linear.inputs + i] = stored[i * linear.outputs + o];
                }
            }
        }
        let bias = linear.bias.map_or(vec![0.0; linear.outputs], |bias| self.leaf(bias, ""));
        convolve(x, &linear.as_conv(), &weight, &bias)
    }

    fn batch_norm(&self, name: &str, x: &Array, eps: f64) -> Array {
        let (weight, bias) = (self.leaf(name, "weight"), self.leaf(name, "bias"));
        let (mean, var) = (self.leaf(name, "running_mean"), self.leaf(name, "running_var"));
        let scale: Vec<f64> = weight.iter().zip(&var).map(|(w, v)| w / (v + eps).sqrt()).collect();
        let shift: Vec<f64> = (0..scale.len()).map(|c| bias[c] - mean[c] * scale[c]).collect();
        x.affine(&scale, &shift)
    }

    fn layer_scale(&self, name: &str, x: &Array) -> Array {
        x.affine(&self.leaf(name, ""), &vec![0.0; x.shape.channels])
    }

    fn branches(
        &self,
        name: &str,
        x: &Array,
        fused: &Conv,
        train: impl FnOnce(&Self, &Array) -> Array,
    ) -> Array {
        match self.weights.contains(&self.names.leaf(name, "weight")) {
            true => self.conv(name, x, fused),
            false => train(self, x),
        }
    }

    fn add(&self, a: &Array, b: &Array) -> Array {
        a.zip(b, |a, b| a + b)
    }

    fn sub(&self, a: &Array, b: &Array) -> Array {
        a.zip(b, |a, b| a - b)
    }

    fn layer_norm(&self, name: &str, x: &Array, eps: f64) -> Array {
        let (weight, bias) = (self.leaf(name, "weight"), self.leaf(name, "bias"));
        let (channels, pixels) = (x.shape.channels, x.shape.pixels());
        let mut out = x.clone();
        for p in 0..pixels {
            let column = |c: usize| x.values[c * pixels + p];
            let mean = (0..channels).map(column).sum::<f64>() / channels as f64;
            let var = (0..channels).map(|c| (column(c) - mean).powi(2)).sum::<f64>() / channels as f64;
            for c in 0..channels {
                out.values[c * pixels + p] = (column(c) - mean) / (var + eps).sqrt() * weight[c] + bias[c];
            }
        }
        out
    }

    fn activation(&self, x: &Array, activation: Activation) -> Array {
        x.map(|v| match activation {
            Activation::Gelu => 0.5 * v * erfc(-v * std::f64::consts::FRAC_1_SQRT_2),
            Activation::QuickGelu => v / (1.0 + (-1.702 * v).exp()),
            Activation::Relu => v.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        })
    }

    fn attention(&self, qkv: &Array, attention: &Attention) -> Array {
        let (tokens, width, head) = (qkv.shape.pixels(), attention.width(), attention.head_width);
        let mut out = vec![0.0; width * tokens];
        for h in 0..attention.heads {
            let row = |part: usize, d: usize| qkv.channel(part * width + h * head + d);
            for t in 0..tokens {
                let seen = if attention.is_causal { t + 1 } else { tokens };
                let mut scores: Vec<f64> = (0..seen)
                    .map(|s| {
                        (0..head).map(|d| row(0, d)[t] * row(1, d)[s]).sum::<f64>() / (head as f64).sqrt()
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores.iter_mut().for_each(|s| *s = (*s - max).exp());
                let sum: f64 = scores.iter().sum();
                for d in 0..head {
                    let mixed: f64 = scores.iter().zip(row(2, d)).map(|(s, v)| s * v).sum();
                    out[(h * head + d) * tokens + t] = mixed / sum;
                }
            }
        }
        Array::new(qkv.shape.with_channels(width), out)
    }

    fn mean_pool(&self, x: &Array) -> Array {
        let mean = |c| x.channel(c).iter().sum::<f64>() / x.shape.pixels() as f64;
        Array::new(Shape::new(x.shape.channels, 1, 1), (0..x.shape.channels).map(mean).collect())
    }

    fn gate(&self, x: &Array, gate: &Array) -> Array {
        x.affine(&gate.values, &vec![0.0; x.shape.channels])
    }

    fn embed(&self, name: &str, ids: &Array, _vocabulary: usize, width: usize) -> Array {
        let table = self.leaf(name, "");
        let tokens = ids.shape.pixels();
        let mut out = vec![0.0; width * tokens];
        for (t, &id) in ids.values.iter().enumerate() {
            for d in 0..width {
                out[d * tokens + t] = table[id as usize * width + d];
            }
        }
        Array::new(ids.shape.with_channels(width), out)
    }

    fn positions(&self, name: &str, x: &Array, positions: &Positions) -> Array {
        let table = resample(&self.leaf(name, ""), positions);
        let (width, pixels) = (x.shape.channels, x.shape.pixels());
        let mut out = x.clone();
        for p in 0..pixels {
            for d in 0..width {
                out.values[d * pixels + p] += table[p * width + d];
            }
        }
        out
    }

    fn class_token(&self, name: &str, x: &Array, _shape: &[usize]) -> Array {
        let token = self.leaf(name, "");
        let values = (0..x.shape.channels)
            .flat_map(|c| std::iter::once(token[c]).chain(x.channel(c).iter().copied()))
            .collect();
        Array::new(Shape::tokens(x.shape.channels, x.shape.pixels() + 1), values)
    }

    fn take(&self, x: &Array, which: Take<Array>) -> Array {
        let at = match which {
            Take::First => 0,
            Take::EndOfText(ids) => {
                let ids = &ids.values;
                (0..ids.len()).fold(0, |best, i| if ids[i] > ids[best] { i } else { best })
            }
        };
        let values = (0..x.shape.channels).map(|c| x.channel(c)[at]).collect();
        Array::new(Shape::new(x.shape.channels, 1, 1), values)
    }
}

fn convolve(x: &Array, conv: &Conv, weight: &[f64], bias: &[f64]) -> Array {
    let Some(shape) = conv.output(x.shape) else {
        return Array::new(Shape::new(conv.outputs, 0, 0), Vec::new());
    };
    let [_, group_inputs, kh, kw] = conv.weight_shape();
    let group_outputs = conv.outputs / conv.groups;
    let (ph, pw) = conv.padding;
    let mut out = vec![0.0; shape.elements()];
    for (o, plane) in out.chunks_mut(shape.pixels().max(1)).enumerate() {
        plane.fill(bias[o]);
        for i in 0..group_inputs {
            let input = x.channel(o / group_outputs * group_inputs + i);
            for ky in 0..kh {
                for kx in 0..kw {
                    let w = weight[((o * group_inputs + i) * kh + ky) * kw + kx];
                    if conv.is_pointwise() {
                        plane.iter_mut().zip(input).for_each(|(out, v)| *out += w * v);
                        continue;
                    }
                    for oy in 0..shape.height {
                        let Some(iy) =
                            (oy * conv.stride + ky).checked_sub(ph).filter(|&y| y < x.shape.height)
                        else {
                            continue;
                        };
                        for ox in 0..shape.width {
                            let ix = (ox * conv.stride + kx).wrapping_sub(pw);
                            if ix < x.shape.width {
                                plane[oy * shape.width + ox] += w * input[iy * x.shape.width + ix];
                            }
                        }
                    }
                }
            }
        }
    }
    Array::new(shape, out)
}

/// The complementary error function to about 1e-15: the Maclaurin series of erf for |x| < 2.5, elsewhere the continued
/// fraction of erfc (Abramowitz & Stegun 7.1.5 and 7.1.14).
fn erfc(x: f64) -> f64 {
    let a = x.abs();
    let upper = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-18 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
    } else if a < 27.0 {
        let fraction = (1..=60).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (a + tail));
        (-a * a).exp() / (a + fraction) * std::f64::consts::FRAC_2_SQRT_PI / 2.0
    } else {
        0.0
    };
    if x < 0.0 { 2.0 - upper } else { upper }
}

#[cfg(test)]
mod tests {
    use super::erfc;

    #[test]
    fn erfc_agrees_with_tabulated_values() {
        // From a 50-digit computation.
        for (x, expected) in [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (-1.0, 1.842_700_792_949_715),
            (2.4, 0.000_688_513_896_645_078_9),
            (2.6, 0.000_236_034_416_529_349_1),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            let error = (erfc(x) - expected).abs() / expected;
            assert!(error < 2e-12, "erfc({x}) = {}, expected {expected}", erfc(x));
        }
    }
}
