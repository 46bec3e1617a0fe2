//! AVX-512: a vector is one 512-bit register.

use super::{LANES, Simd};
use crate::isa::{Kernel, TileShape, run_avx512, run_avx512_bf16, run_avx512_vnni};
use std::arch::x86_64::*;

/// No extension for products of narrow numbers.
pub(crate) const PLAIN: u8 = 0;
/// VNNI: sums of four products of bytes.
pub(crate) const VNNI: u8 = 1;
/// VNNI and BF16.
pub(crate) const BF16: u8 = 2;

/// Proof that the code around it is compiled for AVX-512 (F, DQ, BW, VL) and the extensions.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const EXTENSIONS: u8>(());

impl<const EXTENSIONS: u8> Avx512<EXTENSIONS> {
    /// # Safety
    /// The processor has AVX-512 F, DQ, BW and VL and the extensions, and the calling function enables them.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Avx512(())
    }
}

/// The nearest bf16 of each lane, ties to even, in its lower half.
///
/// # Safety
/// The processor has AVX-512 F.
#[inline(always)]
unsafe fn round_bf16(v: __m512) -> __m512i {
    // SAFETY: AVX-512 by the caller.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        // Rounding could turn a NaN into something else.
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
        _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet))
    }
}

// SAFETY comments below: `Avx512` exists only where `new`'s caller vouched for the instructions.
impl<const EXTENSIONS: u8> Simd for Avx512<EXTENSIONS> {
    type V = __m512;
    // 32 registers: 8 x 3 accumulators + 3 weights + 1 broadcast at most.
    const SHAPE: TileShape = TileShape { rows: 8, blocks: 2, segment: 8, streams: 8 };

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
        unsafe {
            if const { K::DOTS && EXTENSIONS == VNNI } {
                run_avx512_vnni(kernel)
            } else if const { K::DOTS && EXTENSIONS == BF16 } {
                run_avx512_bf16(kernel)
            } else {
                run_avx512(kernel)
            }
        }
    }

    const DOT_SHAPE: TileShape = Self::SHAPE;

    #[inline(always)]
    fn dot_bf16(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: instructions by the token; the vectors of bf16 are 64 plain bytes.
        unsafe {
            if EXTENSIONS == BF16 {
                let (a, b) =
                    (std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b));
                return _mm512_dpbf16_ps(c, a, b);
            }
            let high = _mm512_castsi512_ps(_mm512_set1_epi32(-0x1_0000));
            let low_a = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(a)));
            let low_b = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(b)));
            let c = _mm512_fmadd_ps(low_a, low_b, c);
            _mm512_fmadd_ps(_mm512_and_ps(a, high), _mm512_and_ps(b, high), c)
        }
    }
    #[inline(always)]
    fn dot_bytes(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe {
            let (a, b, c) = (_mm512_castps_si512(a), _mm512_castps_si512(b), _mm512_castps_si512(c));
            if EXTENSIONS != PLAIN {
                return _mm512_castsi512_ps(_mm512_dpbusd_epi32(c, a, b));
            }
            // As on AVX2: `vpmaddubsw` would saturate.
            let (a0, a1) = (_mm512_and_si512(a, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(a));
            let (b0, b1) = (_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b)), _mm512_srai_epi16::<8>(b));
            let sum = _mm512_add_epi32(_mm512_madd_epi16(a0, b0), _mm512_madd_epi16(a1, b1));
            _mm512_castsi512_ps(_mm512_add_epi32(c, sum))
        }
    }
    #[inline(always)]
    fn float_of_int(self, v: __m512) -> __m512 {
        // SAFETY: instructions by the token.
        unsafe { _mm512_cvtepi32_ps(_mm512_castps_si512(v)) }
    }
    #[inline(always)]
    fn pair_bf16(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: instructions by the token; the vector of bf16 is 64 plain bytes.
        unsafe {
            if EXTENSIONS == BF16 {
                let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                // Words 0, 16, 1, 17, …
                let first = _mm512_setr_epi32(
                    0x10_0000, 0x11_0001, 0x12_0002, 0x13_0003, 0x14_0004, 0x15_0005, 0x16_0006, 0x17_0007,
                    0x18_0008, 0x19_0009, 0x1a_000a, 0x1b_000b, 0x1c_000c, 0x1d_000d, 0x1e_000e, 0x1f_000f,
                );
                return _mm512_castsi512_ps(_mm512_permutexvar_epi16(first, halves));
            }
            let high = _mm512_slli_epi32::<16>(round_bf16(high));
            _mm512_castsi512_ps(_mm512_or_si512(high, round_bf16(low)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        // SAFETY: instructions by the token, 16 writable u16 by the caller.
        unsafe {
            if EXTENSIONS == BF16 {
                let narrow = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v));
                return _mm256_storeu_si256(p.cast(), narrow);
            }
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(round_bf16(v)));
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512) {
        // SAFETY: instructions by the token, 16 writable bytes by the caller.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
}
