//! The forms in which pictures come from Python.

use std::borrow::Cow;
use std::path::PathBuf;

use mobileclip::image::{decode, decode_file};
use mobileclip::{Error, Model, RgbImage};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyTuple;

use crate::error::raised;

/// A picture that can be looked at without the interpreter's lock.
pub enum Photo {
    /// `str`: an image file.
    File(PathBuf),
    /// `bytes`: what an image file holds.
    Bytes(PyBackedBytes),
    /// `(width, height, pixels)`, a buffer of RGB bytes, rows from the top.
    Pixels(RgbImage),
}

impl<'py> FromPyObject<'_, 'py> for Photo {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.extract::<PyBackedBytes>() {
            return Ok(Self::Bytes(bytes));
        }
        if let Ok(parts) = object.cast::<PyTuple>() {
            let (width, height, pixels): (usize, usize, Bound<'_, PyAny>) = parts.extract()?;
            let pixels = PyBuffer::<u8>::get(&pixels)?.to_vec(object.py())?;
            return Ok(Self::Pixels(RgbImage::new(width, height, pixels).map_err(|e| raised(e.into()))?));
        }
        match object.extract::<PathBuf>() {
            Ok(path) => Ok(Self::File(path)),
            Err(_) => Err(PyTypeError::new_err(format!("{} is no picture", object.get_type().name()?))),
        }
    }
}

impl Photo {
    /// The picture itself.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn image(&self, model: &Model) -> Result<Cow<'_, RgbImage>, Error> {
        Ok(match self {
            Self::File(path) => Cow::Owned(decode_file(path, model.decode_options())?),
            Self::Bytes(bytes) => Cow::Owned(decode(bytes, model.decode_options())?),
            Self::Pixels(image) => Cow::Borrowed(image),
        })
    }
}

/// What an image tower can be given.
pub enum Input {
    /// A picture.
    Photo(Photo),
    /// A buffer of f32: a picture that was preprocessed, `[3, height, width]`.
    Prepared(Vec<f32>),
}

impl<'py> FromPyObject<'_, 'py> for Input {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match PyBuffer::<f32>::get(&object) {
            Ok(values) => Ok(Self::Prepared(values.to_vec(object.py())?)),
            Err(_) => object.extract().map(Self::Photo),
        }
    }
}

impl Input {
    /// Its features, not normalised.
    ///
    /// # Errors
    /// If it cannot be read or resized, or the weights are damaged.
    pub fn features(&self, model: &Model) -> Result<Vec<f32>, Error> {
        match self {
            Self::Photo(photo) => model.image_features(&*photo.image(model)?),
            Self::Prepared(values) => model.pixel_features(values),
        }
    }
}
