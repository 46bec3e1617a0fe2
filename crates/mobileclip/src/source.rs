//! Where a loaded model's weights come from, and whether reading them went wrong.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mobileclip_arch::{Packed, Weights};
use mobileclip_checkpoint::{Checkpoint, Error, Result, TensorFile};

use crate::deploy::PackedTensors;

/// A checkpoint or a deploy file that the engine reads from as long as the model lives.
///
/// [`Weights`] cannot fail; the first error is kept here, and whoever packs a tower asks for it afterwards.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: SourceFile,
    error: Mutex<Option<Error>>,
}

#[derive(Debug)]
pub(crate) enum SourceFile {
    Checkpoint(Box<Checkpoint>),
    Deploy(Arc<TensorFile>, PackedTensors),
}

impl Source {
    pub(crate) fn new(file: SourceFile) -> Self {
        Self { file, error: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.file().path(),
            SourceFile::Deploy(file, _) => file.path(),
        }
    }

    /// The first error since the last call.
    pub(crate) fn take_error(&self) -> Result<()> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(()), Err)
    }

    /// The value, or zeros for whoever cannot fail, once the error is kept.
    fn keep<T>(&self, result: Result<T>, zeros: impl FnOnce() -> T) -> T {
        result.unwrap_or_else(|error| {
            let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert(error);
            zeros()
        })
    }

    /// The number of a tensor's elements.
    fn elements(&self, name: &str) -> usize {
        match &self.file {
            SourceFile::Checkpoint(checkpoint) => {
                checkpoint.get(name).map_or(0, |tensor| tensor.spec().shape.iter().product())
            }
            SourceFile::Deploy(file, packed) => match packed.get(name) {
                Some(tensor) => tensor.elements(),
                None => file.get(name).map_or(0, |view| view.elements()),
            },
        }
    }
}

impl Weights for Source {
    fn contains(&self, name: &str) -> bool {
        match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.get(name).is_some(),
            SourceFile::Deploy(file, _) => file.get(name).is_some(),
        }
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        let values = match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.get(name).map(|tensor| tensor.to_f32()),
            SourceFile::Deploy(file, packed) => match packed.get(name) {
                Some(tensor) => Some(tensor.unpacked(file, name).map(Cow::Owned)),
                None => file.get(name).map(|view| view.to_f32()),
            },
        };
        self.keep(values.unwrap_or_else(|| Ok(Cow::default())), || vec![0.0; self.elements(name)].into())
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        let values = match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.get(name).map(|tensor| tensor.to_f64()),
            SourceFile::Deploy(_, packed) if packed.contains_key(name) => {
                return self.f32(name).iter().map(|&v| f64::from(v)).collect();
            }
            SourceFile::Deploy(file, _) => file.get(name).map(|view| view.to_f64()),
        };
        self.keep(values.unwrap_or_else(|| Ok(Vec::new())), || vec![0.0; self.elements(name)])
    }

    fn packed(&self, name: &str) -> Option<Packed> {
        match &self.file {
            SourceFile::Checkpoint(_) => None,
            SourceFile::Deploy(file, packed) => {
                let has_sums = packed.get(name)?.has_sums;
                Some(Packed { has_sums, values: file.shared_f32(name)? })
            }
        }
    }

    fn release(&self) {
        match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.file().release(),
            SourceFile::Deploy(file, _) => file.release(),
        }
    }

    fn row(&self, name: &str, row: usize, out: &mut [f32]) {
        let view = match &self.file {
            SourceFile::Checkpoint(checkpoint) => checkpoint.get(name).and_then(|tensor| tensor.stored()),
            SourceFile::Deploy(file, _) => file.get(name),
        };
        if let Some(view) = view {
            let values = view.row_to_f32(row, out.len());
            out.copy_from_slice(&self.keep(values, || vec![0.0; out.len()]));
        }
    }
}
