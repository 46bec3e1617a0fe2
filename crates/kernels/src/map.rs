//! Feature maps and token matrices in the blocked layout, and views of their parts.
//!
//! A map is `[ceil(C/16)][pixels][16]` f32: block b holds channels 16b to 16b+15 of every pixel. A token matrix is a map of
//! height 1. Lanes beyond C hold finite numbers that nothing depends on. A map may have a border of zeros around each
//! plane, so that depthwise kernels read beyond the edge without asking where they are; producers leave it alone.

use crate::simd::LANES;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shape and layout of a map.
///
/// ```
/// let m = mobileclip_kernels::Map::new(20, 4, 4).with_border(1, 1);
/// assert_eq!((m.blocks, m.pixels(), m.len()), (2, 16, 2 * 6 * 6 * 16));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Blocks of 16 channels.
    pub blocks: usize,
    /// Rows of pixels, without the border.
    pub height: usize,
    /// Pixels in a row, without the border.
    pub width: usize,
    /// Rows of zeros above and below.
    pub border_y: usize,
    /// Pixels of zeros left and right.
    pub border_x: usize,
}

impl Map {
    /// A map of `channels` without a border.
    pub const fn new(channels: usize, height: usize, width: usize) -> Map {
        Map { blocks: channels.div_ceil(LANES), height, width, border_y: 0, border_x: 0 }
    }

    /// A token matrix: `[ceil(width/16)][tokens][16]`.
    pub const fn tokens(width: usize, tokens: usize) -> Map {
        Map::new(width, 1, tokens)
    }

    /// The same map with a border of zeros.
    pub const fn with_border(self, border_y: usize, border_x: usize) -> Map {
        Map { border_y, border_x, ..self }
    }

    /// Pixels of a block, without the border.
    pub const fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// f32 from one row to the next.
    pub const fn row_stride(&self) -> usize {
        (self.width + 2 * self.border_x) * LANES
    }

    /// f32 from one block to the next.
    pub const fn block_stride(&self) -> usize {
        (self.height + 2 * self.border_y) * self.row_stride()
    }

    /// f32 that the whole map takes.
    pub const fn len(&self) -> usize {
        self.blocks * self.block_stride()
    }

    /// [`Map::len`], or nothing if it does not fit a usize: the views rely on offsets that cannot wrap.
    fn checked_len(&self) -> Option<usize> {
        let row = self.border_x.checked_mul(2)?.checked_add(self.width)?.checked_mul(LANES)?;
        let rows = self.border_y.checked_mul(2)?.checked_add(self.height)?;
        row.checked_mul(rows)?.checked_mul(self.blocks)
    }

    /// Whether the map holds nothing.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the 16 channels of a block's pixel (y, x) start.
    pub const fn offset(&self, block: usize, y: usize, x: usize) -> usize {
        block * self.block_stride() + (y + self.border_y) * self.row_stride() + (x + self.border_x) * LANES
    }

    /// Whether all pixels of a block lie in one piece.
    pub(crate) const fn is_dense(&self) -> bool {
        self.border_x == 0
    }

    pub(crate) const fn pixel_offset(&self, block: usize, pixel: usize) -> usize {
        if self.width == 0 {
            return block * self.block_stride();
        }
        self.offset(block, pixel / self.width, pixel % self.width)
    }
}

/// Reads a rectangle (blocks x pixels) of a map; pixels count row by row from the first inner one.
#[derive(Clone, Copy)]
pub struct MapRef<'a> {
    map: Map,
    data: &'a [f32],
    block: usize,
    blocks: usize,
    pixel: usize,
    pixels: usize,
}

impl<'a> MapRef<'a> {
    /// The whole map.
    ///
    /// # Panics
    /// If `data` is shorter than `map.len()`.
    pub fn new(map: Map, data: &'a [f32]) -> MapRef<'a> {
        check_length(&map, data.len());
        MapRef { map, data, block: 0, blocks: map.blocks, pixel: 0, pixels: map.pixels() }
    }

    /// Only these pixels of the view.
    ///
    /// # Panics
    /// If the range leaves the view.
    pub fn with_pixels(self, range: Range<usize>) -> MapRef<'a> {
        assert!(range.start <= range.end && range.end <= self.pixels, "pixels {range:?} of {}", self.pixels);
        MapRef { pixel: self.pixel + range.start, pixels: range.len(), ..self }
    }

