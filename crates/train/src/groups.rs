//! Which tensors are trained, and how fast: by names.

use std::collections::HashMap;

use mobileclip_autodiff::Parameters;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::optimiser::Rule;

/// Freezes the parameters whose names match.
///
/// # Errors
/// If a pattern matches no name, or nothing is left.
pub(crate) fn freeze(parameters: &mut Parameters, patterns: &[String]) -> Result<()> {
    for pattern in patterns {
        let matcher = glob::Pattern::new(pattern).map_err(|e| Error::field("model.freeze", e.to_string()))?;
        let found: Vec<usize> =
            (0..parameters.len()).filter(|&i| matcher.matches(&parameters.spec(i).name)).collect();
        if found.is_empty() {
            return Err(Error::field("model.freeze", format!("`{pattern}` matches no tensor's name")));
        }
        found.into_iter().for_each(|index| parameters.set_trained(index, false));
    }
    match (0..parameters.len()).any(|index| parameters.is_trained(index)) {
        true => Ok(()),
        false => Err(Error::field("model.freeze", "nothing is left to train")),
    }
}

/// The published rule for decay, and the rate by the depth of the block.
pub(crate) fn rules(parameters: &Parameters, config: &Config) -> impl Fn(&str, &[usize]) -> Rule + use<> {
    let decay = config.optimiser.layer_decay;
    let names = (0..parameters.len()).map(|i| parameters.spec(i).name.as_str());
    let before = blocks_before_the_end(names);
    move |name, shape| {
        let behind = before.get(name).copied().unwrap_or(0);
        Rule { rate: decay.powi(behind), ..Rule::published(name, shape) }
    }
}

/// For every tensor, how many blocks of its tower stand between it and the end: 0 for the last block and what follows it, 1
/// for the one before; one more than the first block's for what stands before that.
fn blocks_before_the_end<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<String, i32> {
    let mut result = HashMap::new();
    let (visual, text): (Vec<&str>, Vec<&str>) = names.partition(|name| name.starts_with("visual."));
    for tower in [visual, text] {
        let mut seen: Vec<&str> = Vec::new();
        for name in &tower {
            if let Some(block) = block(name).filter(|block| !seen.contains(block)) {
                seen.push(block);
            }
        }
        let blocks = seen.len() as i32;
        // A tensor between two blocks (a downsampling) belongs to the next; embeddings belong to the beginning, wherever
        // their names stand; what follows the last block to the end.
        let mut depth = 0;
        for name in tower {
            let place = block(name).and_then(|b| seen.iter().position(|s| *s == b));
            depth = place.map_or(depth, |place| place as i32 + 1);
            let is_head = ["proj", "head", "ln_final", "ln_post", "logit", "final_conv", "trunk.norm"]
                .iter()
                .any(|part| name.contains(part) && place.is_none() && !name.contains("downsample"));
            let is_first = ["embed", "stem", "conv1", "cls_token", "norm_pre", "ln_pre"]
                .iter()
                .any(|part| name.contains(part));
            let of_name = match (place, is_head, is_first) {
                (Some(place), ..) => place as i32 + 1,
                (None, true, _) => blocks,
                (None, false, true) => 0,
                (None, false, false) => (depth + 1).min(blocks),
            };
            result.insert(name.to_owned(), blocks - of_name);
        }
    }
    result
}

/// The name up to a block's number.
fn block(name: &str) -> Option<&str> {
    // A captioner's decoder has blocks of two kinds, `resblocks.N` and `cross_attn.N`.
    let start = ["blocks.", "cross_attn."].iter().find_map(|kind| Some(name.find(kind)? + kind.len()))?;
    let digits = name.get(start..)?.find('.')?;
    name.get(..start + digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobileclip_arch::{Form, Manifest, variant};

    #[test]
    fn rates_fall_towards_the_beginning() {
        let depths = |name: &str| {
            let manifest = Manifest::of(variant(name).unwrap());
            blocks_before_the_end(manifest.of_form(Form::Train).map(|spec| spec.name.as_str()))
        };
        let s0 = depths("MobileCLIP2-S0");
        let at = |name: &str| s0[name];
        assert_eq!(at("logit_scale"), 0);
        assert_eq!(at("text.transformer.resblocks.11.ln_1.weight"), 0);
        assert_eq!(at("text.transformer.resblocks.0.mlp.c_fc.weight"), 11);
        assert_eq!(at("text.token_embedding.weight"), 12);
        assert_eq!(at("text.positional_embedding"), 12);
        assert_eq!(at("text.text_projection"), 0);
        // 2 + 6 + 10 + 2 blocks.
        assert_eq!(at("visual.trunk.stem.0.conv_kxk.0.conv.weight"), 20);
        assert_eq!(at("visual.trunk.stages.0.blocks.0.mlp.fc1.weight"), 19);
        assert_eq!(at("visual.trunk.stages.1.downsample.proj.0.large_conv.conv.weight"), 17);
        assert_eq!(at("visual.trunk.stages.1.blocks.0.mlp.fc1.weight"), 17);
        assert_eq!(at("visual.trunk.head.fc.weight"), 0);
        assert_eq!(at("visual.trunk.final_conv.conv_scale.conv.weight"), 0);
        let vit = depths("ViT-B-16");
        assert_eq!(vit["visual.class_embedding"], 12);
        assert_eq!(vit["visual.conv1.weight"], 12);
        assert_eq!(vit["visual.proj"], 0);
        assert_eq!(vit["visual.ln_post.bias"], 0);
        assert_eq!(vit["visual.transformer.resblocks.11.ln_1.weight"], 0);
        assert_eq!(vit["visual.transformer.resblocks.0.ln_1.weight"], 11);
    }
}
