//! Text towers: a transformer over token embeddings, read at the end-of-text token. MobileCLIP-S0 puts convolutional
//! RepMixer blocks around the transformer's (arXiv:2311.17049, section 4.2).

use crate::mci::RepMixerBlock;
use crate::ops::{Linear, Ops, Positions, Resample, Take};
use crate::transformer::{Block, OPEN_CLIP};
use crate::variant::{Text, TextBlock};

/// Width of the mixed tower's convolutions along the tokens.
const TEXT_KERNEL: (usize, usize) = (1, 11);

/// `ids: (1, 1, T)` → `(embed_dim, 1, 1)`.
pub(crate) fn tower<O: Ops>(ops: &O, text: &Text, ids: &O::Tensor, embed_dim: usize) -> O::Tensor {
    let width = text.blocks.width;
    let x = ops.embed("token_embedding.weight", ids, text.vocabulary, width);
    let shape = [text.context, width];
    let mut x = ops.positions("positional_embedding", &x, &positions(&shape, ops.shape(&x).width));
    let block = Block::from(&text.blocks);
    let hidden = text.blocks.hidden;
    let mixer = RepMixerBlock {
        width,
        hidden,
        mixer_kernel: TEXT_KERNEL,
        mlp_kernel: TEXT_KERNEL,
        scale_branch: false,
        depth: 0.0,
    };
    ops.scope("transformer.resblocks", |ops| {
        for (index, kind) in text.layout().enumerate() {
            x = ops.scope(&index.to_string(), |ops| {
                ops.tap(match kind {
                    TextBlock::Transformer => block.run(ops, &OPEN_CLIP, &x, 0.0),
                    TextBlock::RepMixer => mixer.run(ops, &x),
                })
            });
        }
    });
    let x = ops.scope("ln_final", |ops| ops.tap(ops.layer_norm("", &x, text.blocks.norm_eps)));
    let end = ops.take(&x, Take::EndOfText(ids));
    ops.linear(&end, &Linear::projection("text_projection", width, embed_dim))
}

/// A table of `shape` for the first `tokens` places of a text.
pub(crate) fn positions(shape: &[usize; 2], tokens: usize) -> Positions<'_> {
    Positions {
        shape,
        grid: (1, shape[0]),
        class_row: false,
        target: (1, tokens),
        resample: Resample::Prefix,
    }
}
