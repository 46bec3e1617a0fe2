//! The register tile: R pixels x W vectors of output channels, for all of K.

use super::Residual;
use crate::activation::{Activation, Function, with_activation};
use crate::isa::{Isa, Kernel, TileShape};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};
use std::marker::PhantomData;

/// What all tiles of a panel share.
pub(super) struct PanelJob<'a> {
    pub isa: Isa,
    /// Blocks of 16 input channels.
    pub k_blocks: usize,
    /// The panel's weights, and more.
    pub weights: &'a [f32],
    /// The panel's bias, and more.
    pub bias: &'a [f32],
    pub activation: Activation,
    pub residual: Residual<'a>,
    /// First block of the panel in the output view.
    pub block: usize,
}

impl PanelJob<'_> {
    /// Pixels in one piece from a pixel on, in the output and in the residual.
    pub(super) fn run_length(&self, pixel: usize, out: &MapMut<'_>) -> usize {
        let run = out.run_length(pixel);
        if let Residual::Map(r) = self.residual { run.min(r.run_length(pixel)) } else { run }
    }
}

/// Where the results of some consecutive pixels go, and what is added to them.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// First pixel, first block.
    out: *mut f32,
    out_stride: usize,
    activation: Activation,
    /// The same place of the residual, or null.
    residual: *const f32,
    residual_stride: usize,
}

impl Target {
    /// The panel's first block at some pixel of the view.
    pub(super) fn new(job: &PanelJob<'_>, out: &mut MapMut<'_>, pixel: usize) -> Target {
        let out_stride = out.map().block_stride();
        let at = out.plane().wrapping_add(job.block * out_stride + out.offset_of(pixel));
        let (residual, residual_stride) = match job.residual {
            Residual::None => (std::ptr::null(), 0),
            Residual::InPlace => (at.cast_const(), out_stride),
            Residual::Map(r) => {
                let stride = r.map().block_stride();
                (r.plane().wrapping_add(job.block * stride + r.offset_of(pixel)), stride)
            }
        };
        Target { out: at, out_stride, activation: job.activation, residual, residual_stride }
    }

    /// So many blocks and pixels further on.
    #[inline(always)]
    pub(super) fn moved(self, blocks: usize, pixels: usize) -> Target {
        let residual = if self.residual.is_null() {
            self.residual
        } else {
            self.residual.wrapping_add(blocks * self.residual_stride + pixels * LANES)
        };
        Target { out: self.out.wrapping_add(blocks * self.out_stride + pixels * LANES), residual, ..self }
    }

    /// Stores the first `rows` rows of a tile, after activation and residual. Indices of `acc` are constants after
    /// unrolling: any other loop over it would put it on the stack, also in the loop over k.
    ///
    /// # Safety
    /// The target has `rows` pixels in one piece in each of `W` blocks.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd, const R: usize, const W: usize>(
        &self,
        s: S,
        acc: &[[S::V; W]; R],
        rows: usize,
    ) {
        // SAFETY: by the caller.
        unsafe {
            if self.activation != Activation::None || rows != R {
                let mut tile = [[s.zero(); W]; R];
                for r in 0..R {
                    for w in 0..W {
                        tile[r][w] = acc[r][w];
                    }
                }
                let tile = std::hint::black_box(&raw const tile).cast::<f32>();
                s.call(Finish::<W> { tile, target: *self, rows });
            } else if self.residual.is_null() {
                for r in 0..R {
                    for w in 0..W {
                        s.store(self.out.add(w * self.out_stride + r * LANES), acc[r][w]);
                    }
                }
            } else {
                for r in 0..R {
                    for w in 0..W {
                        let more = s.load(self.residual.add(w * self.residual_stride + r * LANES));
                        s.store(self.out.add(w * self.out_stride + r * LANES), s.add(acc[r][w], more));
                    }
                }
            }
        }
    }
}

/// Activation and residual of a stored tile `[rows][W][16]`: a function of its own, so that its constants take no
/// registers in the loop over k.
struct Finish<const W: usize> {
    tile: *const f32,
    target: Target,
    rows: usize,
}

