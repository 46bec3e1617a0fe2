//! Plain arithmetic in double precision on one sample's tensor.

use crate::ops::{Activation, Attention, Conv, Shape, class_sees};

/// Numbers of a [`Shape`], stored channel by channel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The shape.
    pub shape: Shape,
    /// `shape.elements()` numbers.
    pub values: Vec<f64>,
}

/// The operations of [`Ops`](crate::Ops), with their weights as arguments. Shapes must fit, as there.
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

    fn zip(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.shape, other.shape);
        let values = self.values.iter().zip(&other.values).map(|(&a, &b)| f(a, b)).collect();
        Self { shape: self.shape, values }
    }

    /// Elementwise sum.
    pub fn add(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    /// Elementwise difference.
    pub fn sub(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    /// `scale[c] · x + shift[c]`.
    pub fn affine(&self, scale: &[f64], shift: &[f64]) -> Self {
        let mut out = self.clone();
        for (c, channel) in out.values.chunks_mut(self.shape.pixels().max(1)).enumerate() {
            channel.iter_mut().for_each(|v| *v = scale[c] * *v + shift[c]);
        }
        out
    }

    /// Channels times the numbers of `gate`.
    pub fn gate(&self, gate: &Self) -> Self {
        self.affine(&gate.values, &vec![0.0; self.shape.channels])
    }

    /// LayerNorm over the channels of every pixel.
    pub fn layer_norm(&self, weight: &[f64], bias: &[f64], eps: f64) -> Self {
        let (channels, pixels) = (self.shape.channels, self.shape.pixels());
        let mut out = self.clone();
        for p in 0..pixels {
            let column = |c: usize| self.values[c * pixels + p];
            let mean = (0..channels).map(column).sum::<f64>() / channels as f64;
            let var = (0..channels).map(|c| (column(c) - mean).powi(2)).sum::<f64>() / channels as f64;
            for c in 0..channels {
                out.values[c * pixels + p] = (column(c) - mean) / (var + eps).sqrt() * weight[c] + bias[c];
            }
        }
        out
    }

    /// A nonlinearity.
    pub fn activation(&self, activation: Activation) -> Self {
        let apply = |v: f64| match activation {
            Activation::Gelu => 0.5 * v * erfc(-v * std::f64::consts::FRAC_1_SQRT_2),
            Activation::QuickGelu => v / (1.0 + (-1.702 * v).exp()),
            Activation::Relu => v.max(0.0),
            Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        };
        Self { shape: self.shape, values: self.values.iter().map(|&v| apply(v)).collect() }
    }

    /// Self-attention over packed q, k, v.
    pub fn attention(&self, attention: &Attention) -> Self {
        let shape = self.shape.with_channels(attention.width());
        let part =
            |index| Self::new(shape, self.values[index * shape.elements()..][..shape.elements()].to_vec());
        let mixed = part(0).attend(&part(1), &part(2), attention, |t, s| !attention.is_causal || s <= t);
        Self::new(shape, mixed.values)
    }

    /// The same with q, k and v apart, over a row's ids and a class token behind them ([`Seen::Padded`](crate::Seen)).
    pub fn padded_attention(&self, k: &Self, v: &Self, ids: &Self, attention: &Attention) -> Self {
        let id = |place: usize| ids.values[place] as u32;
        let class = self.shape.pixels() - 1;
        self.attend(k, v, attention, |t, s| if t == class { class_sees(id, s) } else { s <= t })
    }

    /// Attention of the tokens to those of `k` and `v` that they see: `sees(query, key)`.
    pub fn attend(
        &self,
        k: &Self,
        v: &Self,
        attention: &Attention,
        sees: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let (tokens, width, head) = (self.shape.pixels(), attention.width(), attention.head_width);
        let mut out = vec![0.0; width * tokens];
        for h in 0..attention.heads {
            for t in 0..tokens {
                let seen: Vec<usize> = (0..k.shape.pixels()).filter(|&s| sees(t, s)).collect();
                let channels = h * head..(h + 1) * head;
                let dot =
                    |s: usize| channels.clone().map(|c| self.channel(c)[t] * k.channel(c)[s]).sum::<f64>();
                let mut scores: Vec<f64> = seen.iter().map(|&s| dot(s) / (head as f64).sqrt()).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                scores.iter_mut().for_each(|s| *s = (*s - max).exp());
                let sum: f64 = scores.iter().sum();
                for c in channels {
                    let values = seen.iter().map(|&s| v.channel(c)[s]);
                    out[c * tokens + t] = scores.iter().zip(values).map(|(s, v)| s * v).sum::<f64>() / sum;
                }
            }
        }
        Self::new(Shape::tokens(width, tokens), out)
    }

    /// The mean over pixels.
    pub fn mean_pool(&self) -> Self {
        let mean = |c| self.channel(c).iter().sum::<f64>() / self.shape.pixels() as f64;
        Self::new(Shape::new(self.shape.channels, 1, 1), (0..self.shape.channels).map(mean).collect())
    }

    /// Rows of `table` for these ids.
    pub fn embed(&self, table: &[f64], width: usize) -> Self {
        let tokens = self.shape.pixels();
        let mut out = vec![0.0; width * tokens];
        for (t, &id) in self.values.iter().enumerate() {
            for d in 0..width {
                out[d * tokens + t] = table[id as usize * width + d];
            }
        }
        Self::new(self.shape.with_channels(width), out)
    }

    /// Adds row `p` of `table` to pixel `p`.
    pub fn add_rows(&self, table: &[f64]) -> Self {
        let (width, pixels) = (self.shape.channels, self.shape.pixels());
        let mut out = self.clone();
        for p in 0..pixels {
            for d in 0..width {
                out.values[d * pixels + p] += table[p * width + d];
            }
        }
        out
    }

    /// `token` in front of the pixels.
    pub fn prepend(&self, token: &[f64]) -> Self {
        let values = (0..self.shape.channels)
            .flat_map(|c| std::iter::once(token[c]).chain(self.channel(c).iter().copied()))
            .collect();
        Self::new(Shape::tokens(self.shape.channels, self.shape.pixels() + 1), values)
    }

    /// `token` behind the pixels.
    pub fn append(&self, token: &[f64]) -> Self {
        let values = (0..self.shape.channels)
            .flat_map(|c| self.channel(c).iter().copied().chain(std::iter::once(token[c])))
            .collect();
        Self::new(Shape::tokens(self.shape.channels, self.shape.pixels() + 1), values)
    }

    /// The rows of a table `[count][width]` as tokens.
    pub fn rows(table: &[f64], width: usize) -> Self {
        let count = table.len() / width;
        let values = (0..table.len()).map(|i| table[i % count * width + i / count]).collect();
        Self::new(Shape::tokens(width, count), values)
    }

    /// All tokens but the first `front` and the last `back`.
    pub fn trim(&self, front: usize, back: usize) -> Self {
        let kept = front..self.shape.pixels() - back;
        let values: Vec<f64> =
            (0..self.shape.channels).flat_map(|c| self.channel(c)[kept.clone()].iter().copied()).collect();
        Self::new(Shape::tokens(self.shape.channels, kept.len()), values)
    }

    /// The place of the largest id, the first such.
    pub fn end_of_text(&self) -> usize {
        let ids = &self.values;
        (0..ids.len()).fold(0, |best, i| if ids[i] > ids[best] { i } else { best })
    }

    /// The pixel at `place`.
    pub fn take(&self, place: usize) -> Self {
        let values = (0..self.shape.channels).map(|c| self.channel(c)[place]).collect();
        Self::new(Shape::new(self.shape.channels, 1, 1), values)
    }

    /// A convolution; an empty array if the padded input is smaller than the kernel.
    pub fn convolve(&self, conv: &Conv, weight: &[f64], bias: &[f64]) -> Self {
        let Some(shape) = conv.output(self.shape) else {
            return Self::new(Shape::new(conv.outputs, 0, 0), Vec::new());
        };
        let [_, group_inputs, kh, kw] = conv.weight_shape();
        let group_outputs = conv.outputs / conv.groups;
        let (ph, pw) = conv.padding;
        let mut out = vec![0.0; shape.elements()];
        for (o, plane) in out.chunks_mut(shape.pixels().max(1)).enumerate() {
            plane.fill(bias[o]);
            for i in 0..group_inputs {
                let input = self.channel(o / group_outputs * group_inputs + i);
                for ky in 0..kh {
                    for kx in 0..kw {
                        let w = weight[((o * group_inputs + i) * kh + ky) * kw + kx];
                        if conv.is_pointwise() {
                            plane.iter_mut().zip(input).for_each(|(out, v)| *out += w * v);
                            continue;
                        }
                        for oy in 0..shape.height {
                            let Some(iy) =
                                (oy * conv.stride + ky).checked_sub(ph).filter(|&y| y < self.shape.height)
                            else {
                                continue;
                            };
                            for ox in 0..shape.width {
                                let ix = (ox * conv.stride + kx).wrapping_sub(pw);
                                if ix < self.shape.width {
                                    plane[oy * shape.width + ox] += w * input[iy * self.shape.width + ix];
                                }
                            }
                        }
                    }
                }
            }
        }
        Self::new(shape, out)
    }
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
