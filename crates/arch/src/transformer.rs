//! The pre-norm transformer block under its two sets of names.

use crate::ops::{Activation, Attention, Linear, Ops};

/// One block's sizes and rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub width: usize,
    pub hidden: usize,
    pub attention: Attention,
    pub activation: Activation,
    pub norm_eps: f64,
}

/// What a package calls the parts of a block.
#[derive(Debug)]
pub(crate) struct Names {
    norm_1: &'static str,
    qkv: [&'static str; 2],
    proj: [&'static str; 2],
    norm_2: &'static str,
    up: [&'static str; 2],
    down: [&'static str; 2],
}

/// open_clip's `ResidualAttentionBlock`.
pub(crate) static OPEN_CLIP: Names = Names {
    norm_1: "ln_1",
    qkv: ["attn.in_proj_weight", "attn.in_proj_bias"],
    proj: ["attn.out_proj.weight", "attn.out_proj.bias"],
    norm_2: "ln_2",
    up: ["mlp.c_fc.weight", "mlp.c_fc.bias"],
    down: ["mlp.c_proj.weight", "mlp.c_proj.bias"],
};

/// timm's `vision_transformer.Block`.
pub(crate) static TIMM: Names = Names {
    norm_1: "norm1",
    qkv: ["attn.qkv.weight", "attn.qkv.bias"],
    proj: ["attn.proj.weight", "attn.proj.bias"],
    norm_2: "norm2",
    up: ["mlp.fc1.weight", "mlp.fc1.bias"],
    down: ["mlp.fc2.weight", "mlp.fc2.bias"],
};

impl Block {
    /// `x: (D, 1, T)` → the same shape.
    /// `depth` is where the block stands, for drop path.
    pub(crate) fn run<O: Ops>(&self, ops: &O, names: &Names, x: &O::Tensor, depth: f64) -> O::Tensor {
        let attend = |ops: &O, x: &O::Tensor| ops.attention(&self.qkv(ops, names, x), &self.attention);
        self.run_with(ops, names, x, depth, attend)
    }

    /// The same with another attention of the normalised tokens.
    pub(crate) fn run_with<O: Ops>(
        &self,
        ops: &O,
        names: &Names,
        x: &O::Tensor,
        depth: f64,
        attend: impl FnOnce(&O, &O::Tensor) -> O::Tensor,
    ) -> O::Tensor {
        let normed = ops.layer_norm(names.norm_1, x, self.norm_eps);
        self.finish(ops, names, x, &attend(ops, &normed), depth)
    }

    /// Queries, keys and values of all heads, one after the other.
    pub(crate) fn qkv<O: Ops>(&self, ops: &O, names: &Names, normed: &O::Tensor) -> O::Tensor {
        ops.linear(normed, &linear(names.qkv, self.width, 3 * self.width))
    }

    /// What follows attention: its projection, and the MLP, both added.
    pub(crate) fn finish<O: Ops>(
        &self,
        ops: &O,
        names: &Names,
        x: &O::Tensor,
        mixed: &O::Tensor,
        depth: f64,
    ) -> O::Tensor {
        let (width, hidden) = (self.width, self.hidden);
        let mixed = ops.linear(mixed, &linear(names.proj, width, width));
        let x = ops.add(x, &ops.drop_path("drop_path1", &mixed, depth));
        let normed = ops.layer_norm(names.norm_2, &x, self.norm_eps);
        let up = ops.linear(&normed, &linear(names.up, width, hidden));
        let up = ops.activation(&up, self.activation);
        let down = ops.linear(&up, &linear(names.down, hidden, width));
        ops.add(&x, &ops.drop_path("drop_path2", &down, depth))
    }
}

const fn linear([weight, bias]: [&'static str; 2], inputs: usize, outputs: usize) -> Linear<'static> {
    Linear::new(weight, bias, inputs, outputs)
}
