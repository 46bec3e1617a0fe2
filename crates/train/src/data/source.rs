//! One sample of a set, ready for a batch.

use std::sync::Arc;

use mobileclip_arch::{Interpolation, ResizeMode, Variant};
use mobileclip_autodiff::Random;
use mobileclip_image::augment::{self, Replay};
use mobileclip_image::{self as image, DecodeOptions, Filter, PassOrder, Preprocess, RgbImage};
use mobileclip_shards::{
    Augmentation, Cache, Dataset, Fault, Limits, Matrix, Reinforcement, ReinforcementSpec, Sample, expand,
};
use mobileclip_text::Tokenizer;
use regex::Regex;
use serde_json::{Map, Value};

use super::captions::{Captions, pick};
use super::classes::Classes;
use super::crop::{mirrored, random_part};
use crate::config::{Augment, Config, DataConfig, Pick};
use crate::error::{Error, Result};
use crate::teacher::Teacher;

/// The suffixes of pictures and of what reinforced shards add.
const PICTURES: [&str; 4] = ["webp", "png", "jpg", "jpeg"];
const REINFORCEMENT: [&str; 4] = ["paug.json", "syn.json", "npz", "pth.gz"];

/// A sample as a batch wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its key in the shard.
    pub key: String,
    /// `[3, height, width]`, normalised.
    pub image: Vec<f32>,
    /// Token ids of the true caption, and of the synthetic one if there are both.
    pub captions: Vec<Vec<u32>>,
    /// What other samples may have too, and are its positives then.
    pub class: Option<String>,
    /// Its class's place in `data.names`.
    pub label: Option<usize>,
    /// The teachers' embedding of the picture; empty without teachers.
    pub teacher_image: Vec<f32>,
    /// The teachers' embeddings of the captions.
    pub teacher_captions: Vec<Vec<f32>>,
}

/// Why a sample was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// What such samples are counted by: `bad jpg`, `no txt`, `small picture`.
    pub cause: String,
    /// Shard, key and reason.
    pub message: String,
}

impl From<Fault> for Skip {
    fn from(fault: Fault) -> Skip {
        Skip { cause: fault.cause(), message: fault.to_string() }
    }
}

/// Makes items of a set's samples, each a function of (seed, epoch, sample). Shared by the threads that do it.
pub struct Source {
    dataset: Dataset,
    captions: Captions,
    /// Of sets whose classes have names.
    classes: Option<Classes>,
    /// Of reinforced sets.
    reinforcement: Option<(ReinforcementSpec, Regex)>,
    tokenizer: Tokenizer,
    context: usize,
    preprocess: Preprocess,
    /// Teachers that run while training.
    teachers: Vec<Arc<dyn Teacher>>,
    config: DataConfig,
    random: Random,
}

impl Source {
    /// Opens the shards; `progress` gets each one's path. `teachers` are those that run while training, if there are any; without them
    /// embeddings come from reinforced shards.
    ///
    /// # Errors
    /// If a shard cannot be opened, there is no sample, or class names or templates cannot be read.
    pub fn open(
        config: &Config,
        variant: &Variant,
        teachers: Vec<Arc<dyn Teacher>>,
        progress: &mut dyn FnMut(&std::path::Path),
    ) -> Result<Source> {
        let data = &config.data;
        let tokenizer = Tokenizer::of_size(variant.text.tokenizer_size());
        if variant.text.vocabulary < tokenizer.vocabulary_size() {
            let (found, needed) = (variant.text.vocabulary, tokenizer.vocabulary_size());
            return Err(Error::field(
                "model.variant",
                format!(
                    "its text tower has a vocabulary of {found}, the tokenizer {needed} (text.cut_vocabulary cuts it)"
                ),
            ));
        }
        let cache = data.cache.as_ref().map(|folder| Cache::new(folder, (data.cache_gb * 1e9) as u64));
        let dataset = Dataset::open(&expand(&data.shards)?, cache.as_ref(), &Limits::default(), progress);
        let dataset = dataset.map_err(|error| match error {
            mobileclip_shards::Error::NoCache { .. } => Error::field("data.cache", error.to_string()),
            error => error.into(),
        })?;
        if dataset.is_empty() || u32::try_from(dataset.len()).is_err() {
            return Err(Error::field("data.shards", format!("{} samples; must be 1 to 2^32", dataset.len())));
        }
        let reinforcement = (data.augment == Augment::Recorded).then(|| {
            let spec = ReinforcementSpec {
                // Embeddings in the shards are of no use beside teachers that run.
                teacher_dims: match config.teachers.checkpoints.is_empty() {
                    true => config.loss.teacher_widths.clone(),
                    false => Vec::new(),
                },
                tag: data.tag.clone(),
                ..ReinforcementSpec::default()
            };
            let pattern = Regex::new(&data.synthetic);
            pattern.map(|pattern| (spec, pattern)).map_err(|e| Error::field("data.synthetic", e.to_string()))
        });
        Ok(Source {
            dataset,
            captions: Captions::new(data)?,
            classes: Classes::new(data)?,
            reinforcement: reinforcement.transpose()?,
            tokenizer,
            context: variant.text.context,
            preprocess: preprocess(variant),
            teachers,
            config: data.clone(),
            random: Random::new(config.run.seed).with_name("data"),
        })
    }

