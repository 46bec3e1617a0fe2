//! Texts to token ids and back.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

/// CLIP's tokenizer, with a vocabulary of some size.
#[pyclass(frozen, module = "mobileclip._native")]
pub struct Tokenizer(mobileclip::Tokenizer);

#[pymethods]
impl Tokenizer {
    #[new]
    fn new(vocabulary_size: usize) -> Self {
        Self(mobileclip::Tokenizer::of_size(vocabulary_size))
    }

    #[getter]
    fn vocabulary_size(&self) -> usize {
        self.0.vocabulary_size()
    }

    /// Writes a row of ids for each text into `out`, i64 `[texts, context]`.
    fn tokenize(
        &self,
        py: Python<'_>,
        texts: Vec<String>,
        context: usize,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let ids: Vec<i64> = py
            .detach(|| texts.iter().flat_map(|text| self.0.tokenize(text, context)).map(i64::from).collect());
        PyBuffer::<i64>::get(out)?.copy_from_slice(py, &ids)
    }

    /// The ids of a text of any length, between its marks.
    fn encode(&self, text: &str) -> Vec<u32> {
        self.0.encode(text)
    }

    /// The text that ids stand for.
    fn decode(&self, ids: Vec<u32>) -> String {
        self.0.decode(&ids)
    }
}
