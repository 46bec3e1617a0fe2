//! The portable twin: arrays of 16 f32, which compilers vectorise as they can.

use super::{LANES, Simd};
use crate::isa::{Kernel, TileShape, run_scalar};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut out = a;
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn fold(mut v: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
    }
    v[0]
}

impl Simd for Scalar {
    type V = [f32; LANES];
    const SHAPE: TileShape = TileShape { rows: 2, blocks: 1, segment: 2, streams: 1 };

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller promises 16 readable f32; the read is unaligned.
        unsafe { p.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller promises 16 writable f32; the write is unaligned.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a / b)
    }
    // Not `mul_add`: without the instruction it is a library call, fifty times slower.
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.add(zip(a, b, |a, b| a * b), c)
    }
    #[inline(always)]
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.sub(c, zip(a, b, |a, b| a * b))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        zip(a, a, |a, _| a.abs())
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        zip(a, a, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn positive(self, a: Self::V) -> Self::V {
        zip(a, a, |a, _| if a > 0.0 { 1.0 } else { 0.0 })
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; LANES], index: Self::V) -> Self::V {
        zip(index, index, |i, _| table[i.to_bits() as usize % LANES])
    }
    #[inline(always)]
    fn add_exponent(self, p: Self::V, t: Self::V) -> Self::V {
        zip(p, t, |p, t| f32::from_bits(p.to_bits().wrapping_add(t.to_bits() << 23)))
    }
    #[inline(always)]
    fn first(self, n: usize, a: Self::V, b: Self::V) -> Self::V {
        let mut out = b;
        let n = n.min(LANES);
        out[..n].copy_from_slice(&a[..n]);
        out
    }
    #[inline(always)]
    fn double_lanes(self, v: Self::V, half: usize) -> Self::V {
        let mut out = v;
        for i in 0..LANES {
            out[i] = v[half * 8 + i / 2];
        }
        out
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        fold(v, |a, b| a + b)
    }
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        fold(v, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..LANES {
            for j in 0..LANES {
                // SAFETY: the caller promises 16 x 16 f32 on both sides.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
    #[inline(always)]
    unsafe fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: instructions by the token, the kernel's demands by the caller.
        unsafe { run_scalar(kernel) }
    }

    const DOT_SHAPE: TileShape = TileShape { rows: 2, blocks: 1, segment: 2, streams: 1 };

    #[inline(always)]
    fn dot_bf16(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            let (a, b) = (a[i].to_bits(), b[i].to_bits());
            out[i] += f32::from_bits(a << 16) * f32::from_bits(b << 16);
            out[i] += f32::from_bits(a & 0xffff_0000) * f32::from_bits(b & 0xffff_0000);
        }
        out
    }
    #[inline(always)]
    fn dot_bytes(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        let mut out = c;
        for i in 0..LANES {
            let (a, b) = (a[i].to_bits().to_le_bytes(), b[i].to_bits().to_le_bytes());
            let mut sum = c[i].to_bits().cast_signed();
            for j in 0..4 {
                sum = sum.wrapping_add(i32::from(a[j]) * i32::from(b[j].cast_signed()));
            }
            out[i] = f32::from_bits(sum.cast_unsigned());
        }
        out
    }
    #[inline(always)]
    fn float_of_int(self, v: Self::V) -> Self::V {
        zip(v, v, |v, _| v.to_bits().cast_signed() as f32)
    }
    #[inline(always)]
    fn pair_bf16(self, low: Self::V, high: Self::V) -> Self::V {
        zip(low, high, |low, high| f32::from_bits(u32::from(bf16(high)) << 16 | u32::from(bf16(low))))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::V) {
        let rounded = v.map(bf16);
        // SAFETY: the caller promises 16 writable u16; the write is unaligned.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(rounded) }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::V) {
        let rounded = v.map(|v| v.round_ties_even() as u8);
        // SAFETY: the caller promises 16 writable bytes.
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(rounded) }
    }
}

/// The nearest bf16, ties to even.
#[inline(always)]
pub(crate) fn bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
