//! AVX-512: a vector is one 512-bit register.

use super::{LANES, Simd};
use crate::isa::{Kernel, TileShape, run_avx512};
use std::arch::x86_64::*;

/// Proof that the code around it is compiled for AVX-512 (F, DQ, BW, VL).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has AVX-512 F, DQ, BW and VL, and the calling function enables them.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Avx512 {
        Avx512(())
    }
}

// SAFETY comments below: `Avx512` exists only where `new`'s caller vouched for the instructions.
impl Simd for Avx512 {
    type V = __m512;
    // 32 registers: 8 x 3 accumulators + 3 weights + 1 broadcast at most.
    const SHAPE: TileShape = TileShape { rows: 8, blocks: 2, segment: 8 };

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: instructions by the token, 16 readable f32 by the caller.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: instructions by the token, 16 writable f32 by the caller.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn positive(self, a: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe {
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(above, _mm512_set1_ps(1.0))
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; LANES], index: __m512) -> __m512 {
        // SAFETY: instructions by the token; the table has 16 f32.
        unsafe { _mm512_permutexvar_ps(_mm512_castps_si512(index), _mm512_loadu_ps(table.as_ptr())) }
    }
    #[inline(always)]
    fn add_exponent(self, p: __m512, t: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), shifted))
        }
    }
    #[inline(always)]
    fn first(self, n: usize, a: __m512, b: __m512) -> __m512 {
        let mask = ((1u32 << n.min(LANES)) - 1) as u16;
        // SAFETY: instructions by the token.
        unsafe { _mm512_mask_blend_ps(mask, b, a) }
    }
    #[inline(always)]
    fn double_lanes(self, v: __m512, half: usize) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe {
            let low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
            _mm512_permutexvar_ps(_mm512_add_epi32(low, _mm512_set1_epi32(half as i32 * 8)), v)
        }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: instructions by the token.
        unsafe {
            let v = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        // SAFETY: instructions by the token.
        unsafe {
            let v = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: instructions by the token, 16 x 16 f32 on both sides by the caller.
        unsafe {
            let mut u = [_mm512_setzero_ps(); LANES];
            for g in 0..4 {
                let row = from.add(4 * g * from_stride);
                let (a, b) = (_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(from_stride)));
                let row = row.add(2 * from_stride);
                let (c, d) = (_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(from_stride)));
                let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let (low, low2) = (_mm512_castps_pd(low), _mm512_castps_pd(low2));
                let (high, high2) = (_mm512_castps_pd(high), _mm512_castps_pd(high2));
                // Quarter q of u[4 g + i] holds column 4 q + i of rows 4 g to 4 g + 3.
                u[4 * g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2));
                u[4 * g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2));
                u[4 * g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2));
                u[4 * g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2));
            }
            for i in 0..4 {
                let (a, b, c, d) = (u[i], u[4 + i], u[8 + i], u[12 + i]);
                let (v0, v1) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
                let (v2, v3) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
                _mm512_storeu_ps(to.add(i * to_stride), _mm512_shuffle_f32x4::<0x88>(v0, v2));
                _mm512_storeu_ps(to.add((4 + i) * to_stride), _mm512_shuffle_f32x4::<0xdd>(v0, v2));
                _mm512_storeu_ps(to.add((8 + i) * to_stride), _mm512_shuffle_f32x4::<0x88>(v1, v3));
                _mm512_storeu_ps(to.add((12 + i) * to_stride), _mm512_shuffle_f32x4::<0xdd>(v1, v3));
            }
        }
    }
    #[inline(always)]
    unsafe fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: instructions by the token, the kernel's demands by the caller.
        unsafe { run_avx512(kernel) }
    }
}
