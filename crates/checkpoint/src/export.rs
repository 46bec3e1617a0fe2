//! Writing a model directory in open_clip's layout.

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use half::{bf16, f16};
use mobileclip_arch::{
    Activation, Dialect, Form, Image, Manifest, Preprocess, Role, Stem, TensorSpec, Variant, variants,
};
use safetensors::tensor::View;
use serde::Serialize;
use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, Tensor};
use crate::config::CONFIG;
use crate::detect::same_features;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::locate::WEIGHTS;

/// The type that floating-point tensors are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloatType {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision; values beyond 65504 are an error.
    F16,
    /// The upper half of 32 bits.
    Bf16,
}

/// Writes `open_clip_config.json` and `open_clip_model.safetensors` into `folder`, which is made if need be. Both files appear
/// whole or not at all; the weights first.
///
/// # Errors
/// open_clip cannot hold the model ([`Error::NotRepresentable`] says why), a tensor is damaged or not finite, a value is too
/// large for `float`, or writing fails.
pub fn write_open_clip(checkpoint: &Checkpoint, folder: &Path, float: FloatType) -> Result<()> {
    let from = checkpoint.file().path();
    let not_representable = |reason| Error::NotRepresentable { path: from.to_path_buf(), reason };
    let target = target(checkpoint).map_err(not_representable)?;
    let config = ConfigFile {
        model_cfg: model_config(target)
            .ok_or_else(|| not_representable("timm has no such image tower".into()))?,
        preprocess_cfg: checkpoint.preprocess(),
    };

    let io = |source| Error::Io { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    let staging = tempfile::Builder::new().prefix(".writing-").tempdir_in(folder).map_err(io)?;
    let config_path = staging.path().join(CONFIG);
    let text = serde_json::to_string_pretty(&config).map_err(|e| io(e.into()))?;
    std::fs::write(&config_path, text + "\n").map_err(io)?;

    let [weights, ..] = WEIGHTS;
    let weights_path = staging.path().join(weights);
    let manifest = Manifest::of(target);
    let error = RefCell::new(None);
    let tensors = manifest.of_form(Form::Train).map(|spec| {
        let tensor = checkpoint.get(&spec.name);
        (spec.name.as_str(), Stored { spec, tensor, float, checkpoint, error: &error })
    });
    // Tools of Python look for this mark.
    let format = [("format".to_string(), "pt".to_string())].into();
    safetensors::serialize_to_file(tensors, Some(format), &weights_path)
        .map_err(|source| Error::Safetensors { path: folder.join(weights), source })?;
    if let Some(error) = error.into_inner() {
        return Err(error);
    }
    // The writer leaves the weights readable by their owner only.
    let permissions = std::fs::metadata(&config_path).map_err(io)?.permissions();
    std::fs::set_permissions(&weights_path, permissions).map_err(io)?;
    std::fs::rename(&weights_path, folder.join(weights)).map_err(io)?;
    std::fs::rename(&config_path, folder.join(CONFIG)).map_err(io)
}

#[derive(Serialize)]
struct ConfigFile<'a> {
    model_cfg: Value,
    preprocess_cfg: &'a Preprocess,
}

/// The variant to write: the checkpoint's own, or the one of open_clip that computes the same; the reason if there is none.
fn target(checkpoint: &Checkpoint) -> Result<&Variant, String> {
    let variant = checkpoint.variant();
    if variant.text.mixer_ends {
        return Err(format!("the text tower of {} has RepMixer blocks, open_clip's has none", variant.name));
    }
    if checkpoint.form() == Form::Deploy {
        return Err(
            "its branches are fused, open_clip loads only the train form, and fusing cannot be undone".into(),
        );
    }
    if let Image::TimmVit(vit) = &variant.image
        && matches!(vit.stem, Stem::Convolutional { padding, .. } if padding != 0)
    {
        return Err(format!(
            "the first convolution of {} is padded and its LayerNorms have another epsilon than timm's; timm would take the \
             weights and compute other features (10 % off)",
            variant.name
        ));
    }
    let own = (variant.dialect == Dialect::OpenClip).then_some(variant);
    own.or_else(|| {
        variants().iter().find(|v| v.dialect == Dialect::OpenClip && same_features(variant, v, true))
    })
    .ok_or_else(|| format!("no configuration of open_clip computes what {} does", variant.name))
}

