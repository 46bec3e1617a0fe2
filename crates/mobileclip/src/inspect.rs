//! What is known of a model without running it.

use std::path::PathBuf;

use mobileclip_arch::{Form, Manifest, Tower};
use mobileclip_engine::{Isa, Precision};
use serde::Serialize;

use crate::error::Result;
use crate::model::{LoadOptions, Model, form_name};
use crate::source::SourceFile;

/// What `mobileclip inspect` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The weights' file.
    pub path: PathBuf,
    /// The variant's name.
    pub variant: String,
    /// One line about it.
    pub summary: String,
    /// `open_clip`, `mobileclip` (the first package) or `deploy`.
    pub dialect: &'static str,
    /// `train`, `reparameterised`, `fused` (a deploy file), or that there is only one.
    pub form: &'static str,
    /// Width of the embeddings.
    pub embed_dim: usize,
    /// `exp(logit_scale)` as it is used.
    pub logit_scale: f32,
    /// Learnt parameters of the image tower in this form.
    pub image_parameters: u64,
    /// Learnt parameters of the text tower in this form.
    pub text_parameters: u64,
    /// Learnt parameters of the decoder of captions; 0 if it writes none.
    pub decoder_parameters: u64,
    /// GFLOP (2 · multiply-adds of convolutions and matrix products) of the fused image tower, at the trained size.
    pub image_gflop: f64,
    /// GFLOP of the text tower, at the full context.
    pub text_gflop: f64,
    /// What a picture goes through.
    pub preprocess: PreprocessFacts,
    /// Tokens of a row.
    pub context: usize,
    /// How rows are treated.
    pub token_rule: &'static str,
    /// The instruction set that this processor runs it on.
    pub instruction_set: &'static str,
    /// The precisions that this processor has instructions for.
    pub native_precisions: Vec<&'static str>,
    /// Contradictions and the like.
    pub problems: Vec<String>,
}

/// What a picture goes through before the tower.
#[derive(Clone, Debug, Serialize)]
pub struct PreprocessFacts {
    /// Height and width that the tower sees.
    pub size: (usize, usize),
    /// Subtracted per channel.
    pub mean: [f32; 3],
    /// Divided by per channel.
    pub std: [f32; 3],
    /// Resampling filter.
    pub interpolation: String,
    /// `shortest` or `squash`.
    pub resize_mode: String,
    /// Where this was found.
    pub from: &'static str,
}

fn native_precisions() -> Vec<&'static str> {
    let isa = Isa::detect();
    let all = [Precision::F32, Precision::Bf16, Precision::Int8];
    all.into_iter().filter(|&precision| isa.has(precision)).map(Precision::name).collect()
}

impl Inspection {
    /// Looks at a model directory or file. No weights are read but for those that decide.
    ///
    /// # Errors
    /// As [`Model::open`](crate::Model::open).
    pub fn of(path: &std::path::Path, options: &LoadOptions) -> Result<Self> {
        let model = Model::open(path, &LoadOptions { threads: 1, ..options.clone() })?;
        let variant = model.variant();
        let manifest = Manifest::of(variant);
        let (dialect, form, counted, from, problems) = match &model.source.file {
            SourceFile::Deploy(..) => ("deploy", "fused", Form::Deploy, "the deploy file", Vec::new()),
            SourceFile::Checkpoint(checkpoint) => {
                use mobileclip_checkpoint::PreprocessSource;
                let dialect = match checkpoint.dialect() {
                    mobileclip_arch::Dialect::OpenClip => "open_clip",
                    mobileclip_arch::Dialect::Mobileclip => "mobileclip",
                };
                let from = match checkpoint.preprocess_source() {
                    PreprocessSource::Config => "the configuration beside the weights",
                    PreprocessSource::Name => "the published weights of that name",
                    PreprocessSource::Variant => "the variant's published weights",
                };
                let form = checkpoint.form();
                let counted = if form == Form::Any { Form::Train } else { form };
                (dialect, form_name(form), counted, from, checkpoint.warnings().to_vec())
            }
        };
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let trained = &model.trained_preprocess;
        Ok(Self {
            path: model.path().to_path_buf(),
            variant: variant.name.clone(),
            summary: variant.summary.clone(),
            dialect,
            form,
            instruction_set: model.instruction_set(),
            native_precisions: native_precisions(),
            embed_dim: variant.embed_dim,
            logit_scale: model.logit_scale(),
            image_parameters: manifest.parameters(counted, Some(Tower::Image)),
            text_parameters: manifest.parameters(counted, Some(Tower::Text)),
            decoder_parameters: manifest.decoder_parameters(),
            image_gflop: 2e-9 * manifest.image_multiply_adds as f64,
            text_gflop: 2e-9 * manifest.text_multiply_adds as f64,
            preprocess: PreprocessFacts {
                size: model.preprocess().size,
                mean: trained.mean,
                std: trained.std,
                interpolation: word(serde_json::json!(trained.interpolation)),
                resize_mode: word(serde_json::json!(trained.resize_mode)),
                from,
            },
            context: variant.text.context,
            token_rule: match (variant.reads_padding(), &variant.captioner) {
                (false, _) => "causal: read up to the end mark",
                (true, Some(_)) => "a class token behind the row reads it, and the first padding",
                (true, None) => "not causal: always padded to the full context, and the padding counts",
            },
            problems,
        })
    }
}
