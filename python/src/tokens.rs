//! Texts to token ids and back.

use std::sync::LazyLock;

use mobileclip::Tokenizer;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

/// All models of the family share it.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::new);

/// Writes a row of ids for each text into `out`, i64 `[texts, context]`.
#[pyfunction]
pub fn tokenize(py: Python<'_>, texts: Vec<String>, context: usize, out: &Bound<'_, PyAny>) -> PyResult<()> {
    let ids: Vec<i64> = py
        .detach(|| texts.iter().flat_map(|text| TOKENIZER.tokenize(text, context)).map(i64::from).collect());
    PyBuffer::<i64>::get(out)?.copy_from_slice(py, &ids)
}

/// The ids of a text of any length, between its marks.
#[pyfunction]
pub fn encode(text: &str) -> Vec<u32> {
    TOKENIZER.encode(text)
}

/// The text that ids stand for.
#[pyfunction]
pub fn decode(ids: Vec<u32>) -> String {
    TOKENIZER.decode(&ids)
}