    /// The samples.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Height and width of the images.
    pub fn size(&self) -> (usize, usize) {
        self.preprocess.size
    }

    /// Token ids of a prompt for each class that has a name, as they are in this step.
    pub fn prompts(&self, step: u64) -> Vec<u32> {
        let prompts = |classes: &Classes| -> Vec<u32> {
            let random = self.random.with_name("prompts").with(step);
            classes.prompts(random).flat_map(|prompt| self.tokens(&prompt)).collect()
        };
        self.classes.as_ref().map(prompts).unwrap_or_default()
    }

    /// How many classes have names.
    pub fn class_count(&self) -> usize {
        self.classes.as_ref().map_or(0, Classes::count)
    }

    pub(super) fn random(&self) -> Random {
        self.random
    }

    /// Sample `number` as it is in this epoch.
    ///
    /// # Errors
    /// [`Skip`] if it cannot be used.
    pub fn item(&self, epoch: u64, number: u32) -> Result<Item, Skip> {
        let random = self.random.with_name("sample").with(epoch).with(u64::from(number));
        let sample = self.read(number)?;
        let choose = |what: &str, count: usize| match self.config.pick {
            Pick::Random => pick(random.with_name(what), count),
            Pick::Sequential => (epoch % count.max(1) as u64) as usize,
        };
        let mut texts = self.captions.of(&sample, random)?;
        let text = choose("caption", texts.len());
        let picture = sample.decode(&DecodeOptions::default())?;
        if picture.width().min(picture.height()) < self.config.smallest_side {
            let (width, height) = (picture.width(), picture.height());
            let fault = sample.bad("picture", format!("{width} x {height} is smaller than allowed"));
            return Err(Skip { cause: "small picture".to_owned(), message: fault.to_string() });
        }
        let bad_picture = |error: image::Error| Skip::from(sample.bad("picture", error.to_string()));
        let mut item = Item {
            key: sample.key().to_owned(),
            image: vec![0.0; self.preprocess.tensor_len()],
            captions: Vec::new(),
            class: None,
            label: None,
            teacher_image: Vec::new(),
            teacher_captions: Vec::new(),
        };
        item.class = self.class(&sample)?;
        if let (Some(classes), Some(class)) = (&self.classes, &item.class) {
            let unknown = || sample.bad("json", format!("class `{class}` is not in data.names"));
            item.label = Some(classes.number(class).ok_or_else(unknown)?);
        }
        // The captions that count, each with what the teachers stored of it.
        let (pairs, view) = match &self.reinforcement {
            None => (vec![(texts.swap_remove(text), Vec::new())], View::Drawn(random)),
            Some((spec, pattern)) => {
                let mut reinforcement = Reinforcement::read(&sample, texts.len(), spec)?;
                let true_caption =
                    (texts.swap_remove(text), reinforcement.text_embeddings.row(text).to_vec());
                let synthetic = || {
                    let chosen = synthetic(&reinforcement, pattern, |what, count| match what {
                        "set" => pick(random.with_name(what), count),
                        _ => choose(what, count),
                    });
                    chosen.ok_or_else(|| {
                        sample.bad("syn.json", format!("no captions in a set whose name matches `{pattern}`"))
                    })
                };
                let pairs = match self.config.mix_synthetic {
                    None => vec![true_caption, synthetic()?],
                    Some(share) if random.with_name("mix").unit() < share => vec![synthetic()?],
                    // Sets without synthetic captions are trained on with a share of 0.
                    Some(_) => vec![true_caption],
                };
                let which = choose("augmentation", reinforcement.augmentations.len());
                if which >= reinforcement.augmentations.len() {
                    return Err(sample.bad("paug.json", "no augmentation").into());
                }
                item.teacher_image = reinforcement.image_embeddings.row(which).to_vec();
                (pairs, View::Recorded(reinforcement.augmentations.swap_remove(which)))
            }
        };
        let filter = Some(self.preprocess.interpolation);
        let seen = self.see(&sample, &picture, &view, &self.preprocess, filter)?;
        self.preprocess.normalize(&seen, &mut item.image).map_err(bad_picture)?;
        for (caption, mut embedding) in pairs {
            item.captions.push(self.tokens(&caption));
            for teacher in &self.teachers {
                embedding.extend(teacher.text(&caption).map_err(|reason| sample.bad("teacher", reason))?);
            }
            item.teacher_captions.push(embedding);
        }
        for teacher in &self.teachers {
            let preprocess = teacher.preprocess();
            let seen = self.see(&sample, &picture, &view, preprocess, None)?;
            let mut pixels = vec![0.0; preprocess.tensor_len()];
            preprocess.normalize(&seen, &mut pixels).map_err(bad_picture)?;
            item.teacher_image
                .extend(teacher.image(&pixels).map_err(|reason| sample.bad("teacher", reason))?);
        }
        Ok(item)
    }