impl<const W: usize> Kernel for Finish<W> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let t = self.target;
        // SAFETY: `tile` holds the rows, the target has their pixels (both by `put`'s caller).
        unsafe {
            with_activation!(t.activation, f => {
                for r in 0..self.rows {
                    for w in 0..W {
                        let mut x = f.apply(s, s.load(self.tile.add((r * W + w) * LANES)));
                        if !t.residual.is_null() {
                            x = s.add(x, s.load(t.residual.add(w * t.residual_stride + r * LANES)));
                        }
                        s.store(t.out.add(w * t.out_stride + r * LANES), x);
                    }
                }
            });
        }
    }
}

/// What is multiplied and added in one step: one number of each lane, or some narrow ones.
pub(crate) trait Product: Copy {
    /// Whether numbers are narrow, see [`Kernel::DOTS`].
    const DOTS: bool;
    /// Numbers in a lane.
    const NUMBERS: usize;
    fn step<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V;

    /// Tiles of this product.
    fn shape(isa: Isa) -> TileShape {
        if Self::DOTS { isa.dot_shape() } else { isa.shape() }
    }
}

/// Plain f32.
#[derive(Clone, Copy)]
pub(crate) struct Single;
/// Pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;
/// Four bytes, sums in i32.
#[derive(Clone, Copy)]
pub(crate) struct Bytes;

impl Product for Single {
    const DOTS: bool = false;
    const NUMBERS: usize = 1;
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.fma(a, b, c)
    }
}

impl Product for Pairs {
    const DOTS: bool = true;
    const NUMBERS: usize = 2;
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.dot_bf16(a, b, c)
    }
}

impl Product for Bytes {
    const DOTS: bool = true;
    const NUMBERS: usize = 4;
    #[inline(always)]
    fn step<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.dot_bytes(a, b, c)
    }
}

/// acc[r][w] += a[r][k] * weights[k][w] for `k_blocks` blocks of 16 k. Per lane of k: W loads, R broadcasts, R W products.
/// `weights` runs on.
///
/// # Safety
/// `a` is valid for `R` pixels of all lanes of k, 16 of them each `a_stride`, `weights` for W vectors for each.
#[inline(always)]
pub(crate) unsafe fn multiply_as<S: Simd, P: Product, const R: usize, const W: usize>(
    s: S,
    acc: &mut [[S::V; W]; R],
    k_blocks: usize,
    mut a: *const f32,
    a_stride: usize,
    weights: &mut *const f32,
) {
    // SAFETY: by the caller.
    unsafe {
        // One loop, not two nested ones: of those, the compiler unrolls small inner ones and keeps `acc` in memory.
        let mut left_in_block = LANES / UNROLL;
        for _ in 0..k_blocks * (LANES / UNROLL / P::NUMBERS) {
            for k in 0..UNROLL {
                let mut b = [s.zero(); W];
                for w in 0..W {
                    b[w] = s.load(weights.add(w * LANES));
                }
                for r in 0..R {
                    let x = s.splat(*a.add(r * LANES + k));
                    for w in 0..W {
                        acc[r][w] = P::step(s, x, b[w], acc[r][w]);
                    }
                }
                *weights = weights.add(W * LANES);
            }
            left_in_block -= 1;
            if left_in_block == 0 {
                left_in_block = LANES / UNROLL;
                a = a.wrapping_add(a_stride).wrapping_sub(LANES);
            }
            a = a.wrapping_add(UNROLL);
        }
    }
}

/// [`multiply_as`] plain f32.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const R: usize, const W: usize>(
    s: S,
    acc: &mut [[S::V; W]; R],
    k_blocks: usize,
    a: *const f32,
    a_stride: usize,
    weights: &mut *const f32,
) {
    // SAFETY: by the caller.
    unsafe { multiply_as::<S, Single, R, W>(s, acc, k_blocks, a, a_stride, weights) }
}

/// Lanes of k in the body of the innermost loop. Whole blocks of 16 would not run faster, and there are many such loops.
const UNROLL: usize = 4;

