//! CoCa, the captioner (arXiv:2205.01917), as open_clip writes it: an image tower whose tokens are pooled by learnt queries, a
//! text tower with a class token of its own, and a decoder that sees both and says what comes next.

use crate::ops::{Attention, Linear, Ops, Seen, StepOps, Take};
use crate::text;
use crate::transformer::{Block, OPEN_CLIP};
use crate::variant::{Captioner, Image, Variant};
use crate::{mci, vit};

/// The captioner's side of a variant that has one.
#[derive(Clone, Copy, Debug)]
pub struct Coca<'v> {
    variant: &'v Variant,
    captioner: &'v Captioner,
}

/// What a tower gives.
#[derive(Clone, Debug)]
pub struct Encoded<T> {
    /// `(embed_dim, 1, 1)`, not normalised.
    pub features: T,
    /// What the decoder reads: `(embed_dim, 1, T)`.
    pub tokens: T,
}

impl Variant {
    /// Its captioner, if it has one.
    pub fn coca(&self) -> Option<Coca<'_>> {
        self.captioner.as_ref().map(|captioner| Coca { variant: self, captioner })
    }
}

impl<'v> Coca<'v> {
    /// The variant whose captioner it is.
    pub const fn variant(&self) -> &'v Variant {
        self.variant
    }

    /// Its sizes.
    pub const fn captioner(&self) -> &'v Captioner {
        self.captioner
    }

    /// The image tower: normalised pixels `(3, H, W)`. There is a token for each query but the first, whose is the feature.
    pub fn image<O: Ops>(&self, ops: &O, pixels: &O::Tensor) -> Encoded<O::Tensor> {
        let (width, eps) = (self.width(), self.captioner.decoder.norm_eps);
        ops.scope("visual", |ops| {
            let (x, inputs) = match &self.variant.image {
                Image::ClipVit(vit) => (vit::clip_tokens(ops, vit, pixels), vit.blocks.width),
                Image::TimmVit(vit) => (vit::timm_tokens(ops, vit, pixels), vit.blocks.width),
                Image::Mci(mci) => (mci::map(ops, mci, pixels), mci.map_width()),
            };
            let pooled = ops.scope("attn_pool", |ops| self.pool(ops, &x, inputs));
            let x = ops.scope("ln_post", |ops| ops.tap(ops.layer_norm("", &pooled, eps)));
            let first = ops.take(&x, Take::First);
            Encoded {
                features: ops.linear(&first, &Linear::projection("proj", width, width)),
                tokens: ops.scope("tokens", |ops| ops.tap(ops.trim(&x, 1, 0))),
            }
        })
    }

    /// open_clip's `AttentionalPooler`: `(inputs, ·, T)` → `(embed_dim, 1, queries)`.
    fn pool<O: Ops>(&self, ops: &O, x: &O::Tensor, inputs: usize) -> O::Tensor {
        let (width, eps) = (self.width(), self.captioner.decoder.norm_eps);
        let query = ops.queries("query", x, self.captioner.queries, width);
        let (query, keys) = (ops.layer_norm("ln_q", &query, eps), ops.layer_norm("ln_k", x, eps));
        ops.scope("attn", |ops| {
            // torch stacks the three matrices where they have the same shape.
            let third = |index: usize, name, inputs_of| match inputs == width {
                true => Linear::new("in_proj_weight", "in_proj_bias", width, width).third(index, true),
                false => Linear::new(name, "in_proj_bias", inputs_of, width).third(index, false),
            };
            let q = ops.linear(&query, &third(0, "q_proj_weight", width));
            let k = ops.linear(&keys, &third(1, "k_proj_weight", inputs));
            let v = ops.linear(&keys, &third(2, "v_proj_weight", inputs));
            let heads = self.captioner.pooler_heads;
            let attention = Attention { heads, head_width: width / heads, is_causal: false };
            let mixed = ops.cross_attention([&q, &k, &v], &attention, Seen::All);
            ops.linear(&mixed, &Linear::new("out_proj.weight", "out_proj.bias", width, width))
        })
    }

    /// The text tower: ids `(1, 1, T)`, filled up with [`PAD`](crate::PAD). There is a token for each id.
    pub fn text<O: Ops>(&self, ops: &O, ids: &O::Tensor) -> Encoded<O::Tensor> {
        let text = &self.variant.text;
        let width = self.width();
        ops.scope(&text.prefix, |ops| {
            let x = ops.embed("token_embedding.weight", ids, text.vocabulary, width);
            let x = ops.append_token("cls_emb", &x);
            let shape = self.positions();
            let positions = text::positions(&shape, ops.shape(&x).width);
            let x = ops.positions("positional_embedding", &x, &positions);
            let block = Block::from(&text.blocks);
            let x = self.text_blocks(ops, &x, |ops, x, _| {
                let [q, k, v] = [0, 1, 2].map(|part| ops.linear(x, &in_proj(width).third(part, true)));
                ops.cross_attention([&q, &k, &v], &block.attention, Seen::Padded(ids))
            });
            let class = ops.take(&x, Take::Last);
            let class =
                ops.scope("ln_final", |ops| ops.tap(ops.layer_norm("", &class, text.blocks.norm_eps)));
            Encoded {
                features: ops.linear(&class, &Linear::projection("text_projection", width, width)),
                tokens: ops.scope("tokens", |ops| ops.tap(ops.trim(&x, 0, 1))),
            }
        })
    }

    /// What the decoder reads of an image, computed once for all texts about it: keys and values `(D, 1, S)` of each layer,
    /// tapped as `text_decoder.cross_attn.N.keys` and `….values`.
    pub fn memory<O: Ops>(&self, ops: &O, image_tokens: &O::Tensor) -> Vec<(O::Tensor, O::Tensor)> {
        let decoder = &self.captioner.decoder;
        let layers = 0..decoder.layers;
        let of_layer = |ops: &O, layer: usize| {
            ops.scope(&layer.to_string(), |ops| {
                let x = ops.layer_norm("ln_1_kv", image_tokens, decoder.norm_eps);
                let part = |index| ops.linear(&x, &in_proj(self.width()).third(index, true));
                let (keys, values) = (part(1), part(2));
                (ops.scope("keys", |ops| ops.tap(keys)), ops.scope("values", |ops| ops.tap(values)))
            })
        };
        ops.scope("text_decoder.cross_attn", |ops| layers.map(|layer| of_layer(ops, layer)).collect())
    }

    /// The decoder over whole texts: tokens of a text and memory of an image → `(vocabulary, 1, T)`, at each place the logits
    /// of the id that follows.
    pub fn logits<O: Ops>(
        &self,
        ops: &O,
        text_tokens: &O::Tensor,
        memory: &[(O::Tensor, O::Tensor)],
    ) -> O::Tensor {
        let attend = |ops: &O, x: &O::Tensor, _, block: &Block| {
            ops.attention(&block.qkv(ops, &OPEN_CLIP, x), &block.attention)
        };
        let look = |ops: &O, q: &O::Tensor, layer: usize, attention: &Attention| {
            let (keys, values) = &memory[layer];
            ops.cross_attention([q, keys, values], attention, Seen::All)
        };
        self.decode(ops, text_tokens, attend, look)
    }

    /// The same for ids `(1, 1, T)` that continue texts, text tower and decoder in one: a token at place p of its text sees
    /// what the caches hold of places before p. They have [`Coca::caches`] layers, those of the text tower first.
    pub fn decode_step<O: StepOps>(&self, ops: &O, ids: &O::Tensor) -> O::Tensor {
        let text = &self.variant.text;
        let block = Block::from(&text.blocks);
        let tokens = ops.scope(&text.prefix, |ops| {
            let x = ops.embed("token_embedding.weight", ids, text.vocabulary, self.width());
            let shape = self.positions();
            let positions = text::positions(&shape, ops.shape(&x).width);
            let x = ops.positions_in_text("positional_embedding", &x, &positions);
            self.text_blocks(ops, &x, |ops, x, layer| {
                ops.cached_attention(&block.qkv(ops, &OPEN_CLIP, x), layer, &block.attention)
            })
        });
        let attend = |ops: &O, x: &O::Tensor, layer: usize, block: &Block| {
            let qkv = block.qkv(ops, &OPEN_CLIP, x);
            ops.cached_attention(&qkv, text.blocks.layers + layer, &block.attention)
        };
        let look =
            |ops: &O, q: &O::Tensor, layer, attention: &Attention| ops.image_attention(q, layer, attention);
        self.decode(ops, &tokens, attend, look)
    }

    /// Layers of self-attention that a text passes, whose keys and values are kept in generation.
    pub const fn caches(&self) -> usize {
        self.variant.text.blocks.layers + self.captioner.decoder.layers
    }

    /// Width of text tower, decoder and embedding.
    pub const fn width(&self) -> usize {
        self.captioner.decoder.width
    }

    /// Tokens of an image that the decoder sees.
    pub const fn image_tokens(&self) -> usize {
        self.captioner.queries - 1
    }

    /// The stored shape of the text's positions: the class token has one of its own.
    const fn positions(&self) -> [usize; 2] {
        [self.variant.text.context + 1, self.width()]
    }

    fn text_blocks<O: Ops>(
        &self,
        ops: &O,
        x: &O::Tensor,
        attend: impl Fn(&O, &O::Tensor, usize) -> O::Tensor,
    ) -> O::Tensor {
        let block = Block::from(&self.variant.text.blocks);
        ops.scope("transformer.resblocks", |ops| {
            (0..self.variant.text.blocks.layers).fold(x.clone(), |x, layer| {
                let attend = |ops: &O, x: &O::Tensor| attend(ops, x, layer);
                ops.scope(&layer.to_string(), |ops| ops.tap(block.run_with(ops, &OPEN_CLIP, &x, 0.0, attend)))
            })
        })
    }

    /// The decoder: a block of self-attention, then one that looks at the image, and so on. `attend` gets
    /// normalised tokens and `look` queries, both the layer.
    fn decode<O: Ops>(
        &self,
        ops: &O,
        text_tokens: &O::Tensor,
        attend: impl Fn(&O, &O::Tensor, usize, &Block) -> O::Tensor,
        look: impl Fn(&O, &O::Tensor, usize, &Attention) -> O::Tensor,
    ) -> O::Tensor {
        let decoder = &self.captioner.decoder;
        let block = Block::from(decoder);
        let width = self.width();
        ops.scope("text_decoder", |ops| {
            let mut x = text_tokens.clone();
            for layer in 0..decoder.layers {
                let attend = |ops: &O, x: &O::Tensor| attend(ops, x, layer, &block);
                x = ops.scope(&format!("resblocks.{layer}"), |ops| {
                    ops.tap(block.run_with(ops, &OPEN_CLIP, &x, 0.0, attend))
                });
                x = ops.scope(&format!("cross_attn.{layer}"), |ops| {
                    let normed = ops.layer_norm("ln_1", &x, decoder.norm_eps);
                    let q = ops.linear(&normed, &in_proj(width).third(0, true));
                    let seen = look(ops, &q, layer, &block.attention);
                    ops.tap(block.finish(ops, &OPEN_CLIP, &x, &seen, 0.0))
                });
            }
            let x = ops.scope("ln_final", |ops| ops.tap(ops.layer_norm("", &x, decoder.norm_eps)));
            let vocabulary = self.variant.text.vocabulary;
            ops.linear(&x, &Linear::projection("text_projection", width, vocabulary))
        })
    }
}

/// A third of the stacked matrices of open_clip's attention.
const fn in_proj(width: usize) -> Linear<'static> {
    Linear::new("attn.in_proj_weight", "attn.in_proj_bias", width, width)
}
