//! The reading in double precision: slow and plain, the oracle of every other one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::array::Array;
use crate::names::Names;
use crate::ops::{Activation, Attention, Conv, Linear, Ops, Part, Positions, Seen, Shape, Take};
use crate::resample::resample;
use crate::weights::Weights;

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
        x.convolve(conv, &self.leaf(name, "weight"), &bias)
    }

    fn linear(&self, x: &Array, linear: &Linear) -> Array {
        let part = |name, part: Part| {
            let stored = self.leaf(name, "");
            stored[part.range(stored.len())].to_vec()
        };
        let mut weight = part(linear.weight, linear.weight_part);
        if linear.transposed {
            let stored = weight.clone();
            for o in 0..linear.outputs {
                for i in 0..linear.inputs {
                    weight[o * linear.inputs + i] = stored[i * linear.outputs + o];
                }
            }
        }
        let bias = linear.bias.map_or(vec![0.0; linear.outputs], |bias| part(bias, linear.bias_part));
        x.convolve(&linear.as_conv(), &weight, &bias)
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
        a.add(b)
    }

    fn sub(&self, a: &Array, b: &Array) -> Array {
        a.sub(b)
    }

    fn layer_norm(&self, name: &str, x: &Array, eps: f64) -> Array {
        x.layer_norm(&self.leaf(name, "weight"), &self.leaf(name, "bias"), eps)
    }

    fn activation(&self, x: &Array, activation: Activation) -> Array {
        x.activation(activation)
    }

    fn attention(&self, qkv: &Array, attention: &Attention) -> Array {
        qkv.attention(attention)
    }

    fn cross_attention(&self, [q, k, v]: [&Array; 3], attention: &Attention, seen: Seen<Array>) -> Array {
        match seen {
            Seen::All => q.attend(k, v, attention, |_, _| true),
            Seen::Padded(ids) => q.padded_attention(k, v, ids, attention),
        }
    }

    fn mean_pool(&self, x: &Array) -> Array {
        x.mean_pool()
    }

    fn gate(&self, x: &Array, gate: &Array) -> Array {
        x.gate(gate)
    }

    fn embed(&self, name: &str, ids: &Array, _vocabulary: usize, width: usize) -> Array {
        ids.embed(&self.leaf(name, ""), width)
    }

    fn positions(&self, name: &str, x: &Array, positions: &Positions) -> Array {
        x.add_rows(&resample(&self.leaf(name, ""), positions))
    }

    fn class_token(&self, name: &str, x: &Array, _shape: &[usize]) -> Array {
        x.prepend(&self.leaf(name, ""))
    }

    fn append_token(&self, name: &str, x: &Array) -> Array {
        x.append(&self.leaf(name, ""))
    }

    fn queries(&self, name: &str, _like: &Array, _count: usize, width: usize) -> Array {
        Array::rows(&self.leaf(name, ""), width)
    }

    fn trim(&self, x: &Array, front: usize, back: usize) -> Array {
        x.trim(front, back)
    }

    fn take(&self, x: &Array, which: Take<Array>) -> Array {
        match which {
            Take::First => x.take(0),
            Take::Last => x.take(x.shape.pixels() - 1),
            Take::EndOfText(ids) => x.take(ids.end_of_text()),
        }
    }
}
