//! Inner loops of the JPEG decoder: inverse DCT, triangle upsampling, colour conversion.
//!
//! All results equal libjpeg-turbo's SIMD code (its ISLOW inverse DCT, "fancy" upsampling and 16-bit fixed-point
//! colours) in every bit, out-of-range input included: sums that it keeps in 16 bits wrap here too, and what it
//! packs with saturation saturates. The scalar functions are the definition, the AVX2 ones equal them.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod reduced;
#[cfg(target_arch = "x86_64")]
mod reduced_avx2;
mod scalar;

/// An 8 x 8 block of coefficients or quantisation steps in natural (row-major) order.
pub type Block<T> = [T; 64];

/// Dequantises and inverse-transforms a row of blocks.
///
/// `coefs`: n blocks; `quant`: the component's steps; `out`: 8 rows of samples, `stride` bytes apart, of which the
/// first 8 n columns are written.
///
/// # Panics
/// If `out` is shorter than 7 `stride` + 8 n or `stride` shorter than 8 n.
pub fn idct_blocks(coefs: &[Block<i16>], quant: &Block<u16>, out: &mut [u8], stride: usize) {
    let width = coefs.len() * 8;
    assert!(stride >= width && out.len() >= 7 * stride + width, "output rows too short for the blocks");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected; the lengths were asserted above.
        return unsafe { avx2::idct_blocks(coefs, quant, out, stride) };
    }
    scalar::idct_blocks(coefs, quant, out, stride);
}

/// As [`idct_blocks`], to `size` x `size` samples a block: 1, 2 or 4 (or 8, all of them).
///
/// # Panics
/// If `size` is another, `out` is shorter than (`size` - 1) `stride` + `size` n or `stride` shorter than `size` n.
pub fn idct_blocks_reduced(
    coefs: &[Block<i16>],
    quant: &Block<u16>,
    size: usize,
    out: &mut [u8],
    stride: usize,
) {
    let width = coefs.len() * size;
    assert!(
        stride >= width && out.len() >= size.saturating_sub(1) * stride + width,
        "output rows too short for the blocks"
    );
    #[cfg(target_arch = "x86_64")]
    if matches!(size, 2 | 4) && is_x86_feature_detected!("avx2") {
        let idct_blocks = if size == 2 { reduced_avx2::idct_blocks_2 } else { reduced_avx2::idct_blocks_4 };
        // SAFETY: AVX2 was detected.
        return unsafe { idct_blocks(coefs, quant, out, stride) };
    }
    match size {
        1 => reduced::idct_blocks::<1>(coefs, quant, out, stride),
        2 => reduced::idct_blocks::<2>(coefs, quant, out, stride),
        4 => reduced::idct_blocks::<4>(coefs, quant, out, stride),
        8 => idct_blocks(coefs, quant, out, stride),
        other => panic!("no inverse DCT of {other} samples"),
    }
}

/// Doubles a row's width with the triangle filter (3/4 of the nearer sample, 1/4 of the farther).
///
/// `src`: n samples; `dst`: the first 2 n are written.
///
/// # Panics
/// If n is 0 or `dst` is shorter than 2 n.
pub fn upsample_h2v1(src: &[u8], dst: &mut [u8]) {
    assert!(!src.is_empty() && dst.len() >= 2 * src.len(), "upsampled row too short");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected; the lengths were asserted above.
        return unsafe { avx2::upsample_h2v1(src, dst) };
    }
    scalar::upsample_h2v1(src, dst);
}

/// One output row of the triangle filter in both directions.
///
/// `near`, `far`: the nearer and the farther of the two source rows, n samples each; `dst`: the first 2 n are written.
///
/// # Panics
/// If n is 0, the rows differ in length or `dst` is shorter than 2 n.
pub fn upsample_h2v2(near: &[u8], far: &[u8], dst: &mut [u8]) {
    assert!(!near.is_empty() && near.len() == far.len() && dst.len() >= 2 * near.len(), "row lengths");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected; the lengths were asserted above.
        return unsafe { avx2::upsample_h2v2(near, far, dst) };
    }
    scalar::upsample_h2v2(near, far, dst);
}

/// Converts a row from Y, Cb, Cr to interleaved R, G, B and appends it to `rgb`.
///
/// `y`, `cb`, `cr`: n samples each; 3 n bytes are appended.
///
/// # Panics
/// If the rows differ in length.
pub fn append_ycc_as_rgb(y: &[u8], cb: &[u8], cr: &[u8], rgb: &mut Vec<u8>) {
    assert!(cb.len() == y.len() && cr.len() == y.len(), "row lengths");
    #[cfg(target_arch = "x86_64")]
    if y.len() >= avx2::MIN_COLOUR_WIDTH && is_x86_feature_detected!("avx2") {
        let n = 3 * y.len();
        rgb.reserve(n);
        // SAFETY: AVX2 was detected, the width is enough and the rows are of equal length.
        unsafe { avx2::ycc_to_rgb(y, cb, cr, &mut rgb.spare_capacity_mut()[..n]) };
        // SAFETY: `reserve` made room for these `n` bytes, and the call above wrote all of them.
        unsafe { rgb.set_len(rgb.len() + n) };
        return;
    }
    scalar::append_ycc_as_rgb(y, cb, cr, rgb);
}

/// Red, green and blue of one Y, Cb, Cr sample, clamped to 0..=255.
#[must_use]
pub fn ycc_pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    scalar::ycc_pixel(y, cb, cr)
}

#[cfg(test)]
mod tests;
