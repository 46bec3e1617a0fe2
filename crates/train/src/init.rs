//! Random weights to start from, by the laws of open_clip for text towers and OpenAI-style image towers, and of timm for the
//! others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::f64::consts::TAU;

use mobileclip_arch::{Form, Image, Manifest, Role, TensorSpec, Variant, Weights, resize_text_positions};
use mobileclip_autodiff::Random;

use crate::config::ModelConfig;

/// How the numbers of a tensor are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Law {
    Constant(f64),
    /// Of mean 0, with this deviation.
    Normal(f64),
    /// Between minus and plus this.
    Uniform(f64),
}

/// Random weights of a variant; every number is a function of seed, name and place.
pub(crate) struct Fresh {
    laws: HashMap<String, (TensorSpec, Law)>,
    random: Random,
}

impl Fresh {
    pub(crate) fn new(variant: &Variant, manifest: &Manifest, seed: u64, model: &ModelConfig) -> Fresh {
        let layers = |name: &str| match (&variant.image, &variant.captioner) {
            (Image::ClipVit(vit), _) if name.starts_with("visual.") => vit.blocks.layers,
            (_, Some(captioner)) if name.starts_with("text_decoder.") => captioner.decoder.layers,
            _ => variant.text.blocks.layers,
        };
        let law = |spec: &TensorSpec| law(spec, layers(&spec.name), model);
        let laws = manifest.of_form(Form::Train).map(|spec| (spec.name.clone(), (spec.clone(), law(spec))));
        Fresh { laws: laws.collect(), random: Random::new(seed).with_name("weights") }
    }
}

fn law(spec: &TensorSpec, layers: usize, model: &ModelConfig) -> Law {
    let (name, shape) = (spec.name.as_str(), &spec.shape[..]);
    let is = |end: &str| name == end || name.ends_with(&format!(".{end}"));
    // Rows of a projection `[inputs, outputs]`, columns of a layer `[outputs, inputs]`.
    let inverse_root = |width: usize| (width.max(1) as f64).powf(-0.5);
    let residual = (2.0 * layers.max(1) as f64).powf(-0.5);
    match (spec.role, shape) {
        (Role::Counter, _) => Law::Constant(0.0),
        (Role::Statistic, _) => Law::Constant(if is("running_var") { 1.0 } else { 0.0 }),
        _ if is("logit_scale") => Law::Constant(model.logit_scale.ln()),
        _ if is("gamma") => Law::Constant(model.layer_scale),
        _ if is("cls_token") => Law::Normal(1e-6),
        (_, &[width]) if is("class_embedding") => Law::Normal(inverse_root(width)),
        _ if is("cls_emb") => Law::Normal(0.01),
        (_, [] | [_]) => Law::Constant(if is("weight") { 1.0 } else { 0.0 }),
        // The pooler keeps torch's laws: queries of deviation 1, Xavier's bound for attention, fan-in's for what follows it.
        _ if name == "visual.attn_pool.query" => Law::Normal(1.0),
        (_, &[_, inputs]) if name == "visual.attn_pool.attn.out_proj.weight" => {
            Law::Uniform(inverse_root(inputs))
        }
        (_, &[outputs, inputs]) if name.starts_with("visual.attn_pool.attn.") => {
            Law::Uniform((6.0 / (inputs + outputs) as f64).sqrt())
        }
        _ if is("token_embedding.weight") || is("pos_embed") => Law::Normal(0.02),
        (_, &[_, width]) if name == "visual.positional_embedding" => Law::Normal(inverse_root(width)),
        _ if is("positional_embedding") => Law::Normal(0.01),
        (_, &[width, _]) if is("text_projection") || name == "visual.proj" => {
            Law::Normal(inverse_root(width))
        }
        (_, &[_, width]) if is("attn.in_proj_weight") => Law::Normal(inverse_root(width)),
        (_, &[width, _]) if is("attn.out_proj.weight") || is("mlp.c_proj.weight") => {
            Law::Normal(inverse_root(width) * residual)
        }
        (_, &[_, width]) if is("mlp.c_fc.weight") => Law::Normal(inverse_root(2 * width)),
        (_, [_, _]) => Law::Normal(0.02),
        // ConvFFNs are linear layers in the guise of convolutions.
        _ if is("mlp.fc1.weight") || is("mlp.fc2.weight") => Law::Normal(0.02),
        (_, [_, fan_in @ ..]) => Law::Uniform(inverse_root(fan_in.iter().product())),
    }
}

