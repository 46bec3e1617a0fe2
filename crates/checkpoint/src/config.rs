//! `open_clip_config.json`: what a model directory says of itself.

use std::path::Path;

use mobileclip_arch::{Activation, Image, Interpolation, Preprocess, ResizeMode, Variant};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The file's name in a model directory.
pub(crate) const CONFIG: &str = "open_clip_config.json";

/// Bytes of a configuration; real ones have less than one kilobyte.
const MAX_BYTES: u64 = 1 << 20;

/// A model directory's configuration. Fields that no member of the family uses are not looked at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub model_cfg: ModelConfig,
    preprocess_cfg: Option<PreprocessConfig>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ModelConfig {
    embed_dim: usize,
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: VisionConfig,
    text_cfg: TextConfig,
    multimodal_cfg: Option<DecoderConfig>,
}

/// A captioner's decoder; defaults are those of open_clip's `MultimodalCfg`.
#[derive(Debug, Clone, Deserialize)]
struct DecoderConfig {
    #[serde(default = "default_512")]
    width: usize,
    #[serde(default = "default_8")]
    heads: usize,
    #[serde(default = "default_12")]
    layers: usize,
}

/// Defaults are those of open_clip's `CLIPVisionCfg`.
#[derive(Debug, Clone, Deserialize)]
struct VisionConfig {
    timm_model_name: Option<String>,
    /// A number, or height and width.
    image_size: Option<serde_json::Value>,
    layers: Option<serde_json::Value>,
    #[serde(default = "default_768")]
    width: usize,
    #[serde(default = "default_64")]
    head_width: usize,
    #[serde(default = "default_16")]
    patch_size: usize,
    attn_pooler_queries: Option<usize>,
    attn_pooler_heads: Option<usize>,
}

/// Defaults are those of open_clip's `CLIPTextCfg`.
#[derive(Debug, Clone, Deserialize)]
struct TextConfig {
    hf_model_name: Option<String>,
    #[serde(default = "default_77")]
    context_length: usize,
    #[serde(default = "default_49408")]
    vocab_size: usize,
    #[serde(default = "default_512")]
    width: usize,
    #[serde(default = "default_8")]
    heads: usize,
    #[serde(default = "default_12")]
    layers: usize,
    #[serde(default)]
    no_causal_mask: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct PreprocessConfig {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
}

macro_rules! defaults {
    ($($name:ident = $value:literal),* $(,)?) => {
        $(const fn $name() -> usize { $value })*
    };
}
defaults!(
    default_8 = 8,
    default_12 = 12,
    default_16 = 16,
    default_64 = 64,
    default_77 = 77,
    default_512 = 512,
    default_768 = 768,
    default_49408 = 49408,
);

impl Config {
    /// Reads a configuration.
    pub(crate) fn read(path: &Path) -> Result<Config> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let found = std::fs::metadata(path).map_err(io)?.len();
        if found > MAX_BYTES {
            let what = "the configuration's size in bytes".into();
            return Err(Error::Limit { path: path.to_path_buf(), what, found, limit: MAX_BYTES });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::Config { path: path.to_path_buf(), reason: e.to_string() })
    }

    /// Whether it says anything of preprocessing.
    pub(crate) fn has_preprocess(&self) -> bool {
        self.preprocess_cfg.is_some()
    }

    /// The preprocessing it asks for. What it leaves out is taken from `variant`; `None` if it says nothing at all.
    pub(crate) fn preprocess(&self, path: &Path, variant: &Variant) -> Result<Option<Preprocess>> {
        let Some(cfg) = &self.preprocess_cfg else { return Ok(None) };
        let invalid = |reason: String| Error::Config { path: path.to_path_buf(), reason };
        let trained = &variant.preprocess;
        let mean = cfg.mean.unwrap_or(trained.mean);
        let std = cfg.std.unwrap_or(trained.std);
        if !std.iter().all(|&s| s.is_finite() && s > 0.0) || !mean.iter().all(|m| m.is_finite()) {
            return Err(invalid(format!("preprocess_cfg: mean {mean:?} and std {std:?} cannot be used")));
        }
        let interpolation = match cfg.interpolation.as_deref() {
            None => trained.interpolation,
            Some("bilinear") => Interpolation::Bilinear,
            Some("bicubic") => Interpolation::Bicubic,
            Some(other) => {
                return Err(invalid(format!(
                    "preprocess_cfg: interpolation `{other}`; bilinear and bicubic are known"
                )));
            }
        };
        let resize_mode = match cfg.resize_mode.as_deref() {
            None => trained.resize_mode,
            Some("shortest") => ResizeMode::Shortest,
            Some("squash") => ResizeMode::Squash,
            Some(other) => {
                return Err(invalid(format!(
                    "preprocess_cfg: resize_mode `{other}`; shortest and squash are known"
                )));
            }
        };
        Ok(Some(Preprocess { mean, std, interpolation, resize_mode }))
    }
}

