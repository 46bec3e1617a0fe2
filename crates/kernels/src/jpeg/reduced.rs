//! Inverse DCTs that make 4 x 4, 2 x 2 or 1 x 1 samples of a block's 8 x 8 coefficients, for decoding at a fraction of the size.
//!
//! The cosines of libjpeg's reduced transforms in 13-bit fixed point. As in its SIMD code products with the quantisation step wrap at 16
//! bits, and the first pass ends in 16 bits with saturation.

use super::Block;
use super::scalar::PASS1_BITS;

const F_0_211: i32 = 1730;
const F_0_509: i32 = 4176;
const F_0_601: i32 = 4926;
const F_0_720: i32 = 5906;
const F_0_765: i32 = 6270;
const F_0_850: i32 = 6967;
const F_0_899: i32 = 7373;
const F_1_061: i32 = 8697;
const F_1_272: i32 = 10426;
const F_1_451: i32 = 11893;
const F_1_847: i32 = 15137;
const F_2_172: i32 = 17799;
const F_2_562: i32 = 20995;
const F_3_624: i32 = 29692;

/// One block to `SIZE` x `SIZE` samples.
pub(super) fn idct_block<const SIZE: usize>(
    coefs: &Block<i16>,
    quant: &Block<u16>,
    out: &mut [u8],
    stride: usize,
) {
    let coefficient = |i: usize| coefs[i].wrapping_mul(quant[i] as i16);
    if SIZE == 1 {
        // libjpeg has no SIMD code for this one: a whole product, and a table of 1024 values that it is looked up in.
        let value = (i32::from(coefs[0]) * i32::from(quant[0] as i16) + 4) >> 3;
        let wrapped = (value & 1023) - if value & 512 == 0 { 0 } else { 1024 };
        out[0] = sample(wrapped);
        return;
    }
    let mut work = [[0i32; 8]; SIZE];
    // The middle row has no part in four samples. Where 16 bits overflow, the short way wraps instead of saturating.
    let is_flat = SIZE == 4 && (8..64).filter(|i| i / 8 != 4).all(|i| coefs[i] == 0);
    for column in 0..8 {
        if is_flat {
            let dc = coefficient(column).wrapping_shl(PASS1_BITS as u32);
            work.iter_mut().for_each(|row| row[column] = dc.into());
            continue;
        }
        let values = std::array::from_fn(|row| i32::from(coefficient(8 * row + column)));
        let sums: [i32; SIZE] = idct_1d(values);
        for (row, sum) in work.iter_mut().zip(sums) {
            let value = descale::<SIZE>(sum, 13 - PASS1_BITS);
            // Of two samples the first column keeps all bits.
            let is_wide = SIZE == 2 && column == 0;
            row[column] = if is_wide { value } else { value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) };
        }
    }
    for (row, out) in work.iter().zip(out.chunks_mut(stride)) {
        let sums: [i32; SIZE] = idct_1d(*row);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sample(descale::<SIZE>(sum, 13 + PASS1_BITS + 3));
        }
    }
}

fn sample(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// Rounds a sum of [`idct_1d`], which is the larger the fewer samples share the coefficients.
fn descale<const SIZE: usize>(sum: i32, bits: i32) -> i32 {
    let bits = bits + if SIZE == 4 { 1 } else { 2 };
    sum.wrapping_add(1 << (bits - 1)) >> bits
}

/// Four or two samples of eight coefficients.
fn idct_1d<const SIZE: usize>(x: [i32; 8]) -> [i32; SIZE] {
    let mut out = [0; SIZE];
    if SIZE == 4 {
        let mean = x[0] << 14;
        let even = x[2] * F_1_847 - x[6] * F_0_765;
        let (outer, inner) = (mean.wrapping_add(even), mean.wrapping_sub(even));
        let odd_inner =
            (x[5] * F_1_451 - x[7] * F_0_211).wrapping_add(x[1] * F_1_061).wrapping_sub(x[3] * F_2_172);
        let odd_outer =
            (x[3] * F_0_899 - x[7] * F_0_509).wrapping_sub(x[5] * F_0_601).wrapping_add(x[1] * F_2_562);
        out[0] = outer.wrapping_add(odd_outer);
        out[1] = inner.wrapping_add(odd_inner);
        out[2] = inner.wrapping_sub(odd_inner);
        out[3] = outer.wrapping_sub(odd_outer);
    } else {
        let mean = x[0] << 15;
        let odd = (x[5] * F_0_850 - x[7] * F_0_720).wrapping_sub(x[3] * F_1_272).wrapping_add(x[1] * F_3_624);
        out[0] = mean.wrapping_add(odd);
        out[1] = mean.wrapping_sub(odd);
    }
    out
}