impl Weights for Fresh {
    fn contains(&self, name: &str) -> bool {
        self.laws.contains_key(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        let (spec, law) = self.laws.get(name).unwrap_or_else(|| panic!("no tensor `{name}`"));
        let random = self.random.with_name(name);
        let unit = |place: u64| random.with(place).unit();
        let draw = |i: u64| match *law {
            Law::Constant(value) => value as f32,
            Law::Uniform(bound) => (bound * (2.0 * unit(i) - 1.0)) as f32,
            Law::Normal(deviation) => {
                let [a, b] = [unit(2 * i), unit(2 * i + 1)];
                (deviation * (-2.0 * (1.0 - a).ln()).sqrt() * (TAU * b).cos()) as f32
            }
        };
        (0..spec.elements()).map(draw).collect()
    }
}

/// Weights of a checkpoint whose text positions are brought to another number, as open_clip does it on loading.
pub(crate) struct Lengthened<'a> {
    pub weights: &'a dyn Weights,
    /// The positions that are wanted.
    pub spec: Option<&'a TensorSpec>,
}

impl Weights for Lengthened<'_> {
    fn contains(&self, name: &str) -> bool {
        self.weights.contains(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        let stored = self.weights.f32(name);
        let wanted = self.spec.filter(|spec| spec.name == name && spec.elements() != stored.len() as u64);
        match wanted.map(|spec| &spec.shape[..]) {
            Some(&[rows, width]) => {
                let table = resize_text_positions(&self.weights.f64(name), width, rows);
                table.into_iter().map(|v| v as f32).collect()
            }
            _ => stored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobileclip_arch::variants;

    fn fresh(name: &str) -> (Manifest, Fresh) {
        let variant = mobileclip_arch::variant(name).unwrap();
        let manifest = Manifest::of(variant);
        let fresh = Fresh::new(variant, &manifest, 0, &ModelConfig::default());
        (manifest, fresh)
    }

    #[test]
    fn numbers_follow_their_laws() {
        let (_, fresh) = fresh("MobileCLIP2-S0");
        let deviation = |name: &str| {
            let values = fresh.f64(name);
            (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
        };
        let close = |name: &str, expected: f64| {
            let found = deviation(name);
            assert!((found / expected - 1.0).abs() < 0.05, "{name}: {found}, not {expected}");
        };
        close("text.transformer.resblocks.0.attn.in_proj_weight", 512f64.powf(-0.5));
        close("text.transformer.resblocks.0.mlp.c_proj.weight", 512f64.powf(-0.5) * 24f64.powf(-0.5));
        close("visual.trunk.stages.1.blocks.0.mlp.fc1.weight", 0.02);
        // Uniform numbers deviate by their bound over the root of three.
        close("visual.trunk.stages.0.blocks.0.mlp.conv.conv.weight", (1.0 / 49f64).sqrt() / 3f64.sqrt());
        assert_eq!(fresh.f32("visual.trunk.stages.0.blocks.0.layer_scale.gamma")[0], 1e-5);
        assert_eq!(fresh.f32("visual.trunk.stem.0.conv_kxk.0.bn.running_var")[0], 1.0);
        assert!((fresh.f32("logit_scale")[0] - 2.659_26).abs() < 1e-5);
    }

    #[test]
    fn every_matrix_of_every_variant_is_drawn() {
        for variant in variants() {
            let fresh = Fresh::new(variant, &Manifest::of(variant), 0, &ModelConfig::default());
            for (spec, law) in fresh.laws.values() {
                let constant = matches!(law, Law::Constant(_));
                let may = spec.shape.len() < 2 || spec.name.ends_with("gamma");
                assert!(!constant || may, "{}: `{}`", variant.name, spec.name);
            }
        }
    }
}
