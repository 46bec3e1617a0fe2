//! MCi image towers: the FastViT hybrids of MobileCLIP (arXiv:2311.17049, section 4.1; FastViT: arXiv:2303.14189)
//! and MobileCLIP2's five-stage ones (arXiv:2508.20691, section 3.3). Names are timm's.

use crate::ops::{Activation, Attention, Conv, Linear, Ops};
use crate::variant::{AttentionNorm, Mci, Mixer};

const BATCH_NORM_EPS: f64 = 1e-5;
const LAYER_NORM_EPS: f64 = 1e-5;
const HEAD_WIDTH: usize = 32;
const LARGE_KERNEL: usize = 7;

/// `x: (3, H, W)` → features `(embed_dim, 1, 1)`.
pub(crate) fn tower<O: Ops>(ops: &O, mci: &Mci, x: &O::Tensor, embed_dim: usize) -> O::Tensor {
    let x = map(ops, mci, x);
    ops.scope("trunk.head", |ops| {
        let pooled = ops.scope("global_pool", |ops| ops.tap(ops.mean_pool(&x)));
        let bias = mci.head_bias.then_some("fc.bias");
        let fc = Linear { bias, ..Linear::new("fc.weight", "", mci.map_width(), embed_dim) };
        ops.linear(&pooled, &fc)
    })
}

/// Everything before the head: `x: (3, H, W)` → the last map, of [`Mci::map_width`] channels.
pub(crate) fn map<O: Ops>(ops: &O, mci: &Mci, x: &O::Tensor) -> O::Tensor {
    ops.scope("trunk", |ops| {
        let mut x = ops.scope("stem", |ops| ops.tap(stem(ops, mci, x)));
        ops.scope("stages", |ops| {
            for index in 0..mci.widths.len() {
                x = ops.scope(&index.to_string(), |ops| ops.tap(stage(ops, mci, index, &x)));
            }
        });
        let last = mci.widths[mci.widths.len() - 1];
        let width = mci.map_width();
        let final_conv = MobileOne {
            conv: Conv::depthwise(last, width, (3, 3), 1),
            scale_branch: true,
            squeezed: Some(width / 16),
        };
        ops.scope("final_conv", |ops| ops.tap(final_conv.run(ops, &x)))
    })
}

/// Three MobileOne blocks: `(3, H, W)` → `(C, H/4, W/4)`.
fn stem<O: Ops>(ops: &O, mci: &Mci, x: &O::Tensor) -> O::Tensor {
    let c = mci.widths[0];
    let block = |conv| MobileOne { conv, scale_branch: mci.stem_scale_branch, squeezed: None };
    let x = ops.scope("0", |ops| block(Conv::dense(3, c, 3, 2)).run(ops, x));
    let x = ops.scope("1", |ops| block(Conv::depthwise(c, c, (3, 3), 2)).run(ops, &x));
    ops.scope("2", |ops| block(Conv::dense(c, c, 1, 1)).run(ops, &x))
}

fn stage<O: Ops>(ops: &O, mci: &Mci, index: usize, x: &O::Tensor) -> O::Tensor {
    let width = mci.widths[index];
    let mut x = x.clone();
    if index > 0 {
        let squeeze_excite = mci.downsample_squeeze_excite[index];
        x = ops.scope("downsample", |ops| {
            ops.tap(downsample(ops, &x, mci.widths[index - 1], width, squeeze_excite))
        });
    }
    if mci.mixers[index] == Mixer::Attention {
        x = ops.scope("pos_emb", |ops| ops.tap(conditional_positions(ops, &x, width, mci.position_kernel)));
    }
    let before: usize = mci.depths[..index].iter().sum();
    let all: usize = mci.depths.iter().sum();
    ops.scope("blocks", |ops| {
        for block in 0..mci.depths[index] {
            let depth = relative_depth(before + block, all);
            x = ops.scope(&block.to_string(), |ops| {
                ops.tap(match mci.mixers[index] {
                    Mixer::RepMixer => RepMixerBlock::image(width, mci.mlp_ratio, depth).run(ops, &x),
                    Mixer::Attention => attention_block(ops, mci, &x, width, depth),
                })
            });
        }
    });
    x
}

