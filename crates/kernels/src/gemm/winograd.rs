//! One Strassen-Winograd level (Winograd's form: 7 products, 15 sums).
//!
//! The call's pixels are halved: rows p and p + h, h = ceil(pixels / 2), are a pair (the last row of an odd number has
//! zeros for a partner). Input blocks 2i and 2i + 1 are a pair, and so are the two halves of a panel's output blocks. An odd
//! last input block is multiplied plainly. With A11, A12 (first half of the rows; even, odd blocks), A21, A22 and weights
//! B11, B12 (even k; left, right half of the panel), B21, B22:
//!
//! S1 = A21 + A22, S2 = S1 - A11, S3 = A11 - A21, S4 = A12 - S2; T1 = B12 - B11, T2 = B22 - T1, T3 = B22 - B12, T4 = T2 - B21;
//! C11 = A11 B11 + A12 B21, U2 = A11 B11 + S2 T2, U3 = U2 + S3 T3, C12 = U2 + S1 T1 + S4 B22, C21 = U3 - A22 T4,
//! C22 = U3 + S1 T1.
//!
//! The T are made when packing. The S are made once per call, because every panel needs them. One kernel call makes
//! the same tile of all four quarters of the output, so that U2 and U3 never leave the first cache.

use super::tile::{PanelJob, Target, divide, multiply, with_tile};
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Products with 7 sums of weights each, per pair of input blocks.
pub(super) const PRODUCTS: usize = 7;

/// f32 of a panel: 7 products `[K/2][16 width]`, then the odd block's left and right half.
pub(super) fn panel_len(k_blocks: usize, width: usize) -> usize {
    (PRODUCTS * (k_blocks / 2) + 2 * (k_blocks % 2)) * LANES * width * LANES
}

/// Planes of sums: S1 to S4, and where the number of pixels is odd a copy of A22 with its row of zeros.
fn planes(pixels: usize) -> usize {
    4 + pixels % 2
}

/// f32 of a chunk of the sums for a call on so many pixels.
pub(super) fn sums_chunk(pixels: usize) -> usize {
    planes(pixels) * pixels.div_ceil(2) * LANES
}

/// Makes chunks of the sums, each of the input blocks 2i and 2i + 1.
pub(super) fn sums(isa: Isa, input: MapRef<'_>, chunks: Range<usize>, out: &mut [f32]) {
    assert!(input.map().is_dense(), "Winograd products need an input without a border");
    let stride = input.map().block_stride();
    for (i, out) in chunks.zip(out.chunks_exact_mut(sums_chunk(input.pixels()))) {
        // SAFETY: block 2i is in the view; its partner too unless it is the odd last one.
        let kernel = unsafe {
            let even = input.plane().add(input.offset_of(0) + 2 * i * stride);
            let odd = if 2 * i + 1 < input.blocks() { even.add(stride) } else { std::ptr::null() };
            Sums { even, odd, pixels: input.pixels(), out: out.as_mut_ptr() }
        };
        // SAFETY: both blocks hold `pixels` pixels in one piece, `out` has all planes.
        unsafe { isa.run(kernel) }
    }
}

struct Sums {
    even: *const f32,
    /// Null for the odd last block, whose chunk holds only the copy of its second half.
    odd: *const f32,
    pixels: usize,
    out: *mut f32,
}

impl Kernel for Sums {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let half = self.pixels.div_ceil(2);
        let plane = half * LANES;
        // SAFETY: rows below `half` exist; rows beyond the last pixel are not read.
        unsafe {
            if self.odd.is_null() {
                if self.pixels % 2 == 1 {
                    for p in 0..half {
                        let second = half + p < self.pixels;
                        let x = if second { s.load(self.even.add((half + p) * LANES)) } else { s.zero() };
                        s.store(self.out.add(4 * plane + p * LANES), x);
                    }
                }
                return;
            }
            for p in 0..self.pixels / 2 {
                let (top, bottom) = (p * LANES, (half + p) * LANES);
                let (a21, a22) = (s.load(self.even.add(bottom)), s.load(self.odd.add(bottom)));
                self.row(s, p, s.load(self.even.add(top)), s.load(self.odd.add(top)), a21, a22);
            }
            if self.pixels % 2 == 1 {
                let top = (half - 1) * LANES;
                self.row(
                    s,
                    half - 1,
                    s.load(self.even.add(top)),
                    s.load(self.odd.add(top)),
                    s.zero(),
                    s.zero(),
                );
            }
        }
    }
}

