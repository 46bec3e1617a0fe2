//! A whole model: both towers and the logit scale.

use crate::ops::{Ops, Shape};
use crate::variant::{Image, Variant};
use crate::{mci, text, vit};

/// Which tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tower {
    /// Images to features.
    Image,
    /// Token ids to features.
    Text,
}

impl Tower {
    /// The shape of one input: an image of `height` × `width`, or `width` token ids.
    pub const fn input(self, height: usize, width: usize) -> Shape {
        match self {
            Self::Image => Shape::new(3, height, width),
            Self::Text => Shape::tokens(1, width),
        }
    }
}

impl Variant {
    /// The image tower: normalised pixels `(3, H, W)` → features `(embed_dim, 1, 1)`, not normalised.
    pub fn encode_image<O: Ops>(&self, ops: &O, pixels: &O::Tensor) -> O::Tensor {
        if let Some(coca) = self.coca() {
            return coca.image(ops, pixels).features;
        }
        ops.scope("visual", |ops| match &self.image {
            Image::Mci(tower) => mci::tower(ops, tower, pixels, self.embed_dim),
            Image::TimmVit(tower) => vit::timm(ops, tower, pixels, self.embed_dim),
            Image::ClipVit(tower) => vit::clip(ops, tower, pixels, self.embed_dim),
        })
    }

    /// The text tower: ids `(1, 1, T)` → features `(embed_dim, 1, 1)`, not normalised.
    ///
    /// T is the context length, except that a tower that [does not read padding](Variant::reads_padding) gives the same
    /// features for any T behind the end mark.
    pub fn encode_text<O: Ops>(&self, ops: &O, ids: &O::Tensor) -> O::Tensor {
        if let Some(coca) = self.coca() {
            return coca.text(ops, ids).features;
        }
        ops.scope(&self.text.prefix, |ops| text::tower(ops, &self.text, ids, self.embed_dim))
    }

    /// Whether the features of a text depend on what fills its row up.
    pub fn reads_padding(&self) -> bool {
        !self.text.blocks.causal || self.captioner.is_some()
    }

    /// The tower's program.
    pub fn encode<O: Ops>(&self, tower: Tower, ops: &O, input: &O::Tensor) -> O::Tensor {
        match tower {
            Tower::Image => self.encode_image(ops, input),
            Tower::Text => self.encode_text(ops, input),
        }
    }

    /// The parameters that stand outside the towers: `logit_scale`, the logarithm of what cosines are multiplied by.
    pub fn declare_scale<O: Ops>(&self, ops: &O) {
        ops.parameter("logit_scale", &[]);
    }

    /// The shape of the tower's input at the trained resolution or context length.
    pub fn input(&self, tower: Tower) -> Shape {
        match tower {
            Tower::Image => Shape::new(3, self.image_size(), self.image_size()),
            Tower::Text => Shape::tokens(1, self.text.context),
        }
    }
}
