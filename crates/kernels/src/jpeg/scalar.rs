use super::Block;

/// The cosines of the Loeffler-Ligtenberg-Moschytz transform in 13-bit fixed point.
pub(super) mod cosines {
    pub const F_0_298: i32 = 2446;
    pub const F_0_390: i32 = 3196;
    pub const F_0_541: i32 = 4433;
    pub const F_0_765: i32 = 6270;
    pub const F_0_899: i32 = 7373;
    pub const F_1_175: i32 = 9633;
    pub const F_1_501: i32 = 12299;
    pub const F_1_847: i32 = 15137;
    pub const F_1_961: i32 = 16069;
    pub const F_2_053: i32 = 16819;
    pub const F_2_562: i32 = 20995;
    pub const F_3_072: i32 = 25172;
}

/// Fraction bits that the intermediate values keep between the passes.
pub(super) const PASS1_BITS: i32 = 2;
/// Right shift that ends the column pass, and the one that ends the row pass (which also divides by 8).
pub(super) const DESCALE_COLUMNS: i32 = 13 - PASS1_BITS;
pub(super) const DESCALE_ROWS: i32 = 13 + PASS1_BITS + 3;

pub(super) fn idct_blocks(coefs: &[Block<i16>], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    for (b, block) in coefs.iter().enumerate() {
        idct_block(block, quant, &mut out[8 * b..], stride);
    }
}

pub(super) fn idct_block(coefs: &Block<i16>, quant: &Block<u16>, out: &mut [u8], stride: usize) {
    let mut work = [0i16; 64];
    for i in 0..64 {
        work[i] = coefs[i].wrapping_mul(quant[i] as i16);
    }
    if coefs[8..].iter().all(|&c| c == 0) {
        // Equal to the general case except where 16 bits overflow, which here wraps instead of saturating.
        for column in 0..8 {
            let dc = work[column].wrapping_shl(PASS1_BITS as u32);
            for row in 0..8 {
                work[8 * row + column] = dc;
            }
        }
    } else {
        for column in 0..8 {
            let column_values = std::array::from_fn(|row| work[8 * row + column]);
            let result = idct_1d(column_values, DESCALE_COLUMNS);
            for row in 0..8 {
                work[8 * row + column] = result[row];
            }
        }
    }
    for row in 0..8 {
        let result = idct_1d(std::array::from_fn(|column| work[8 * row + column]), DESCALE_ROWS);
        for column in 0..8 {
            out[row * stride + column] = (result[column].clamp(-128, 127) + 128) as u8;
        }
    }
}

/// Eight-point inverse DCT of `x`, rounded and shifted right by `descale`.
fn idct_1d(x: [i16; 8], descale: i32) -> [i16; 8] {
    use cosines::*;
    let product = |a: i16, ca: i32, b: i16, cb: i32| i32::from(a) * ca + i32::from(b) * cb;
    // Even part. The sums of two inputs are kept in 16 bits.
    let tmp2 = product(x[2], F_0_541, x[6], F_0_541 - F_1_847);
    let tmp3 = product(x[2], F_0_541 + F_0_765, x[6], F_0_541);
    let tmp0 = i32::from(x[0].wrapping_add(x[4])) << 13;
    let tmp1 = i32::from(x[0].wrapping_sub(x[4])) << 13;
    let even = [tmp0 + tmp3, tmp1 + tmp2, tmp1 - tmp2, tmp0 - tmp3];
    // Odd part.
    let z3 = x[7].wrapping_add(x[3]);
    let z4 = x[5].wrapping_add(x[1]);
    let p3 = product(z3, F_1_175 - F_1_961, z4, F_1_175);
    let p4 = product(z3, F_1_175, z4, F_1_175 - F_0_390);
    let odd = [
        product(x[7], -F_0_899, x[1], F_1_501 - F_0_899).wrapping_add(p4),
        product(x[5], -F_2_562, x[3], F_3_072 - F_2_562).wrapping_add(p3),
        product(x[5], F_2_053 - F_2_562, x[3], -F_2_562).wrapping_add(p4),
        product(x[7], F_0_298 - F_0_899, x[1], -F_0_899).wrapping_add(p3),
    ];
    let round = 1 << (descale - 1);
    let finish = |sum: i32| {
        (sum.wrapping_add(round) >> descale).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
    };
    std::array::from_fn(|i| {
        if i < 4 {
            finish(even[i].wrapping_add(odd[i]))
        } else {
            finish(even[7 - i].wrapping_sub(odd[7 - i]))
        }
    })
}

pub(super) fn upsample_h2v1(src: &[u8], dst: &mut [u8]) {
    let last = src.len() - 1;
    for i in 0..=last {
        let (here, left, right) =
            (u16::from(src[i]), u16::from(src[i.saturating_sub(1)]), u16::from(src[(i + 1).min(last)]));
        // Halves round down on the left and up on the right, an ordered dither. At the ends the neighbour is the
        // sample itself, which the filter then leaves as it is.
        dst[2 * i] = ((3 * here + left + 1) >> 2) as u8;
        dst[2 * i + 1] = ((3 * here + right + 2) >> 2) as u8;
    }
}

pub(super) fn upsample_h2v2(near: &[u8], far: &[u8], dst: &mut [u8]) {
    let last = near.len() - 1;
    let column = |i: usize| 3 * u16::from(near[i]) + u16::from(far[i]);
    let (mut left, mut here) = (column(0), column(0));
    for i in 0..=last {
        let right = column((i + 1).min(last));
        dst[2 * i] = ((3 * here + left + 8) >> 4) as u8;
        dst[2 * i + 1] = ((3 * here + right + 7) >> 4) as u8;
        (left, here) = (here, right);
    }
}

pub(super) fn append_ycc_as_rgb(y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut Vec<u8>) {
    rgb.extend(y.iter().zip(cb).zip(cr).flat_map(|((&y, &cb), &cr)| ycc_pixel(y, cb, cr)));
}

/// 1.402, 0.34414, 0.71414 and 1.772 in 16-bit fixed point; green is rounded once for both its terms.
pub(super) fn ycc_pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116130 * cb + HALF) >> 16);
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}
