//! A run's configuration: one TOML file, whose every field has a default and can be set from outside.

mod check;
mod read;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::loss::{Contrast, Objective, TeacherAverage, Teachers, Weights};
use crate::optimiser::AdamW;
use crate::schedule::Schedule;
use crate::teacher::Teacher;

/// A field, for who sets fields by name.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The table it stands in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is, in words.
    pub help: &'static str,
    /// Whether it takes several values.
    pub is_list: bool,
}

macro_rules! config {
    ($($(#[doc = $about:literal])* $section:ident: $type:ident {
        $($(#[doc = $help:literal])* $field:ident: $of:ty = $default:expr,)*
    })*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $type { $($(#[doc = $help])* pub $field: $of,)* }

            impl Default for $type {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }
        )*

        /// What a run does. See [`Config::FIELDS`] for a list of all fields.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config { $($(#[doc = $about])* pub $section: $type,)* }

        impl Config {
            /// All fields.
            pub const FIELDS: &'static [Field] = &[$($(Field {
                section: stringify!($section),
                name: stringify!($field),
                help: concat!($($help),*),
                is_list: is_list(stringify!($of)),
            },)*)*];
        }
    };
}

const fn is_list(type_name: &str) -> bool {
    type_name.as_bytes()[0] == b'V' || type_name.as_bytes()[0] == b'['
}

