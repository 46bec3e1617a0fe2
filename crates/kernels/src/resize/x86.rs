//! AVX2 and AVX-512 twins. A pixel's three channels share a 128-bit lane, so four rows of one output finish as one 16-byte pack.

use core::arch::x86_64::*;
use core::ops::Range;

use super::packed::{Digits, Pairs};
use super::{HALF, ROWS_AT_ONCE, Taps, WEIGHT_BITS};

pub(super) fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vnni")
}

/// Cuts the rows into blocks of [`ROWS_AT_ONCE`] and the outputs into those whose loads (`readable` pixels from their start) stay
/// inside the row and the rest, whose pixels are first copied to rows with zeros behind them.
///
/// `kernel(first_pixel, outputs, lines, y)` gets lines that begin at source pixel `first_pixel`; `lines[k]` is row `y + k`.
pub(super) fn in_blocks(
    taps: &Taps,
    readable: usize,
    src: &[u8],
    src_stride: usize,
    rows: usize,
    mut kernel: impl FnMut(usize, Range<usize>, &[&[u8]], usize),
) {
    let width = taps.source_len();
    let inside = (0..taps.len()).take_while(|&i| taps.output(i).0 + readable <= width).count();
    let tail_first = if inside < taps.len() { taps.output(inside).0 } else { width };
    let tail_stride = (width - tail_first + readable) * 3;
    let mut tail = vec![0u8; tail_stride * ROWS_AT_ONCE];
    let mut y = 0;
    while y < rows {
        let count = (rows - y).min(ROWS_AT_ONCE);
        let mut lines = [&src[..0]; ROWS_AT_ONCE];
        for (k, line) in lines.iter_mut().take(count).enumerate() {
            *line = &src[(y + k) * src_stride..][..width * 3];
        }
        if inside > 0 {
            kernel(0, 0..inside, &lines[..count], y);
        }
        if inside < taps.len() {
            for (padded, line) in tail.chunks_exact_mut(tail_stride).zip(&lines[..count]) {
                padded[..(width - tail_first) * 3].copy_from_slice(&line[tail_first * 3..]);
            }
            let mut lines = [&tail[..0]; ROWS_AT_ONCE];
            for (line, padded) in lines.iter_mut().zip(tail.chunks_exact(tail_stride)) {
                *line = padded;
            }
            kernel(tail_first, inside..taps.len(), &lines[..count], y);
        }
        y += count;
    }
}

/// Asserts what the unchecked loads rely on, and gives exactly four rows: missing ones repeat the last.
fn four_lines<'a>(
    starts: &[usize],
    outputs: &Range<usize>,
    first: usize,
    readable: usize,
    lines: &[&'a [u8]],
) -> [&'a [u8]; 4] {
    assert!(!lines.is_empty() && lines.len() <= 4 && outputs.end <= starts.len());
    // Starts come in order, so the last one reaches farthest and the first one is the smallest.
    assert!(starts[outputs.start] >= first);
    let end = (starts[outputs.end - 1] - first + readable) * 3;
    let four = [0, 1, 2, 3].map(|k: usize| lines[k.min(lines.len() - 1)]);
    assert!(four.iter().all(|line| line.len() >= end));
    four
}

/// The first `count` rows of `pixels` pixels in `dst`; the others are empty.
fn four_rows(dst: &mut [u8], dst_stride: usize, pixels: usize, count: usize) -> [&mut [u8]; 4] {
    let mut rows = dst.chunks_mut(dst_stride).take(count);
    [(); 4].map(|()| rows.next().map_or(&mut [][..], |row| &mut row[..pixels * 3]))
}

/// Writes pixel `i` of four rows; `packed` has row k's channels in its k-th four bytes.
///
/// The fourth byte lands on the pixel behind, which is written later, except in the last pixel of a row.
#[inline(always)]
fn store_pixels(packed: [u8; 16], i: usize, rows: &mut [&mut [u8]; 4]) {
    let at = 3 * i;
    for (row, pixel) in rows.iter_mut().zip(packed.as_chunks::<4>().0) {
        if let Some(to) = row.get_mut(at..at + 4) {
            to.copy_from_slice(pixel);
        } else if let Some(to) = row.get_mut(at..at + 3) {
            to.copy_from_slice(&pixel[..3]);
        }
    }
}

/// The bytes of a vector.
#[inline]
#[target_feature(enable = "sse2")]
fn bytes_of(vector: __m128i) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    // SAFETY: the array has 16 bytes; the store may be unaligned.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) };
    bytes
}

/// Rounds, shifts, clamps and packs the sums of four rows.
#[inline]
#[target_feature(enable = "avx2")]
fn pack_pixels(sums: [__m128i; 4]) -> __m128i {
    let half = _mm_set1_epi32(HALF);
    let [a, b, c, d] = sums.map(|s| _mm_srai_epi32::<{ WEIGHT_BITS as i32 }>(_mm_add_epi32(s, half)));
    _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d))
}

