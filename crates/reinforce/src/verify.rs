//! Whether reinforced shards are what they say: stored parameters replayed, and the teachers asked again.

use std::path::{Path, PathBuf};

use mobileclip::image::augment::Parameters;
use mobileclip::image::{DecodeOptions, RgbImage};
use mobileclip_shards::{
    Fault, Limits, Reinforcement, ReinforcementSpec, Sample, SampleStream, Shard, Tally,
};
use mobileclip_store::is_remote;
use serde::Serialize;

use crate::augmentations::Augmentations;
use crate::embeddings::Captions;
use crate::error::{Error, Failure, Result};
use crate::filtering::cosine;
use crate::teachers::Teachers;

/// Shards on a store that are read.
const READ: usize = 4;

/// How near stored embeddings are to those that teachers give now.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Samples that were looked at.
    pub samples: usize,
    /// Augmented pictures.
    pub images: Cosines,
    /// Captions, synthetic ones too.
    pub texts: Cosines,
    /// Samples that could not be compared.
    pub faults: Tally,
}

/// Cosines of stored embeddings to new ones, each teacher's part for itself.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cosines {
    /// How many.
    pub count: usize,
    /// The least.
    pub min: f32,
    /// Their sum.
    #[serde(skip)]
    sum: f64,
}

impl Default for Cosines {
    fn default() -> Self {
        Self { count: 0, min: 1.0, sum: 0.0 }
    }
}

impl Cosines {
    /// Their mean; of none, 1.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 1.0 } else { self.sum / self.count as f64 }
    }

    /// Compares two rows, part by part.
    fn add(&mut self, stored: &[f32], made: &[f32], widths: &[usize]) {
        let mut start = 0;
        for &width in widths {
            let part = |row: &[f32]| row.get(start..start + width).unwrap_or_default().to_vec();
            let (stored, made) = (mobileclip::normalized(part(stored)), part(made));
            let cosine = cosine(&stored, &made);
            self.count += 1;
            self.min = self.min.min(cosine);
            self.sum += f64::from(cosine);
            start += width;
        }
    }
}

/// The augmentations that a folder was made with, from the `config.json` beside the shards; nothing if there is none.
///
/// # Errors
/// If there is one that cannot be read.
pub fn recorded_augmentations(shard: &Path) -> Result<Option<Augmentations>> {
    let path = shard.with_file_name(crate::CONFIG);
    let Some(json) = Augmentations::read_if_there(&path)? else { return Ok(None) };
    let pass_order = json.get("pass_order").cloned().unwrap_or_default();
    let pass_order = serde_json::from_value(pass_order).unwrap_or_default();
    Augmentations::new(json, &path, 1, 0, pass_order).map(Some)
}

