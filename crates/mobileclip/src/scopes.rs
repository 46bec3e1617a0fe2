//! The scopes of an image tower whose outputs can be asked for.

use mobileclip_arch::{Image, Variant};

/// Stages and the last map of a hybrid; blocks and the last norm of a transformer.
pub(crate) fn of(variant: &Variant) -> Vec<String> {
    let numbered = |scope: &str, count: usize| (0..count).map(|i| format!("{scope}.{i}")).collect::<Vec<_>>();
    let (mut scopes, last) = match &variant.image {
        Image::Mci(mci) => {
            let mut scopes = vec!["visual.trunk.stem".to_owned()];
            scopes.extend(numbered("visual.trunk.stages", mci.widths.len()));
            (scopes, "visual.trunk.final_conv")
        }
        Image::TimmVit(vit) => (numbered("visual.trunk.blocks", vit.blocks.layers), "visual.trunk.norm"),
        Image::ClipVit(vit) => {
            (numbered("visual.transformer.resblocks", vit.blocks.layers), "visual.ln_post")
        }
    };
    scopes.push(last.to_owned());
    scopes
}
