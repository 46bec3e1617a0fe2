use super::Block;
use super::scalar::{self, DESCALE_COLUMNS, DESCALE_ROWS, cosines::*};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// Two blocks at a time, one in each 128-bit lane: unpacking and packing stay inside the lanes.
///
/// # Safety
/// The CPU has AVX2; `out` has at least 7 `stride` + 8 n bytes for the n blocks.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn idct_blocks(coefs: &[Block<i16>], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    let (pairs, rest) = coefs.as_chunks::<2>();
    for (p, pair) in pairs.iter().enumerate() {
        // SAFETY: the pair's 16 columns lie inside the 8 n columns that the caller vouches for.
        unsafe { idct_pair(pair, quant, &mut out[16 * p..], stride) };
    }
    if let [block] = rest {
        let mut wide = [0; 8 * 16];
        // SAFETY: `wide` has 8 rows of 16 bytes.
        unsafe { idct_pair(&[*block, [0; 64]], quant, &mut wide, 16) };
        for (row, samples) in wide.as_chunks::<16>().0.iter().enumerate() {
            let start = row * stride + 16 * pairs.len();
            out[start..start + 8].copy_from_slice(&samples[..8]);
        }
    }
}

/// # Safety
/// The CPU has AVX2; `out` has at least 7 `stride` + 16 bytes.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn idct_pair(pair: &[Block<i16>; 2], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    debug_assert!(out.len() >= 7 * stride + 16);
    // SAFETY: `row` < 8, so the 8 values lie inside the 64 of a block.
    let load =
        |block: &Block<i16>, row: usize| unsafe { _mm_loadu_si128(block.as_ptr().add(8 * row).cast()) };
    let raw: [__m256i; 8] =
        std::array::from_fn(|row| _mm256_set_m128i(load(&pair[1], row), load(&pair[0], row)));
    // SAFETY: `row` < 8 as above.
    let step = |row: usize| unsafe {
        _mm256_broadcastsi128_si256(_mm_loadu_si128(quant.as_ptr().add(8 * row).cast()))
    };
    let first = _mm256_mullo_epi16(raw[0], step(0));
    // Within +-8191 the transform of a block without vertical frequencies needs no case of its own.
    let limit = _mm256_set1_epi16(8191);
    if _mm256_movemask_epi8(_mm256_cmpgt_epi16(_mm256_abs_epi16(first), limit)) != 0
        || _mm256_movemask_epi8(_mm256_cmpeq_epi16(first, _mm256_set1_epi16(i16::MIN))) != 0
    {
        return scalar::idct_blocks(pair, quant, out, stride);
    }
    let or3 = |a, b, c| _mm256_or_si256(_mm256_or_si256(a, b), c);
    let ac = or3(
        or3(raw[1], raw[2], raw[3]),
        or3(raw[4], raw[5], raw[6]),
        or3(raw[7], _mm256_bslli_epi128(_mm256_bsrli_epi128(raw[0], 2), 2), _mm256_setzero_si256()),
    );
    // SAFETY: rows are below 8 and `out` has 7 `stride` + 16 bytes.
    let mut store =
        |row: usize, samples| unsafe { _mm_storeu_si128(out.as_mut_ptr().add(row * stride).cast(), samples) };
    let center = _mm256_set1_epi8(-128);
    if _mm256_testz_si256(ac, ac) == 1 {
        let dc = _mm256_srai_epi16(_mm256_add_epi16(first, _mm256_set1_epi16(4)), 3);
        let bytes = _mm256_xor_si256(_mm256_packs_epi16(dc, dc), center);
        let flat = _mm256_shuffle_epi8(bytes, _mm256_setzero_si256());
        let samples = _mm_unpacklo_epi64(_mm256_castsi256_si128(flat), _mm256_extracti128_si256(flat, 1));
        for row in 0..8 {
            store(row, samples);
        }
        return;
    }
    let rows: [__m256i; 8] =
        std::array::from_fn(|row| if row == 0 { first } else { _mm256_mullo_epi16(raw[row], step(row)) });
    let columns = transpose(idct_1d::<{ DESCALE_COLUMNS }>(rows));
    let c = idct_1d::<{ DESCALE_ROWS }>(columns);
    // Pack to bytes first, then transpose: half the shuffles.
    let p: [__m256i; 4] = std::array::from_fn(|i| _mm256_packs_epi16(c[i], c[i + 4]));
    let left01 = _mm256_unpacklo_epi8(p[0], p[1]);
    let right01 = _mm256_unpackhi_epi8(p[0], p[1]);
    let left23 = _mm256_unpacklo_epi8(p[2], p[3]);
    let right23 = _mm256_unpackhi_epi8(p[2], p[3]);
    let quads = [
        (_mm256_unpacklo_epi16(left01, left23), _mm256_unpacklo_epi16(right01, right23)),
        (_mm256_unpackhi_epi16(left01, left23), _mm256_unpackhi_epi16(right01, right23)),
    ];
    for (q, (left, right)) in quads.into_iter().enumerate() {
        for (h, two_rows) in
            [_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right)].into_iter().enumerate()
        {
            // Both blocks' first row, then both blocks' second row.
            let rows = _mm256_permute4x64_epi64(_mm256_xor_si256(two_rows, center), 0b11_01_10_00);
            store(4 * q + 2 * h, _mm256_castsi256_si128(rows));
            store(4 * q + 2 * h + 1, _mm256_extracti128_si256(rows, 1));
        }
    }
}

