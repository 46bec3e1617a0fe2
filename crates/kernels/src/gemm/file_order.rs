//! Packed weights as files keep them, so that a mapped file is used as it is.
//!
//! The order is that of instruction sets with tiles of two blocks (AVX-512). Others get the plain matrix back and pack
//! it their way.

use super::pack::Source;
use super::winograd::PRODUCTS;
use super::{Form, PackedGemm, Panel, Panels};
use crate::buffer::{Buffer, SharedNumbers};
use crate::isa::{Isa, Kernel};
use crate::simd::{LANES, Simd};

const WIDEST: usize = 2;
/// Where B11, B21 and B22 stand among the products, see `winograd`.
const B11: usize = 0;
const B21: usize = 1;
const B22: usize = 5;

/// The order in which a file keeps the packed weights `[n][k]` of a product, and what the matrix needs besides to come back:
/// the quarters B12 of a Strassen-Winograd level, which no product has as they are.
///
/// ```
/// use mobileclip_kernels::{FileOrder, Isa};
/// let order = FileOrder::new(64, 40, true);
/// let weights: Vec<f32> = (0..64 * 40).map(|i| i as f32).collect();
/// let (packed, spare) = (order.pack(Isa::detect(), &weights), order.spare(&weights));
/// assert_eq!((packed.len(), spare.len()), (order.len(), order.spare_len()));
/// assert_eq!(order.unpack(Isa::detect(), &packed, &spare), weights);
/// ```
pub struct FileOrder {
    n: usize,
    k: usize,
    panels: Panels,
}

impl FileOrder {
    /// The order for `n` outputs of `k` inputs, with a Strassen-Winograd level or plain.
    pub fn new(n: usize, k: usize, is_winograd: bool) -> FileOrder {
        let mut panels = Panels::default();
        match is_winograd {
            true => panels.winograd(n.div_ceil(LANES), WIDEST, k),
            false => panels.plain(Form::Plain, n.div_ceil(LANES), WIDEST, k),
        }
        FileOrder { n, k, panels }
    }

    /// Whether it is the order that an instruction set works with.
    pub fn is_of(isa: Isa) -> bool {
        isa.shape().blocks == WIDEST
    }

    /// f32 of the packed weights.
    pub fn len(&self) -> usize {
        self.panels.offset
    }

    /// Whether there is nothing to pack.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// f32 of the quarters that are kept besides.
    pub fn spare_len(&self) -> usize {
        self.panels.list.iter().map(|panel| self.spare_of(panel)).sum()
    }

    fn spare_of(&self, panel: &Panel) -> usize {
        match panel.form {
            Form::Plain | Form::Bf16 | Form::Bytes => 0,
            Form::Winograd => self.k_blocks() / 2 * LANES * panel.width * LANES,
        }
    }

    fn k_blocks(&self) -> usize {
        self.k.div_ceil(LANES)
    }

    /// Packs row-major weights, to the same bits whatever the instruction set.
    ///
    /// # Panics
    /// If there are not n k weights.
    pub fn pack(&self, isa: Isa, weights: &[f32]) -> Buffer {
        let source = Source { n: self.n, k: self.k, weights, is_transposed: false };
        self.panels.clone().pack(isa, source, None).weights
    }

    /// The spare quarters of row-major weights.
    ///
    /// # Panics
    /// As [`FileOrder::pack`].
    pub fn spare(&self, weights: &[f32]) -> Vec<f32> {
        assert_eq!(Some(weights.len()), self.n.checked_mul(self.k), "weights of {} x {}", self.n, self.k);
        let mut spare = vec![0.0; self.spare_len()];
        for tile in self.tiles().filter(|tile| tile.is_spare) {
            for (k, row) in spare[tile.offset..].chunks_mut(tile.columns).take(LANES).enumerate() {
                for (n, to) in row.iter_mut().take(LANES).enumerate() {
                    let (n, k) = (tile.n_block * LANES + n, tile.k_block * LANES + k);
                    *to = if n < self.n && k < self.k { weights[n * self.k + k] } else { 0.0 };
                }
            }
        }
        spare
    }