    /// The members that are needed.
    fn read(&self, number: u32) -> Result<Sample, Skip> {
        let wanted = |suffix: &str| {
            let reinforced = self.reinforcement.is_some() && REINFORCEMENT.contains(&suffix);
            PICTURES.contains(&suffix)
                || reinforced
                || self.captions.wants(suffix)
                || (self.class_field().is_some() && suffix == "json")
        };
        let place = self.dataset.locate(number as usize);
        let shard = place.and_then(|(shard, i)| Some((self.dataset.shards().get(shard)?, i)));
        match shard.and_then(|(shard, i)| shard.select(i, wanted)) {
            Some(sample) => Ok(sample?),
            None => {
                Err(Skip { cause: "no sample".to_owned(), message: format!("there is no sample {number}") })
            }
        }
    }

    /// The field of the member json that makes samples positives of each other.
    fn class_field(&self) -> Option<&str> {
        self.config.positives.as_deref().and_then(|field| field.strip_prefix("json:"))
    }

    fn class(&self, sample: &Sample) -> Result<Option<String>, Fault> {
        let Some(field) = self.class_field().filter(|_| sample.get("json").is_some()) else {
            return Ok(None);
        };
        let object: Map<String, Value> = sample.json("json")?;
        Ok(match object.get(field) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        })
    }

    fn tokens(&self, caption: &str) -> Vec<u32> {
        self.tokenizer.tokenize(caption, self.context)
    }

    /// The picture at a tower's size, the same part of it for every tower. Recorded augmentations are replayed by `filter`, or by the one
    /// that they were recorded with, by which teachers see them.
    fn see(
        &self,
        sample: &Sample,
        picture: &RgbImage,
        view: &View,
        preprocess: &Preprocess,
        filter: Option<Filter>,
    ) -> Result<RgbImage, Skip> {
        let &Preprocess { size: (height, width), interpolation, pass_order, .. } = preprocess;
        let random = match view {
            View::Recorded(augmentation) => {
                let how = Replay { size: Some((height, width)), interpolation: filter, pass_order };
                let bad = |error: augment::Error| sample.bad("paug.json", error.to_string()).into();
                return augmentation.replay(picture, &how).map_err(bad);
            }
            View::Drawn(random) => random,
        };
        let bad = |error: image::Error| Skip::from(sample.bad("picture", error.to_string()));
        if self.config.augment == Augment::Centre {
            return preprocess.crop(picture).map_err(bad);
        }
        let DataConfig { crop_scale, crop_ratio, flip, .. } = self.config;
        let part =
            random_part(random.with_name("crop"), picture.width(), picture.height(), crop_scale, crop_ratio);
        let crop =
            image::crop_resize(picture, part, width, height, interpolation, pass_order).map_err(bad)?;
        match random.with_name("flip").unit() < flip {
            true => mirrored(&crop).map_err(bad),
            false => Ok(crop),
        }
    }
}

/// How a sample's picture is seen.
enum View {
    /// As its random numbers say.
    Drawn(Random),
    /// As a reinforced shard says.
    Recorded(Augmentation),
}

/// A caption of a matching set, with its embedding.
fn synthetic(
    reinforcement: &Reinforcement,
    pattern: &Regex,
    choose: impl Fn(&str, usize) -> usize,
) -> Option<(String, Vec<f32>)> {
    let matching = |name: &str| pattern.find(name).is_some_and(|found| found.start() == 0);
    let sets: Vec<_> =
        reinforcement.synthetic.iter().filter(|s| matching(&s.name) && !s.captions.is_empty()).collect();
    let set = sets.get(choose("set", sets.len()))?;
    let which = choose("synthetic caption", set.captions.len());
    let embeddings: &Matrix = &set.embeddings;
    Some((set.captions.get(which)?.clone(), embeddings.row(which).to_vec()))
}

/// What a variant's pictures go through.
fn preprocess(variant: &Variant) -> Preprocess {
    let of = &variant.preprocess;
    let side = variant.image_size();
    Preprocess {
        size: (side, side),
        mean: of.mean,
        std: of.std,
        interpolation: match of.interpolation {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
        },
        resize_mode: match of.resize_mode {
            ResizeMode::Shortest => image::ResizeMode::Shortest,
            ResizeMode::Squash => image::ResizeMode::Squash,
        },
        pass_order: PassOrder::default(),
        ..Preprocess::default()
    }
}
