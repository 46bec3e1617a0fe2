//! The stage that augments pictures and records what teachers make of them, and of the captions.

use std::collections::BTreeMap;

use mobileclip::image::augment::Dialect;
use mobileclip::image::{DecodeOptions, RgbImage};
use mobileclip_shards::{ArrayType, Matrix, Member, Reinforcement, ReinforcementSpec, Sample, array_member};
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::augmentations::Augmentations;
use crate::error::{Error, Failure, Result};
use crate::stage::{Done, OnBad, Stage, object, settle};
use crate::teachers::Teachers;

/// What this stage writes; what an earlier run wrote there goes.
const WRITTEN: [&str; 3] = ["npz", "paug.json", "pth.gz"];
const SYNTHETIC: &str = "syn.json";

/// Where the true captions stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Captions {
    /// The member `txt` is one.
    #[default]
    Text,
    /// A field of the member `json`: a text, or a list of texts.
    Json(String),
}

impl Captions {
    /// `txt`, or `json:FIELD`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "txt" => Some(Self::Text),
            Some(("json", field)) if !field.is_empty() => Some(Self::Json(field.to_owned())),
            _ => None,
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text => "txt".to_owned(),
            Self::Json(field) => format!("json:{field}"),
        }
    }

    /// A sample's captions; there is at least one, and not all are blank.
    pub(crate) fn of(&self, sample: &Sample) -> Result<Vec<String>, Failure> {
        let (member, captions) = match self {
            Self::Text => ("txt", vec![sample.text()?.to_owned()]),
            Self::Json(field) => ("json", sample.json_texts(field)?),
        };
        match captions.iter().all(|caption| caption.trim().is_empty()) {
            true => Err(sample.bad(member, "the caption is empty").into()),
            false => Ok(captions),
        }
    }
}

/// Adds recorded augmentations and embeddings to samples: `paug.json`, and the arrays `image_emb` (a row an augmentation), `text_emb` (a
/// row a true caption) and `SET_emb` (a row a caption of `SET` in `syn.json`).
pub struct Embeddings {
    /// Who embeds.
    pub teachers: Teachers,
    /// What they look at.
    pub augmentations: Augmentations,
    /// Where true captions stand.
    pub captions: Captions,
    /// The sets of synthetic captions that are embedded, by their names from the beginning; without it all are. The others stay as they are.
    pub synthetic: Option<Regex>,
    /// How embeddings are stored.
    pub dtype: ArrayType,
    /// What happens to samples without picture or caption.
    pub on_bad: OnBad,
}

impl Embeddings {
    /// Packs the teachers and does everything once with a grey picture, so that what cannot work is told before hours of work.
    ///
    /// # Errors
    /// If weights are damaged, the augmentations do not end with pictures of a teacher's size, or they have parameters that readers of
    /// shards do not know.
    pub fn rehearse(&self) -> Result<()> {
        const SIDES: (usize, usize) = (96, 64);
        self.teachers.pack()?;
        let picture = RgbImage::new(SIDES.0, SIDES.1, vec![128; 3 * SIDES.0 * SIDES.1]);
        let picture = picture.map_err(mobileclip::Error::from)?;
        let path = std::path::Path::new("rehearsal");
        let sample = Sample::new(path.into(), "rehearsal".to_owned(), Vec::new());
        let spec = ReinforcementSpec { teacher_dims: self.teachers.widths(), ..ReinforcementSpec::default() };
        let rehearsed = self.members(&sample, &picture, &["a photo".to_owned()]).and_then(|members| {
            Reinforcement::read(&sample.with(members), 1, &spec)?;
            Ok(())
        });
        rehearsed.map_err(|failure| match failure {
            Failure::Fault(fault) => {
                Error::Options(format!("these augmentations and teachers do not fit: {fault}"))
            }
            Failure::Error(Error::Model(mobileclip::Error::Image(error))) => Error::Options(format!(
                "the augmentations do not end with the size that a teacher takes: {error}"
            )),
            Failure::Error(error) => error,
        })
    }