    /// Only these rows of the whole map's height.
    ///
    /// # Panics
    /// If the range leaves the view.
    pub fn with_rows(self, range: Range<usize>) -> MapRef<'a> {
        self.with_pixels(range.start * self.map.width..range.end * self.map.width)
    }

    /// Only these blocks of the view.
    ///
    /// # Panics
    /// If the range leaves the view.
    pub fn with_blocks(self, range: Range<usize>) -> MapRef<'a> {
        assert!(range.start <= range.end && range.end <= self.blocks, "blocks {range:?} of {}", self.blocks);
        MapRef { block: self.block + range.start, blocks: range.len(), ..self }
    }

    /// Layout of the map that is looked at.
    pub fn map(&self) -> Map {
        self.map
    }

    /// Blocks of the view.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Pixels of the view.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// The 16 channels of one pixel.
    pub fn lanes(&self, block: usize, pixel: usize) -> &'a [f32] {
        assert!(block < self.blocks && pixel < self.pixels);
        let o = self.map.pixel_offset(self.block + block, self.pixel + pixel);
        &self.data[o..o + LANES]
    }

    /// First number of the view's first block, at offset 0 of its plane (border included).
    pub(crate) fn plane(&self) -> *const f32 {
        // SAFETY: within `data`, or one past its end for an empty view.
        unsafe { self.data.as_ptr().add((self.block * self.map.block_stride()).min(self.data.len())) }
    }

    /// Where the view's pixel `i` starts in its plane.
    pub(crate) fn offset_of(&self, i: usize) -> usize {
        self.map.pixel_offset(0, self.pixel + i)
    }

    /// Pixels in one piece from the view's pixel `i` on.
    pub(crate) fn run_length(&self, i: usize) -> usize {
        run_length(&self.map, self.pixel, self.pixels, i)
    }
}

fn check_length(map: &Map, len: usize) {
    let fits = map.checked_len().is_some_and(|needed| needed <= len);
    assert!(fits, "{map:?} does not fit into {len} f32");
}

fn run_length(map: &Map, pixel: usize, pixels: usize, i: usize) -> usize {
    if map.is_dense() { pixels - i } else { (map.width - (pixel + i) % map.width).min(pixels - i) }
}