/// Outputs `outputs` of up to four rows; `lines` begin at source pixel `first`.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(super) fn horizontal_rgb_avx2(
    pairs: &Pairs,
    first: usize,
    outputs: Range<usize>,
    lines: &[&[u8]],
    dst: &mut [u8],
    dst_stride: usize,
) {
    let mut rows = four_rows(dst, dst_stride, pairs.starts.len(), lines.len());
    let four = four_lines(&pairs.starts, &outputs, first, pairs.readable(), lines);
    // Lane 0 takes pixels 0 and 1, lane 1 pixels 2 and 3, each channel's two samples side by side as 16-bit numbers.
    let spread = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1,
        -1, -1, -1, -1,
    );
    let low = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    let high = _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3);
    for i in outputs {
        let mut sums_low = [_mm256_setzero_si256(); 4];
        let mut sums_high = [_mm256_setzero_si256(); 4];
        let offset = (pairs.starts[i] - first) * 3;
        for (group, weights) in pairs.weights[i * pairs.groups..][..pairs.groups].iter().enumerate() {
            // SAFETY: the array has 16 bytes; the load may be unaligned.
            let weights = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(weights.as_ptr().cast()) });
            let weights_low = _mm256_permutevar8x32_epi32(weights, low);
            let weights_high = _mm256_permutevar8x32_epi32(weights, high);
            for k in 0..4 {
                // SAFETY: offset + 12 * groups + 4 bytes lie in every line (`four_lines` asserted `readable` pixels).
                let pixels = unsafe { _mm_loadu_si128(four[k].as_ptr().add(offset + 12 * group).cast()) };
                let pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(pixels), spread);
                sums_low[k] = _mm256_add_epi32(sums_low[k], _mm256_madd_epi16(pixels, weights_low));
                sums_high[k] = _mm256_add_epi32(sums_high[k], _mm256_madd_epi16(pixels, weights_high));
            }
        }
        let mut sums = [_mm_setzero_si128(); 4];
        for k in 0..4 {
            let sum = _mm256_add_epi32(_mm256_slli_epi32::<15>(sums_high[k]), sums_low[k]);
            sums[k] = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        }
        store_pixels(bytes_of(pack_pixels(sums)), i, &mut rows);
    }
}

/// As [`horizontal_rgb_avx2`], 16 taps at a time: each lane holds four taps of the three channels.
#[inline(never)]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vbmi,avx512vnni")]
pub(super) fn horizontal_rgb_avx512(
    digits: &Digits,
    first: usize,
    outputs: Range<usize>,
    lines: &[&[u8]],
    dst: &mut [u8],
    dst_stride: usize,
) {
    const LOADED: __mmask64 = (1 << 48) - 1;
    let mut rows = four_rows(dst, dst_stride, digits.starts.len(), lines.len());
    let four = four_lines(&digits.starts, &outputs, first, digits.readable(), lines);
    let mut order = [0i8; 64];
    for (at, index) in order.iter_mut().enumerate() {
        let (lane, channel, tap) = (at / 16, at % 16 / 4, at % 4);
        // The fourth channel's sums are thrown away; any byte will do.
        *index = (lane * 12 + tap * 3 + channel.min(2)) as i8;
    }
    // SAFETY: the array has 64 bytes; the load may be unaligned.
    let spread = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let lanes = |digit: i32| {
        let base = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        _mm512_add_epi32(base, _mm512_set1_epi32(4 * digit))
    };
    let (lanes0, lanes1, lanes2) = (lanes(0), lanes(1), lanes(2));
    for i in outputs {
        let mut sums0 = [_mm512_setzero_si512(); 4];
        let mut sums1 = sums0;
        let mut sums2 = sums0;
        let offset = (digits.starts[i] - first) * 3;
        for (group, weights) in digits.weights[i * digits.groups..][..digits.groups].iter().enumerate() {
            // SAFETY: the array has 64 bytes; the load may be unaligned.
            let weights = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
            let weights0 = _mm512_permutexvar_epi32(lanes0, weights);
            let weights1 = _mm512_permutexvar_epi32(lanes1, weights);
            let weights2 = _mm512_permutexvar_epi32(lanes2, weights);
            for k in 0..4 {
                // SAFETY: the 48 bytes that the mask lets through lie in every line (`four_lines` asserted `readable` pixels).
                let pixels = unsafe {
                    _mm512_maskz_loadu_epi8(LOADED, four[k].as_ptr().add(offset + 48 * group).cast())
                };
                let pixels = _mm512_permutexvar_epi8(spread, pixels);
                sums0[k] = _mm512_dpbusd_epi32(sums0[k], pixels, weights0);
                sums1[k] = _mm512_dpbusd_epi32(sums1[k], pixels, weights1);
                sums2[k] = _mm512_dpbusd_epi32(sums2[k], pixels, weights2);
            }
        }
        let mut sums = [_mm512_setzero_si512(); 4];
        for k in 0..4 {
            let upper = _mm512_add_epi32(_mm512_slli_epi32::<8>(sums2[k]), sums1[k]);
            sums[k] = _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), sums0[k]);
        }
        // The four lanes of four rows are added so that lane k of the result is row k.
        let halves = |a, b| {
            let (low, high) =
                (_mm512_shuffle_i64x2::<0b01_00_01_00>(a, b), _mm512_shuffle_i64x2::<0b11_10_11_10>(a, b));
            _mm512_add_epi32(low, high)
        };
        let (a, b) = (halves(sums[0], sums[1]), halves(sums[2], sums[3]));
        let (even, odd) =
            (_mm512_shuffle_i64x2::<0b10_00_10_00>(a, b), _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b));
        let sum = _mm512_add_epi32(_mm512_add_epi32(even, odd), _mm512_set1_epi32(HALF));
        let shifted = _mm512_srai_epi32::<{ WEIGHT_BITS }>(sum);
        let packed = _mm512_cvtusepi32_epi8(_mm512_max_epi32(shifted, _mm512_setzero_si512()));
        store_pixels(bytes_of(packed), i, &mut rows);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn accumulate_avx2(sums: &mut [i32], weights: &[i32], rows: &[u8], stride: usize) {
    super::accumulate_generic::<64>(sums, weights, rows, stride);
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
pub(super) fn accumulate_avx512(sums: &mut [i32], weights: &[i32], rows: &[u8], stride: usize) {
    super::accumulate_generic::<128>(sums, weights, rows, stride);
}

#[target_feature(enable = "avx2")]
pub(super) fn finish_avx2(sums: &[i32], dst: &mut [u8]) {
    super::finish_generic(sums, dst);
}