/// `model_cfg` as open_clip writes it; `None` if timm does not know the image tower.
fn model_config(variant: &Variant) -> Option<Value> {
    let size = variant.image_size();
    let blocks = &variant.text.blocks;
    let timm = |name: &Option<String>, pool: &str| {
        name.as_ref().map(|name| {
            json!({
                "timm_model_name": name, "timm_model_pretrained": false, "timm_pool": pool, "timm_proj": null,
                "timm_drop": 0.0, "timm_drop_path": 0.0, "image_size": size,
            })
        })
    };
    let vision = match &variant.image {
        Image::Mci(mci) => timm(&mci.timm, "avg")?,
        Image::TimmVit(vit) => timm(&vit.timm, "token")?,
        Image::ClipVit(vit) => json!({
            "image_size": size, "layers": vit.blocks.layers, "width": vit.blocks.width, "patch_size": vit.patch,
            "head_width": vit.blocks.width / vit.blocks.heads.max(1),
        }),
    };
    let mut config = json!({
        "embed_dim": variant.embed_dim,
        "vision_cfg": vision,
        "text_cfg": {
            "context_length": variant.text.context, "vocab_size": variant.text.vocabulary, "width": blocks.width,
            "heads": blocks.heads, "layers": blocks.layers, "no_causal_mask": !blocks.causal,
        },
    });
    if let Some(captioner) = &variant.captioner {
        let (decoder, heads) = (&captioner.decoder, captioner.pooler_heads);
        let pooler = json!({
            "attentional_pool": true, "attn_pooler_queries": captioner.queries, "attn_pooler_heads": heads,
            "output_tokens": true,
        });
        let text = json!({ "embed_cls": true, "output_tokens": true });
        let decoder = json!({
            "context_length": variant.text.context, "vocab_size": variant.text.vocabulary, "width": decoder.width,
            "heads": decoder.heads, "layers": decoder.layers, "attn_pooler_heads": heads,
        });
        for (part, more) in [("vision_cfg", pooler), ("text_cfg", text), ("multimodal_cfg", decoder)] {
            add_fields(&mut config, part, more);
        }
    }
    if let Value::Object(fields) = &mut config {
        if blocks.activation == Activation::QuickGelu {
            fields.insert("quick_gelu".into(), true.into());
        }
        if !variant.text.prefix.is_empty() {
            fields.insert("custom_text".into(), true.into());
        }
    }
    Some(config)
}

/// Adds fields to one of the objects in an object.
fn add_fields(config: &mut Value, part: &str, more: Value) {
    let Value::Object(parts) = config else { return };
    let fields = parts.entry(part).or_insert_with(|| json!({}));
    if let (Value::Object(fields), Value::Object(more)) = (fields, more) {
        fields.extend(more);
    }
}

/// A tensor on its way into a file. The writer asks for bytes and takes no errors: the first one is kept in `error`.
struct Stored<'a> {
    spec: &'a TensorSpec,
    tensor: Option<Tensor<'a>>,
    float: FloatType,
    checkpoint: &'a Checkpoint,
    error: &'a RefCell<Option<Error>>,
}

impl Stored<'_> {
    fn elements(&self) -> usize {
        self.spec.shape.iter().product()
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let Some(tensor) = &self.tensor else { return Ok(vec![0; self.data_len()]) };
        let values = tensor.to_f32()?;
        if self.spec.role == Role::Counter {
            // A count of batches; training of these models ran for less than 2^24 of them.
            #[allow(clippy::cast_possible_truncation)]
            return Ok(values.iter().flat_map(|&v| (v as i64).to_le_bytes()).collect());
        }
        if self.float == FloatType::F16
            && let Some((index, &value)) = values.iter().enumerate().find(|(_, v)| v.abs() >= 65520.0)
        {
            let (path, key) = (self.checkpoint.file().path().to_path_buf(), self.spec.name.clone());
            return Err(Error::TooLarge { path, key, index, value, dtype: Dtype::F16 });
        }
        Ok(match self.float {
            FloatType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            FloatType::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            FloatType::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        })
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match (self.spec.role, self.float) {
            (Role::Counter, _) => safetensors::Dtype::I64,
            (_, FloatType::F32) => safetensors::Dtype::F32,
            (_, FloatType::F16) => safetensors::Dtype::F16,
            (_, FloatType::Bf16) => safetensors::Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.spec.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().map_or_else(
            |error| {
                self.error.borrow_mut().get_or_insert(error);
                Cow::Owned(vec![0; self.data_len()])
            },
            Cow::Owned,
        )
    }

    fn data_len(&self) -> usize {
        self.elements() * (self.dtype().bitsize() / 8)
    }
}