config! {
    /// The student.
    model: ModelConfig {
        /// A variant's name, or the path of a TOML file that describes one.
        variant: String = "MobileCLIP2-S0".to_owned(),
        /// A checkpoint in train form to start from (folder or file), instead of random weights.
        start: Option<PathBuf> = None,
        /// Tokens of a text, if not as many as the variant has; the positions of a checkpoint to start from are resized to it, as open_clip does.
        context: Option<usize> = None,
        /// Patterns of tensor names that are not trained (`visual.*` locks the image tower); their BatchNorms keep their statistics.
        freeze: Vec<String> = Vec::new(),
        /// Probability of dropping the last residual branch of a tower; earlier ones are dropped less.
        drop_path: f64 = 0.0,
        /// The logit scale of random weights.
        logit_scale: f64 = 1.0 / 0.07,
        /// What the layer scales of random weights are. timm's 1e-5 is made for long runs; short ones learn faster from 0.1.
        layer_scale: f64 = 1e-5,
        /// Decay of the moving average of weights; none is kept without it.
        ema: Option<f64> = None,
    }
    /// The samples.
    data: DataConfig {
        /// Shards: paths, folders, brace lists, wildcards.
        shards: Vec<String> = Vec::new(),
        /// Where captions stand: `txt`, `json:FIELD` (a text or a list of texts in the member json), or `class` (the member cls, or `label` in json); several with commas between, of which those count that a sample has.
        captions: String = "txt".to_owned(),
        /// With `class`: the file of class names, one a line.
        classnames: Option<PathBuf> = None,
        /// With `class` and `json:FIELD`: the file of sentences, one a line, with {} or {c} for what stands there; one is drawn for each sample.
        templates: Option<PathBuf> = None,
        /// The file of all classes' names, one a line, for loss.class_weight.
        names: Option<PathBuf> = None,
        /// What makes samples positives of each other: `json:FIELD`, an equal text or number in the member json; samples without one stand alone.
        positives: Option<String> = None,
        /// Folder that keeps indices and unpacked shards; compressed shards need it.
        cache: Option<PathBuf> = None,
        /// Gigabytes that unpacked shards may take there.
        cache_gb: f64 = 20.0,
        /// Threads that decode ahead.
        workers: usize = 2,
        /// Samples that they may be ahead; 0 stands for two batches.
        ahead: usize = 0,
        /// How a picture comes to the tower's size: `crop` (a random part, resized), `recorded` (the augmentations of reinforced shards), `centre` (as for inference).
        augment: Augment = Augment::Crop,
        /// Smallest and largest share of the area that `crop` takes.
        crop_scale: [f64; 2] = [0.9, 1.0],
        /// Smallest and largest width over height of `crop`.
        crop_ratio: [f64; 2] = [0.75, 4.0 / 3.0],
        /// Probability that `crop` also mirrors the picture.
        flip: f64 = 0.0,
        /// How augmentation and captions of a sample are picked: `random`, or `sequential` (the epoch's number modulo their count).
        pick: Pick = Pick::Random,
        /// Pictures with a shorter side are left out.
        smallest_side: usize = 0,
        /// Pattern of the synthetic caption sets to draw from.
        synthetic: String = "^syn_text.*$".to_owned(),
        /// Probability that the synthetic caption takes the place of the true one (0 where there are none); without it there are both, and two loss terms.
        mix_synthetic: Option<f64> = None,
        /// What the names of the embeddings end in, where a set has several.
        tag: String = String::new(),
    }
    /// What is minimised.
    loss: LossConfig {
        /// `softmax` (CLIP) or `sigmoid` (SigLIP, with a bias of 0 unless the variant has one).
        contrast: ContrastName = ContrastName::Softmax,
        /// Weight of the contrastive term.
        contrastive_weight: f64 = 1.0,
        /// Weight of the distillation term.
        distill_weight: f64 = 0.0,
        /// Weight of the class term: each picture against a prompt for every name in data.names, its own being the one that data.positives finds.
        class_weight: f64 = 0.0,
        /// Captioners only: weight of the loss of the next words; by default 2.
        caption_weight: Option<f64> = None,
        /// Width of each teacher's embedding, in the order of the shards' columns.
        teacher_widths: Vec<usize> = Vec::new(),
        /// Logit scale of each teacher, or one for all.
        teacher_scales: Vec<f64> = Vec::new(),
        /// Logit bias of each teacher, or one for all (`sigmoid` only).
        teacher_biases: Vec<f64> = Vec::new(),
        /// What of several teachers is averaged: `probabilities` or `logits`.
        teacher_average: Average = Average::Probabilities,
    }
    /// Models that are learnt from while training, instead of from embeddings in the shards.
    teachers: TeachersConfig {
        /// The teachers: names of the hub, folders or files, =VARIANT (a name or a TOML file) after them where the weights do not tell. Each sees pictures in its own size and preprocessing.
        checkpoints: Vec<String> = Vec::new(),
    }
    /// What is measured in between.
    eval: EvalConfig {
        /// Sets in CLIP_benchmark's layout, or with a folder for each class: zero-shot classification, or retrieval.
        sets: Vec<String> = Vec::new(),
        /// Steps between measurements; there is one at the end in any case.
        every: u64 = 1000,
        /// Pictures of each set that count; 0 stands for all.
        limit: usize = 0,
    }
    /// How parameters move.
    optimiser: OptimiserConfig {
        /// The learning rate after the warm-up.
        lr: f64 = 5e-4,
        /// Decay of the mean of gradients.
        beta1: f64 = 0.9,
        /// Decay of the mean of squares; by default 0.98 if the variant's name has "vit" in it, else 0.999.
        beta2: Option<f64> = None,
        /// Added to the divisor; by default 1e-6 if the variant's name has "vit" in it, else 1e-8.
        eps: Option<f64> = None,
        /// Weight decay of matrices and kernels.
        weight_decay: f64 = 0.2,
        /// Largest length of all gradients together.
        clip: Option<f64> = None,
        /// `cosine`, `constant`, or `cooldown` (constant, then a polynomial down).
        schedule: ScheduleName = ScheduleName::Cosine,
        /// Steps of linear warm-up.
        warmup: u64 = 0,
        /// With `cooldown`: its steps.
        cooldown: u64 = 0,
        /// With `cooldown`: the polynomial's power.
        cooldown_power: f64 = 1.0,
        /// With `cooldown`: the rate at the end.
        cooldown_end: f64 = 0.0,
        /// Factor of the rate for each block that stands before the last one.
        layer_decay: f64 = 1.0,
    }
    /// How long, how much at once, and what is kept.
    run: RunConfig {
        /// The folder of checkpoints, logs and the result.
        out: PathBuf = PathBuf::from("run"),
        /// Samples of a step, over all micro-batches.
        batch: usize = 64,
        /// Micro-batches of a step; the contrastive batch is the whole one.
        accumulate: usize = 1,
        /// How long: optimiser steps. One of steps, samples and epochs is to be given.
        steps: Option<u64> = None,
        /// How long: samples seen.
        samples: Option<u64> = None,
        /// How long: passes over the data.
        epochs: Option<f64> = None,
        /// Of the order of samples and everything random.
        seed: u64 = 0,
        /// Threads that compute; 0 stands for all of the processor's.
        threads: usize = 0,
        /// Whether activations are made again in the backward pass instead of kept, block by block.
        recompute: bool = false,
        /// Steps between checkpoints.
        checkpoint_every: u64 = 1000,
        /// How many checkpoints are kept.
        keep: usize = 3,
        /// Steps between lines of the log.
        log_every: u64 = 1,
    }
}

/// How a picture comes to the tower's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augment {
    /// A random part, resized.
    Crop,
    /// As the teachers of reinforced shards saw it.
    Recorded,
    /// As for inference.
    Centre,
}

/// How one of several is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Drawn.
    Random,
    /// The epoch's number modulo the count.
    Sequential,
}

/// See [`Contrast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ContrastName {
    Softmax,
    Sigmoid,
}

/// See [`TeacherAverage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Average {
    Probabilities,
    Logits,
}

/// See [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ScheduleName {
    Cosine,
    Constant,
    Cooldown,
}

