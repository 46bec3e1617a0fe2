//! The two inner loops of an image resize in Pillow's fixed point: 8-bit samples, weights scaled by 2²², a 32-bit sum that starts
//! at one half, an arithmetic shift and a clamp.
//!
//! [`RgbFilter`] filters the pixels of interleaved RGB rows; [`accumulate`] and [`finish`] filter columns. Every backend gives the
//! same bytes: all sums are integers modulo 2³², so their order does not matter.

#[cfg(target_arch = "x86_64")]
mod packed;
mod taps;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub use taps::Taps;

/// Binary places of a weight (Pillow's `PRECISION_BITS`): 32 bits less 8 of the sample and 2 of headroom.
pub const WEIGHT_BITS: u32 = 22;

/// One half in the fixed point of the sums; a sum that starts here rounds to nearest.
pub const HALF: i32 = 1 << (WEIGHT_BITS - 1);

/// Rows that [`RgbFilter::apply`] filters together, so that each weight is loaded once for all of them.
pub const ROWS_AT_ONCE: usize = 4;

/// An implementation that this machine can run; cannot be made in another way than by asking for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Backend {
    /// The portable twin.
    pub const SCALAR: Backend = Backend(Kind::Scalar);

    /// Every backend that runs here, slowest first.
    pub fn available() -> Vec<Backend> {
        let mut found = vec![Backend::SCALAR];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if is_x86_feature_detected!("avx2") {
                found.push(Backend(Kind::Avx2));
            }
            if x86::has_avx512_vnni() {
                found.push(Backend(Kind::Avx512Vnni));
            }
        }
        found
    }

    /// The fastest backend that runs here.
    pub fn best() -> Backend {
        Backend::available().pop().unwrap_or(Backend::SCALAR)
    }

    /// The name of the instruction set.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512-vnni",
        }
    }
}

/// A horizontal filter of interleaved RGB rows, its weights laid out for one backend.
#[derive(Clone, Debug)]
pub struct RgbFilter {
    backend: Backend,
    taps: Taps,
    packed: Packed,
}

#[derive(Clone, Debug)]
enum Packed {
    None,
    #[cfg(target_arch = "x86_64")]
    Pairs(packed::Pairs),
    #[cfg(target_arch = "x86_64")]
    Digits(packed::Digits),
}

impl RgbFilter {
    /// Lays the weights out for `backend`. A table that the backend's number format cannot hold runs on the scalar twin.
    pub fn new(backend: Backend, taps: Taps) -> RgbFilter {
        let packed = match backend.0 {
            Kind::Scalar => None,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => packed::Pairs::new(&taps).map(Packed::Pairs),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => packed::Digits::new(&taps).map(Packed::Digits),
        };
        RgbFilter { backend, taps, packed: packed.unwrap_or(Packed::None) }
    }

    /// The backend it was made for.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Filters rows: pixel `i` of a row of `dst` is output `i` of the taps over the same row of `src`.
    ///
    /// `src`: `rows` rows of `taps.source_len()` pixels, `src_stride` bytes apart. `dst`: `rows` rows of `taps.len()` pixels,
    /// `dst_stride` bytes apart.
    ///
    /// # Panics
    /// If a row does not fit into its stride or the rows do not fit into their slice.
    pub fn apply(&self, src: &[u8], src_stride: usize, dst: &mut [u8], dst_stride: usize, rows: usize) {
        let taps = &self.taps;
        check_rows(src.len(), src_stride, taps.source_len() * 3, rows);
        check_rows(dst.len(), dst_stride, taps.len() * 3, rows);
        match &self.packed {
            Packed::None => horizontal_rgb_scalar(taps, src, src_stride, dst, dst_stride, rows),
            #[cfg(target_arch = "x86_64")]
            Packed::Pairs(pairs) => {
                x86::in_blocks(taps, pairs.readable(), src, src_stride, rows, |first, window, lines, y| {
                    // SAFETY: `Pairs` are made only for a `Backend` of this kind, which exists only where the CPU has AVX2.
                    unsafe {
                        x86::horizontal_rgb_avx2(
                            pairs,
                            first,
                            window,
                            lines,
                            &mut dst[y * dst_stride..],
                            dst_stride,
                        )
                    }
                });
            }
            #[cfg(target_arch = "x86_64")]
            Packed::Digits(digits) => {
                x86::in_blocks(taps, digits.readable(), src, src_stride, rows, |first, window, lines, y| {
                    // SAFETY: `Digits` are made only for a `Backend` of this kind, which exists only where `has_avx512_vnni` held.
                    unsafe {
                        x86::horizontal_rgb_avx512(
                            digits,
                            first,
                            window,
                            lines,
                            &mut dst[y * dst_stride..],
                            dst_stride,
                        )
                    }
                });
            }
        }
    }
}

