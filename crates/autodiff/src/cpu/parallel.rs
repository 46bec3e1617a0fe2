//! How work is divided among threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use mobileclip_kernels::{Chunks, LANES, MAX_TILES, MapMut, MapRef, Tiles};

use super::{Cpu, CpuTensor};

/// f32 of a piece of element-wise work: some tens of microseconds.
const PIECE: usize = 1 << 15;

/// Pixels that one part of a sum covers at least, and how many parts there are at most. Both are independent of the
/// threads, as the order of a sum must be.
const PART: usize = 64;
const PARTS: usize = 256;

/// A rectangle of a map.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    pub blocks: Range<usize>,
    pub pixels: Range<usize>,
}

impl Tile {
    /// The same rectangle of another map.
    pub fn of<'a>(&self, view: MapRef<'a>) -> MapRef<'a> {
        view.with_blocks(self.blocks.clone()).with_pixels(self.pixels.clone())
    }
}

/// `count` things in at most `parts` parts that are as equal as can be: the borders.
pub(super) fn bounds(count: usize, parts: usize) -> Vec<usize> {
    let parts = parts.clamp(1, count.max(1));
    (0..=parts).map(|i| i * count / parts).collect()
}

impl Cpu {
    /// Borders between samples of so many pixels, few enough that `blocks` times as many tiles can be claimed.
    pub(super) fn samples(&self, batch: usize, pixels: usize, blocks: usize) -> Vec<usize> {
        let parts = (MAX_TILES / blocks.max(1)).max(1);
        bounds(batch, parts).into_iter().map(|sample| sample * pixels).collect()
    }

    /// Runs `f(task, scratch)` for every task, with `scratch_len` f32 for each thread.
    pub(super) fn each(&self, tasks: usize, scratch_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        let mut scratch = self.arena.take(self.pool.threads() * scratch_len);
        let chunks = Chunks::new(&mut scratch, scratch_len.max(1));
        let next = AtomicUsize::new(0);
        self.pool.run(|thread| {
            let scratch: &mut [f32] = if scratch_len == 0 { &mut [] } else { chunks.claim(thread) };
            loop {
                let task = next.fetch_add(1, Relaxed);
                if task >= tasks {
                    return;
                }
                f(task, &mut scratch[..scratch_len]);
            }
        });
    }

    /// Runs `f` for every tile of a grid over `out`.
    pub(super) fn tiles(
        &self,
        out: MapMut<'_>,
        blocks: &[usize],
        pixels: &[usize],
        scratch_len: usize,
        f: impl Fn(Tile, MapMut<'_>, &mut [f32]) + Sync,
    ) {
        let tiles = Tiles::new(out, blocks, pixels);
        let (rows, columns) = tiles.grid();
        self.each(rows * columns, scratch_len, |task, scratch| {
            let (i, j) = (task / columns, task % columns);
            let tile = Tile { blocks: blocks[i]..blocks[i + 1], pixels: pixels[j]..pixels[j + 1] };
            f(tile, tiles.claim(i, j), scratch);
        });
    }

    /// Runs `f` for pieces of a tensor, one block each, for work without a sum.
    pub(super) fn pieces(&self, out: &mut CpuTensor, f: impl Fn(Tile, MapMut<'_>) + Sync) {
        let map = out.map();
        let blocks = bounds(map.blocks, MAX_TILES);
        let parts = (map.pixels() * LANES).div_ceil(PIECE).min(MAX_TILES / (blocks.len() - 1));
        let pixels = bounds(map.pixels(), parts);
        self.tiles(out.view_mut(), &blocks, &pixels, 0, |tile, out, _| f(tile, out));
    }

    /// Runs `f` for all pixels of single samples.
    pub(super) fn sample_pieces(&self, out: &mut CpuTensor, f: impl Fn(usize, Tile, MapMut<'_>) + Sync) {
        let (map, pixels) = (out.map(), out.shape.pixels());
        let borders = self.samples(out.batch, pixels, 1);
        self.tiles(out.view_mut(), &[0, map.blocks], &borders, 0, |tile, mut out, _| {
            for sample in tile.pixels.start / pixels.max(1)..tile.pixels.end / pixels.max(1) {
                let (now, rest) = out.split_at_pixel(pixels);
                let range = sample * pixels..(sample + 1) * pixels;
                f(sample, Tile { blocks: tile.blocks.clone(), pixels: range }, now);
                out = rest;
            }
        });
    }

    /// Sums over all pixels, N numbers for each channel (and lane beyond): `f(part, pixels, sums)` adds those of a part, which
    /// start at zero.
    pub(super) fn sum_parts<const N: usize>(
        &self,
        x: &CpuTensor,
        f: impl Fn(usize, Range<usize>, [&mut [f32]; N]) + Sync,
    ) -> [Vec<f64>; N] {
        let lanes = x.map().blocks * LANES;
        let sums = self.parts_of_sums(x, f);
        std::array::from_fn(|n| {
            let mut total = vec![0.0; lanes];
            for part in sums.chunks_exact((N * lanes).max(1)) {
                total.iter_mut().zip(&part[n * lanes..]).for_each(|(t, v)| *t += f64::from(*v));
            }
            total
        })
    }

    /// What `f` makes of every part, not yet joined: `[parts][N][16 blocks]`.
    pub(super) fn parts_of_sums<const N: usize>(
        &self,
        x: &CpuTensor,
        f: impl Fn(usize, Range<usize>, [&mut [f32]; N]) + Sync,
    ) -> Vec<f32> {
        let parts = self.parts(x);
        let lanes = x.map().blocks * LANES;
        let mut sums = vec![0.0; (parts.len() - 1) * N * lanes];
        let chunks = Chunks::new(&mut sums, (N * lanes).max(1));
        self.each(parts.len() - 1, 0, |part, _| {
            let mut rest = chunks.claim(part);
            let vectors = std::array::from_fn(|_| {
                let (first, after) = std::mem::take(&mut rest).split_at_mut(lanes);
                rest = after;
                first
            });
            f(part, parts[part]..parts[part + 1], vectors);
        });
        sums
    }

    /// The borders of the parts of a sum over a tensor's pixels.
    pub(super) fn parts(&self, x: &CpuTensor) -> Vec<usize> {
        let pixels = x.map().pixels();
        bounds(pixels, pixels.div_ceil(PART).min(PARTS))
    }
}