    /// The row-major weights back, bit for bit.
    ///
    /// # Panics
    /// If the lengths are not [`FileOrder::len`] and [`FileOrder::spare_len`].
    pub fn unpack(&self, isa: Isa, packed: &[f32], spare: &[f32]) -> Vec<f32> {
        assert_eq!((packed.len(), spare.len()), (self.len(), self.spare_len()), "packed and spare weights");
        let mut weights = vec![0.0; self.n * self.k];
        for tile in self.tiles() {
            let from = if tile.is_spare { spare } else { packed };
            let from = &from[tile.offset..][..(LANES - 1) * tile.columns + LANES];
            let (n0, k0) = (tile.n_block * LANES, tile.k_block * LANES);
            if n0 + LANES <= self.n && k0 + LANES <= self.k {
                let to = &mut weights[n0 * self.k + k0..][..(LANES - 1) * self.k + LANES];
                // SAFETY: 16 rows of 16 on both sides, as the slices show.
                unsafe { isa.run(Transpose { from, columns: tile.columns, to, k: self.k }) };
                continue;
            }
            for (k, row) in (k0..self.k.min(k0 + LANES)).zip(from.chunks(tile.columns)) {
                for (n, value) in (n0..self.n.min(n0 + LANES)).zip(row) {
                    weights[n * self.k + k] = *value;
                }
            }
        }
        weights
    }

    /// Where each tile of the matrix lies.
    fn tiles(&self) -> impl Iterator<Item = Tile> {
        let (k_blocks, pairs) = (self.k_blocks(), self.k_blocks() / 2);
        let spares = self.panels.list.iter().scan(0, |end, panel| {
            let start = *end;
            *end += self.spare_of(panel);
            Some(start)
        });
        self.panels.list.iter().zip(spares).flat_map(move |(&panel, spare)| {
            let columns = panel.width * LANES;
            let sides = if panel.form == Form::Winograd { 2 } else { 1 };
            let places = (0..sides).flat_map(move |side| (0..k_blocks).map(move |k| (side, k)));
            places.flat_map(move |(side, k_block)| {
                let pair = k_block / 2;
                let is_spare = sides == 2 && side == 1 && k_block % 2 == 0 && pair < pairs;
                // In tiles of all the panel's columns.
                let at = match (sides, side, k_block % 2) {
                    (1, ..) => k_block,
                    _ if pair == pairs => PRODUCTS * pairs + side,
                    (_, 0, 0) => B11 * pairs + pair,
                    (_, 0, _) => B21 * pairs + pair,
                    (_, _, 0) => pair,
                    _ => B22 * pairs + pair,
                };
                (0..panel.width).map(move |w| Tile {
                    n_block: panel.block + side * panel.width + w,
                    k_block,
                    is_spare,
                    offset: if is_spare { spare } else { panel.offset } + at * LANES * columns + w * LANES,
                    columns,
                })
            })
        })
    }
}

/// A block of n and of k, `[k][n]`.
struct Tile {
    n_block: usize,
    k_block: usize,
    /// Whether it is among the spare quarters.
    is_spare: bool,
    offset: usize,
    /// From one k to the next.
    columns: usize,
}

struct Transpose<'a> {
    from: &'a [f32],
    columns: usize,
    to: &'a mut [f32],
    k: usize,
}

impl Kernel for Transpose<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the caller, both slices hold 16 rows of 16.
        unsafe { s.transpose(self.from.as_ptr(), self.columns, self.to.as_mut_ptr(), self.k) }
    }
}

impl PackedGemm {
    /// Weights that are packed already, used where they lie: `None` unless the order is that of the instruction set
    /// ([`FileOrder::is_of`]) and the length is right.
    ///
    /// # Panics
    /// If the bias has not n numbers.
    pub fn from_file(
        isa: Isa,
        order: &FileOrder,
        weights: SharedNumbers,
        bias: Option<&[f32]>,
    ) -> Option<PackedGemm> {
        if !FileOrder::is_of(isa) || (*weights).as_ref().len() != order.len() {
            return None;
        }
        Some(order.panels.clone().finish(isa, order.n, order.k, Buffer::shared(weights), bias))
    }
}