impl Sums {
    /// # Safety
    /// `out` has all planes for row p.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, s: S, p: usize, a11: S::V, a12: S::V, a21: S::V, a22: S::V) {
        let plane = self.pixels.div_ceil(2) * LANES;
        let s1 = s.add(a21, a22);
        let s2 = s.sub(s1, a11);
        // SAFETY: by the caller.
        unsafe {
            let o = self.out.add(p * LANES);
            s.store(o, s1);
            s.store(o.add(plane), s2);
            s.store(o.add(2 * plane), s.sub(a11, a21));
            s.store(o.add(3 * plane), s.sub(a12, s2));
            if self.pixels % 2 == 1 {
                s.store(o.add(4 * plane), a22);
            }
        }
    }
}

/// `tiles` tiles of R pairs of rows, all four quarters of the output.
struct WinogradTiles<const R: usize, const W: usize> {
    /// First pair's first row in the first block.
    a: *const f32,
    a_stride: usize,
    /// Pairs of input blocks, and blocks (0 or 1) that have no partner.
    pairs: usize,
    odd: usize,
    /// First pair in S1 of the first chunk; planes and chunks are so far apart.
    sums: *const f32,
    plane: usize,
    chunk: usize,
    /// First pair's second row in the odd blocks (A22), and in the odd last block.
    a22: *const f32,
    a22_stride: usize,
    last22: *const f32,
    weights: *const f32,
    bias: *const f32,
    tiles: usize,
    /// First and second row of the first pair.
    targets: [Target; 2],
    /// The last tile's last pair has no second row.
    lacks_last: bool,
}

impl<const R: usize, const W: usize> Kernel for WinogradTiles<R, W> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        if const { !S::SHAPE.has_tile(R, W) } {
            return; // never asked for, so not worth compiling
        }
        // SAFETY: `panel` made the pointers from views and sums that hold all of these rows and blocks.
        unsafe {
            for t in 0..self.tiles {
                let lacks_last = self.lacks_last && t + 1 == self.tiles;
                self.tile(s, R - usize::from(lacks_last));
                let step = R * LANES;
                self.a = self.a.wrapping_add(step);
                self.sums = self.sums.wrapping_add(step);
                self.a22 = self.a22.wrapping_add(step);
                self.last22 = self.last22.wrapping_add(step);
                self.targets = [self.targets[0].moved(0, R), self.targets[1].moved(0, R)];
            }
        }
    }
}

/// R x W vectors in memory.
type Saved<V, const R: usize, const W: usize> = [[V; W]; R];

/// Writes accumulators to memory and makes the compiler forget them: kept as values, they would take registers from
/// the loop over k.
#[inline(always)]
fn save<V: Copy, const R: usize, const W: usize>(acc: &Saved<V, R, W>, to: &mut Saved<V, R, W>) {
    for r in 0..R {
        for w in 0..W {
            to[r][w] = acc[r][w];
        }
    }
    std::hint::black_box(to);
}

impl<const R: usize, const W: usize> WinogradTiles<R, W> {
    /// # Safety
    /// The fields are as `panel` makes them, for one more tile.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, second_rows: usize) {
        // SAFETY: by the caller.
        unsafe {
            let (pairs, step, zero) = (self.pairs, 2 * self.a_stride, [[s.zero(); W]; R]);
            let (a11, a12) = (self.a, self.a.add(self.a_stride));
            let (s1, s2) = (self.sums, self.sums.add(self.plane));
            let (s3, s4) = (s2.add(self.plane), s2.add(2 * self.plane));
            // The odd last block: first rows; its second rows are `last22`.
            let last11 = self.a.wrapping_add(pairs * step);
            let mut weights = self.weights;
            let rest = weights.wrapping_add(PRODUCTS * pairs * LANES * W * LANES);
            let (mut rest_left, mut rest_right) = (rest, rest.wrapping_add(LANES * W * LANES));
            let (mut u, mut u3, mut p5) = (zero, zero, zero);
            let mut acc = zero;

            multiply(s, &mut acc, pairs, a11, step, &mut weights);
            save(&acc, &mut u);
            multiply(s, &mut acc, pairs, a12, step, &mut weights);
            multiply(s, &mut acc, self.odd, last11, 0, &mut { rest_left });
            self.put(s, &acc, None, 0, 0, R); // C11
            for r in 0..R {
                for w in 0..W {
                    acc[r][w] = u[r][w];
                }
            }
            multiply(s, &mut acc, pairs, s2, self.chunk, &mut weights);
            save(&acc, &mut u); // U2
            multiply(s, &mut acc, pairs, s3, self.chunk, &mut weights);
            save(&acc, &mut u3); // U3
            acc = zero;
            multiply(s, &mut acc, pairs, s1, self.chunk, &mut weights);
            save(&acc, &mut p5);
            multiply(s, &mut acc, self.odd, self.last22, 0, &mut { rest_right });
            self.put(s, &acc, Some(&u3), 1, 1, second_rows); // C22
            for r in 0..R {
                for w in 0..W {
                    acc[r][w] = s.add(p5[r][w], u[r][w]);
                }
            }
            multiply(s, &mut acc, pairs, s4, self.chunk, &mut weights);
            multiply(s, &mut acc, self.odd, last11, 0, &mut rest_right);
            self.put(s, &acc, None, 0, 1, R); // C12
            for r in 0..R {
                for w in 0..W {
                    acc[r][w] = u3[r][w];
                }
            }
            multiply(s, &mut acc, pairs, self.a22, self.a22_stride, &mut weights);
            multiply(s, &mut acc, self.odd, self.last22, 0, &mut rest_left);
            self.put(s, &acc, None, 1, 0, second_rows); // C21
        }
    }

    /// Adds bias and `more`, then stores a quarter: first or second rows, left or right half.
    ///
    /// # Safety
    /// As [`Target::put`].
    #[inline(always)]
    unsafe fn put<S: Simd>(
        &self,
        s: S,
        acc: &Saved<S::V, R, W>,
        more: Option<&Saved<S::V, R, W>>,
        second: usize,
        right: usize,
        rows: usize,
    ) {
        // SAFETY: by the caller; the bias has both halves.
        unsafe {
            let mut x = *acc;
            for w in 0..W {
                let b = s.load(self.bias.add((right * W + w) * LANES));
                for r in 0..R {
                    x[r][w] = s.add(x[r][w], b);
                    if let Some(more) = more {
                        x[r][w] = s.add(x[r][w], more[r][w]);
                    }
                }
            }
            self.targets[second].moved(right * W, 0).put(s, &x, rows);
        }
    }
}