    /// Whether a set of synthetic captions is embedded.
    fn embeds(&self, set: &str) -> bool {
        let Some(pattern) = &self.synthetic else { return true };
        pattern.find(set).is_some_and(|found| found.start() == 0)
    }

    fn reinforced(&self, sample: &Sample) -> Result<Sample, Failure> {
        let captions = self.captions.of(sample)?;
        let picture = sample.decode(&DecodeOptions::default())?;
        let members = self.members(sample, &picture, &captions)?;
        Ok(sample.clone().without(&WRITTEN).with(members))
    }

    /// What is added to a sample.
    fn members(
        &self,
        sample: &Sample,
        picture: &RgbImage,
        captions: &[String],
    ) -> Result<Vec<Member>, Failure> {
        let bad = |member: &str, reason: String| Failure::from(sample.bad(member, reason));
        let uid = sample.uid()?;
        let sets: BTreeMap<String, Vec<String>> = match sample.get(SYNTHETIC) {
            Some(_) => sample.json(SYNTHETIC)?,
            None => BTreeMap::new(),
        };
        if let Some(taken) = ["image", "text"].into_iter().find(|taken| sets.contains_key(*taken)) {
            return Err(bad(SYNTHETIC, format!("a set is called `{taken}`, as the true ones are")));
        }
        let drawn =
            self.augmentations.draw(&uid, picture).map_err(|error| bad("picture", error.to_string()))?;
        let mut rows = Vec::new();
        for parameters in &drawn {
            self.teachers.image(sample, picture, &self.augmentations, parameters, &mut rows)?;
        }
        let width = self.teachers.widths().iter().sum();
        let matrix = |rows: usize, values: Vec<f32>| {
            Matrix::new(rows, width, values).ok_or_else(|| bad("picture", "rows of another width".to_owned()))
        };
        let mut arrays = vec![("image_emb".to_owned(), matrix(drawn.len(), rows)?)];
        let text = [("text".to_owned(), captions.to_vec())];
        for (name, captions) in text.into_iter().chain(sets.into_iter().filter(|(name, _)| self.embeds(name)))
        {
            let mut rows = Vec::new();
            for caption in &captions {
                rows.extend_from_slice(&self.teachers.text(caption)?);
            }
            arrays.push((format!("{name}_emb"), matrix(captions.len(), rows)?));
        }
        let arrays: Vec<(&str, &Matrix)> =
            arrays.iter().map(|(name, matrix)| (name.as_str(), matrix)).collect();
        let arrays = array_member(&arrays, self.dtype);
        let parameters = self.augmentations.config().write_paug(&drawn, Dialect::List);
        let mut members = vec![
            Member { suffix: "paug.json".to_owned(), bytes: parameters.into_bytes() },
            arrays.map_err(|error| bad(self.dtype.suffix(), error.to_string()))?,
        ];
        // Readers want it also where there are no synthetic captions.
        if sample.get(SYNTHETIC).is_none() {
            members.push(Member { suffix: SYNTHETIC.to_owned(), bytes: b"{}".to_vec() });
        }
        Ok(members)
    }
}

impl Stage for Embeddings {
    fn settings(&self) -> Map<String, Value> {
        let Augmentations { count, seed, pass_order, .. } = &self.augmentations;
        let mut settings = json!({
            "stage": "embeddings",
            "num_samples": count,
            "seed": seed,
            // As the published trainer reads it.
            "reinforce": {"image_augmentation": self.augmentations.json()},
            "pass_order": pass_order,
            "teachers": self.teachers.describe(),
            "captions": self.captions.name(),
            "dtype": self.dtype,
            "on_bad": self.on_bad.name(),
        });
        // Folders of all sets were made before there was a choice.
        if let Some(pattern) = &self.synthetic {
            settings["synthetic"] = json!(pattern.as_str());
        }
        object(settings)
    }

    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>> {
        let one = |sample: Sample| settle(self.reinforced(&sample), self.on_bad, || sample.without(&WRITTEN));
        samples.into_iter().map(one).collect()
    }
}
