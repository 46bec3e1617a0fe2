//! A run's configuration: one TOML file, whose every field has a default and can be set from outside.

use std::path::{Path, PathBuf};
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
    /// Reads a recipe and sets fields: `(section, name, value)`, a value being TOML, a bare word, or for lists several of
    /// either with commas between.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Recipe`] with the line or field if something is unknown or of another type;
    /// [`Error::Field`] as [`Config::check`].
    pub fn read(recipe: Option<&Path>, set: &[(&str, &str, &str)]) -> Result<Config> {
        let path = recipe.unwrap_or(Path::new("command line"));
        let refuse = |reason: String| Error::Recipe { path: path.to_path_buf(), reason };
        let text = recipe.map(|path| std::fs::read_to_string(path).map_err(Error::io(path))).transpose()?;
        let text = text.unwrap_or_default();
        // First by itself, so that an error has the line of the file.
        toml::from_str::<Config>(&text).map_err(|error| refuse(error.to_string().trim().to_owned()))?;
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        for &(section, name, value) in set {
            let field = Self::FIELDS.iter().find(|f| f.section == section && f.name == name);
            let field = field.ok_or_else(|| refuse(format!("there is no field {section}.{name}")))?;
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            let section =
                section.as_table_mut().ok_or_else(|| refuse(format!("{} is no table", field.section)))?;
            section.insert(name.to_owned(), parse(field, value));
            let one: Result<Config, _> = table.clone().try_into();
            one.map_err(|e| refuse(format!("{}.{name} = {value}: {}", field.section, e.message())))?;
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Whether fields contradict each other or are out of range.
    ///
    /// # Errors
    /// [`Error::Field`] with the field and the reason; [`Error::Objective`].
    pub fn check(&self) -> Result<()> {
        let Config { model, data, loss, teachers, eval, optimiser, run } = self;
        let refuse = |wrong: bool, field, reason: &str| match wrong {
            true => Err(Error::field(field, reason)),
            false => Ok(()),
        };
        let share = |v: f64| (0.0..=1.0).contains(&v);
        // No number is neither.
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let not_negative = |v: f64| v >= 0.0 && v.is_finite();
        refuse(data.shards.is_empty(), "data.shards", "no shards are given")?;
        let lengths = [run.steps.is_some(), run.samples.is_some(), run.epochs.is_some()];
        let given = lengths.iter().filter(|given| **given).count();
        refuse(
            given != 1,
            "run.steps, run.samples, run.epochs",
            &format!("exactly one must be given, {given} are"),
        )?;
        refuse(!run.epochs.is_none_or(positive), "run.epochs", "must be above 0")?;
        refuse(run.batch < 2, "run.batch", "must be at least 2: a batch of one has no negatives")?;
        refuse(run.accumulate == 0, "run.accumulate", "must be at least 1")?;
        let divides = run.batch.is_multiple_of(run.accumulate.max(1));
        refuse(
            !divides,
            "run.accumulate",
            &format!("{} does not divide the batch of {}", run.accumulate, run.batch),
        )?;
        refuse(run.checkpoint_every == 0, "run.checkpoint_every", "must be at least 1")?;
        refuse(run.log_every == 0, "run.log_every", "must be at least 1")?;
        refuse(eval.every == 0, "eval.every", "must be at least 1")?;
        refuse(
            run.keep == 0,
            "run.keep",
            "must be at least 1: the last checkpoint is what a run goes on from",
        )?;
        refuse(data.workers == 0 || data.workers > 1024, "data.workers", "must be 1 to 1024")?;
        refuse(!share(data.flip), "data.flip", "must be 0 to 1")?;
        refuse(!data.mix_synthetic.is_none_or(share), "data.mix_synthetic", "must be 0 to 1")?;
        refuse(!not_negative(data.cache_gb), "data.cache_gb", "must be at least 0")?;
        let [low, high] = data.crop_scale;
        refuse(
            !(0.0 < low && low <= high && high <= 1.0),
            "data.crop_scale",
            "must be two numbers, 0 < first <= second <= 1",
        )?;
        let [low, high] = data.crop_ratio;
        refuse(
            !(0.0 < low && low <= high && high.is_finite()),
            "data.crop_ratio",
            "must be two numbers, 0 < first <= second",
        )?;
        let places: Vec<&str> = data.captions.split(',').collect();
        let by_class = places.contains(&"class");
        refuse(
            by_class != data.classnames.is_some(),
            "data.classnames",
            "belongs to `class` in data.captions, and that to it",
        )?;
        let names_field = |place: &str| place.strip_prefix("json:").is_some_and(|field| !field.is_empty());
        let has_names = by_class || places.iter().any(|place| names_field(place));
        refuse(
            !has_names && data.names.is_none() && data.templates.is_some(),
            "data.templates",
            "belong to `class` or json:FIELD in data.captions",
        )?;
        let is_known = |place: &&str| ["class", "txt"].contains(place) || names_field(place);
        refuse(
            !places.iter().all(is_known),
            "data.captions",
            "must be txt, json:FIELD or class, or several with commas between",
        )?;
        refuse(!data.positives.as_deref().is_none_or(names_field), "data.positives", "must be json:FIELD")?;
        let classifies = loss.class_weight > 0.0;
        refuse(
            classifies != data.names.is_some(),
            "data.names",
            "belongs to loss.class_weight, and that to it",
        )?;
        refuse(
            classifies && data.positives.is_none(),
            "data.positives",
            "loss.class_weight needs the samples' classes",
        )?;
        if let Err(error) = regex::Regex::new(&data.synthetic) {
            let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            return Err(Error::field("data.synthetic", reason));
        }
        let recorded = data.augment == Augment::Recorded;
        let distills = loss.distill_weight > 0.0;
        let online = teachers.checkpoints.len();
        refuse(
            online > 0 && !distills,
            "teachers.checkpoints",
            "nothing is learnt from teachers: loss.distill_weight is 0",
        )?;
        refuse(
            distills && !recorded && online == 0,
            "data.augment",
            "the stored teacher embeddings are those of recorded augmentations; must be recorded if loss.distill_weight is above 0 \
             and there are no teachers.checkpoints",
        )?;
        refuse(
            data.mix_synthetic.is_some() && !recorded,
            "data.mix_synthetic",
            "needs reinforced shards, data.augment = \"recorded\"",
        )?;
        refuse(
            recorded && online == 0 && loss.teacher_widths.is_empty(),
            "loss.teacher_widths",
            "are needed to read reinforced shards",
        )?;
        refuse(
            !recorded && online == 0 && !loss.teacher_widths.is_empty(),
            "loss.teacher_widths",
            "there is no distillation: loss.distill_weight is 0 and data.augment not recorded",
        )?;
        refuse(
            model.context.is_some_and(|context| !(2..=65535).contains(&context)),
            "model.context",
            "must be 2 to 65535",
        )?;
        refuse(!positive(optimiser.lr), "optimiser.lr", "must be above 0")?;
        for (field, value) in [
            ("optimiser.beta1", Some(optimiser.beta1)),
            ("optimiser.beta2", optimiser.beta2),
            ("model.ema", model.ema),
        ] {
            refuse(value.is_some_and(|v| !(0.0..1.0).contains(&v)), field, "must be at least 0 and below 1")?;
        }
        refuse(!optimiser.eps.is_none_or(positive), "optimiser.eps", "must be above 0")?;
        refuse(!not_negative(optimiser.weight_decay), "optimiser.weight_decay", "must be at least 0")?;
        refuse(!optimiser.clip.is_none_or(positive), "optimiser.clip", "must be above 0")?;
        refuse(
            !(optimiser.layer_decay > 0.0 && optimiser.layer_decay <= 1.0),
            "optimiser.layer_decay",
            "must be above 0 and at most 1",
        )?;
        refuse(!(0.0..1.0).contains(&model.drop_path), "model.drop_path", "must be at least 0 and below 1")?;
        refuse(!positive(model.layer_scale), "model.layer_scale", "must be above 0")?;
        refuse(!(1.0..=100.0).contains(&model.logit_scale), "model.logit_scale", "must be 1 to 100")?;
        for pattern in &model.freeze {
            glob::Pattern::new(pattern)
                .map_err(|e| Error::field("model.freeze", format!("`{pattern}`: {e}")))?;
        }
        self.objective(loss.caption_weight.is_some()).map(drop)
    }

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

/// A value from outside: TOML, or a bare word.
fn parse(field: &Field, text: &str) -> toml::Value {
    let scalar = |text: &str| -> toml::Value {
        let table: Option<toml::Table> = format!("v = {text}").parse().ok();
        table.and_then(|mut t| t.remove("v")).unwrap_or_else(|| text.to_owned().into())
    };
    let value = scalar(text);
    match field.is_list && !value.is_array() {
        // Commas within braces belong to a brace list.
        true => split(text).into_iter().map(scalar).collect::<Vec<_>>().into(),
        false => value,
    }
}

/// Parts between commas that stand outside of braces.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests;
