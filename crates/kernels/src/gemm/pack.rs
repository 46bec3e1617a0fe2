//! Row-major weights into panels. A whole checkpoint goes through here at start-up, hence by tiles of 16 x 16.

use super::winograd::PRODUCTS;
use crate::isa::{Isa, Kernel};
use crate::simd::{LANES, Simd};

/// Weights that read as zero beyond their ends.
pub(super) struct Source<'a> {
    pub n: usize,
    pub k: usize,
    /// `[n][k]`, or `[k][n]` if transposed.
    pub weights: &'a [f32],
    pub is_transposed: bool,
}

/// `[k][n]` of a block of k and a block of n.
type Tile = [[f32; LANES]; LANES];

impl Source<'_> {
    /// Packs blocks `block..block + width` as `[k][16 width]`.
    pub(super) fn pack_plain(&self, isa: Isa, block: usize, width: usize, out: &mut [f32]) {
        let out = &mut out[..self.k.div_ceil(LANES) * LANES * width * LANES];
        // SAFETY: `Plain` has no demands.
        unsafe { isa.run(Plain { source: self, block, width, out }) }
    }

    /// Packs blocks `block..block + 2 width` as the products of a Winograd level and the odd block of k.
    pub(super) fn pack_winograd(&self, isa: Isa, block: usize, width: usize, out: &mut [f32]) {
        // SAFETY: `Winograd` has no demands.
        unsafe { isa.run(Winograd { source: self, block, width, out }) }
    }

    /// A block of k and of n, zero beyond the ends.
    #[inline(always)]
    pub(super) fn tile<S: Simd>(&self, s: S, n_block: usize, k_block: usize) -> Tile {
        let (n0, k0) = (n_block * LANES, k_block * LANES);
        let mut tile = [[0.0; LANES]; LANES];
        if self.is_transposed {
            let n1 = self.n.min(n0 + LANES);
            for k in k0..self.k.min(k0 + LANES) {
                tile[k - k0][..n1 - n0].copy_from_slice(&self.weights[k * self.n..][n0..n1]);
            }
            return tile;
        }
        if n0 + LANES <= self.n && k0 + LANES <= self.k {
            let from = self.weights[n0 * self.k + k0..][..(LANES - 1) * self.k + LANES].as_ptr();
            // SAFETY: 16 rows of k from there on, as the slice shows; the tile has 16 x 16.
            unsafe { s.transpose(from, self.k, tile.as_mut_ptr().cast(), LANES) };
            return tile;
        }
        for n in n0..self.n.min(n0 + LANES) {
            for k in k0..self.k.min(k0 + LANES) {
                tile[k - k0][n - n0] = self.weights[n * self.k + k];
            }
        }
        tile
    }
}

struct Plain<'a> {
    source: &'a Source<'a>,
    block: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Plain<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let columns = self.width * LANES;
        for (k_block, out) in self.out.chunks_exact_mut(LANES * columns).enumerate() {
            for w in 0..self.width {
                put(out, columns, w, &self.source.tile(s, self.block + w, k_block));
            }
        }
    }
}

/// Copies rows to the columns of block w.
#[inline(always)]
pub(super) fn put(out: &mut [f32], columns: usize, w: usize, tile: &[[f32; LANES]]) {
    for (row, out) in tile.iter().zip(out.chunks_exact_mut(columns)) {
        out[w * LANES..][..LANES].copy_from_slice(row);
    }
}

struct Winograd<'a> {
    source: &'a Source<'a>,
    block: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Winograd<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let Winograd { source, block, width, out } = self;
        let (k_blocks, columns) = (source.k.div_ceil(LANES), width * LANES);
        let pairs = k_blocks / 2;
        for pair in 0..pairs {
            for w in 0..width {
                let (left, right) = (block + w, block + width + w);
                let (b11, b12) = (source.tile(s, left, 2 * pair), source.tile(s, right, 2 * pair));
                let (b21, b22) = (source.tile(s, left, 2 * pair + 1), source.tile(s, right, 2 * pair + 1));
                let (mut t1, mut t2, mut t3, mut minus_t4) = (b11, b11, b11, b11);
                for k in 0..LANES {
                    for n in 0..LANES {
                        // In f64, so that each sum is rounded once.
                        let (x11, x12) = (f64::from(b11[k][n]), f64::from(b12[k][n]));
                        let (x21, x22) = (f64::from(b21[k][n]), f64::from(b22[k][n]));
                        t1[k][n] = (x12 - x11) as f32;
                        t2[k][n] = (x22 - (x12 - x11)) as f32;
                        t3[k][n] = (x22 - x12) as f32;
                        minus_t4[k][n] = (x21 - (x22 - (x12 - x11))) as f32;
                    }
                }
                for (q, tile) in [&b11, &b21, &t2, &t3, &t1, &b22, &minus_t4].into_iter().enumerate() {
                    put(&mut out[(q * pairs + pair) * LANES * columns..], columns, w, tile);
                }
            }
        }
        if k_blocks % 2 == 1 {
            for side in 0..2 {
                for w in 0..width {
                    let tile = source.tile(s, block + side * width + w, k_blocks - 1);
                    put(&mut out[(PRODUCTS * pairs + side) * LANES * columns..], columns, w, &tile);
                }
            }
        }
    }
}
