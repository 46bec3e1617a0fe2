//! Row-major weights into panels of narrow numbers: a lane holds 2 or 4 neighbouring k of one output channel.

use super::pack::{Source, put};
use super::tile::{Bytes, Pairs, Product};
use crate::isa::{Isa, Kernel};
use crate::simd::scalar::bf16;
use crate::simd::{LANES, Simd};

/// Largest byte of a weight: -128 is not used, so that scales are symmetric.
const LARGEST: f32 = 127.0;

impl Source<'_> {
    /// Packs blocks `block..block + width` as `[k / 2][16 width]` pairs of bf16.
    pub(super) fn pack_bf16(&self, isa: Isa, block: usize, width: usize, out: &mut [f32]) {
        let out = &mut out[..narrow_len::<Pairs>(self.k, width)];
        // SAFETY: `Bf16` has no demands.
        unsafe { isa.run(Bf16 { source: self, block, width, out }) }
    }

    /// Packs blocks `block..block + width` as `[k / 4][16 width]` times four bytes, and gives each channel's scale and sum of
    /// bytes.
    pub(super) fn pack_bytes(
        &self,
        isa: Isa,
        block: usize,
        width: usize,
        out: &mut [f32],
        scales: &mut [f32],
        sums: &mut [f32],
    ) {
        let out = &mut out[..narrow_len::<Bytes>(self.k, width)];
        let (scales, sums) = (&mut scales[..width * LANES], &mut sums[..width * LANES]);
        // SAFETY: `Quantised` has no demands.
        unsafe { isa.run(Quantised { source: self, block, width, out, scales, sums }) }
    }
}

/// f32 of a panel.
pub(super) fn narrow_len<P: Product>(k: usize, width: usize) -> usize {
    k.div_ceil(LANES) * LANES / P::NUMBERS * width * LANES
}

struct Bf16<'a> {
    source: &'a Source<'a>,
    block: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Kernel for Bf16<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let columns = self.width * LANES;
        for (k_block, out) in self.out.chunks_exact_mut(LANES / 2 * columns).enumerate() {
            for w in 0..self.width {
                let tile = self.source.tile(s, self.block + w, k_block);
                let mut lanes = [[0.0; LANES]; LANES / 2];
                for (lane, k) in lanes.iter_mut().zip(tile.chunks_exact(2)) {
                    for n in 0..LANES {
                        let (low, high) = (u32::from(bf16(k[0][n])), u32::from(bf16(k[1][n])));
                        lane[n] = f32::from_bits(high << 16 | low);
                    }
                }
                put(out, columns, w, &lanes);
            }
        }
    }
}

struct Quantised<'a> {
    source: &'a Source<'a>,
    block: usize,
    width: usize,
    out: &'a mut [f32],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Quantised<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let columns = self.width * LANES;
        for w in 0..self.width {
            let (scales, sums) =
                (&mut self.scales[w * LANES..][..LANES], &mut self.sums[w * LANES..][..LANES]);
            let mut largest = [0f32; LANES];
            for k_block in 0..self.source.k.div_ceil(LANES) {
                for row in self.source.tile(s, self.block + w, k_block) {
                    for n in 0..LANES {
                        largest[n] = largest[n].max(row[n].abs());
                    }
                }
            }
            let mut inverse = [0f32; LANES];
            for n in 0..LANES {
                scales[n] = largest[n] / LARGEST;
                inverse[n] = 1.0 / scales[n];
                if !inverse[n].is_finite() {
                    (scales[n], inverse[n]) = (0.0, 0.0); // no weights but zeros, or almost
                }
            }
            let mut total = [0i32; LANES];
            for (k_block, out) in self.out.chunks_exact_mut(LANES / 4 * columns).enumerate() {
                let tile = self.source.tile(s, self.block + w, k_block);
                let mut lanes = [[0.0; LANES]; LANES / 4];
                for (lane, k) in lanes.iter_mut().zip(tile.chunks_exact(4)) {
                    for n in 0..LANES {
                        let mut bits = 0;
                        for (i, k) in k.iter().enumerate() {
                            let byte = (k[n] * inverse[n]).round_ties_even() as i8;
                            total[n] += i32::from(byte);
                            bits |= u32::from(byte.cast_unsigned()) << (8 * i);
                        }
                        lane[n] = f32::from_bits(bits);
                    }
                }
                put(out, columns, w, &lanes);
            }
            for n in 0..LANES {
                sums[n] = total[n] as f32;
            }
        }
    }
}
