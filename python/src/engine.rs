//! A loaded model.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mobileclip::{
    CaptionWriter, DecodeOptions, Error, LoadOptions, Model, Precision, RgbImage, Variant, normalized,
};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::captions::CaptionWishes;
use crate::error::{raised, raised_at};
use crate::photo::{Input, Photo};

type Captioner = CaptionWriter<Arc<Model>>;

/// A model, and what it needs to write captions once somebody asked for some.
#[pyclass(frozen, module = "mobileclip._native")]
pub struct Engine {
    model: Arc<Model>,
    captioner: OnceLock<Captioner>,
    packing: Mutex<()>,
    /// The process that loaded it: a fork has no threads but one.
    process: u32,
}

/// Labels of one model, embedded.
#[pyclass(frozen, module = "mobileclip._native")]
pub struct Labels(mobileclip::Labels);

#[pymethods]
impl Labels {
    /// Writes their embeddings into `out`, f32 `[labels, dimension]`.
    fn embeddings(&self, py: Python<'_>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        PyBuffer::<f32>::get(out)?.copy_from_slice(py, &self.0.embeddings().concat())
    }
}

/// One label's text, probability and logit.
type Score = (String, f32, f32);

#[pymethods]
impl Engine {
    /// Loads a model directory, a checkpoint file or a deploy file.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        precision: &str,
        threads: usize,
        variant: Option<&str>,
        image_size: Option<(usize, usize)>,
        exif: bool,
        fast_decode: bool,
        max_pixels: Option<u64>,
    ) -> PyResult<Self> {
        let mut decode = DecodeOptions::default();
        decode.apply_orientation = exif;
        decode.max_pixels = max_pixels.unwrap_or(decode.max_pixels);
        let options = LoadOptions {
            variant: variant.map(variant_of).transpose()?,
            threads,
            image_size,
            decode,
            fast_decode,
            precision: precision_of(precision)?,
        };
        let model = py.detach(|| Model::open(&path, &options)).map_err(raised)?;
        Ok(Self {
            model: Arc::new(model),
            captioner: OnceLock::new(),
            packing: Mutex::default(),
            process: std::process::id(),
        })
    }

    /// Writes a row of features for each input into `out`, f32 `[inputs, dimension]`. `first` is the number of the first in
    /// the caller's list, if it is one.
    #[pyo3(signature = (inputs, out, *, normalize, first))]
    fn image_features(
        &self,
        py: Python<'_>,
        inputs: Vec<Input>,
        out: &Bound<'_, PyAny>,
        normalize: bool,
        first: Option<usize>,
    ) -> PyResult<()> {
        let model = self.model()?;
        let rows = py.detach(|| model.in_parallel(&inputs, |input| input.features(model)));
        write(
            py,
            out,
            normalize,
            rows.into_iter()
                .enumerate()
                .map(|(i, row)| row.map_err(|error| raised_at(first.map(|first| first + i), error))),
        )
    }

    /// Writes a row of features for each text into `out`, f32 `[texts, dimension]`.
    #[pyo3(signature = (texts, out, *, normalize))]
    fn text_features(
        &self,
        py: Python<'_>,
        texts: Vec<String>,
        out: &Bound<'_, PyAny>,
        normalize: bool,
    ) -> PyResult<()> {
        let model = self.model()?;
        let rows = py.detach(|| model.features_of_texts(&texts));
        write(py, out, normalize, rows.into_iter().map(|row| row.map_err(raised)))
    }

    /// Writes a row of features for each row of `ids`, i64 `[rows, width]`, into `out`, f32 `[rows, dimension]`.
    #[pyo3(signature = (ids, width, out, *, normalize))]
    fn token_features(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        width: usize,
        out: &Bound<'_, PyAny>,
        normalize: bool,
    ) -> PyResult<()> {
        let model = self.model()?;
        let id = |id: i64| {
            u32::try_from(id)
                .map_err(|_| PyValueError::new_err(format!("{id} is no token id of this vocabulary")))
        };
        let ids =
            PyBuffer::<i64>::get(ids)?.to_vec(py)?.into_iter().map(id).collect::<PyResult<Vec<u32>>>()?;
        let rows: Vec<&[u32]> = ids.chunks(width.max(1)).collect();
        let rows = py.detach(|| model.in_parallel(&rows, |row| model.token_features(row)));
        write(py, out, normalize, rows.into_iter().map(|row| row.map_err(raised)))
    }

    /// Writes the numbers that the image tower takes of a picture into `out`, f32 `[3, height, width]`.
    fn prepare(&self, py: Python<'_>, photo: Photo, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let model = &*self.model;
        let prepared = py.detach(|| Ok::<_, Error>(model.preprocess().apply(&*photo.image(model)?)?));
        PyBuffer::<f32>::get(out)?.copy_from_slice(py, &prepared.map_err(raised)?)
    }

    /// Embeds every label in every template.
    fn embed_labels(&self, py: Python<'_>, names: Vec<String>, templates: Vec<String>) -> PyResult<Labels> {
        let model = self.model()?;
        py.detach(|| mobileclip::Labels::embed(model, &names, &templates)).map(Labels).map_err(raised)
    }

    /// Scores of an embedding, best first.
    fn scores(&self, py: Python<'_>, labels: &Labels, image: &Bound<'_, PyAny>) -> PyResult<Vec<Score>> {
        let image = PyBuffer::<f32>::get(image)?.to_vec(py)?;
        let scores = py.detach(|| labels.0.scores(&self.model, &image));
        Ok(scores.into_iter().map(|score| (score.label, score.probability, score.logit)).collect())
    }

    /// Captions of pictures; `names` decide with the seed what is by chance. `first` as in `image_features`.
    #[pyo3(signature = (photos, names, wishes, *, first))]
    fn captions(
        &self,
        py: Python<'_>,
        photos: Vec<Photo>,
        names: Vec<String>,
        wishes: CaptionWishes,
        first: Option<usize>,
    ) -> PyResult<Vec<Vec<String>>> {
        let options = wishes.options()?;
        let model = self.model()?;
        py.detach(|| {
            let writer = self.captioner().map_err(raised)?;
            let images = model.in_parallel(&photos, |photo| photo.image(model).map(Cow::into_owned));
            let images = images.into_iter().enumerate();
            let images =
                images.map(|(i, image)| image.map_err(|e| raised_at(first.map(|first| first + i), e)));
            let images = images.collect::<PyResult<Vec<RgbImage>>>()?;
            let pictures: Vec<(&str, &RgbImage)> = names.iter().map(String::as_str).zip(&images).collect();
            writer.caption(&pictures, &options).map_err(raised)
        })
    }

    /// The variant's name.
    #[getter]
    fn name(&self) -> &str {
        &self.model.variant().name
    }

    /// The file of the weights.
    #[getter]
    fn path(&self) -> &OsStr {
        self.model.path().as_os_str()
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.model.precision().name()
    }

    #[getter]
    fn is_precision_native(&self) -> bool {
        self.model.is_precision_native()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    #[getter]
    fn instruction_set(&self) -> &'static str {
        self.model.instruction_set()
    }

    #[getter]
    fn embed_dim(&self) -> usize {
        self.model.embed_dim()
    }

    #[getter]
    fn logit_scale(&self) -> f32 {
        self.model.logit_scale()
    }

    #[getter]
    fn context_length(&self) -> usize {
        self.model.variant().text.context
    }

    /// Entries of the tokenizer's vocabulary.
    #[getter]
    fn vocabulary_size(&self) -> usize {
        self.model.variant().text.tokenizer_size()
    }

    /// Height and width of what the image tower takes.
    #[getter]
    fn image_size(&self) -> (usize, usize) {
        self.model.preprocess().size
    }

    #[getter]
    fn image_mean(&self) -> [f32; 3] {
        self.model.preprocess().mean
    }

    #[getter]
    fn image_std(&self) -> [f32; 3] {
        self.model.preprocess().std
    }

    #[getter]
    fn writes_captions(&self) -> bool {
        self.model.variant().captioner.is_some()
    }

    /// What tells whether embeddings are this model's.
    fn fingerprint(&self, py: Python<'_>) -> String {
        py.detach(|| self.model.fingerprint())
    }
}