/// 0 for the first of all blocks, 1 for the last: drop path grows with it.
pub(crate) fn relative_depth(block: usize, blocks: usize) -> f64 {
    block as f64 / (blocks.max(2) - 1) as f64
}

/// Large-kernel depthwise convolution of stride 2, then a pointwise one: `(C, H, W)` → `(C', H/2, W/2)`.
fn downsample<O: Ops>(ops: &O, x: &O::Tensor, inputs: usize, outputs: usize, squeeze: bool) -> O::Tensor {
    ops.scope("proj", |ops| {
        let x = ops.scope("0", |ops| {
            let large = Conv::depthwise(inputs, outputs, (LARGE_KERNEL, LARGE_KERNEL), 2);
            let small = Conv::depthwise(inputs, outputs, (3, 3), 2);
            let x = ops.branches("reparam_conv", x, &large.with_bias(), |ops, x| {
                let large = ops.scope("large_conv", |ops| conv_norm(ops, x, &large));
                let small = ops.scope("small_conv", |ops| conv_norm(ops, x, &small));
                ops.add(&large, &small)
            });
            let x = match squeeze {
                true => squeeze_excite(ops, &x, outputs, round_to_8(outputs / 4)),
                false => x,
            };
            ops.activation(&x, Activation::Gelu)
        });
        let pointwise =
            MobileOne { conv: Conv::dense(outputs, outputs, 1, 1), scale_branch: true, squeezed: None };
        ops.scope("1", |ops| pointwise.run(ops, &x))
    })
}

/// timm's rounding of squeeze-excite widths: to the nearest multiple of 8, never more than a tenth down.
fn round_to_8(width: usize) -> usize {
    let rounded = ((width + 4) / 8 * 8).max(8);
    if rounded * 10 < width * 9 { rounded + 8 } else { rounded }
}

/// RepCPE: x plus a depthwise convolution of it.
fn conditional_positions<O: Ops>(ops: &O, x: &O::Tensor, width: usize, kernel: usize) -> O::Tensor {
    let conv = Conv::depthwise(width, width, (kernel, kernel), 1).with_bias();
    ops.branches("reparam_conv", x, &conv, |ops, x| ops.add(x, &ops.conv("pos_enc", x, &conv)))
}

fn attention_block<O: Ops>(ops: &O, mci: &Mci, x: &O::Tensor, width: usize, depth: f64) -> O::Tensor {
    let normed = match mci.attention_norm {
        AttentionNorm::BatchNorm => ops.batch_norm("norm", x, BATCH_NORM_EPS),
        AttentionNorm::LayerNorm => ops.layer_norm("norm", x, LAYER_NORM_EPS),
    };
    let mixed = ops.scope("token_mixer", |ops| {
        let qkv = Linear { bias: None, ..Linear::new("qkv.weight", "", width, 3 * width) };
        let attention = Attention { heads: width / HEAD_WIDTH, head_width: HEAD_WIDTH, is_causal: false };
        let mixed = ops.attention(&ops.linear(&normed, &qkv), &attention);
        ops.linear(&mixed, &Linear::new("proj.weight", "proj.bias", width, width))
    });
    let mixed = ops.layer_scale("layer_scale_1.gamma", &mixed);
    let x = ops.add(x, &ops.drop_path("drop_path1", &mixed, depth));
    let mlp = ops.scope("mlp", |ops| conv_ffn(ops, &x, width, width * mci.mlp_ratio, (7, 7)));
    let mlp = ops.layer_scale("layer_scale_2.gamma", &mlp);
    ops.add(&x, &ops.drop_path("drop_path2", &mlp, depth))
}

/// A RepMixer token mixer and a ConvFFN. Text towers of the first generation use it too, with 1×11 kernels.
pub(crate) struct RepMixerBlock {
    pub width: usize,
    pub hidden: usize,
    pub mixer_kernel: (usize, usize),
    pub mlp_kernel: (usize, usize),
    pub scale_branch: bool,
    /// Where the block stands, for drop path.
    pub depth: f64,
}

impl RepMixerBlock {
    fn image(width: usize, mlp_ratio: usize, depth: f64) -> Self {
        let (mixer_kernel, mlp_kernel) = ((3, 3), (7, 7));
        Self { width, hidden: width * mlp_ratio, mixer_kernel, mlp_kernel, scale_branch: true, depth }
    }

