//! Vision transformers (arXiv:2010.11929): timm's, with a patch or a convolutional stem (MobileCLIP-B, L-14),
//! and OpenAI's, as open_clip writes it (the teachers).

use crate::mci::relative_depth;
use crate::ops::{Activation, Conv, Linear, Ops, Positions, Take};
use crate::transformer::{Block, OPEN_CLIP, TIMM};
use crate::variant::{ClipVit, Stem, TimmVit};

const BATCH_NORM_EPS: f64 = 1e-5;

/// timm's `VisionTransformer`: `x: (3, H, W)` → `(embed_dim, 1, 1)`.
pub(crate) fn timm<O: Ops>(ops: &O, vit: &TimmVit, x: &O::Tensor, embed_dim: usize) -> O::Tensor {
    let x = timm_tokens(ops, vit, x);
    ops.scope("trunk", |ops| {
        let x = ops.scope("norm", |ops| ops.tap(ops.layer_norm("", &x, vit.blocks.norm_eps)));
        let bias = vit.head_bias.then_some("head.bias");
        let head = Linear { bias, ..Linear::new("head.weight", "", vit.blocks.width, embed_dim) };
        ops.linear(&ops.take(&x, Take::First), &head)
    })
}

/// Its blocks: `x: (3, H, W)` → `(D, 1, T + 1)`, the class token first.
pub(crate) fn timm_tokens<O: Ops>(ops: &O, vit: &TimmVit, x: &O::Tensor) -> O::Tensor {
    let width = vit.blocks.width;
    ops.scope("trunk", |ops| {
        let x = ops.scope("patch_embed", |ops| stem(ops, &vit.stem, x, width));
        let target = (ops.shape(&x).height, ops.shape(&x).width);
        let rows = vit.grid * vit.grid + usize::from(vit.class_position);
        let positions = Positions {
            shape: &[1, rows, width],
            grid: (vit.grid, vit.grid),
            class_row: vit.class_position,
            target,
            resample: vit.resample,
        };
        let class = |x: &O::Tensor| ops.class_token("cls_token", x, &[1, 1, width]);
        let mut x = match vit.class_position {
            true => ops.positions("pos_embed", &class(&x), &positions),
            false => class(&ops.positions("pos_embed", &x, &positions)),
        };
        if vit.norm_pre {
            x = ops.layer_norm("norm_pre", &x, vit.blocks.norm_eps);
        }
        let block = Block::from(&vit.blocks);
        ops.scope("blocks", |ops| {
            for index in 0..vit.blocks.layers {
                x = ops.scope(&index.to_string(), |ops| {
                    ops.tap(block.run(ops, &TIMM, &x, relative_depth(index, vit.blocks.layers)))
                });
            }
        });
        x
    })
}

fn stem<O: Ops>(ops: &O, stem: &Stem, x: &O::Tensor, width: usize) -> O::Tensor {
    match stem {
        Stem::Patch { size, bias } => {
            let conv =
                Conv { stride: *size, padding: (0, 0), bias: *bias, ..Conv::dense(3, width, *size, 1) };
            ops.conv("proj", x, &conv)
        }
        Stem::Convolutional { widths, padding } => ops.scope("backbone", |ops| {
            let shapes =
                [(3, widths[0], 4, *padding), (widths[0], widths[1], 2, 0), (widths[1], width, 2, 0)];
            let mut x = x.clone();
            for (index, (inputs, outputs, kernel, padding)) in shapes.into_iter().enumerate() {
                let is_last = index == shapes.len() - 1;
                let conv = Conv {
                    padding: (padding, padding),
                    bias: is_last,
                    ..Conv::dense(inputs, outputs, kernel, kernel)
                };
                x = ops.scope(&index.to_string(), |ops| {
                    let x = ops.conv("conv", &x, &conv);
                    match is_last {
                        true => x,
                        false => ops.activation(&ops.batch_norm("bn", &x, BATCH_NORM_EPS), Activation::Gelu),
                    }
                });
            }
            x
        }),
    }
}

/// OpenAI's vision tower: `x: (3, H, W)` → `(embed_dim, 1, 1)`.
pub(crate) fn clip<O: Ops>(ops: &O, vit: &ClipVit, x: &O::Tensor, embed_dim: usize) -> O::Tensor {
    let x = clip_tokens(ops, vit, x);
    let x = ops.scope("ln_post", |ops| ops.tap(ops.layer_norm("", &x, vit.blocks.norm_eps)));
    ops.linear(&ops.take(&x, Take::First), &Linear::projection("proj", vit.blocks.width, embed_dim))
}

/// Its blocks: `x: (3, H, W)` → `(D, 1, T + 1)`, the class token first.
pub(crate) fn clip_tokens<O: Ops>(ops: &O, vit: &ClipVit, x: &O::Tensor) -> O::Tensor {
    let (width, eps) = (vit.blocks.width, vit.blocks.norm_eps);
    let patches = Conv { padding: (0, 0), ..Conv::dense(3, width, vit.patch, vit.patch) };
    let x = ops.conv("conv1", x, &patches);
    let positions = Positions {
        shape: &[vit.grid * vit.grid + 1, width],
        grid: (vit.grid, vit.grid),
        class_row: true,
        target: (ops.shape(&x).height, ops.shape(&x).width),
        resample: crate::ops::Resample::Bicubic,
    };
    let x = ops.class_token("class_embedding", &x, &[width]);
    let x = ops.positions("positional_embedding", &x, &positions);
    let mut x = ops.layer_norm("ln_pre", &x, eps);
    let block = Block::from(&vit.blocks);
    ops.scope("transformer.resblocks", |ops| {
        for index in 0..vit.blocks.layers {
            x = ops.scope(&index.to_string(), |ops| ops.tap(block.run(ops, &OPEN_CLIP, &x, 0.0)));
        }
    });
    x
}