/// Adds `weights[j]` times row `j` of `rows` (rows `stride` bytes apart) to `sums`, sample by sample.
///
/// # Panics
/// If the rows do not fit into `rows` or `stride`.
pub fn accumulate(backend: Backend, sums: &mut [i32], weights: &[i32], rows: &[u8], stride: usize) {
    check_rows(rows.len(), stride, sums.len(), weights.len());
    match backend.0 {
        Kind::Scalar => accumulate_generic::<16>(sums, weights, rows, stride),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Backend` of this kind exists only where the CPU has AVX2.
        Kind::Avx2 => unsafe { x86::accumulate_avx2(sums, weights, rows, stride) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Backend` of this kind exists only where the CPU has AVX-512 F, BW and VL.
        Kind::Avx512Vnni => unsafe { x86::accumulate_avx512(sums, weights, rows, stride) },
    }
}

/// Turns sums (which started at [`HALF`]) into samples: shifted by [`WEIGHT_BITS`] and clamped to 0..=255.
///
/// # Panics
/// If the lengths differ.
pub fn finish(backend: Backend, sums: &[i32], dst: &mut [u8]) {
    assert_eq!(sums.len(), dst.len());
    match backend.0 {
        Kind::Scalar => finish_generic(sums, dst),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: both kinds exist only where the CPU has AVX2.
        Kind::Avx2 | Kind::Avx512Vnni => unsafe { x86::finish_avx2(sums, dst) },
    }
}

fn check_rows(len: usize, stride: usize, row_bytes: usize, rows: usize) {
    assert!(
        row_bytes <= stride || rows <= 1,
        "a row of {row_bytes} bytes does not fit into a stride of {stride}"
    );
    let needed = rows.checked_sub(1).map_or(0, |before| before * stride + row_bytes);
    assert!(needed <= len, "{rows} rows need {needed} bytes, the slice has {len}");
}

/// A finished sum as a sample.
#[inline(always)]
fn sample(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

fn horizontal_rgb_scalar(
    taps: &Taps,
    src: &[u8],
    src_stride: usize,
    dst: &mut [u8],
    dst_stride: usize,
    rows: usize,
) {
    for y in 0..rows {
        let row = &src[y * src_stride..][..taps.source_len() * 3];
        let out = &mut dst[y * dst_stride..][..taps.len() * 3];
        for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
            let (start, weights) = taps.output(i);
            let mut sums = [HALF; 3];
            for (source, &weight) in row[start * 3..].chunks_exact(3).zip(weights) {
                for c in 0..3 {
                    sums[c] = sums[c].wrapping_add(i32::from(source[c]).wrapping_mul(weight));
                }
            }
            pixel.copy_from_slice(&sums.map(sample));
        }
    }
}

/// One text for every instruction set: `LANES` sums stay in registers while all rows pass by. The callers' `target_feature` decides
/// into which instructions it is turned.
#[inline(always)]
fn accumulate_generic<const LANES: usize>(sums: &mut [i32], weights: &[i32], rows: &[u8], stride: usize) {
    let mut blocks = sums.chunks_exact_mut(LANES);
    let mut column = 0;
    for block in &mut blocks {
        let mut local = [0i32; LANES];
        local.copy_from_slice(block);
        for (j, &weight) in weights.iter().enumerate() {
            let samples = &rows[j * stride + column..][..LANES];
            for (sum, &s) in local.iter_mut().zip(samples) {
                *sum = sum.wrapping_add(i32::from(s).wrapping_mul(weight));
            }
        }
        block.copy_from_slice(&local);
        column += LANES;
    }
    for sum in blocks.into_remainder() {
        for (j, &weight) in weights.iter().enumerate() {
            *sum = sum.wrapping_add(i32::from(rows[j * stride + column]).wrapping_mul(weight));
        }
        column += 1;
    }
}

#[inline(always)]
fn finish_generic(sums: &[i32], dst: &mut [u8]) {
    for (out, &sum) in dst.iter_mut().zip(sums) {
        *out = sample(sum);
    }
}