    pub(crate) fn run<O: Ops>(&self, ops: &O, x: &O::Tensor) -> O::Tensor {
        let x = ops.scope("token_mixer", |ops| self.token_mixer(ops, x));
        let mlp = ops.scope("mlp", |ops| conv_ffn(ops, &x, self.width, self.hidden, self.mlp_kernel));
        let mlp = ops.layer_scale("layer_scale.gamma", &mlp);
        ops.add(&x, &ops.drop_path("drop_path", &mlp, self.depth))
    }

    /// x + γ (mixer(x) − norm(x)), all of it linear.
    fn token_mixer<O: Ops>(&self, ops: &O, x: &O::Tensor) -> O::Tensor {
        let conv = Conv::depthwise(self.width, self.width, self.mixer_kernel, 1);
        ops.branches("reparam_conv", x, &conv.with_bias(), |ops, x| {
            let norm = ops.scope("norm", |ops| ops.batch_norm("identity", x, BATCH_NORM_EPS));
            let mixer = ops.scope("mixer", |ops| {
                MobileOne { conv, scale_branch: self.scale_branch, squeezed: None }.train_form(ops, x)
            });
            ops.add(x, &ops.layer_scale("layer_scale.gamma", &ops.sub(&mixer, &norm)))
        })
    }
}

/// Depthwise convolution, 1×1 up, GELU, 1×1 down.
fn conv_ffn<O: Ops>(
    ops: &O,
    x: &O::Tensor,
    width: usize,
    hidden: usize,
    kernel: (usize, usize),
) -> O::Tensor {
    let x = ops.scope("conv", |ops| conv_norm(ops, x, &Conv::depthwise(width, width, kernel, 1)));
    let x = ops.conv("fc1", &x, &Conv::pointwise(width, hidden));
    ops.conv("fc2", &ops.activation(&x, Activation::Gelu), &Conv::pointwise(hidden, width))
}

/// `conv` and `bn` of the current scope.
fn conv_norm<O: Ops>(ops: &O, x: &O::Tensor, conv: &Conv) -> O::Tensor {
    ops.batch_norm("bn", &ops.conv("conv", x, conv), BATCH_NORM_EPS)
}

/// A MobileOne block: a sum of branches, an optional squeeze-excite, GELU.
struct MobileOne {
    conv: Conv,
    /// Whether there is a 1×1 branch beside a larger kernel.
    scale_branch: bool,
    /// Width between the two layers of squeeze-excite.
    squeezed: Option<usize>,
}

impl MobileOne {
    fn run<O: Ops>(&self, ops: &O, x: &O::Tensor) -> O::Tensor {
        let x = ops.branches("reparam_conv", x, &self.conv.with_bias(), |ops, x| self.train_form(ops, x));
        let x = match self.squeezed {
            Some(squeezed) => squeeze_excite(ops, &x, self.conv.outputs, squeezed),
            None => x,
        };
        ops.activation(&x, Activation::Gelu)
    }

    fn train_form<O: Ops>(&self, ops: &O, x: &O::Tensor) -> O::Tensor {
        let conv = &self.conv;
        let mut sum = ops.scope("conv_kxk.0", |ops| conv_norm(ops, x, conv));
        if conv.inputs == conv.outputs && conv.stride == 1 {
            sum = ops.add(&sum, &ops.batch_norm("identity", x, BATCH_NORM_EPS));
        }
        if self.scale_branch && conv.kernel != (1, 1) {
            let scale = Conv { kernel: (1, 1), padding: (0, 0), ..*conv };
            sum = ops.add(&sum, &ops.scope("conv_scale", |ops| conv_norm(ops, x, &scale)));
        }
        sum
    }
}

/// Squeeze-excite (arXiv:1709.01507): channels gated by what their means say.
fn squeeze_excite<O: Ops>(ops: &O, x: &O::Tensor, width: usize, squeezed: usize) -> O::Tensor {
    ops.scope("se", |ops| {
        let s = ops.conv("fc1", &ops.mean_pool(x), &Conv::pointwise(width, squeezed));
        let s = ops.conv("fc2", &ops.activation(&s, Activation::Relu), &Conv::pointwise(squeezed, width));
        ops.gate(x, &ops.activation(&s, Activation::Sigmoid))
    })
}