/// A pair of 16-bit factors in every 32-bit element.
#[target_feature(enable = "avx2")]
#[inline]
fn factors(low: i32, high: i32) -> __m256i {
    _mm256_set1_epi32((high << 16) | (low & 0xFFFF))
}

/// The eight-point transform of 16 columns, see `scalar::idct_1d`.
#[target_feature(enable = "avx2")]
#[inline]
fn idct_1d<const DESCALE: i32>(x: [__m256i; 8]) -> [__m256i; 8] {
    // Even and odd sums of the low and the high halves of the lanes, in 32 bits.
    let pair = |a, b| [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)];
    let madd = |v: [__m256i; 2], f| [_mm256_madd_epi16(v[0], f), _mm256_madd_epi16(v[1], f)];
    let add = |a: [__m256i; 2], b: [__m256i; 2]| [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])];
    let sub = |a: [__m256i; 2], b: [__m256i; 2]| [_mm256_sub_epi32(a[0], b[0]), _mm256_sub_epi32(a[1], b[1])];

    let x26 = pair(x[2], x[6]);
    let tmp2 = madd(x26, factors(F_0_541, F_0_541 - F_1_847));
    let tmp3 = madd(x26, factors(F_0_541 + F_0_765, F_0_541));
    // (v << 13) + rounding, from v in the upper halves of 32 bits.
    let round = _mm256_set1_epi32(1 << (DESCALE - 1));
    let widen = |v| {
        let zero = _mm256_setzero_si256();
        let wide = |half| _mm256_add_epi32(_mm256_srai_epi32(half, 3), round);
        [wide(_mm256_unpacklo_epi16(zero, v)), wide(_mm256_unpackhi_epi16(zero, v))]
    };
    let tmp0 = widen(_mm256_add_epi16(x[0], x[4]));
    let tmp1 = widen(_mm256_sub_epi16(x[0], x[4]));
    let even = [add(tmp0, tmp3), add(tmp1, tmp2), sub(tmp1, tmp2), sub(tmp0, tmp3)];

    let z34 = pair(_mm256_add_epi16(x[7], x[3]), _mm256_add_epi16(x[5], x[1]));
    let p3 = madd(z34, factors(F_1_175 - F_1_961, F_1_175));
    let p4 = madd(z34, factors(F_1_175, F_1_175 - F_0_390));
    let x71 = pair(x[7], x[1]);
    let x53 = pair(x[5], x[3]);
    let odd = [
        add(madd(x71, factors(-F_0_899, F_1_501 - F_0_899)), p4),
        add(madd(x53, factors(-F_2_562, F_3_072 - F_2_562)), p3),
        add(madd(x53, factors(F_2_053 - F_2_562, -F_2_562)), p4),
        add(madd(x71, factors(F_0_298 - F_0_899, -F_0_899)), p3),
    ];
    let finish = |v: [__m256i; 2]| {
        _mm256_packs_epi32(_mm256_srai_epi32(v[0], DESCALE), _mm256_srai_epi32(v[1], DESCALE))
    };
    [
        finish(add(even[0], odd[0])),
        finish(add(even[1], odd[1])),
        finish(add(even[2], odd[2])),
        finish(add(even[3], odd[3])),
        finish(sub(even[3], odd[3])),
        finish(sub(even[2], odd[2])),
        finish(sub(even[1], odd[1])),
        finish(sub(even[0], odd[0])),
    ]
}

