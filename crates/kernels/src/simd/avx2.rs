//! AVX2 with FMA: a vector is two 256-bit registers.

use super::{LANES, Simd};
use crate::isa::{Kernel, TileShape, run_avx2};
use std::arch::x86_64::*;

/// Proof that the code around it is compiled for AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has AVX2 and FMA, and the calling function enables them.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Avx2 {
        Avx2(())
    }
}

/// Lanes 0 to 7 and 8 to 15.
type Pair = (__m256, __m256);

// Helpers on one register. No closures: those would not be compiled with the instruction set of their surroundings.

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn lookup_half(low: __m256, high: __m256, index: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let i = _mm256_castps_si256(index);
        // Bit 3 of the index chooses the half of the table: moved to the sign, where the blend looks.
        let choose = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(i));
        _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, i), _mm256_permutevar8x32_ps(high, i), choose)
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn add_exponent_half(p: __m256, t: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(t));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), shifted))
    }
}

/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn first_half(n: i32, a: __m256, b: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let keep = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
        _mm256_blendv_ps(b, a, _mm256_castsi256_ps(keep))
    }
}

/// # Safety
/// The processor has AVX2; 8 x 8 f32 on both sides, rows so far apart.
#[inline(always)]
unsafe fn transpose_8x8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: by the caller.
    unsafe {
        let mut u = [_mm256_setzero_ps(); 8];
        for g in 0..2 {
            let row = from.add(4 * g * from_stride);
            let (a, b) = (_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(from_stride)));
            let row = row.add(2 * from_stride);
            let (c, d) = (_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(from_stride)));
            let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (low2, high2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            // Half q of u[4 g + i] holds column 4 q + i of rows 4 g to 4 g + 3.
            u[4 * g] = _mm256_shuffle_ps::<0x44>(low, low2);
            u[4 * g + 1] = _mm256_shuffle_ps::<0xee>(low, low2);
            u[4 * g + 2] = _mm256_shuffle_ps::<0x44>(high, high2);
            u[4 * g + 3] = _mm256_shuffle_ps::<0xee>(high, high2);
        }
        for i in 0..4 {
            let (a, b) = (u[i], u[4 + i]);
            _mm256_storeu_ps(to.add(i * to_stride), _mm256_permute2f128_ps::<0x20>(a, b));
            _mm256_storeu_ps(to.add((4 + i) * to_stride), _mm256_permute2f128_ps::<0x31>(a, b));
        }
    }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[inline(always)]
unsafe fn dot_bf16_half(a: __m256, b: __m256, c: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let high = _mm256_castsi256_ps(_mm256_set1_epi32(-0x1_0000));
        let low_a = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(a)));
        let low_b = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(b)));
        let c = _mm256_fmadd_ps(low_a, low_b, c);
        _mm256_fmadd_ps(_mm256_and_ps(a, high), _mm256_and_ps(b, high), c)
    }
}

/// Products of u8 and i8 in pairs would saturate (`vpmaddubsw`), so both become i16 first.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn dot_bytes_half(a: __m256, b: __m256, c: __m256) -> __m256 {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
        let even = _mm256_set1_epi16(0xff);
        let (a0, a1) = (_mm256_and_si256(a, even), _mm256_srli_epi16::<8>(a));
        let (b0, b1) = (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b)), _mm256_srai_epi16::<8>(b));
        let sum = _mm256_add_epi32(_mm256_madd_epi16(a0, b0), _mm256_madd_epi16(a1, b1));
        _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(c), sum))
    }
}

/// The nearest bf16 of each lane, ties to even, in its lower half.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn bf16_half(v: __m256) -> __m256i {
    // SAFETY: AVX2 by the caller.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        // Rounding could turn a NaN into something else.
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
    }
}

