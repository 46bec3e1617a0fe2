//! The tile for convolutions of planar images: instead of pixels of 16 channels it reads windows of rows of numbers.

use super::tile::{PanelJob, Target, divide, with_tile};
use super::{PackedGemm, Residual};
use crate::activation::Activation;
use crate::isa::Kernel;
use crate::map::MapMut;
use crate::simd::{LANES, Simd};

/// Some rows of an image under the windows of consecutive output pixels of one output row.
pub(crate) struct Windows<'a> {
    /// Each row of the kernel, for each channel: `count` rows, `stride` apart.
    pub rows: &'a [f32],
    pub count: usize,
    pub stride: usize,
    /// Numbers of each row in a window, and from one window to the next.
    pub columns: usize,
    pub step: usize,
}

impl PackedGemm {
    /// Whether [`PackedGemm::run_windows`] has a kernel for windows so far apart.
    pub(crate) fn has_windows(step: usize) -> bool {
        matches!(step, 2 | 4)
    }

    /// Multiplies the windows of all pixels of `out`, with k = (row, column).
    pub(crate) fn run_windows(&self, windows: &Windows<'_>, activation: Activation, mut out: MapMut<'_>) {
        assert_eq!(self.k, windows.count * windows.columns, "numbers of a window");
        assert_eq!(out.blocks(), self.bounds[self.panels.len()], "blocks of the output");
        if out.pixels() == 0 || self.k == 0 {
            return;
        }
        let last = (windows.count - 1) * windows.stride + (out.pixels() - 1) * windows.step + windows.columns;
        assert!(last <= windows.rows.len(), "rows end before the last window");
        for panel in &self.panels {
            let job = PanelJob {
                isa: self.isa,
                k_blocks: 0,
                weights: &self.weights[panel.offset..],
                bias: &self.bias[panel.block * LANES..],
                activation,
                residual: Residual::None,
                block: panel.block,
            };
            match windows.step {
                2 => run_panel::<2>(&job, panel.width, windows, out.reborrow()),
                4 => run_panel::<4>(&job, panel.width, windows, out.reborrow()),
                other => unreachable!("no windows {other} apart"),
            }
        }
    }
}

fn run_panel<const T: usize>(job: &PanelJob<'_>, width: usize, windows: &Windows<'_>, mut out: MapMut<'_>) {
    let mut pixel = 0;
    while pixel < out.pixels() {
        for (tiles, rows) in divide(out.run_length(pixel), job.isa.shape().rows) {
            if tiles * rows == 0 {
                continue;
            }
            with_tile!(rows, width, R, W => {
                let kernel = WindowTiles::<R, W, T> {
                    x: windows.rows[pixel * T..].as_ptr(),
                    rows: windows.count,
                    row_stride: windows.stride,
                    columns: windows.columns,
                    weights: job.weights.as_ptr(),
                    bias: job.bias.as_ptr(),
                    tiles,
                    target: Target::new(job, &mut out, pixel),
                };
                // SAFETY: the windows of these pixels are in the rows, the pixels in one piece in the output;
                // the weights were packed for this width.
                unsafe { job.isa.run(kernel) }
            });
            pixel += tiles * rows;
        }
    }
}

/// `tiles` tiles of R consecutive pixels whose windows are T apart.
struct WindowTiles<const R: usize, const W: usize, const T: usize> {
    x: *const f32,
    rows: usize,
    row_stride: usize,
    columns: usize,
    weights: *const f32,
    bias: *const f32,
    tiles: usize,
    target: Target,
}

impl<const R: usize, const W: usize, const T: usize> Kernel for WindowTiles<R, W, T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        if const { !S::SHAPE.has_tile(R, W) } {
            return; // never asked for, so not worth compiling
        }
        // SAFETY: by the promise of `run_panel`.
        unsafe {
            for _ in 0..self.tiles {
                let mut acc = [[s.zero(); W]; R];
                for w in 0..W {
                    let b = s.load(self.bias.add(w * LANES));
                    for r in 0..R {
                        acc[r][w] = b;
                    }
                }
                let mut weights = self.weights;
                for row in 0..self.rows {
                    let x = self.x.add(row * self.row_stride);
                    for column in 0..self.columns {
                        let mut b = [s.zero(); W];
                        for w in 0..W {
                            b[w] = s.load(weights.add(w * LANES));
                        }
                        for r in 0..R {
                            let v = s.splat(*x.add(column + r * T));
                            for w in 0..W {
                                acc[r][w] = s.fma(v, b[w], acc[r][w]);
                            }
                        }
                        weights = weights.add(W * LANES);
                    }
                }
                self.target.put(s, &acc, R);
                self.x = self.x.wrapping_add(R * T);
                self.target = self.target.moved(0, R);
            }
        }
    }
}