impl Engine {
    /// The model, unless its threads are in another process.
    fn model(&self) -> PyResult<&Model> {
        match self.is_orphaned() {
            false => Ok(&self.model),
            true => Err(PyRuntimeError::new_err(
                "the model was loaded before this process was forked, and its threads were left behind; load it in the \
                 child, start the child with the method `spawn`, or load it with threads=1",
            )),
        }
    }

    fn is_orphaned(&self) -> bool {
        self.model.threads() > 1 && self.process != std::process::id()
    }

    /// The captioner, packed when first used.
    fn captioner(&self) -> Result<&Captioner, Error> {
        if let Some(captioner) = self.captioner.get() {
            return Ok(captioner);
        }
        let _packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(captioner) = self.captioner.get() {
            return Ok(captioner);
        }
        let captioner = CaptionWriter::new(Arc::clone(&self.model))?;
        Ok(self.captioner.get_or_init(|| captioner))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.is_orphaned() {
            // Its threads cannot be waited for here: they are the parent's.
            std::mem::forget(Arc::clone(&self.model));
        }
    }
}

/// Rows of features into a buffer.
fn write(
    py: Python<'_>,
    out: &Bound<'_, PyAny>,
    normalize: bool,
    rows: impl Iterator<Item = PyResult<Vec<f32>>>,
) -> PyResult<()> {
    let mut flat = Vec::new();
    for row in rows {
        let row = row?;
        flat.extend(if normalize { normalized(row) } else { row });
    }
    PyBuffer::<f32>::get(out)?.copy_from_slice(py, &flat)
}

pub fn precision_of(name: &str) -> PyResult<Precision> {
    match name {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        "int8" => Ok(Precision::Int8),
        _ => Err(PyValueError::new_err(format!("`{name}` is no precision; there are f32, bf16, int8"))),
    }
}

/// A variant by its name, or from a TOML file.
pub fn variant_of(name_or_file: &str) -> PyResult<Variant> {
    if let Some(variant) = mobileclip::variant(name_or_file) {
        return Ok(variant.clone());
    }
    if !name_or_file.ends_with(".toml") {
        let names: Vec<&str> = mobileclip::variants().iter().map(|variant| variant.name.as_str()).collect();
        let names = names.join(", ");
        let message =
            format!("no variant is named `{name_or_file}`, and it is no .toml file; there are {names}");
        return Err(PyValueError::new_err(message));
    }
    let path = PathBuf::from(name_or_file);
    let toml = std::fs::read_to_string(&path).map_err(|source| raised(Error::Io { path, source }))?;
    Variant::parse(&toml)
        .map_err(|error| PyValueError::new_err(format!("{name_or_file}: not a variant: {error}")))
}
