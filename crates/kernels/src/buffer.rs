//! Memory for maps, weights and scratch.

use crate::simd::LANES;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Numbers that live elsewhere, in a mapped file say, as long as somebody holds them.
pub type SharedNumbers = Arc<dyn AsRef<[f32]> + Send + Sync>;

/// Buffers of at least so many bytes ask for huge pages: weights are touched once from end to end, and a fault for every
/// 4 KiB of them costs as much as packing.
const HUGE_FROM: usize = 4 << 20;

/// Zeroed f32 on a 64-byte boundary: vectors that cross cache lines would cost an AVX-512 kernel half of its loads.
///
/// ```
/// let mut b = mobileclip_kernels::Buffer::zeroed(17);
/// b[16] = 1.0;
/// assert_eq!(b.len(), 17);
/// assert_eq!(b.as_ptr() as usize % 64, 0);
/// ```
#[derive(Default)]
pub struct Buffer(Memory);

enum Memory {
    /// Up to a line longer than asked for, so that there is an aligned start in it.
    Own { values: Vec<f32>, start: usize, len: usize },
    /// As many as there were at first: kernels rely on the length, and an `AsRef` may change its mind.
    Shared { numbers: SharedNumbers, len: usize },
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::Own { values: Vec::new(), start: 0, len: 0 }
    }
}

impl Buffer {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        // Zeros of the system's own: its pages are not touched before they are used.
        let mut values = vec![0.0f32; len + LANES];
        ask_for_huge_pages(&mut values);
        let line = LANES * size_of::<f32>();
        let misaligned = values.as_ptr() as usize % line;
        let start = if misaligned == 0 { 0 } else { (line - misaligned) / size_of::<f32>() };
        Buffer(Memory::Own { values, start, len })
    }

    /// Numbers that others hold too, where they lie, which may be on any boundary. Whoever writes gets a copy.
    pub fn shared(numbers: SharedNumbers) -> Buffer {
        let len = (*numbers).as_ref().len();
        Buffer(Memory::Shared { numbers, len })
    }

    /// Whether others hold the numbers too.
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Memory::Shared { .. })
    }
}

/// A hint: where it is refused or unknown, pages stay small.
fn ask_for_huge_pages(values: &mut [f32]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        const PAGE: usize = 4096;
        const MADV_HUGEPAGE: i32 = 14;
        unsafe extern "C" {
            fn madvise(address: *mut std::ffi::c_void, len: usize, advice: i32) -> i32;
        }
        let bytes = size_of_val(values);
        let address = values.as_mut_ptr().cast::<u8>();
        let skip = (PAGE - address as usize % PAGE) % PAGE;
        if bytes >= HUGE_FROM {
            // SAFETY: the range lies inside `values`, and the advice changes how it is backed, not what it holds.
            unsafe { madvise(address.add(skip).cast(), (bytes - skip) / PAGE * PAGE, MADV_HUGEPAGE) };
        }
    }
}

impl Clone for Buffer {
    /// Aligned anew: a copied vector may lie elsewhere.
    fn clone(&self) -> Buffer {
        match &self.0 {
            Memory::Own { .. } => Buffer::from(&**self),
            Memory::Shared { numbers, .. } => Buffer::shared(Arc::clone(numbers)),
        }
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Buffer {
        let mut buffer = Buffer::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &self.0 {
            Memory::Own { values, start, len } => &values[*start..*start + *len],
            Memory::Shared { numbers, len } => &(**numbers).as_ref()[..*len],
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        if self.is_shared() {
            *self = Buffer::from(&**self);
        }
        match &mut self.0 {
            Memory::Own { values, start, len } => &mut values[*start..*start + *len],
            Memory::Shared { .. } => &mut [],
        }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} f32)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_numbers_stay_where_they_are_until_written() {
        let numbers: SharedNumbers = Arc::new(vec![1.0, 2.0]);
        let mut buffer = Buffer::shared(Arc::clone(&numbers));
        assert_eq!(buffer.as_ptr(), (*numbers).as_ref().as_ptr());
        assert_eq!(buffer.clone().as_ptr(), buffer.as_ptr());
        buffer[0] = 3.0;
        assert_eq!((&*buffer, (*numbers).as_ref()), (&[3.0, 2.0][..], &[1.0, 2.0][..]));
    }
}
