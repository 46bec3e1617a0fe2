//! Constants of a graph: names of stored tensors, and formulas over them that are evaluated once, in double precision.

use std::borrow::Cow;

use mobileclip_arch::{Conv, Part, Weights};
use serde::{Deserialize, Serialize};

/// A constant.
///
/// Large ones stay formulas until somebody needs their numbers, so that folding a network of 300 M parameters never
/// holds it twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A tensor of the checkpoint.
    Stored(String),
    /// A matrix of the checkpoint, `rows × columns` as stored, used transposed.
    Transposed {
        /// Its name.
        name: String,
        /// Rows as stored.
        rows: usize,
        /// Columns as stored.
        columns: usize,
    },
    /// One of the equal parts of a tensor that are stacked along its rows.
    Part {
        /// Its name.
        name: String,
        /// Which.
        part: Part,
    },
    /// Numbers that folding made.
    Literal(Vec<f64>),
    /// Every row times its number; a row is all that belongs to one output channel.
    ScaledRows(Box<Value>, Vec<f64>),
    /// Every column of a matrix times its number.
    ScaledColumns(Box<Value>, Vec<f64>),
    /// The sum of equally shaped constants.
    Sum(Vec<Value>),
    /// A kernel in the middle of a larger one.
    Centred {
        /// The kernels of all channels, one after the other.
        of: Box<Value>,
        /// Their height and width.
        from: (usize, usize),
        /// The larger height and width.
        to: (usize, usize),
    },
    /// The convolution that multiplies channel `c` by `scale[c]`.
    Diagonal {
        /// One number for each channel.
        scale: Vec<f64>,
        /// The convolution whose weight this is.
        conv: Conv,
    },
}

impl Value {
    /// The numbers in double precision.
    pub fn f64(&self, weights: &dyn Weights) -> Vec<f64> {
        match self {
            Self::Stored(name) => weights.f64(name),
            Self::Transposed { name, rows, columns } => transpose(&weights.f64(name), *rows, *columns),
            Self::Part { name, part } => {
                let values = weights.f64(name);
                values[part.range(values.len())].to_vec()
            }
            Self::Literal(values) => values.clone(),
            Self::ScaledRows(of, scale) => {
                let mut values = of.f64(weights);
                let row = values.len() / scale.len();
                values.chunks_mut(row).zip(scale).for_each(|(row, s)| row.iter_mut().for_each(|v| *v *= s));
                values
            }
            Self::ScaledColumns(of, scale) => {
                let mut values = of.f64(weights);
                for row in values.chunks_mut(scale.len()) {
                    row.iter_mut().zip(scale).for_each(|(v, s)| *v *= s);
                }
                values
            }
            Self::Sum(terms) => {
                let mut terms = terms.iter().map(|term| term.f64(weights));
                let mut sum = terms.next().unwrap_or_default();
                terms.for_each(|term| sum.iter_mut().zip(term).for_each(|(a, b)| *a += b));
                sum
            }
            Self::Centred { of, from, to } => centre(&of.f64(weights), *from, *to),
            Self::Diagonal { scale, conv } => diagonal(scale, conv),
        }
    }

    /// The numbers in single precision, rounded once; borrowed where the checkpoint holds them so.
    pub fn f32<'w>(&self, weights: &'w dyn Weights) -> Cow<'w, [f32]> {
        match self {
            Self::Stored(name) => weights.f32(name),
            Self::Transposed { name, rows, columns } => {
                Cow::Owned(transpose(&weights.f32(name), *rows, *columns))
            }
            Self::Part { name, part } => match weights.f32(name) {
                Cow::Borrowed(values) => Cow::Borrowed(&values[part.range(values.len())]),
                Cow::Owned(values) => Cow::Owned(values[part.range(values.len())].to_vec()),
            },
            _ => Cow::Owned(self.f64(weights).iter().map(|&v| v as f32).collect()),
        }
    }
}

fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

fn centre(kernels: &[f64], from: (usize, usize), to: (usize, usize)) -> Vec<f64> {
    let (top, left) = ((to.0 - from.0) / 2, (to.1 - from.1) / 2);
    let mut out = vec![0.0; kernels.len() / (from.0 * from.1) * to.0 * to.1];
    for (small, large) in kernels.chunks(from.0 * from.1).zip(out.chunks_mut(to.0 * to.1)) {
        for (y, row) in small.chunks(from.1).enumerate() {
            large[(top + y) * to.1 + left..][..from.1].copy_from_slice(row);
        }
    }
    out
}

fn diagonal(scale: &[f64], conv: &Conv) -> Vec<f64> {
    let [outputs, group_inputs, kh, kw] = conv.weight_shape();
    let mut out = vec![0.0; outputs * group_inputs * kh * kw];
    for (c, s) in scale.iter().enumerate() {
        out[((c * group_inputs + c % group_inputs) * kh + kh / 2) * kw + kw / 2] = *s;
    }
    out
}
