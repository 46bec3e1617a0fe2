//! Where a reading finds its numbers.

use std::borrow::Cow;
use std::sync::Arc;

/// A matrix whose file keeps it in the order of the engine's packed weights.
pub struct Packed {
    /// Whether the sums of a Strassen–Winograd level are among the numbers.
    pub has_sums: bool,
    /// The numbers, which stay where they are as long as somebody holds them.
    pub values: Arc<dyn AsRef<[f32]> + Send + Sync>,
}

/// A checkpoint's tensors by canonical name.
///
/// Whoever implements it has checked names and shapes against a [`Manifest`](crate::Manifest); a reading asks only for
/// what the manifest lists.
pub trait Weights: Send + Sync {
    /// Whether the tensor is there (which tells train from deploy form).
    fn contains(&self, name: &str) -> bool;

    /// The tensor in single precision, row-major.
    ///
    /// # Panics
    /// May panic if the tensor is not there.
    fn f32(&self, name: &str) -> Cow<'_, [f32]>;

    /// Row `row` of a matrix, as many numbers as `out` has columns: one token's embedding out of a large table.
    ///
    /// # Panics
    /// May panic if the tensor is not there or has no such row.
    fn row(&self, name: &str, row: usize, out: &mut [f32]) {
        let columns = out.len();
        out.copy_from_slice(&self.f32(name)[row * columns..][..columns]);
    }

    /// The tensor as the engine packs it, if it is kept so; [`Weights::f32`] gives it row-major as any other.
    fn packed(&self, _name: &str) -> Option<Packed> {
        None
    }

    /// Says that what was read so far will hardly be read again: a mapped file may give its memory back.
    fn release(&self) {}

    /// The tensor in double precision, row-major.
    ///
    /// # Panics
    /// May panic if the tensor is not there.
    fn f64(&self, name: &str) -> Vec<f64> {
        self.f32(name).iter().map(|&v| f64::from(v)).collect()
    }
}

impl<W: Weights + ?Sized> Weights for &W {
    fn contains(&self, name: &str) -> bool {
        (**self).contains(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        (**self).f32(name)
    }

    fn row(&self, name: &str, row: usize, out: &mut [f32]) {
        (**self).row(name, row, out);
    }

    fn packed(&self, name: &str) -> Option<Packed> {
        (**self).packed(name)
    }

    fn release(&self) {
        (**self).release();
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        (**self).f64(name)
    }
}
