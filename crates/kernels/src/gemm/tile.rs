//! The register tile: R pixels x W vectors of output channels, for all of K.

use super::{Residual, Source};
use crate::activation::{Activation, Function, with_activation};
use crate::isa::{Isa, Kernel};
use crate::map::{Cursor, MapMut, MapRef};
use crate::simd::{LANES, Simd};

/// What all tiles of a panel share.
pub(super) struct PanelJob<'a> {
    pub isa: Isa,
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

/// `[K][16 width]`
pub(super) fn pack(source: &Source<'_>, block: usize, width: usize, out: &mut [f32]) {
    let columns = width * LANES;
    for k in 0..source.k {
        for j in 0..columns {
            out[k * columns + j] = source.at(block * LANES + j, k);
        }
    }
}

/// Where the results of some pixels go, and what is added to them.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Plane of the first block.
    pub out: *mut f32,
    pub out_stride: usize,
    pub activation: Activation,
    /// Plane of the first block of the residual, or null.
    pub residual: *const f32,
    pub residual_stride: usize,
}

impl Target {
    /// The panel's target, and the cursors of the first pixel in output and residual.
    pub(super) fn new(job: &PanelJob<'_>, out: &mut MapMut<'_>) -> (Target, Cursor, Cursor) {
        let out_stride = out.map().block_stride();
        // SAFETY: the panel's blocks are blocks of the view.
        let out_plane = unsafe { out.plane().add(job.block * out_stride) };
        let (residual, residual_stride, residual_at) = match job.residual {
            Residual::None => (std::ptr::null(), 0, out.cursor()),
            Residual::InPlace => (out_plane.cast_const(), out_stride, out.cursor()),
            Residual::Map(r) => {
                let stride = r.map().block_stride();
                // SAFETY: the residual's view has the shape of the output's.
                (unsafe { r.plane().add(job.block * stride) }, stride, r.cursor())
            }
        };
        let target =
            Target { out: out_plane, out_stride, activation: job.activation, residual, residual_stride };
        (target, out.cursor(), residual_at)
    }

    /// The same, so many blocks further on.
    #[inline(always)]
    pub(super) fn right(self, blocks: usize) -> Target {
        let residual = if self.residual.is_null() {
            self.residual
        } else {
            self.residual.wrapping_add(blocks * self.residual_stride)
        };
        Target { out: self.out.wrapping_add(blocks * self.out_stride), residual, ..self }
    }

    /// Stores the first `rows` rows of a tile, after activation and residual. Indices of `acc` are constants after unrolling: any other loop over
    /// it would put it on the stack, also in the loop over k.
    ///
    /// # Safety
    /// The target's planes reach to these offsets for `W` blocks.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd, const R: usize, const W: usize>(
        &self,
        s: S,
        acc: &[[S::V; W]; R],
        out_at: &[usize; R],
        residual_at: &[usize; R],
        rows: usize,
    ) {
        // SAFETY: by the caller.
        unsafe {
            if self.activation == Activation::None && rows == R {
                for r in 0..R {
                    for w in 0..W {
                        let mut x = acc[r][w];
                        if !self.residual.is_null() {
                            x = s
                                .add(x, s.load(self.residual.add(w * self.residual_stride + residual_at[r])));
                        }
                        s.store(self.out.add(w * self.out_stride + out_at[r]), x);
                    }
                }
            } else {
                let mut tile = [[s.zero(); W]; R];
                for r in 0..R {
                    for w in 0..W {
                        tile[r][w] = acc[r][w];
                    }
                }
                let tile = std::hint::black_box(&raw const tile).cast::<f32>();
                s.call(Finish::<R, W> { tile, target: *self, out_at, residual_at, rows });
            }
        }
    }
}

/// Activation and residual of a stored tile `[R][W][16]`: a function of its own, so that its constants take no registers
/// in the loop over k.
struct Finish<'a, const R: usize, const W: usize> {
    tile: *const f32,
    target: Target,
    out_at: &'a [usize; R],
    residual_at: &'a [usize; R],
    rows: usize,
}

impl<const R: usize, const W: usize> Kernel for Finish<'_, R, W> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let t = self.target;
        // SAFETY: `tile` holds R x W vectors, the planes reach to the offsets (both by `put`'s caller).
        unsafe {
            with_activation!(t.activation, f => {
                for r in 0..self.rows {
                    for w in 0..W {
                        let mut x = f.apply(s, s.load(self.tile.add((r * W + w) * LANES)));
                        if !t.residual.is_null() {
                            x = s.add(x, s.load(t.residual.add(w * t.residual_stride + self.residual_at[r])));
                        }
                        s.store(t.out.add(w * t.out_stride + self.out_at[r]), x);
                    }
                }
            });
        }
    }
}

