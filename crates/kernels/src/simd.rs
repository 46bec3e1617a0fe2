//! The vocabulary of the kernels: 16 lanes of f32, whatever registers they need.

use crate::isa::{Kernel, TileShape};

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) mod avx512;
pub(crate) mod scalar;

/// Lanes of a vector, and channels of a block.
pub const LANES: usize = 16;

/// Sixteen f32 lanes and what the kernels do with them.
///
/// A value of an implementing type exists only inside a function that enables its instruction set, so the methods that
/// touch no memory are safe to call. All are `#[inline(always)]`: they must become part of that function.
pub(crate) trait Simd: Copy {
    /// Sixteen lanes.
    type V: Copy;
    /// Register tiles that fit.
    const SHAPE: TileShape;

    /// # Safety
    /// `p` is valid for reading 16 f32.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `p` is valid for writing 16 f32.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once except on the scalar twin.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a * b, rounded once except on the scalar twin.
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// 1 where a > 0, else 0; 0 for NaN.
    fn positive(self, a: Self::V) -> Self::V;
    /// Lane i becomes `table[bits of index[i] mod 16]`.
    fn lookup(self, table: &[f32; LANES], index: Self::V) -> Self::V;
    /// Adds (bits of `t`) << 23 to the bits of `p`: multiplies by 2^n where `t` is n + 1.5 * 2^23.
    fn add_exponent(self, p: Self::V, t: Self::V) -> Self::V;
    /// Lanes i < n of `a`, the others from `b`.
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V;
    /// Lane i becomes lane i / 2 (`half` = 0) or 8 + i / 2 (`half` = 1).
    fn double_lanes(self, v: Self::V, half: usize) -> Self::V;
    /// Sum of the lanes, as a tree: ((i, i+8), (i, i+4), (i, i+2), (i, i+1)).
    fn sum(self, v: Self::V) -> f32;
    /// The largest lane.
    fn max_lane(self, v: Self::V) -> f32;

    /// Transposes 16 rows of 16 f32: row i of the result holds column i.
    ///
    /// # Safety
    /// `from` is valid for reading 16 f32 at each of 16 multiples of `from_stride`, `to` for writing likewise.
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
    /// Runs a kernel in a function of its own, compiled for the same instruction set.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn call<K: Kernel>(self, kernel: K);

    // Products of narrow numbers. A lane is a carrier of 32 bits: two bf16, four bytes, or an i32. Whoever uses these sets
    // [`Kernel::DOTS`].

    /// Register tiles that fit the products of narrow numbers.
    const DOT_SHAPE: TileShape;

    /// Lanes of two bf16 each: a.low * b.low + a.high * b.high + c in f32.
    fn dot_bf16(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lanes of four bytes, unsigned in `a`, signed in `b`: the i32 c plus the sum of the four products, exact (modulo 2^32).
    fn dot_bytes(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lanes of i32 as f32, rounded to nearest.
    fn float_of_int(self, v: Self::V) -> Self::V;
    /// Rounds both as [`Simd::store_bf16`]: lane i becomes the pair of `low`'s and `high`'s lane i.
    fn pair_bf16(self, low: Self::V, high: Self::V) -> Self::V;
    /// Rounds to nearest even and stores as bf16. NaN stays NaN; subnormal numbers may become zero.
    ///
    /// # Safety
    /// `p` is valid for writing 16 u16.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V);
    /// Rounds numbers of 0 to 255 to nearest even and stores them as bytes; others become some byte.
    ///
    /// # Safety
    /// `p` is valid for writing 16 bytes.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::V);

    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
}