/// `tiles` tiles of R consecutive pixels.
struct PlainTiles<P, const R: usize, const W: usize> {
    product: PhantomData<P>,
    /// First pixel, first block of the input.
    a: *const f32,
    a_stride: usize,
    k_blocks: usize,
    weights: *const f32,
    bias: *const f32,
    tiles: usize,
    target: Target,
}

impl<P: Product, const R: usize, const W: usize> Kernel for PlainTiles<P, R, W> {
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        if const { !has_tile::<S, P>(R, W) } {
            return; // never asked for, so not worth compiling
        }
        // SAFETY: `plain` made the pointers from views that hold all of these pixels and blocks.
        unsafe {
            for _ in 0..self.tiles {
                let mut acc = [[s.zero(); W]; R];
                for w in 0..W {
                    let b = s.load(self.bias.add(w * LANES));
                    for r in 0..R {
                        acc[r][w] = b;
                    }
                }
                let weights = &mut { self.weights };
                multiply_as::<S, P, R, W>(s, &mut acc, self.k_blocks, self.a, self.a_stride, weights);
                self.target.put(s, &acc, R);
                self.a = self.a.wrapping_add(R * LANES);
                self.target = self.target.moved(0, R);
            }
        }
    }
}

/// The register tiles of a product.
pub(crate) const fn shape<S: Simd, P: Product>() -> TileShape {
    if P::DOTS { S::DOT_SHAPE } else { S::SHAPE }
}

/// Whether tiles of so many pixels and vectors are used.
pub(crate) const fn has_tile<S: Simd, P: Product>(rows: usize, width: usize) -> bool {
    shape::<S, P>().has_tile(rows, width)
}

/// Runs `$body` with the constants `$R` and `$W` for a tile of so many pixels and vectors.
macro_rules! with_tile {
    ($rows:expr, $width:expr, $R:ident, $W:ident => $body:expr) => {
        match $width {
            1 => with_tile!(@rows $rows, $R, $W, 1, $body, 1 2 3 4 5 6 7 8),
            2 => with_tile!(@rows $rows, $R, $W, 2, $body, 1 2 3 4 5 6 7 8),
            3 => with_tile!(@rows $rows, $R, $W, 3, $body, 1 2 3 4 5 6 7 8),
            other => unreachable!("no tile of {other} vectors"),
        }
    };
    (@rows $rows:expr, $R:ident, $W:ident, $width:literal, $body:expr, $($count:literal)*) => {
        match $rows {
            $($count => {
                const $R: usize = $count;
                const $W: usize = $width;
                $body
            })*
            other => unreachable!("no tile of {other} rows"),
        }
    };
}
pub(super) use with_tile;

/// Cuts n rows into tiles that are as equal as can be: `(tiles, rows)` of the larger and of the smaller ones.
pub(super) fn divide(n: usize, largest: usize) -> [(usize, usize); 2] {
    let tiles = n.div_ceil(largest).max(1);
    let (rows, larger) = (n / tiles, n % tiles);
    [(larger, rows + 1), (tiles - larger, rows)]
}

/// One panel for all pixels. A lane of the input holds as many numbers as the product takes.
pub(super) fn plain<P: Product>(job: &PanelJob<'_>, width: usize, input: MapRef<'_>, mut out: MapMut<'_>) {
    let mut pixel = 0;
    while pixel < input.pixels() {
        let run = job.run_length(pixel, &out).min(input.run_length(pixel));
        for (tiles, rows) in divide(run, P::shape(job.isa).rows) {
            if tiles * rows == 0 {
                continue;
            }
            with_tile!(rows, width, R, W => {
                let kernel = PlainTiles::<P, R, W> {
                    product: PhantomData,
                    a: input.plane().wrapping_add(input.offset_of(pixel)),
                    a_stride: input.map().block_stride(),
                    k_blocks: job.k_blocks,
                    weights: job.weights.as_ptr(),
                    bias: job.bias.as_ptr(),
                    tiles,
                    target: Target::new(job, &mut out, pixel),
                };
                // SAFETY: the run's pixels are in one piece in all views, whose blocks the caller has compared
                // with the weights; the weights were packed for this width.
                unsafe { job.isa.run(kernel) }
            });
            pixel += tiles * rows;
        }
    }
}