/// acc[r][w] += a[r][k] * weights[k][w] for `k_blocks` blocks of 16 k. Per k: W loads, R broadcasts, R W multiply-adds.
/// `weights` runs on.
///
/// # Safety
/// `a` is valid for `R` pixels of `k_blocks` blocks `a_stride` apart, `weights` for `k_blocks * 16 * W` vectors.
#[inline(always)]
pub(crate) unsafe fn multiply<S: Simd, const R: usize, const W: usize>(
    s: S,
    acc: &mut [[S::V; W]; R],
    k_blocks: usize,
    mut a: *const f32,
    a_stride: usize,
    weights: &mut *const f32,
) {
    // SAFETY: by the caller.
    unsafe {
        for _ in 0..k_blocks {
            for _ in 0..LANES / UNROLL {
                for k in 0..UNROLL {
                    let mut b = [s.zero(); W];
                    for w in 0..W {
                        b[w] = s.load(weights.add(w * LANES));
                    }
                    for r in 0..R {
                        let x = s.splat(*a.add(r * LANES + k));
                        for w in 0..W {
                            acc[r][w] = s.fma(x, b[w], acc[r][w]);
                        }
                    }
                    *weights = weights.add(W * LANES);
                }
                a = a.add(UNROLL);
            }
            a = a.wrapping_add(a_stride).wrapping_sub(LANES);
        }
    }
}

/// Steps of k in the body of the innermost loop. Whole blocks of 16 would not run faster, and there are many such loops.
const UNROLL: usize = 4;

/// `tiles` tiles of R consecutive pixels.
struct PlainTiles<const R: usize, const W: usize> {
    /// First pixel, first block of the input.
    a: *const f32,
    a_stride: usize,
    k_blocks: usize,
    weights: *const f32,
    bias: *const f32,
    tiles: usize,
    target: Target,
    out_at: Cursor,
    residual_at: Cursor,
}

impl<const R: usize, const W: usize> Kernel for PlainTiles<R, W> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        if const { !S::SHAPE.has_tile(R, W) } {
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
                multiply(s, &mut acc, self.k_blocks, self.a, self.a_stride, &mut { self.weights });
                let (out_at, residual_at) = (steps(&mut self.out_at), steps(&mut self.residual_at));
                self.target.put(s, &acc, &out_at, &residual_at, R);
                self.a = self.a.wrapping_add(R * LANES);
            }
        }
    }
}

/// Offsets of the next R pixels.
#[inline(always)]
pub(super) fn steps<const R: usize>(cursor: &mut Cursor) -> [usize; R] {
    let mut at = [0; R];
    for r in 0..R {
        at[r] = cursor.offset;
        cursor.step();
    }
    at
}

/// Cuts n rows into tiles that are as equal as can be: `(tiles, rows)` of the larger and of the smaller ones.
pub(super) fn divide(n: usize, largest: usize) -> [(usize, usize); 2] {
    let tiles = n.div_ceil(largest).max(1);
    let (rows, larger) = (n / tiles, n % tiles);
    [(larger, rows + 1), (tiles - larger, rows)]
}

/// One plain panel for all pixels.
pub(super) fn plain(job: &PanelJob<'_>, width: usize, input: MapRef<'_>, mut out: MapMut<'_>) {
    let (target, mut out_at, mut residual_at) = Target::new(job, &mut out);
    let mut at = input.cursor();
    let mut pixel = 0;
    while pixel < input.pixels() {
        let run = input.run_length(pixel);
        for (tiles, rows) in divide(run, job.isa.shape().rows) {
            if tiles * rows == 0 {
                continue;
            }
            macro_rules! tile {
                ($($r:literal)*; $w:literal) => {
                    match rows {
                        $($r => {
                            let kernel = PlainTiles::<$r, $w> {
                                // SAFETY: the cursor points to a pixel of the view's plane.
                                a: unsafe { input.plane().add(at.offset) },
                                a_stride: input.map().block_stride(),
                                k_blocks: job.k_blocks,
                                weights: job.weights.as_ptr(),
                                bias: job.bias.as_ptr(),
                                tiles,
                                target,
                                out_at,
                                residual_at,
                            };
                            // SAFETY: `tiles * rows` consecutive pixels are in the input's run and in the output, whose
                            // blocks the caller has compared with the weights; the weights were packed for this width.
                            unsafe { job.isa.run(kernel) }
                        })*
                        other => unreachable!("no tile of {other} rows"),
                    }
                };
            }
            match width {
                1 => tile!(1 2 3 4 5 6 7 8; 1),
                2 => tile!(1 2 3 4 5 6 7 8; 2),
                3 => tile!(1 2 3 4 5 6 7 8; 3),
                other => unreachable!("no tile of {other} vectors"),
            }
            for _ in 0..tiles * rows {
                at.step();
                out_at.step();
                residual_at.step();
            }
        }
        pixel += run;
    }
}
