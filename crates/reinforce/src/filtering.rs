//! The stage that keeps the samples whose picture and caption fit each other (data filtering networks, arXiv:2309.17425).

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use mobileclip::Model;
use mobileclip::image::DecodeOptions;
use mobileclip_shards::{Sample, SampleStream};
use serde_json::{Map, Value, json};

use crate::embeddings::Captions;
use crate::error::{Error, Failure, Result};
use crate::pipeline::{self, Effort};
use crate::stage::{Done, OnBad, Stage, object, settle};

/// Keeps samples by the cosine of picture and caption, as a model sees them. Of several captions the best counts.
pub struct Filtering<'m> {
    /// Who judges. It should be loaded with one thread.
    pub model: &'m Model,
    /// Where captions stand.
    pub captions: Captions,
    /// The least cosine that is kept.
    pub threshold: f32,
    /// What becomes of samples without picture or caption.
    pub on_bad: OnBad,
}

impl Filtering<'_> {
    /// Sets the threshold so that the best `share` of all samples that can be judged is kept; of equal ones, all. This looks at all of
    /// them once. False if `watch`, which is told their number now and then, breaks.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1, no sample can be judged, or as [`crate::run`].
    pub fn keep_best(
        &mut self,
        share: f64,
        inputs: &[PathBuf],
        effort: Effort,
        watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<bool> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::Options(format!(
                "a share of {share} cannot be kept; it must be above 0 and at most 1"
            )));
        }
        let mut cosines = Vec::new();
        for input in inputs {
            let judge = Judge { filtering: self, cosines: Mutex::default() };
            let stream = SampleStream::open(input, mobileclip_shards::Limits::default())?;
            let before = cosines.len();
            let counts = pipeline::run(&judge, input, stream, &mut |_| Ok(()), effort, &mut |done, _| {
                watch(before + done)
            })?;
            if counts.is_none() {
                return Ok(false);
            }
            cosines.append(&mut judge.cosines.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
        self.threshold = threshold(cosines, share).ok_or_else(|| {
            Error::Options("there is no sample whose picture and caption could be compared".to_owned())
        })?;
        Ok(true)
    }

    fn cosine(&self, sample: &Sample) -> Result<f32, Failure> {
        let captions = self.captions.of(sample)?;
        let picture = sample.decode(&DecodeOptions::default())?;
        let image = match self.model.encode_image(&picture) {
            Err(mobileclip::Error::Image(error)) => {
                return Err(sample.bad("picture", error.to_string()).into());
            }
            image => image?,
        };
        let mut best = f32::NEG_INFINITY;
        for caption in captions.iter().filter(|caption| !caption.trim().is_empty()) {
            best = best.max(cosine(&image, &self.model.encode_text(caption)?));
        }
        Ok(best)
    }
}

/// The cosine of two rows of length 1.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

/// The least of the best share.
fn threshold(mut cosines: Vec<f32>, share: f64) -> Option<f32> {
    cosines.sort_by(|a, b| b.total_cmp(a));
    let kept = (share * cosines.len() as f64).round() as usize;
    cosines.get(kept.max(1) - 1).copied()
}

impl Stage for Filtering<'_> {
    fn settings(&self) -> Map<String, Value> {
        object(json!({
            "stage": "filter",
            "model": {
                "variant": self.model.variant().name,
                "fingerprint": self.model.fingerprint(),
                "precision": self.model.precision().name(),
            },
            "captions": self.captions.name(),
            "threshold": self.threshold,
            "on_bad": self.on_bad.name(),
        }))
    }

    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>> {
        let one = |sample: Sample| match self.cosine(&sample) {
            Ok(cosine) if cosine < self.threshold => Ok(Done::Rejected),
            Ok(_) => Ok(Done::Made(sample)),
            Err(failure) => settle(Err(failure), self.on_bad, || sample),
        };
        samples.into_iter().map(one).collect()
    }
}

/// Looks at samples and keeps nothing but their cosines.
struct Judge<'a> {
    filtering: &'a Filtering<'a>,
    cosines: Mutex<Vec<f32>>,
}

impl Stage for Judge<'_> {
    fn settings(&self) -> Map<String, Value> {
        Map::new()
    }

    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>> {
        let mut found = Vec::with_capacity(samples.len());
        for sample in &samples {
            match self.filtering.cosine(sample) {
                Ok(cosine) => found.push(cosine),
                // The run itself will count it.
                Err(Failure::Fault(_)) => {}
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        self.cosines.lock().unwrap_or_else(PoisonError::into_inner).append(&mut found);
        Ok(samples.iter().map(|_| Done::Rejected).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::threshold;

    #[test]
    fn the_best_share_has_a_threshold() {
        let cosines = vec![0.1, 0.4, 0.3, 0.2];
        let of = |share| threshold(cosines.clone(), share);
        assert_eq!([of(0.25), of(0.5), of(1.0), of(0.01)], [Some(0.4), Some(0.3), Some(0.1), Some(0.4)]);
        assert_eq!(threshold(Vec::new(), 0.5), None);
    }
}
