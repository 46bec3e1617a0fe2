//! The tables. Names are those of open_clip 3.3, timm 1.0 and ml-mobileclip.

use super::How;
use super::rules::Rule;

const fn same(from: &'static str, to: &'static str) -> Rule {
    Rule { from, to, how: How::Same }
}

const fn reshaped(from: &'static str, to: &'static str) -> Rule {
    Rule { from, to, how: How::Reshape }
}

const fn transposed(from: &'static str, to: &'static str) -> Rule {
    Rule { from, to, how: How::Transpose }
}

/// Numbers that OpenAI's state dicts carry beside the weights; open_clip drops them too.
pub(super) const IGNORED: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Names that only models with a separate text tower have: those over timm's image towers, and captioners.
pub(super) const HAVE_TEXT_APART: [&str; 2] = ["visual.trunk.", "text_decoder."];

/// Models with a separate text tower (`CustomTextCLIP`): text names at the top, as the plain CLIP class has them, move.
pub(super) const TEXT_APART: &[Rule] = &[
    same("positional_embedding", "text.positional_embedding"),
    same("text_projection", "text.text_projection"),
    same("token_embedding.**", "text.token_embedding.**"),
    same("transformer.**", "text.transformer.**"),
    same("ln_final.**", "text.ln_final.**"),
];

/// OpenAI-style models (`CLIP`), where a file of the other class may have the text apart.
pub(super) const TEXT_AT_THE_TOP: &[Rule] = &[same("text.**", "**")];

/// The first package, both of its image towers and both of its text towers, train form and fused.
pub(super) const MOBILECLIP: &[Rule] = &[
    // MCi: FastViT before it was in timm.
    same("image_encoder.model.patch_embed.**", "visual.trunk.stem.**"),
    same("image_encoder.model.network.%.proj.**", "visual.trunk.stages.%.downsample.proj.**"),
    same("image_encoder.model.network.%.pe.**", "visual.trunk.stages.%.pos_emb.pos_enc.**"),
    same("image_encoder.model.network.%.reparam_conv.**", "visual.trunk.stages.%.pos_emb.reparam_conv.**"),
    same("image_encoder.model.network.%.#.**", "visual.trunk.stages.%.blocks.#.**"),
    same("image_encoder.model.conv_exp.**", "visual.trunk.final_conv.**"),
    transposed("image_encoder.model.head.proj", "visual.trunk.head.fc.weight"),
    // ViT with the convolutional stem.
    same("image_encoder.model.cls_token", "visual.trunk.cls_token"),
    reshaped("image_encoder.model.pos_embed.pos_embed.pos_embed", "visual.trunk.pos_embed"),
    same("image_encoder.model.patch_emb.#.block.conv.**", "visual.trunk.patch_embed.backbone.#.conv.**"),
    same("image_encoder.model.patch_emb.#.block.norm.**", "visual.trunk.patch_embed.backbone.#.bn.**"),
    same("image_encoder.model.transformer.#.pre_norm_mha.0.**", "visual.trunk.blocks.#.norm1.**"),
    same("image_encoder.model.transformer.#.pre_norm_mha.1.qkv_proj.**", "visual.trunk.blocks.#.attn.qkv.**"),
    same(
        "image_encoder.model.transformer.#.pre_norm_mha.1.out_proj.**",
        "visual.trunk.blocks.#.attn.proj.**",
    ),
    same("image_encoder.model.transformer.#.pre_norm_ffn.0.**", "visual.trunk.blocks.#.norm2.**"),
    same("image_encoder.model.transformer.#.pre_norm_ffn.1.**", "visual.trunk.blocks.#.mlp.fc1.**"),
    same("image_encoder.model.transformer.#.pre_norm_ffn.4.**", "visual.trunk.blocks.#.mlp.fc2.**"),
    same("image_encoder.model.post_transformer_norm.**", "visual.trunk.norm.**"),
    transposed("image_encoder.model.classifier.proj", "visual.trunk.head.weight"),
    // Text; the last rule takes the RepMixer blocks of the mixed tower.
    same("text_encoder.embedding_layer.weight", "text.token_embedding.weight"),
    reshaped("text_encoder.positional_embedding.pos_embed.pos_embed", "text.positional_embedding"),
    same("text_encoder.transformer.#.pre_norm_mha.0.**", "text.transformer.resblocks.#.ln_1.**"),
    same(
        "text_encoder.transformer.#.pre_norm_mha.1.qkv_proj.weight",
        "text.transformer.resblocks.#.attn.in_proj_weight",
    ),
    same(
        "text_encoder.transformer.#.pre_norm_mha.1.qkv_proj.bias",
        "text.transformer.resblocks.#.attn.in_proj_bias",
    ),
    same(
        "text_encoder.transformer.#.pre_norm_mha.1.out_proj.**",
        "text.transformer.resblocks.#.attn.out_proj.**",
    ),
    same("text_encoder.transformer.#.pre_norm_ffn.0.**", "text.transformer.resblocks.#.ln_2.**"),
    same("text_encoder.transformer.#.pre_norm_ffn.1.**", "text.transformer.resblocks.#.mlp.c_fc.**"),
    same("text_encoder.transformer.#.pre_norm_ffn.4.**", "text.transformer.resblocks.#.mlp.c_proj.**"),
    same("text_encoder.transformer.#.**", "text.transformer.resblocks.#.**"),
    same("text_encoder.final_layer_norm.**", "text.ln_final.**"),
    same("text_encoder.projection_layer", "text.text_projection"),
];

/// What timm calls the parts of the first package's blocks. `se.fc1` of the downsampling has the same name in both.
pub(super) const MOBILECLIP_PARTS: &[(&str, &str)] = &[
    ("rbr_conv", "conv_kxk"),
    ("rbr_scale", "conv_scale"),
    ("rbr_skip", "identity"),
    ("lkb_origin", "large_conv"),
    ("lkb_reparam", "reparam_conv"),
    ("convffn", "mlp"),
    ("layer_scale", "layer_scale.gamma"),
    ("layer_scale_1", "layer_scale_1.gamma"),
    ("layer_scale_2", "layer_scale_2.gamma"),
    ("reduce", "fc1"),
    ("expand", "fc2"),
];
