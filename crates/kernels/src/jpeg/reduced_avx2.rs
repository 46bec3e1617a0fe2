//! The transforms of `reduced` with vectors of 16-bit numbers, as libjpeg's SIMD code has them.

use std::arch::x86_64::*;

use super::Block;
use super::reduced::*;
use super::scalar::PASS1_BITS;

/// Sums of products for columns 0 to 3 and 4 to 7.
type Columns = [__m128i; 2];

/// A row of blocks to 4 x 4 samples each.
#[target_feature(enable = "avx2")]
pub(super) fn idct_blocks_4(coefs: &[Block<i16>], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    for (i, block) in coefs.iter().enumerate() {
        let rows = dequantise(block, quant);
        let ac = [1, 2, 3, 5, 6, 7]
            .into_iter()
            .fold(_mm_setzero_si128(), |all, r| _mm_or_si128(all, load(block, r)));
        let work = if _mm_testz_si128(ac, ac) == 1 {
            [_mm_slli_epi16::<PASS1_BITS>(rows[0]); 4]
        } else {
            let mean = [
                _mm_srai_epi32::<2>(_mm_unpacklo_epi16(_mm_setzero_si128(), rows[0])),
                _mm_srai_epi32::<2>(_mm_unpackhi_epi16(_mm_setzero_si128(), rows[0])),
            ];
            let even = products(rows[2], rows[6], F_1_847, -F_0_765);
            let (outer, inner) = (add(mean, even), subtract(mean, even));
            let odd_inner = add(
                products(rows[1], rows[3], F_1_061, -F_2_172),
                products(rows[5], rows[7], F_1_451, -F_0_211),
            );
            let odd_outer = add(
                products(rows[1], rows[3], F_2_562, F_0_899),
                products(rows[5], rows[7], -F_0_601, -F_0_509),
            );
            let sums = [
                add(outer, odd_outer),
                add(inner, odd_inner),
                subtract(inner, odd_inner),
                subtract(outer, odd_outer),
            ];
            let round = _mm_set1_epi32(1 << (13 - PASS1_BITS));
            sums.map(|[low, high]| {
                let low = _mm_srai_epi32::<{ 13 - PASS1_BITS + 1 }>(_mm_add_epi32(low, round));
                let high = _mm_srai_epi32::<{ 13 - PASS1_BITS + 1 }>(_mm_add_epi32(high, round));
                _mm_packs_epi32(low, high)
            })
        };
        let weights = [
            eight([1 << 14, F_2_562, F_1_847, F_0_899, 0, -F_0_601, -F_0_765, -F_0_509]),
            eight([1 << 14, F_1_061, -F_1_847, -F_2_172, 0, F_1_451, F_0_765, -F_0_211]),
            eight([1 << 14, -F_1_061, -F_1_847, F_2_172, 0, -F_1_451, F_0_765, F_0_211]),
            eight([1 << 14, -F_2_562, F_1_847, -F_0_899, 0, F_0_601, -F_0_765, F_0_509]),
        ];
        let round = _mm_set1_epi32(1 << (13 + PASS1_BITS + 3));
        let samples = work.map(|row| {
            let [a, b, c, d] = weights.map(|weights| _mm_madd_epi16(row, weights));
            let sums = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
            _mm_srai_epi32::<{ 13 + PASS1_BITS + 3 + 1 }>(_mm_add_epi32(sums, round))
        });
        let [a, b, c, d] = samples;
        let bytes = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
        let bytes = _mm_add_epi8(bytes, _mm_set1_epi8(-128));
        let rows = [
            _mm_extract_epi32::<0>(bytes),
            _mm_extract_epi32::<1>(bytes),
            _mm_extract_epi32::<2>(bytes),
            _mm_extract_epi32::<3>(bytes),
        ];
        for (r, row) in rows.into_iter().enumerate() {
            out[r * stride + 4 * i..][..4].copy_from_slice(&row.to_le_bytes());
        }
    }
}

/// A row of blocks to 2 x 2 samples each.
#[target_feature(enable = "avx2")]
pub(super) fn idct_blocks_2(coefs: &[Block<i16>], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    for (i, block) in coefs.iter().enumerate() {
        let rows = dequantise(block, quant);
        let mean = [
            _mm_srai_epi32::<1>(_mm_unpacklo_epi16(_mm_setzero_si128(), rows[0])),
            _mm_srai_epi32::<1>(_mm_unpackhi_epi16(_mm_setzero_si128(), rows[0])),
        ];
        let odd =
            add(products(rows[1], rows[3], F_3_624, -F_1_272), products(rows[5], rows[7], F_0_850, -F_0_720));
        let round = _mm_set1_epi32(1 << (13 - PASS1_BITS + 1));
        let weights = eight([0, F_3_624, 0, -F_1_272, 0, F_0_850, 0, -F_0_720]);
        for (r, [low, high]) in [add(mean, odd), subtract(mean, odd)].into_iter().enumerate() {
            let low = _mm_srai_epi32::<{ 13 - PASS1_BITS + 2 }>(_mm_add_epi32(low, round));
            let high = _mm_srai_epi32::<{ 13 - PASS1_BITS + 2 }>(_mm_add_epi32(high, round));
            let products = _mm_madd_epi16(_mm_packs_epi32(low, high), weights);
            let pairs = _mm_hadd_epi32(products, products);
            let odd = _mm_cvtsi128_si32(_mm_hadd_epi32(pairs, pairs));
            // The first column keeps all bits.
            let mean = _mm_cvtsi128_si32(low) << 15;
            let sums = [mean.wrapping_add(odd), mean.wrapping_sub(odd)];
            let samples = sums.map(|sum| sample(descale::<2>(sum, 13 + PASS1_BITS + 3)));
            out[r * stride + 2 * i..][..2].copy_from_slice(&samples);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(block: &Block<T>, row: usize) -> __m128i {
    const { assert!(size_of::<T>() == 2) };
    let row = &block[8 * row..8 * row + 8];
    // SAFETY: eight numbers of 16 bits.
    unsafe { _mm_loadu_si128(row.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn dequantise(block: &Block<i16>, quant: &Block<u16>) -> [__m128i; 8] {
    std::array::from_fn(|row| _mm_mullo_epi16(load(block, row), load(quant, row)))
}

/// a ka + b kb.
#[inline]
#[target_feature(enable = "avx2")]
fn products(a: __m128i, b: __m128i, ka: i32, kb: i32) -> Columns {
    let weights = eight([ka, kb, ka, kb, ka, kb, ka, kb]);
    [_mm_madd_epi16(_mm_unpacklo_epi16(a, b), weights), _mm_madd_epi16(_mm_unpackhi_epi16(a, b), weights)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn eight(w: [i32; 8]) -> __m128i {
    let w = w.map(|w| w as i16);
    _mm_setr_epi16(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7])
}

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: Columns, b: Columns) -> Columns {
    [_mm_add_epi32(a[0], b[0]), _mm_add_epi32(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn subtract(a: Columns, b: Columns) -> Columns {
    [_mm_sub_epi32(a[0], b[0]), _mm_sub_epi32(a[1], b[1])]
}
