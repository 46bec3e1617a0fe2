//! Feature maps and token matrices in the blocked layout, and views of their parts.
//!
//! A map is `[ceil(C/16)][pixels][16]` f32: block b holds channels 16b to 16b+15 of every pixel. A token matrix is a map of
//! height 1. Lanes beyond C hold finite numbers that nothing depends on. A map may have a border of zeros around each
//! plane, so that depthwise kernels read beyond the edge without asking where they are; producers leave it alone.

use crate::simd::LANES;
use std::marker::PhantomData;
use std::ops::Range;

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
    /// Not a slice: other threads may write the map's other rectangles meanwhile.
    data: *const f32,
    block: usize,
    blocks: usize,
    pixel: usize,
    pixels: usize,
    life: PhantomData<&'a [f32]>,
}

// SAFETY: only its rectangle is read, as through a `&[f32]`.
unsafe impl Send for MapRef<'_> {}
// SAFETY: as above.
unsafe impl Sync for MapRef<'_> {}

impl<'a> MapRef<'a> {
    /// The whole map.
    ///
    /// # Panics
    /// If `data` is shorter than `map.len()`.
    pub fn new(map: Map, data: &'a [f32]) -> MapRef<'a> {
        check_length(&map, data.len());
        let (blocks, pixels) = (map.blocks, map.pixels());
        MapRef { map, data: data.as_ptr(), block: 0, blocks, pixel: 0, pixels, life: PhantomData }
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
        // SAFETY: inside the map's `len` f32 by the assertion, and in the rectangle that may be read.
        unsafe { std::slice::from_raw_parts(self.data.add(o), LANES) }
    }

    /// First number of the view's first block, at offset 0 of its plane (border included).
    pub(crate) fn plane(&self) -> *const f32 {
        // SAFETY: within the map's `len` f32, or one past its end for an empty view.
        unsafe { self.data.add(self.block * self.map.block_stride()) }
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

    /// Reads the view, which cannot be written as long as it is read.
    pub fn as_ref(&self) -> MapRef<'_> {
        let MapMut { map, data, block, blocks, pixel, pixels, .. } = *self;
        MapRef { map, data, block, blocks, pixel, pixels, life: PhantomData }
    }

    /// A part of the view, which stays as it is.
    ///
    /// # Safety
    /// The ranges lie within the view, and nothing else reaches the part as long as it lives.
    pub(crate) unsafe fn part(&self, blocks: Range<usize>, pixels: Range<usize>) -> MapMut<'_> {
        MapMut {
            block: self.block + blocks.start,
            blocks: blocks.len(),
            pixel: self.pixel + pixels.start,
            pixels: pixels.len(),
            life: PhantomData,
            ..*self
        }
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