/// Writes a rectangle (blocks x pixels) of a map, alone: views of disjoint rectangles of one map may be used by
/// different threads at once.
pub struct MapMut<'a> {
    map: Map,
    data: *mut f32,
    block: usize,
    blocks: usize,
    pixel: usize,
    pixels: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MapMut` is the only access to its rectangle, as `&mut [f32]` would be, and f32 is Send.
unsafe impl Send for MapMut<'_> {}
// SAFETY: through `&MapMut` nothing can be written, and only the owned rectangle can be read.
unsafe impl Sync for MapMut<'_> {}

impl<'a> MapMut<'a> {
    /// The whole map.
    ///
    /// # Panics
    /// If `data` is shorter than `map.len()`.
    pub fn new(map: Map, data: &'a mut [f32]) -> MapMut<'a> {
        check_length(&map, data.len());
        let (blocks, pixels) = (map.blocks, map.pixels());
        MapMut { map, data: data.as_mut_ptr(), block: 0, blocks, pixel: 0, pixels, life: PhantomData }
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> MapMut<'_> {
        MapMut { life: PhantomData, ..*self }
    }

    /// Splits into the blocks before `block` and the rest.
    ///
    /// # Panics
    /// If `block` is beyond the view.
    pub fn split_at_block(self, block: usize) -> (MapMut<'a>, MapMut<'a>) {
        assert!(block <= self.blocks, "block {block} of {}", self.blocks);
        let first = MapMut { blocks: block, ..self };
        (first, MapMut { block: self.block + block, blocks: self.blocks - block, ..self })
    }

    /// Splits into the pixels before `pixel` and the rest.
    ///
    /// # Panics
    /// If `pixel` is beyond the view.
    pub fn split_at_pixel(self, pixel: usize) -> (MapMut<'a>, MapMut<'a>) {
        assert!(pixel <= self.pixels, "pixel {pixel} of {}", self.pixels);
        let first = MapMut { pixels: pixel, ..self };
        (first, MapMut { pixel: self.pixel + pixel, pixels: self.pixels - pixel, ..self })
    }

    /// Reads the same rectangle.
    ///
    /// # Panics
    /// Unless the view is the whole map: a part is not a slice.
    pub fn as_slice(&self) -> &[f32] {
        assert!(self.is_whole(), "only the whole map is a slice");
        // SAFETY: the view owns all of the map's `len` f32.
        unsafe { std::slice::from_raw_parts(self.data, self.map.len()) }
    }

    /// Writes zeros into the border of every plane. Needed once per buffer, since nothing else writes there, or again
    /// when a buffer is used for another map.
    ///
    /// # Panics
    /// Unless the view is the whole map.
    pub fn zero_border(&mut self) {
        assert!(self.is_whole(), "the border belongs to the whole map");
        let (m, row) = (self.map, self.map.row_stride());
        // SAFETY: the view owns all of the map's `len` f32.
        let data = unsafe { std::slice::from_raw_parts_mut(self.data, m.len()) };
        for plane in data.chunks_exact_mut(m.block_stride().max(1)) {
            let (top, rest) = plane.split_at_mut(m.border_y * row);
            let (inner, bottom) = rest.split_at_mut(m.height * row);
            top.fill(0.0);
            bottom.fill(0.0);
            for line in inner.chunks_exact_mut(row.max(1)) {
                line[..m.border_x * LANES].fill(0.0);
                line[row - m.border_x * LANES..].fill(0.0);
            }
        }
    }

    fn is_whole(&self) -> bool {
        self.blocks == self.map.blocks && self.pixels == self.map.pixels()
    }

    /// Layout of the map that is written.
    pub fn map(&self) -> Map {
        self.map
    }

    /// Blocks of the view.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Pixels of the view.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// The 16 channels of one pixel.
    pub fn lanes_mut(&mut self, block: usize, pixel: usize) -> &mut [f32] {
        assert!(block < self.blocks && pixel < self.pixels);
        let o = self.map.pixel_offset(self.block + block, self.pixel + pixel);
        // SAFETY: inside the map's `len` f32 by the assertion, and owned by this view.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(o), LANES) }
    }

    /// First number of the view's first block, at offset 0 of its plane (border included).
    pub(crate) fn plane(&mut self) -> *mut f32 {
        // SAFETY: within the map's `len` f32, or one past its end for an empty view.
        unsafe { self.data.add(self.block * self.map.block_stride()) }
    }

    pub(crate) fn first_pixel(&self) -> usize {
        self.pixel
    }

    /// Where the view's pixel `i` starts in its plane.
    pub(crate) fn offset_of(&self, i: usize) -> usize {
        self.map.pixel_offset(0, self.pixel + i)
    }

    /// Pixels in one piece from the view's pixel `i` on.
    pub(crate) fn run_length(&self, i: usize) -> usize {
        run_length(&self.map, self.pixel, self.pixels, i)
    }
}

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
    map: Map,
    data: *mut f32,
    block: usize,
    pixel: usize,
    block_bounds: &'a [usize],
    pixel_bounds: &'a [usize],
    claims: Claims,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the tiles are disjoint and each is handed out once, so threads never reach the same f32.
unsafe impl Sync for Tiles<'_> {}
// SAFETY: as `MapMut`.
unsafe impl Send for Tiles<'_> {}

impl<'a> Tiles<'a> {
    /// Cuts a view.
    ///
    /// # Panics
    /// If bounds are empty, fall, or leave the view, or if there are more than [`MAX_TILES`] tiles.
    pub fn new(view: MapMut<'a>, block_bounds: &'a [usize], pixel_bounds: &'a [usize]) -> Tiles<'a> {
        for (bounds, end) in [(block_bounds, view.blocks), (pixel_bounds, view.pixels)] {
            assert!(!bounds.is_empty() && bounds.is_sorted(), "bounds must rise: {bounds:?}");
            assert!(bounds[bounds.len() - 1] <= end, "bounds {bounds:?} leave the view's {end}");
        }
        assert!((block_bounds.len() - 1) * (pixel_bounds.len() - 1) <= MAX_TILES, "too many tiles");
        let MapMut { map, data, block, pixel, .. } = view;
        Tiles {
            map,
            data,
            block,
            pixel,
            block_bounds,
            pixel_bounds,
            claims: Claims::new(),
            life: PhantomData,
        }
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
        MapMut {
            map: self.map,
            data: self.data,
            block: self.block + b[i],
            blocks: b[i + 1] - b[i],
            pixel: self.pixel + p[j],
            pixels: p[j + 1] - p[j],
            life: PhantomData,
        }
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