/// Looks at `count` samples, spread evenly over the shards; of shards on a store, over a few of them, since they are read as a whole.
///
/// # Errors
/// If a shard cannot be opened, or a teacher fails.
pub fn verify(
    shards: &[PathBuf],
    teachers: &Teachers,
    augmentations: &Augmentations,
    captions: &Captions,
    count: usize,
) -> Result<Verification> {
    let mut found = Verification::default();
    let chosen = match shards.iter().any(|shard| is_remote(shard)) {
        true => few(shards),
        false => shards.to_vec(),
    };
    let shards: Vec<Source> =
        chosen.iter().map(|path| Source::open(path, &mut found.faults)).collect::<Result<_>>()?;
    let total: usize = shards.iter().map(Source::len).sum();
    let count = count.min(total);
    let mut wanted = (0..count).map(|i| i * total / count.max(1)).peekable();
    let mut start = 0;
    for shard in &shards {
        let end = start + shard.len();
        let mut here = Vec::new();
        while let Some(i) = wanted.next_if(|&i| i < end) {
            here.push(i - start);
        }
        start = end;
        for sample in shard.samples(here)? {
            let compared = sample.map_err(Failure::Fault);
            let compared =
                compared.and_then(|sample| compare(&sample, teachers, augmentations, captions, &mut found));
            match compared {
                Ok(()) => found.samples += 1,
                Err(Failure::Fault(fault)) => found.faults.add(&fault),
                Err(Failure::Error(error)) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Some of the shards, spread evenly over the list.
fn few(shards: &[PathBuf]) -> Vec<PathBuf> {
    let kept = shards.len().min(READ);
    (0..kept).filter_map(|i| shards.get(i * shards.len() / kept)).cloned().collect()
}

/// A shard of which a few samples are wanted.
enum Source {
    /// Its samples can be had in any order.
    Indexed(Box<Shard>),
    /// It has to be read from the front, and has so many samples.
    Streamed(PathBuf, usize),
}

impl Source {
    fn open(path: &Path, faults: &mut Tally) -> Result<Self> {
        match Shard::open(path, None, &Limits::default()) {
            Ok(shard) => {
                shard.faults().iter().for_each(|fault| faults.add(fault));
                Ok(Self::Indexed(Box::new(shard)))
            }
            Err(mobileclip_shards::Error::NoCache { .. }) => {
                let mut samples = 0;
                let mut stream = SampleStream::open(path, Limits::default())?;
                for sample in stream.by_ref() {
                    match sample {
                        Ok(_) => samples += 1,
                        Err(fault) => faults.add(&fault),
                    }
                }
                stream.check()?;
                Ok(Self::Streamed(path.to_path_buf(), samples))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Indexed(shard) => shard.len(),
            Self::Streamed(_, samples) => *samples,
        }
    }

    /// The samples of these numbers, which ascend.
    fn samples(&self, numbers: Vec<usize>) -> Result<Box<dyn Iterator<Item = Result<Sample, Fault>> + '_>> {
        match self {
            Self::Indexed(shard) => Ok(Box::new(numbers.into_iter().filter_map(|i| shard.sample(i)))),
            Self::Streamed(path, _) => {
                let last = numbers.last().map_or(0, |last| last + 1);
                let whole = SampleStream::open(path, Limits::default())?
                    .filter(std::result::Result::is_ok)
                    .take(last);
                let chosen = move |(i, sample)| numbers.binary_search(&i).is_ok().then_some(sample);
                Ok(Box::new(whole.enumerate().filter_map(chosen)))
            }
        }
    }
}

fn compare(
    sample: &Sample,
    teachers: &Teachers,
    augmentations: &Augmentations,
    captions: &Captions,
    found: &mut Verification,
) -> Result<(), Failure> {
    let widths = teachers.widths();
    let captions = captions.of(sample)?;
    let spec = ReinforcementSpec { teacher_dims: widths.clone(), ..ReinforcementSpec::default() };
    let reinforcement = Reinforcement::read(sample, captions.len(), &spec)?;
    let picture: RgbImage = sample.decode(&DecodeOptions::default())?;
    let parameters = parameters(sample, augmentations)?;
    for (i, parameters) in parameters.iter().enumerate() {
        let mut row = Vec::new();
        teachers.image(sample, &picture, augmentations, parameters, &mut row)?;
        found.images.add(reinforcement.image_embeddings.row(i), &row, &widths);
    }
    for (i, caption) in captions.iter().enumerate() {
        found.texts.add(reinforcement.text_embeddings.row(i), &teachers.text(caption)?, &widths);
    }
    for set in &reinforcement.synthetic {
        for (i, caption) in set.captions.iter().enumerate() {
            found.texts.add(set.embeddings.row(i), &teachers.text(caption)?, &widths);
        }
    }
    Ok(())
}

pub(crate) fn parameters(sample: &Sample, augmentations: &Augmentations) -> Result<Vec<Parameters>, Fault> {
    let read = augmentations.config().read_paug(sample.require("paug.json")?);
    read.map(|(parameters, _)| parameters).map_err(|error| sample.bad("paug.json", error.to_string()))
}

impl Verification {
    /// As a program would read it.
    pub fn json(&self) -> impl Serialize {
        let one = |cosines: &Cosines| serde_json::json!({"count": cosines.count, "min": cosines.min, "mean": cosines.mean()});
        serde_json::json!({
            "samples": self.samples,
            "images": one(&self.images),
            "texts": one(&self.texts),
            "faults": self.faults.counts().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }

    /// Whether all that was looked at could be compared, and is at least as near as `cosine`.
    pub fn is_within(&self, cosine: f32) -> Result<bool> {
        if self.samples == 0 && self.faults.total() == 0 {
            return Err(Error::Options("there are no samples to look at".to_owned()));
        }
        Ok(self.faults.total() == 0 && self.images.min >= cosine && self.texts.min >= cosine)
    }
}
