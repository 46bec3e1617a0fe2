//! What a training run needs of the models that run: teachers, and measurements in between.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use mobileclip::image::Preprocess;
use mobileclip::{DecodeOptions, LoadOptions, Model, Variant, cache_folder, normalized};
use mobileclip_eval::{Encoder, EvalSet, SetOptions, SuiteSet, zero_shot};
use mobileclip_shards::Cache;
use mobileclip_train::{Config, Teacher};

use crate::args::{Global, Precision};
use crate::session;

/// Captions whose embeddings a teacher keeps; sentences about classes come again and again.
const CAPTIONS_KEPT: usize = 1 << 14;

/// Bytes of unpacked shards of the sets that are measured on.
const SHARDS_BYTES: u64 = 20 << 30;

/// Loads the teachers that a configuration names.
pub fn teachers(config: &Config, global: &Global) -> anyhow::Result<Vec<Arc<dyn Teacher>>> {
    let load = |name: &String| {
        let model = session::load_teacher(global, name, Precision::F32)?;
        Ok(Arc::new(Running { model, captions: Mutex::default() }) as Arc<dyn Teacher>)
    };
    config.teachers.checkpoints.iter().map(load).collect()
}

/// A model as a teacher.
struct Running {
    model: Model,
    captions: Mutex<HashMap<String, Vec<f32>>>,
}

impl Running {
    fn captions(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<f32>>> {
        self.captions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Teacher for Running {
    fn preprocess(&self) -> &Preprocess {
        self.model.preprocess()
    }

    fn width(&self) -> usize {
        self.model.embed_dim()
    }

    fn image(&self, pixels: &[f32]) -> Result<Vec<f32>, String> {
        self.model.pixel_features(pixels).map(normalized).map_err(|error| error.to_string())
    }

    fn text(&self, caption: &str) -> Result<Vec<f32>, String> {
        if let Some(known) = self.captions().get(caption) {
            return Ok(known.clone());
        }
        let embedding = self.model.encode_text(caption).map_err(|error| error.to_string())?;
        let mut captions = self.captions();
        if captions.len() < CAPTIONS_KEPT {
            captions.insert(caption.to_owned(), embedding.clone());
        }
        Ok(embedding)
    }
}

/// The sets that a student is measured on.
pub struct Measure {
    sets: Vec<(String, EvalSet)>,
    threads: usize,
}

impl Measure {
    /// Opens the sets that a configuration names, if it names any: what is wrong with them is said before training.
    pub fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let cache = cache_folder().map(|folder| Cache::new(folder.join("shards"), SHARDS_BYTES));
        let options = SetOptions { limit: config.eval.limit, cache, ..SetOptions::default() };
        let open = |path: &String| {
            let set = EvalSet::open(path.as_ref(), &options).with_context(|| format!("eval.sets: {path}"))?;
            Ok((SuiteSet::of(&PathBuf::from(path)).name, set))
        };
        let sets: Vec<_> = config.eval.sets.iter().map(open).collect::<anyhow::Result<_>>()?;
        Ok((!sets.is_empty()).then_some(Self { sets, threads: config.run.threads }))
    }

    /// The metric that counts of each set.
    pub fn run(
        &self,
        weights: &Path,
        variant: &Variant,
        goes_on: impl Fn() -> bool,
    ) -> Result<BTreeMap<String, f64>, String> {
        let options = LoadOptions {
            variant: Some(variant.clone()),
            threads: self.threads,
            decode: DecodeOptions::default(),
            ..LoadOptions::default()
        };
        let model = Model::open(weights, &options).map_err(|error| error.to_string())?;
        // Weights of one step are never asked for again.
        let encoder = Encoder::new(&model, None);
        let mut measured = BTreeMap::new();
        for (name, set) in &self.sets {
            let watch = &mut |_| if goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            let found = zero_shot(&encoder, set, &[1], watch).map_err(|error| error.to_string())?;
            let metric = found.main_metric();
            if let Some(value) = found.metric(metric) {
                measured.insert(format!("{name} {metric}"), value);
            }
        }
        Ok(measured)
    }
}