/// Transposes the 8 x 8 values of each lane.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose(r: [__m256i; 8]) -> [__m256i; 8] {
    let [a0, a1, a2, a3] = std::array::from_fn(|i| _mm256_unpacklo_epi16(r[2 * i], r[2 * i + 1]));
    let [b0, b1, b2, b3] = std::array::from_fn(|i| _mm256_unpackhi_epi16(r[2 * i], r[2 * i + 1]));
    let quad = |p, q, s, t| {
        let (low, high) = (_mm256_unpacklo_epi32(p, q), _mm256_unpacklo_epi32(s, t));
        let (low2, high2) = (_mm256_unpackhi_epi32(p, q), _mm256_unpackhi_epi32(s, t));
        [
            _mm256_unpacklo_epi64(low, high),
            _mm256_unpackhi_epi64(low, high),
            _mm256_unpacklo_epi64(low2, high2),
            _mm256_unpackhi_epi64(low2, high2),
        ]
    };
    let [c0, c1, c2, c3] = quad(a0, a1, a2, a3);
    let [c4, c5, c6, c7] = quad(b0, b1, b2, b3);
    [c0, c1, c2, c3, c4, c5, c6, c7]
}

/// # Safety
/// The CPU has AVX2; `dst` has at least 2 n bytes for the n of `src`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn upsample_h2v1(src: &[u8], dst: &mut [u8]) {
    let n = src.len();
    if n < 18 {
        return scalar::upsample_h2v1(src, dst);
    }
    // SAFETY: `i` + 16 <= n for every start that is passed below.
    let load = |i: usize| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(src.as_ptr().add(i).cast())) };
    let mut step = |i: usize| {
        let (left, here, right) = (load(i - 1), load(i), load(i + 1));
        let here3 = _mm256_add_epi16(here, _mm256_add_epi16(here, here));
        let even = _mm256_add_epi16(_mm256_add_epi16(here3, left), _mm256_set1_epi16(1));
        let odd = _mm256_add_epi16(_mm256_add_epi16(here3, right), _mm256_set1_epi16(2));
        let both =
            _mm256_or_si256(_mm256_srli_epi16(even, 2), _mm256_slli_epi16(_mm256_srli_epi16(odd, 2), 8));
        // SAFETY: 2 (`i` + 16) <= 2 n bytes.
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().add(2 * i).cast(), both) };
    };
    let mut i = 1;
    while i + 17 <= n {
        step(i);
        i += 16;
    }
    // The last full step may overlap the one before it.
    step(n - 17);
    dst[0] = src[0];
    dst[1] = ((3 * u16::from(src[0]) + u16::from(src[1]) + 2) >> 2) as u8;
    dst[2 * n - 2] = ((3 * u16::from(src[n - 1]) + u16::from(src[n - 2]) + 1) >> 2) as u8;
    dst[2 * n - 1] = src[n - 1];
}

/// # Safety
/// The CPU has AVX2; `near` and `far` have the same length n, `dst` at least 2 n bytes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn upsample_h2v2(near: &[u8], far: &[u8], dst: &mut [u8]) {
    let n = near.len();
    if n < 18 {
        return scalar::upsample_h2v2(near, far, dst);
    }
    // SAFETY: `i` + 16 <= n for every start that is passed below.
    let load =
        |row: &[u8], i: usize| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(row.as_ptr().add(i).cast())) };
    let column = |i: usize| {
        let near = load(near, i);
        _mm256_add_epi16(_mm256_add_epi16(near, near), _mm256_add_epi16(near, load(far, i)))
    };
    let mut step = |i: usize| {
        let (left, here, right) = (column(i - 1), column(i), column(i + 1));
        let here3 = _mm256_add_epi16(here, _mm256_add_epi16(here, here));
        let even = _mm256_add_epi16(_mm256_add_epi16(here3, left), _mm256_set1_epi16(8));
        let odd = _mm256_add_epi16(_mm256_add_epi16(here3, right), _mm256_set1_epi16(7));
        let both =
            _mm256_or_si256(_mm256_srli_epi16(even, 4), _mm256_slli_epi16(_mm256_srli_epi16(odd, 4), 8));
        // SAFETY: 2 (`i` + 16) <= 2 n bytes.
        unsafe { _mm256_storeu_si256(dst.as_mut_ptr().add(2 * i).cast(), both) };
    };
    let mut i = 1;
    while i + 17 <= n {
        step(i);
        i += 16;
    }
    // The last full step may overlap the one before it.
    step(n - 17);
    let column = |i: usize| 3 * u16::from(near[i]) + u16::from(far[i]);
    dst[0] = ((4 * column(0) + 8) >> 4) as u8;
    dst[1] = ((3 * column(0) + column(1) + 7) >> 4) as u8;
    dst[2 * n - 2] = ((3 * column(n - 1) + column(n - 2) + 8) >> 4) as u8;
    dst[2 * n - 1] = ((4 * column(n - 1) + 7) >> 4) as u8;
}

