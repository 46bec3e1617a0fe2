//! Which augmentations are drawn.

use std::path::Path;

use mobileclip::image::augment::{Config, Parameters, Replay};
use mobileclip::image::{PassOrder, RgbImage};
use mobileclip_store::Place;
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Augmentations of pictures: a configuration, how many, and the seed. Those of a picture depend on nothing else but its sample's uid and
/// its size.
#[derive(Clone, Debug)]
pub struct Augmentations {
    config: Config,
    json: Value,
    /// How many of each picture.
    pub count: u32,
    /// The seed.
    pub seed: u64,
    /// The order in which a resize makes its passes.
    pub pass_order: PassOrder,
}

impl Augmentations {
    /// The published configuration, a bicubic random resized crop and RandAugment, but for another `side` than 224 pixels: that of the
    /// teachers, since what RandAugment shifts by is stored in pixels.
    pub fn published(side: usize) -> Value {
        json!({
            "random_resized_crop": {"size": side, "interpolation": "bicubic"},
            "rand_augment": {"p": 1.0, "num_ops": 2, "magnitude": 9, "num_magnitude_bins": 31},
            "to_rgb": {},
            "to_tensor": {},
        })
    }

    /// Reads a configuration of the published form from a JSON or TOML file.
    ///
    /// # Errors
    /// If the file cannot be read or is neither.
    pub fn read(path: &Path) -> Result<Value> {
        match Self::read_if_there(path)? {
            Some(value) => Ok(value),
            None => Err(Error::io(path)(std::io::ErrorKind::NotFound.into())),
        }
    }

    /// [`Augmentations::read`], but nothing if there is no such file.
    pub(crate) fn read_if_there(path: &Path) -> Result<Option<Value>> {
        let read = Place::new(path).and_then(|place| place.read()).map_err(Error::io(path))?;
        let Some((bytes, _)) = read else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let malformed = |reason| Error::Malformed { path: path.to_path_buf(), reason };
        let value = match path.extension().is_some_and(|extension| extension == "toml") {
            true => toml::from_str(&text).map_err(|error| malformed(error.to_string().trim().to_owned())),
            false => serde_json::from_str(&text).map_err(|error| malformed(format!("no JSON: {error}"))),
        };
        value.map(Some)
    }

    /// Augmentations by a configuration that came from `path`.
    ///
    /// # Errors
    /// If it is none, mixes pictures (which is replayed, but not drawn), or `count` is 0.
    pub fn new(json: Value, path: &Path, count: u32, seed: u64, pass_order: PassOrder) -> Result<Self> {
        let config = Config::from_value(&json);
        let config = config.map_err(|source| Error::Augmentation { path: path.to_path_buf(), source })?;
        if config.mixes() {
            let reason = "mixup and cutmix are replayed, not drawn".to_owned();
            return Err(Error::Malformed { path: path.to_path_buf(), reason });
        }
        if count == 0 {
            return Err(Error::Options("no augmentations are asked for".to_owned()));
        }
        Ok(Self { config, json, count, seed, pass_order })
    }

    /// The configuration, as it was given.
    pub fn json(&self) -> &Value {
        &self.json
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// All augmentations of a picture.
    pub(crate) fn draw(
        &self,
        uid: &str,
        picture: &RgbImage,
    ) -> Result<Vec<Parameters>, mobileclip::image::augment::Error> {
        let size = (picture.width(), picture.height());
        (0..self.count).map(|index| self.config.sample(self.seed, uid, index, size)).collect()
    }

    /// The picture after an augmentation, for a model of this height and width.
    pub(crate) fn replay(
        &self,
        parameters: &Parameters,
        picture: &RgbImage,
        size: (usize, usize),
    ) -> Result<RgbImage, mobileclip::image::augment::Error> {
        let how = Replay { size: Some(size), interpolation: None, pass_order: self.pass_order };
        self.config.replay(parameters, picture, &how)
    }
}
