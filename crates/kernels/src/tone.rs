//! Inner loops of the changes of colour and sharpness that RandAugment makes, in Pillow's arithmetic.
//!
//! Every change is a blend of a picture `v` with a dull twin `d` of it (black, grey, blurred): d + f (v - d) in f32, cut off towards
//! zero and clamped to 0..=255. The products and sums are rounded one by one (never fused), so every instruction set gives the
//! same bytes.

mod text;

#[cfg(test)]
mod tests;

/// The text compiled for AVX2.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::text;

    #[target_feature(enable = "avx2")]
    pub(super) fn blend_constant(samples: &mut [u8], constant: u8, factor: f32) {
        text::blend_constant(samples, constant, factor);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn blend_grey(pixels: &mut [u8], factor: f32) {
        text::blend_grey(pixels, factor);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn grey_sum(pixels: &[u8]) -> u64 {
        text::grey_sum(pixels)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sharpen_row(rows: [&[u8]; 3], out: &mut [u8], factor: f32) {
        text::sharpen_row(rows, out, factor);
    }
}

/// Blends every sample with one value.
///
/// # Panics
/// If `factor` is not finite.
pub fn blend_constant(samples: &mut [u8], constant: u8, factor: f32) {
    assert!(factor.is_finite(), "a factor of {factor}");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected.
        return unsafe { avx2::blend_constant(samples, constant, factor) };
    }
    text::blend_constant(samples, constant, factor);
}

/// Blends every pixel with its grey: (19595 r + 38470 g + 7471 b + 32768) >> 16. `pixels`: [n, 3].
///
/// # Panics
/// If `factor` is not finite.
pub fn blend_grey(pixels: &mut [u8], factor: f32) {
    assert!(factor.is_finite(), "a factor of {factor}");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected.
        return unsafe { avx2::blend_grey(pixels, factor) };
    }
    text::blend_grey(pixels, factor);
}

/// The sum of the pixels' greys. `pixels`: [n, 3].
#[must_use]
pub fn grey_sum(pixels: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was detected.
        return unsafe { avx2::grey_sum(pixels) };
    }
    text::grey_sum(pixels)
}

/// Blends a picture with itself smoothed by the kernel 1 1 1 / 1 5 1 / 1 1 1 over 13, rounded. The outermost rows and columns, of which
/// the smoothed picture is a copy, stay. `src`, `dst`: [height, width, 3].
///
/// # Panics
/// If the slices are not of that length or `factor` is not finite.
pub fn sharpen(src: &[u8], dst: &mut [u8], width: usize, height: usize, factor: f32) {
    assert!(factor.is_finite(), "a factor of {factor}");
    let stride = width * 3;
    assert!(src.len() == stride * height && dst.len() == src.len(), "{width} x {height} pixels");
    dst.copy_from_slice(src);
    if width < 3 || height < 3 {
        return;
    }
    for y in 1..height - 1 {
        let rows = [y - 1, y, y + 1].map(|y| &src[y * stride..][..stride]);
        let out = &mut dst[y * stride + 3..][..stride - 6];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 was detected.
            unsafe { avx2::sharpen_row(rows, out, factor) };
            continue;
        }
        text::sharpen_row(rows, out, factor);
    }
}
