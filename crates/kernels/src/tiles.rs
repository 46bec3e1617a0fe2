//! Disjoint parts of one buffer for threads that write at the same time.

use crate::map::MapMut;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// At most this many tiles or chunks of one buffer can be claimed in one step.
pub const MAX_TILES: usize = 1024;

/// Which parts of a buffer have been handed out.
struct Claims([AtomicU64; MAX_TILES / 64]);

impl Claims {
    fn new() -> Claims {
        Claims([const { AtomicU64::new(0) }; MAX_TILES / 64])
    }

    fn claim(&self, i: usize) {
        let bit = 1 << (i % 64);
        // Relaxed is enough: the flag hands out nothing that another thread wrote.
        assert!(self.0[i / 64].fetch_or(bit, Relaxed) & bit == 0, "part {i} was claimed twice");
    }
}

/// A map cut into a grid of tiles that threads claim, each tile once: how several threads write one map safely.
///
/// Tile (i, j) has the blocks `block_bounds[i]..block_bounds[i + 1]` and the pixels
/// `pixel_bounds[j]..pixel_bounds[j + 1]` of the view.
///
/// ```
/// use mobileclip_kernels::{Map, MapMut, Tiles};
/// let map = Map::new(32, 2, 2);
/// let mut data = vec![0.0; map.len()];
/// let tiles = Tiles::new(MapMut::new(map, &mut data), &[0, 1, 2], &[0, 4]);
/// std::thread::scope(|s| {
///     for i in 0..2 {
///         let tiles = &tiles;
///         s.spawn(move || tiles.claim(i, 0).lanes_mut(0, 3)[0] = i as f32);
///     }
/// });
/// assert_eq!(data[map.offset(1, 1, 1)], 1.0);
/// ```
pub struct Tiles<'a> {
    view: MapMut<'a>,
    block_bounds: &'a [usize],
    pixel_bounds: &'a [usize],
    claims: Claims,
}

impl<'a> Tiles<'a> {
    /// Cuts a view.
    ///
    /// # Panics
    /// If bounds are empty, fall, or leave the view, or if there are more than [`MAX_TILES`] tiles.
    pub fn new(view: MapMut<'a>, block_bounds: &'a [usize], pixel_bounds: &'a [usize]) -> Tiles<'a> {
        for (bounds, end) in [(block_bounds, view.blocks()), (pixel_bounds, view.pixels())] {
            assert!(!bounds.is_empty() && bounds.is_sorted(), "bounds must rise: {bounds:?}");
            assert!(bounds[bounds.len() - 1] <= end, "bounds {bounds:?} leave the view's {end}");
        }
        assert!((block_bounds.len() - 1) * (pixel_bounds.len() - 1) <= MAX_TILES, "too many tiles");
        Tiles { view, block_bounds, pixel_bounds, claims: Claims::new() }
    }

    /// Tiles along the blocks and along the pixels.
    pub fn grid(&self) -> (usize, usize) {
        (self.block_bounds.len() - 1, self.pixel_bounds.len() - 1)
    }

    /// Takes tile (i, j).
    ///
    /// # Panics
    /// If it was taken before, or does not exist.
    pub fn claim(&self, i: usize, j: usize) -> MapMut<'_> {
        let (rows, columns) = self.grid();
        assert!(i < rows && j < columns, "tile ({i}, {j}) of ({rows}, {columns})");
        self.claims.claim(i * columns + j);
        let (b, p) = (self.block_bounds, self.pixel_bounds);
        // SAFETY: the bounds rise and end within the view, so tiles are disjoint, and this one is given out only once.
        unsafe { self.view.part(b[i]..b[i + 1], p[j]..p[j + 1]) }
    }
}

/// A slice cut into equal chunks (the last may be shorter) that threads claim, each once: per-thread scratch, activation
/// sums, pooled channels.
pub struct Chunks<'a> {
    data: *mut f32,
    len: usize,
    chunk: usize,
    claims: Claims,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the chunks are disjoint and each is handed out once.
unsafe impl Sync for Chunks<'_> {}
// SAFETY: as `&mut [f32]`.
unsafe impl Send for Chunks<'_> {}

impl<'a> Chunks<'a> {
    /// Cuts `data` into chunks of `chunk` f32.
    ///
    /// # Panics
    /// If `chunk` is zero or there would be more than [`MAX_TILES`] chunks.
    pub fn new(data: &'a mut [f32], chunk: usize) -> Chunks<'a> {
        assert!(
            chunk > 0 && data.len().div_ceil(chunk) <= MAX_TILES,
            "{} f32 in chunks of {chunk}",
            data.len()
        );
        Chunks { data: data.as_mut_ptr(), len: data.len(), chunk, claims: Claims::new(), life: PhantomData }
    }

    /// Takes chunk i.
    ///
    /// # Panics
    /// If it was taken before, or does not exist.
    #[allow(clippy::mut_from_ref)] // Each chunk is given out once, which is what the claims check.
    pub fn claim(&self, i: usize) -> &mut [f32] {
        let start = i.saturating_mul(self.chunk);
        assert!(start < self.len, "chunk {i} of {}", self.len.div_ceil(self.chunk));
        self.claims.claim(i);
        // SAFETY: `start < len`, the end is cut at `len`, and no other claim gives this chunk out.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.chunk.min(self.len - start)) }
    }

    /// Takes chunks `i..j`, as one slice.
    ///
    /// # Panics
    /// If one was taken before, or does not exist.
    #[allow(clippy::mut_from_ref)] // As `claim`.
    pub fn claim_range(&self, range: Range<usize>) -> &mut [f32] {
        if range.is_empty() {
            return &mut [];
        }
        let start = range.start.saturating_mul(self.chunk);
        assert!((range.end - 1).saturating_mul(self.chunk) < self.len, "chunks {range:?}");
        for i in range.clone() {
            self.claims.claim(i);
        }
        let len = (range.len() * self.chunk).min(self.len - start);
        // SAFETY: inside `len` by the assertion, and no other claim gives these chunks out.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
}