/// Pixels of one step of [`ycc_to_rgb`].
pub(super) const MIN_COLOUR_WIDTH: usize = 16;

/// Writes all of `rgb`.
///
/// # Safety
/// The CPU has AVX2; `y`, `cb` and `cr` have the same length n, at least [`MIN_COLOUR_WIDTH`], `rgb` has 3 n bytes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn ycc_to_rgb(y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut [MaybeUninit<u8>]) {
    let n = y.len();
    debug_assert!(n >= MIN_COLOUR_WIDTH && cb.len() == n && cr.len() == n && rgb.len() == 3 * n);
    // SAFETY: `i` + 16 <= n for every start that is passed below.
    let load =
        |row: &[u8], i: usize| unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(row.as_ptr().add(i).cast())) };
    // Where red and green (bytes 0-7 and 8-15) and blue (0-7) of 8 pixels go in their 24 output bytes.
    let spread = |bytes: [i8; 16]| {
        // SAFETY: the array has 16 bytes.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    };
    let rg_low = spread([0, 8, -1, 1, 9, -1, 2, 10, -1, 3, 11, -1, 4, 12, -1, 5]);
    let b_low = spread([-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1]);
    let rg_high = spread([13, -1, 6, 14, -1, 7, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1]);
    let b_high = spread([-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, -1, -1, -1, -1, -1, -1]);
    let mut step = |i: usize| {
        let center = _mm256_set1_epi16(128);
        let y = load(y, i);
        let cb = _mm256_sub_epi16(load(cb, i), center);
        let cr = _mm256_sub_epi16(load(cr, i), center);
        // 1.402 = 1 + 0.402 and 1.772 = 2 - 0.228, rounded products in 15 bits: equal for all 256 inputs.
        let red =
            _mm256_add_epi16(_mm256_add_epi16(y, cr), _mm256_mulhrs_epi16(cr, _mm256_set1_epi16(13173)));
        let blue = _mm256_add_epi16(
            _mm256_add_epi16(y, _mm256_add_epi16(cb, cb)),
            _mm256_mulhrs_epi16(cb, _mm256_set1_epi16(-7471)),
        );
        // -0.71414 = 0.28586 - 1, so that the factors fit into 16 bits.
        let green_term = |pairs| {
            let sum = _mm256_madd_epi16(pairs, factors(-22554, 65536 - 46802));
            _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(1 << 15)), 16)
        };
        let green_sum = _mm256_packs_epi32(
            green_term(_mm256_unpacklo_epi16(cb, cr)),
            green_term(_mm256_unpackhi_epi16(cb, cr)),
        );
        let green = _mm256_sub_epi16(_mm256_add_epi16(y, green_sum), cr);
        let rg = _mm256_packus_epi16(red, green);
        let bb = _mm256_packus_epi16(blue, blue);
        let low = _mm256_or_si256(_mm256_shuffle_epi8(rg, rg_low), _mm256_shuffle_epi8(bb, b_low));
        let high = _mm256_or_si256(_mm256_shuffle_epi8(rg, rg_high), _mm256_shuffle_epi8(bb, b_high));
        // SAFETY: the 48 bytes from 3 `i` on lie inside the 3 n.
        unsafe {
            let out = rgb.as_mut_ptr().add(3 * i).cast::<u8>();
            _mm_storeu_si128(out.cast(), _mm256_castsi256_si128(low));
            _mm_storel_epi64(out.add(16).cast(), _mm256_castsi256_si128(high));
            _mm_storeu_si128(out.add(24).cast(), _mm256_extracti128_si256(low, 1));
            _mm_storel_epi64(out.add(40).cast(), _mm256_extracti128_si256(high, 1));
        }
    };
    let mut i = 0;
    while i + 16 <= n {
        step(i);
        i += 16;
    }
    // The last full step may overlap the one before it.
    step(n - 16);
}