impl ModelConfig {
    /// Where it differs from `variant`; empty if it describes it.
    pub(crate) fn differences(&self, variant: &Variant) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, config: String, model: String| {
            if config != model {
                found.push(format!("{what} is {config}, {} has {model}", variant.name));
            }
        };
        let text = &self.text_cfg;
        let blocks = &variant.text.blocks;
        compare("embed_dim", self.embed_dim.to_string(), variant.embed_dim.to_string());
        if let Some(name) = &text.hf_model_name {
            compare("text_cfg.hf_model_name", name.clone(), "a tower of its own".into());
        }
        compare("text_cfg.context_length", text.context_length.to_string(), variant.text.context.to_string());
        compare("text_cfg.vocab_size", text.vocab_size.to_string(), variant.text.vocabulary.to_string());
        compare("text_cfg.width", text.width.to_string(), blocks.width.to_string());
        compare("text_cfg.heads", text.heads.to_string(), blocks.heads.to_string());
        compare("text_cfg.layers", text.layers.to_string(), blocks.layers.to_string());
        compare("text_cfg.no_causal_mask", text.no_causal_mask.to_string(), (!blocks.causal).to_string());
        compare(
            "quick_gelu",
            self.quick_gelu.to_string(),
            (blocks.activation == Activation::QuickGelu).to_string(),
        );
        if variant.text.mixer_ends {
            compare("text tower", "plain".into(), "RepMixer blocks".into());
        }
        compare(
            "a captioner's multimodal_cfg",
            self.multimodal_cfg.is_some().to_string(),
            variant.captioner.is_some().to_string(),
        );
        if let (Some(config), Some(captioner)) = (&self.multimodal_cfg, &variant.captioner) {
            let decoder = &captioner.decoder;
            compare("multimodal_cfg.width", config.width.to_string(), decoder.width.to_string());
            compare("multimodal_cfg.heads", config.heads.to_string(), decoder.heads.to_string());
            compare("multimodal_cfg.layers", config.layers.to_string(), decoder.layers.to_string());
            let vision = &self.vision_cfg;
            let queries = vision.attn_pooler_queries.unwrap_or(256).to_string();
            compare("vision_cfg.attn_pooler_queries", queries, captioner.queries.to_string());
            let heads = vision.attn_pooler_heads.unwrap_or(8).to_string();
            compare("vision_cfg.attn_pooler_heads", heads, captioner.pooler_heads.to_string());
        }
        let vision = &self.vision_cfg;
        // timm's tags (`name.tag`) name weights, not networks.
        let timm =
            vision.timm_model_name.as_deref().and_then(|name| name.split('.').next()).unwrap_or("none");
        let timm_of = |name: &Option<String>| name.clone().unwrap_or_else(|| "no timm model".into());
        match &variant.image {
            Image::Mci(mci) => compare("vision_cfg.timm_model_name", timm.into(), timm_of(&mci.timm)),
            Image::TimmVit(vit) => compare("vision_cfg.timm_model_name", timm.into(), timm_of(&vit.timm)),
            Image::ClipVit(vit) => {
                compare("vision_cfg.timm_model_name", timm.into(), "none".into());
                let layers = vision.layers.as_ref().map_or_else(|| "12".into(), ToString::to_string);
                compare("vision_cfg.layers", layers, vit.blocks.layers.to_string());
                compare("vision_cfg.width", vision.width.to_string(), vit.blocks.width.to_string());
                let heads = vision.width / vision.head_width.max(1);
                compare("vision heads", heads.to_string(), vit.blocks.heads.to_string());
                compare("vision_cfg.patch_size", vision.patch_size.to_string(), vit.patch.to_string());
            }
        }
        if !variant.is_convolutional() {
            // A table of positions belongs to one size.
            let size = vision.image_size.as_ref().map_or_else(|| "224".into(), ToString::to_string);
            compare("vision_cfg.image_size", size, variant.image_size().to_string());
        }
        found
    }
}