impl Config {
    /// What is minimised, by a captioner or another model.
    ///
    /// # Errors
    /// [`Error::Objective`] if the teachers' counts or the weights contradict each other; [`Error::Field`] if one is the model's that it is
    /// not.
    pub fn objective(&self, is_captioner: bool) -> Result<Objective> {
        let loss = &self.loss;
        if is_captioner {
            if loss.distill_weight + loss.class_weight > 0.0 || loss.contrast != ContrastName::Softmax {
                let reason = "a captioner has the contrastive and the caption loss alone";
                return Err(Error::field("loss.distill_weight, loss.class_weight, loss.contrast", reason));
            }
            let weight = loss.caption_weight.unwrap_or(PUBLISHED_CAPTION_WEIGHT);
            return Ok(Objective::captioner(loss.contrastive_weight, weight)?);
        }
        if loss.caption_weight.is_some() {
            return Err(Error::field("loss.caption_weight", "the model writes no captions"));
        }
        let average = match loss.teacher_average {
            Average::Probabilities => TeacherAverage::Probabilities,
            Average::Logits => TeacherAverage::Logits,
        };
        let contrast = match loss.contrast {
            ContrastName::Softmax => Contrast::Softmax,
            ContrastName::Sigmoid => Contrast::Sigmoid,
        };
        // As long as online teachers are not loaded, nobody knows how wide they are; their count is known.
        let unknown = vec![1; self.teachers.checkpoints.len()];
        let widths = if loss.teacher_widths.is_empty() { &unknown } else { &loss.teacher_widths };
        let teachers = match widths.is_empty() {
            true if !loss.teacher_scales.is_empty() => {
                return Err(Error::field(
                    "loss.teacher_scales",
                    "scales for no teacher: loss.teacher_widths is empty",
                ));
            }
            true => None,
            false => Some(Teachers::new(widths, &loss.teacher_scales, &loss.teacher_biases, average)?),
        };
        let weights = Weights {
            contrastive: loss.contrastive_weight,
            distill: loss.distill_weight,
            class: loss.class_weight,
        };
        Ok(Objective::new(contrast, weights, teachers)?)
    }

    /// The same with the widths of the teachers that were loaded for `teachers.checkpoints`.
    ///
    /// # Errors
    /// [`Error::Field`] if there are not as many as the configuration names, or `loss.teacher_widths` says otherwise.
    pub fn with_teachers(&self, teachers: &[Arc<dyn Teacher>]) -> Result<Config> {
        let (named, loaded) = (self.teachers.checkpoints.len(), teachers.len());
        if named != loaded {
            return Err(Error::field(
                "teachers.checkpoints",
                format!("{named} are named, {loaded} were loaded"),
            ));
        }
        let mut config = self.clone();
        if loaded > 0 {
            let widths: Vec<usize> = teachers.iter().map(|teacher| teacher.width()).collect();
            let given = std::mem::replace(&mut config.loss.teacher_widths, widths);
            if !given.is_empty() && given != config.loss.teacher_widths {
                let widths = &config.loss.teacher_widths;
                return Err(Error::field(
                    "loss.teacher_widths",
                    format!("{given:?}, the teachers have {widths:?}"),
                ));
            }
        }
        Ok(config)
    }

    /// AdamW's constants.
    pub fn adamw(&self) -> AdamW {
        let usual = AdamW::for_model(&self.model.variant);
        let set = &self.optimiser;
        AdamW {
            beta1: set.beta1,
            beta2: set.beta2.unwrap_or(usual.beta2),
            eps: set.eps.unwrap_or(usual.eps),
            weight_decay: set.weight_decay,
        }
    }

    /// The rate of every step.
    pub fn schedule(&self, steps: u64) -> Schedule {
        let set = &self.optimiser;
        match set.schedule {
            ScheduleName::Cosine => Schedule::cosine(set.lr, set.warmup, steps),
            ScheduleName::Constant => Schedule::constant(set.lr, set.warmup, steps),
            ScheduleName::Cooldown => Schedule::cooldown(
                set.lr,
                set.warmup,
                steps,
                set.cooldown,
                set.cooldown_power,
                set.cooldown_end,
            ),
        }
    }

    /// The run's steps over so many samples. A batch may reach from one epoch into the next, so no sample is left out.
    ///
    /// # Errors
    /// [`Error::Field`] if there is not a single one.
    pub fn steps(&self, samples: usize) -> Result<u64> {
        let run = &self.run;
        let batch = run.batch as u64;
        let of_epochs = run.epochs.map(|epochs| (epochs * samples as f64) as u64);
        let steps = run.steps.or_else(|| run.samples.or(of_epochs).map(|seen| seen / batch)).unwrap_or(0);
        match steps {
            0 => Err(Error::field("run", format!("not one step: {samples} samples in batches of {batch}"))),
            steps => Ok(steps),
        }
    }
}

/// open_clip's default.
const PUBLISHED_CAPTION_WEIGHT: f64 = 2.0;

#[cfg(test)]
mod tests;