// SAFETY comments below: `Avx2` exists only where `new`'s caller vouched for the instructions.
impl Simd for Avx2 {
    type V = Pair;
    // 16 registers: 6 x 2 accumulators + 2 weights + 1 broadcast.
    const SHAPE: TileShape = TileShape { rows: 6, blocks: 1, segment: 4, streams: 6 };

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Pair {
        // SAFETY: instructions by the token, 16 readable f32 by the caller.
        unsafe { (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Pair) {
        // SAFETY: instructions by the token, 16 writable f32 by the caller.
        unsafe {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        // SAFETY: instructions by the token.
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn fnma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_fnmadd_ps(a.0, b.0, c.0), _mm256_fnmadd_ps(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }
    #[inline(always)]
    fn abs(self, a: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            (_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
        }
    }
    #[inline(always)]
    fn sqrt(self, a: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1)) }
    }
    #[inline(always)]
    fn positive(self, a: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            let (zero, one) = (_mm256_setzero_ps(), _mm256_set1_ps(1.0));
            (
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a.0, zero), one),
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a.1, zero), one),
            )
        }
    }
    #[inline(always)]
    fn lookup(self, table: &[f32; LANES], index: Pair) -> Pair {
        // SAFETY: instructions by the token; the table has 16 f32.
        unsafe {
            let low = _mm256_loadu_ps(table.as_ptr());
            let high = _mm256_loadu_ps(table.as_ptr().add(8));
            (lookup_half(low, high, index.0), lookup_half(low, high, index.1))
        }
    }
    #[inline(always)]
    fn add_exponent(self, p: Pair, t: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (add_exponent_half(p.0, t.0), add_exponent_half(p.1, t.1)) }
    }
    #[inline(always)]
    fn first(self, n: usize, a: Pair, b: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            let n = n.min(LANES) as i32;
            (first_half(n, a.0, b.0), first_half(n - 8, a.1, b.1))
        }
    }
    #[inline(always)]
    fn double_lanes(self, v: Pair, half: usize) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            let v = if half == 0 { v.0 } else { v.1 };
            (
                _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
                _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)),
            )
        }
    }
    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        // SAFETY: instructions by the token.
        unsafe {
            let v = _mm256_add_ps(v.0, v.1);
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    fn max_lane(self, v: Pair) -> f32 {
        // SAFETY: instructions by the token.
        unsafe {
            let v = _mm256_max_ps(v.0, v.1);
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: instructions by the token, 16 x 16 f32 on both sides by the caller.
        unsafe {
            for i in [0, 8] {
                for j in [0, 8] {
                    transpose_8x8(
                        from.add(i * from_stride + j),
                        from_stride,
                        to.add(j * to_stride + i),
                        to_stride,
                    );
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: instructions by the token, the kernel's demands by the caller.
        unsafe { run_avx2(kernel) }
    }

    // 16 registers: 4 x 2 accumulators, and weights and broadcasts as wider numbers.
    const DOT_SHAPE: TileShape = TileShape { rows: 4, blocks: 1, segment: 4, streams: 4 };

    #[inline(always)]
    fn dot_bf16(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (dot_bf16_half(a.0, b.0, c.0), dot_bf16_half(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn dot_bytes(self, a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe { (dot_bytes_half(a.0, b.0, c.0), dot_bytes_half(a.1, b.1, c.1)) }
    }
    #[inline(always)]
    fn float_of_int(self, v: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            (_mm256_cvtepi32_ps(_mm256_castps_si256(v.0)), _mm256_cvtepi32_ps(_mm256_castps_si256(v.1)))
        }
    }
    #[inline(always)]
    fn pair_bf16(self, low: Pair, high: Pair) -> Pair {
        // SAFETY: instructions by the token.
        unsafe {
            let (high0, high1) = (bf16_half(high.0), bf16_half(high.1));
            let first = _mm256_or_si256(_mm256_slli_epi32::<16>(high0), bf16_half(low.0));
            let second = _mm256_or_si256(_mm256_slli_epi32::<16>(high1), bf16_half(low.1));
            (_mm256_castsi256_ps(first), _mm256_castsi256_ps(second))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Pair) {
        // SAFETY: instructions by the token, 16 writable u16 by the caller.
        unsafe {
            // Packing works on quarters: 0-3, 8-11, 4-7, 12-15.
            let packed = _mm256_packus_epi32(bf16_half(v.0), bf16_half(v.1));
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b1101_1000>(packed));
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Pair) {
        // SAFETY: instructions by the token, 16 writable bytes by the caller.
        unsafe {
            let (low, high) = (_mm256_cvtps_epi32(v.0), _mm256_cvtps_epi32(v.1));
            let words = _mm256_permute4x64_epi64::<0b1101_1000>(_mm256_packus_epi32(low, high));
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), _mm_packus_epi16(low, high));
        }
    }
}