/// One Winograd panel (2 `width` output blocks) for all pixels.
pub(super) fn panel(job: &PanelJob<'_>, width: usize, input: MapRef<'_>, sums: &[f32], mut out: MapMut<'_>) {
    assert!(input.map().is_dense(), "Winograd products need an input without a border");
    let (pixels, half, pairs) = (input.pixels(), input.pixels().div_ceil(2), job.k_blocks / 2);
    let a_stride = input.map().block_stride();
    let (plane, chunk) = (half * LANES, planes(pixels) * half * LANES);
    let odd_pixels = pixels % 2 == 1;
    let a = input.plane().wrapping_add(input.offset_of(0));
    // A22 and the odd last block's second rows: in the input, or in the copy that ends with a row of zeros.
    let (a22, a22_stride, last22) = if odd_pixels {
        let copy = sums.as_ptr().wrapping_add(4 * plane);
        (copy, chunk, copy.wrapping_add(pairs * chunk))
    } else {
        let second = a.wrapping_add(plane);
        (second.wrapping_add(a_stride), 2 * a_stride, second.wrapping_add(2 * pairs * a_stride))
    };
    let mut pair = 0;
    while pair < half {
        // The last pair of an odd number has no second row: its target is never used, so any will do.
        let lacks = odd_pixels && pair + 1 == half;
        let second = if lacks { pair } else { half + pair };
        let mut run = job.run_length(pair, &out).min(half - pair);
        if !lacks {
            let second_run = job.run_length(second, &out);
            // Where the second rows end with the view, the missing one may come along.
            let reaches_end = odd_pixels && second + second_run == pixels;
            run = run.min(second_run + usize::from(reaches_end));
        }
        for (tiles, rows) in divide(run, job.isa.shape().rows) {
            if tiles * rows == 0 {
                continue;
            }
            let second = if odd_pixels && pair + 1 == half { pair } else { half + pair };
            let step = pair * LANES;
            with_tile!(rows, width, R, W => {
                let kernel = WinogradTiles::<R, W> {
                    a: a.wrapping_add(step),
                    a_stride,
                    pairs,
                    odd: job.k_blocks % 2,
                    sums: sums.as_ptr().wrapping_add(step),
                    plane,
                    chunk,
                    a22: a22.wrapping_add(step),
                    a22_stride,
                    last22: last22.wrapping_add(step),
                    weights: job.weights.as_ptr(),
                    bias: job.bias.as_ptr(),
                    tiles,
                    targets: [Target::new(job, &mut out, pair), Target::new(job, &mut out, second)],
                    lacks_last: odd_pixels && pair + tiles * rows == half,
                };
                // SAFETY: the run's pairs are in one piece in all views, in the sums and in the copy, whose
                // blocks the caller has compared with the weights; these were packed for this width.
                unsafe { job.isa.run(kernel) }
            });
            pair += tiles * rows;
        }
    }
}
