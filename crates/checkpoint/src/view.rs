//! One tensor of a file.

use std::borrow::Cow;

use crate::dtype::{self, Dtype};
use crate::error::{Result, describe};
use crate::file::{Entry, TensorFile};

/// One tensor of a [`TensorFile`]: a type, a shape, and where its elements lie. Nothing is decoded until asked for.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    file: &'a TensorFile,
    entry: &'a Entry,
}

impl<'a> TensorView<'a> {
    pub(crate) fn new(file: &'a TensorFile, entry: &'a Entry) -> TensorView<'a> {
        TensorView { file, entry }
    }

    /// The name in the file, after `module.` and the like were taken off.
    pub fn name(&self) -> &'a str {
        &self.entry.name
    }

    /// The element type in the file.
    pub fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    /// The dimensions; `[]` for a scalar.
    pub fn shape(&self) -> &'a [usize] {
        &self.entry.shape
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.entry.elements
    }

    /// The elements in row-major order, little-endian. Borrowed from the map unless strides demand gathering.
    ///
    /// # Errors
    /// The zip's check sum of the storage disagrees with its contents (looked at once for each storage).
    pub fn bytes(&self) -> Result<Cow<'a, [u8]>> {
        let storage = self.file.storage(self.entry)?;
        let size = self.entry.dtype.bytes();
        let out_of_bounds = || self.file.tensor_error(&self.entry.name, "reaches beyond its storage".into());
        let Some(strides) = &self.entry.strides else {
            let start = self.entry.offset.checked_mul(size);
            let end = self.entry.offset.checked_add(self.entry.elements).and_then(|e| e.checked_mul(size));
            let bytes = start.zip(end).and_then(|(s, e)| storage.get(s..e)).ok_or_else(out_of_bounds)?;
            return Ok(Cow::Borrowed(bytes));
        };
        gather(storage, size, self.entry.offset, &self.entry.shape, strides, self.entry.elements)
            .map(Cow::Owned)
            .ok_or_else(out_of_bounds)
    }

    /// The elements in row-major order as f32; borrowed where the file holds f32. f64 and integers are rounded.
    ///
    /// # Errors
    /// As [`TensorView::bytes`].
    pub fn to_f32(&self) -> Result<Cow<'a, [f32]>> {
        Ok(dtype::to_f32(self.entry.dtype, self.bytes()?))
    }

    /// Row `row` of a matrix of `columns` columns, as f32: what a look-up in a large table needs.
    ///
    /// # Errors
    /// As [`TensorView::bytes`], or there is no such row.
    pub fn row_to_f32(&self, row: usize, columns: usize) -> Result<Vec<f32>> {
        let bytes = self.bytes()?;
        let length = columns.saturating_mul(self.dtype().bytes());
        let start = row.saturating_mul(length);
        let part = bytes.get(start..start.saturating_add(length)).ok_or_else(|| {
            self.file.tensor_error(&self.entry.name, format!("has no row {row} of {columns} columns"))
        })?;
        Ok(dtype::to_f32(self.entry.dtype, Cow::Borrowed(part)).into_owned())
    }

    /// The elements in row-major order as f64, exact but for integers above 2^53.
    ///
    /// # Errors
    /// As [`TensorView::bytes`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        Ok(dtype::to_f64(self.entry.dtype, &self.bytes()?))
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name(), describe(self.shape(), self.dtype()))
    }
}

/// Copies a strided view to row-major order. `None` if it reaches beyond `storage`, which `TensorFile` has excluded.
fn gather(
    storage: &[u8],
    size: usize,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
    elements: usize,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(elements.checked_mul(size)?);
    let mut index = vec![0usize; shape.len()];
    let mut at = offset;
    for _ in 0..elements {
        let start = at.checked_mul(size)?;
        out.extend_from_slice(storage.get(start..start.checked_add(size)?)?);
        for ((i, &dim), &stride) in index.iter_mut().zip(shape).zip(strides).rev() {
            *i += 1;
            at = at.checked_add(stride)?;
            if *i < dim {
                break;
            }
            at = at.checked_sub(stride.checked_mul(dim)?)?;
            *i = 0;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::gather;

    #[test]
    fn gathers_transposed_and_expanded() {
        let bytes: Vec<u8> = (0..6).collect();
        assert_eq!(gather(&bytes, 1, 0, &[3, 2], &[1, 3], 6).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(gather(&bytes, 2, 1, &[2, 2], &[1, 0], 4).unwrap(), [2, 3, 2, 3, 4, 5, 4, 5]);
        assert_eq!(gather(&bytes, 1, 5, &[2], &[1], 2), None);
    }
}
