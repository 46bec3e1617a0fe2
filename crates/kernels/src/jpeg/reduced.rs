//! Inverse DCTs that make 4 x 4, 2 x 2 or 1 x 1 samples of a block's 8 x 8 coefficients, for decoding at a fraction of the size.
//!
//! The cosines of libjpeg's reduced transforms in 13-bit fixed point. As in its SIMD code products with the quantisation step wrap at 16
//! bits, and the first pass ends in 16 bits with saturation.
//!
//! This is the definition; `reduced_avx2` equals it in every bit.

use super::Block;
use super::scalar::PASS1_BITS;

pub(super) const F_0_211: i32 = 1730;
pub(super) const F_0_509: i32 = 4176;
pub(super) const F_0_601: i32 = 4926;
pub(super) const F_0_720: i32 = 5906;
pub(super) const F_0_765: i32 = 6270;
pub(super) const F_0_850: i32 = 6967;
pub(super) const F_0_899: i32 = 7373;
pub(super) const F_1_061: i32 = 8697;
pub(super) const F_1_272: i32 = 10426;
pub(super) const F_1_451: i32 = 11893;
pub(super) const F_1_847: i32 = 15137;
pub(super) const F_2_172: i32 = 17799;
pub(super) const F_2_562: i32 = 20995;
pub(super) const F_3_624: i32 = 29692;

/// A row of blocks to `SIZE` x `SIZE` samples each.
pub(super) fn idct_blocks<const SIZE: usize>(
    coefs: &[Block<i16>],
    quant: &Block<u16>,
    out: &mut [u8],
    stride: usize,
) {
    for (i, block) in coefs.iter().enumerate() {
        idct_block::<SIZE>(block, quant, &mut out[SIZE * i..], stride);
    }
}

pub(super) fn idct_block<const SIZE: usize>(
    coefs: &Block<i16>,
    quant: &Block<u16>,
    out: &mut [u8],
    stride: usize,
) {
    if SIZE == 1 {
        // libjpeg has no SIMD code for this one: a whole product, and a table of 1024 values that it is looked up in.
        let value = (i32::from(coefs[0]) * i32::from(quant[0] as i16) + 4) >> 3;
        let wrapped = (value & 1023) - if value & 512 == 0 { 0 } else { 1024 };
        out[0] = sample(wrapped);
        return;
    }
    let row = |row: usize| -> [i16; 8] {
        std::array::from_fn(|column| coefs[8 * row + column].wrapping_mul(quant[8 * row + column] as i16))
    };
    // The middle row has no part in four samples. Where 16 bits overflow, the short way wraps instead of saturating.
    let in_part = |row: usize| coefs[8 * row..8 * row + 8].iter().fold(0, |all, c| all | c);
    let is_flat = SIZE == 4 && [1, 2, 3, 5, 6, 7].into_iter().fold(0, |all, row| all | in_part(row)) == 0;
    let columns: [[i32; 8]; SIZE] = if is_flat {
        [row(0).map(|dc| i32::from(dc.wrapping_shl(PASS1_BITS as u32))); SIZE]
    } else {
        let rows: [[i32; 8]; 8] = std::array::from_fn(|r| row(r).map(i32::from));
        idct_1d::<SIZE, 8>(&rows).map(|sums: [i32; 8]| {
            std::array::from_fn(|column| {
                let value = descale::<SIZE>(sums[column], 13 - PASS1_BITS);
                // Of two samples the first column keeps all bits.
                let is_wide = SIZE == 2 && column == 0;
                if is_wide { value } else { value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) }
            })
        })
    };
    let turned: [[i32; SIZE]; 8] = std::array::from_fn(|column| std::array::from_fn(|r| columns[r][column]));
    let across = idct_1d::<SIZE, SIZE>(&turned);
    for (r, out) in out.chunks_mut(stride).take(SIZE).enumerate() {
        for (out, sums) in out.iter_mut().zip(across) {
            *out = sample(descale::<SIZE>(sums[r], 13 + PASS1_BITS + 3));
        }
    }
}

pub(super) fn sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// Rounds a sum of [`idct_1d`], which is the larger the fewer samples share the coefficients.
pub(super) fn descale<const SIZE: usize>(sum: i32, bits: i32) -> i32 {
    let bits = bits + if SIZE == 4 { 1 } else { 2 };
    sum.wrapping_add(1 << (bits - 1)) >> bits
}

/// Four or two samples of eight coefficients, for L transforms at once.
fn idct_1d<const SIZE: usize, const L: usize>(x: &[[i32; L]; 8]) -> [[i32; L]; SIZE] {
    let mut out = [[0i32; L]; SIZE];
    for l in 0..L {
        if SIZE == 4 {
            let mean = x[0][l] << 14;
            let even = x[2][l] * F_1_847 - x[6][l] * F_0_765;
            let (outer, inner) = (mean.wrapping_add(even), mean.wrapping_sub(even));
            let odd_inner = (x[5][l] * F_1_451 - x[7][l] * F_0_211)
                .wrapping_add(x[1][l] * F_1_061)
                .wrapping_sub(x[3][l] * F_2_172);
            let odd_outer = (x[3][l] * F_0_899 - x[7][l] * F_0_509)
                .wrapping_sub(x[5][l] * F_0_601)
                .wrapping_add(x[1][l] * F_2_562);
            out[0][l] = outer.wrapping_add(odd_outer);
            out[1][l] = inner.wrapping_add(odd_inner);
            out[2][l] = inner.wrapping_sub(odd_inner);
            out[3][l] = outer.wrapping_sub(odd_outer);
        } else {
            let mean = x[0][l] << 15;
            let odd = (x[5][l] * F_0_850 - x[7][l] * F_0_720)
                .wrapping_sub(x[3][l] * F_1_272)
                .wrapping_add(x[1][l] * F_3_624);
            out[0][l] = mean.wrapping_add(odd);
            out[1][l] = mean.wrapping_sub(odd);
        }
    }
    out
}
