//! What captions are wanted.

use mobileclip::{CaptionOptions, CaptionSettings, Filter, Method};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The options of `Model.caption`, from a dictionary.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct CaptionWishes {
    method: String,
    top_p: f64,
    top_k: usize,
    beams: usize,
    samples: usize,
    max_ids: usize,
    min_ids: usize,
    temperature: f64,
    repetition_penalty: f64,
    seed: u64,
    beginning: String,
    whole: bool,
}

impl CaptionWishes {
    /// The library's form.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn options(self) -> PyResult<CaptionOptions> {
        let method = match self.method.as_str() {
            "top-p" => Method::Sample(Filter::TopP(self.top_p)),
            "top-k" => Method::Sample(Filter::TopK(self.top_k)),
            "greedy" => Method::Greedy,
            "beam" => Method::Beam { width: self.beams },
            other => {
                let message = format!("`{other}` is no method; there are top-p, top-k, greedy, beam");
                return Err(PyValueError::new_err(message));
            }
        };
        let settings = CaptionSettings {
            method,
            max_ids: self.max_ids,
            min_ids: self.min_ids,
            temperature: self.temperature,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..CaptionSettings::default()
        };
        let Self { samples, beginning, whole, .. } = self;
        Ok(CaptionOptions { settings, samples, beginning, whole })
    }
}
