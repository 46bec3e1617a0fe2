//! The stage that writes synthetic captions.

use std::collections::BTreeMap;

use mobileclip::image::DecodeOptions;
use mobileclip::{CaptionOptions, CaptionWriter, Filter, Method, Model, RgbImage};
use mobileclip_shards::{Fault, Member, Sample};
use serde_json::{Map, Value, json};

use crate::error::{Error, Failure, Result};
use crate::stage::{Done, OnBad, Stage, object, settle};

const SYNTHETIC: &str = "syn.json";
/// Where embeddings are, of captions too.
const EMBEDDED: [&str; 2] = ["npz", "pth.gz"];

/// Adds a set of synthetic captions to samples (`syn.json`), in place of one of the same name. Captions depend on the seed, the sample's
/// uid and the caption's number alone.
pub struct Captioning<'m> {
    writer: CaptionWriter<&'m Model>,
    /// What tells the captioner from others.
    model: Value,
    set: String,
    options: CaptionOptions,
    on_bad: OnBad,
}

impl<'m> Captioning<'m> {
    /// Captions by a model, as the set `set`. The model should be loaded with one thread.
    ///
    /// # Errors
    /// If the model writes no captions, or the options contradict each other or the model.
    pub fn new(model: &'m Model, set: &str, options: CaptionOptions, on_bad: OnBad) -> Result<Self> {
        if !set.starts_with("syn_text") || set.ends_with("_emb") {
            let reason =
                "its captions would not be found: the name must begin with syn_text and not end in _emb";
            return Err(Error::Options(format!("set `{set}`: {reason}")));
        }
        let writer = model.caption_writer()?;
        let (variant, fingerprint) = (&model.variant().name, model.fingerprint());
        let described =
            json!({"variant": variant, "fingerprint": fingerprint, "precision": model.precision().name()});
        // What cannot work is told before hours of work.
        let (height, width) = model.preprocess().size;
        let grey =
            RgbImage::new(width, height, vec![128; 3 * width * height]).map_err(mobileclip::Error::from)?;
        let once = CaptionOptions { samples: 1, ..options.clone() };
        writer.caption(&[("rehearsal", &grey)], &once)?;
        Ok(Self { writer, model: described, set: set.to_owned(), options, on_bad })
    }

    /// A sample's uid, its picture, and the sets that it has.
    fn open(&self, sample: &Sample) -> Result<(String, RgbImage, BTreeMap<String, Value>), Fault> {
        if let Some(embedded) = EMBEDDED.into_iter().find(|suffix| sample.get(suffix).is_some()) {
            let reason = "has embeddings of other captions already; captions are written before embeddings";
            return Err(sample.bad(embedded, reason));
        }
        let sets = match sample.get(SYNTHETIC) {
            Some(_) => sample.json(SYNTHETIC)?,
            None => BTreeMap::new(),
        };
        Ok((sample.uid()?, sample.decode(&DecodeOptions::default())?, sets))
    }

    /// The captions of pictures; what is wrong with one of them stands in its place.
    fn captions(&self, pictures: &[(&str, &RgbImage)]) -> Result<Vec<Result<Vec<String>, String>>, Error> {
        match self.writer.caption(pictures, &self.options) {
            Ok(captions) => Ok(captions.into_iter().map(Ok).collect()),
            Err(mobileclip::Error::Image(error)) if pictures.len() == 1 => Ok(vec![Err(error.to_string())]),
            Err(mobileclip::Error::Image(_)) => {
                let alone = pictures.iter().map(|picture| self.captions(std::slice::from_ref(picture)));
                Ok(alone.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Stage for Captioning<'_> {
    fn settings(&self) -> Map<String, Value> {
        let CaptionOptions { settings, samples, beginning, whole } = &self.options;
        let method = match settings.method {
            Method::Greedy => json!("greedy"),
            Method::Sample(Filter::TopP(p)) => json!({"top_p": p}),
            Method::Sample(Filter::TopK(k)) => json!({"top_k": k}),
            Method::Beam { width } => json!({"beam": width}),
        };
        object(json!({
            "stage": "captions",
            "set": self.set,
            "num_samples": samples,
            "seed": settings.seed,
            "captioner": self.model,
            "method": method,
            "max_ids": settings.max_ids,
            "min_ids": settings.min_ids,
            "temperature": settings.temperature,
            "repetition_penalty": settings.repetition_penalty,
            "beginning": beginning,
            "whole": whole,
            "on_bad": self.on_bad.name(),
        }))
    }

    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>> {
        let opened: Vec<_> = samples.iter().map(|sample| self.open(sample)).collect();
        let pictures: Vec<(&str, &RgbImage)> =
            opened.iter().flatten().map(|(uid, picture, _)| (uid.as_str(), picture)).collect();
        let mut captions = self.captions(&pictures)?.into_iter();
        let mut done = Vec::with_capacity(samples.len());
        for (sample, opened) in samples.iter().zip(&opened) {
            let captioned = match opened {
                Err(fault) => Err(Failure::Fault(fault.clone())),
                Ok((_, _, sets)) => match captions.next().unwrap_or_else(|| Ok(Vec::new())) {
                    Err(reason) => Err(sample.bad("picture", reason).into()),
                    Ok(captions) => {
                        let mut sets = sets.clone();
                        sets.insert(self.set.clone(), captions.into());
                        let bytes = serde_json::to_vec(&sets).unwrap_or_default();
                        Ok(sample.clone().with(vec![Member { suffix: SYNTHETIC.to_owned(), bytes }]))
                    }
                },
            };
            done.push(settle(captioned, self.on_bad, || sample.clone())?);
        }
        Ok(done)
    }
}
