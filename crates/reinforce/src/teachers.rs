//! Several models that look at the same pictures and texts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mobileclip::image::augment::Parameters;
use mobileclip::{Model, RgbImage, normalized};
use mobileclip_shards::Sample;
use serde_json::{Value, json};

use crate::augmentations::Augmentations;
use crate::error::{Error, Failure, Result};

/// Bytes of embeddings of captions that are kept: sets made from class names repeat theirs.
const CAPTION_BYTES: usize = 64 << 20;

/// An ensemble of teachers. A row is their embeddings side by side, each of length 1.
pub struct Teachers {
    models: Vec<Model>,
    /// Bounded by being emptied.
    captions: Mutex<HashMap<String, Arc<[f32]>>>,
    captions_max: usize,
}

impl Teachers {
    /// These models in this order. They should be loaded with one thread: pictures are divided among threads, not the work on one.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(models: Vec<Model>) -> Result<Self> {
        if models.is_empty() {
            return Err(Error::Options("there is no teacher".to_owned()));
        }
        let width: usize = models.iter().map(Model::embed_dim).sum();
        let captions_max = CAPTION_BYTES / (4 * width.max(1));
        Ok(Self { models, captions: Mutex::default(), captions_max })
    }

    /// The width of each one's embedding.
    pub fn widths(&self) -> Vec<usize> {
        self.models.iter().map(Model::embed_dim).collect()
    }

    /// The longest side of the pictures that they look at.
    pub fn side(&self) -> usize {
        self.models
            .iter()
            .map(|model| model.preprocess().size)
            .map(|(h, w)| h.max(w))
            .max()
            .unwrap_or_default()
    }

    /// What tells them from others.
    pub fn describe(&self) -> Value {
        let one = |model: &Model| {
            let (height, width) = model.preprocess().size;
            json!({
                "variant": model.variant().name,
                "fingerprint": model.fingerprint(),
                "size": [height, width],
                "width": model.embed_dim(),
                "precision": model.precision().name(),
                "logit_scale": model.logit_scale(),
            })
        };
        self.models.iter().map(one).collect()
    }

    /// Packs both towers of all, which the first picture would wait for.
    ///
    /// # Errors
    /// If weights are damaged.
    pub fn pack(&self) -> Result<()> {
        for model in &self.models {
            model.tower(mobileclip::Which::Image)?;
            model.tower(mobileclip::Which::Text)?;
        }
        Ok(())
    }

    /// Adds the row of an augmented picture. Teachers of one size look at one replayed picture.
    pub(crate) fn image(
        &self,
        sample: &Sample,
        picture: &RgbImage,
        augmentations: &Augmentations,
        parameters: &Parameters,
        rows: &mut Vec<f32>,
    ) -> Result<(), Failure> {
        let mut replayed: Vec<((usize, usize), RgbImage)> = Vec::new();
        for model in &self.models {
            let preprocess = model.preprocess();
            let known = replayed.iter().position(|(size, _)| *size == preprocess.size);
            let known = match known {
                Some(known) => known,
                None => {
                    let image = augmentations.replay(parameters, picture, preprocess.size);
                    let image = image.map_err(|error| sample.bad("picture", error.to_string()))?;
                    replayed.push((preprocess.size, image));
                    replayed.len() - 1
                }
            };
            let mut pixels = vec![0.0; preprocess.tensor_len()];
            preprocess.normalize(&replayed[known].1, &mut pixels).map_err(mobileclip::Error::from)?;
            rows.extend(normalized(model.pixel_features(&pixels)?));
        }
        Ok(())
    }

    /// The row of a caption.
    pub(crate) fn text(&self, caption: &str) -> Result<Arc<[f32]>, Failure> {
        let lock = || self.captions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = lock().get(caption) {
            return Ok(Arc::clone(row));
        }
        let mut row = Vec::new();
        for model in &self.models {
            row.extend(model.encode_text(caption)?);
        }
        let row: Arc<[f32]> = row.into();
        let mut captions = lock();
        if captions.len() >= self.captions_max {
            captions.clear();
        }
        captions.insert(caption.to_owned(), Arc::clone(&row));
        Ok(row)
    }
}
