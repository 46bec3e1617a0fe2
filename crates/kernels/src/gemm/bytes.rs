//! The tile of bytes: exact sums in i32, then scales.
//!
//! With x = scale * byte + offset for a pixel and w = weight_scale * signed byte for an output channel,
//! `sum x w = (scale * sum(byte * signed byte) + offset * sum(signed byte)) * weight_scale`.

use super::tile::{Bytes, PanelJob, Product, Target, has_tile, multiply_as, with_tile};
use crate::isa::Kernel;
use crate::map::MapMut;
use crate::simd::{LANES, Simd};

/// Pixels of a chunk of the operand; a multiple of every instruction set's tile.
pub(super) const CHUNK_PIXELS: usize = 8;

/// f32 of a chunk of the operand.
pub(super) fn chunk_len(k_blocks: usize) -> usize {
    CHUNK_PIXELS * (2 + k_blocks.div_ceil(Bytes::NUMBERS) * LANES)
}

/// Scales and sums of weights of a panel's output channels.
#[derive(Clone, Copy)]
pub(super) struct WeightScales<'a> {
    pub scales: &'a [f32],
    pub sums: &'a [f32],
}

/// `tiles` tiles of R consecutive pixels, none of which lies in two chunks.
struct ByteTiles<const R: usize, const W: usize> {
    operand: *const f32,
    first_pixel: usize,
    k_blocks: usize,
    weights: *const f32,
    bias: *const f32,
    scales: *const f32,
    sums: *const f32,
    tiles: usize,
    target: Target,
}

impl<const R: usize, const W: usize> Kernel for ByteTiles<R, W> {
    const DOTS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(mut self, s: S) {
        if const { !has_tile::<S, Bytes>(R, W) } {
            return; // never asked for, so not worth compiling
        }
        // SAFETY: `panel` made the pointers from slices and views that hold all of these pixels and blocks.
        unsafe {
            for _ in 0..self.tiles {
                let (chunk, row) = (self.first_pixel / CHUNK_PIXELS, self.first_pixel % CHUNK_PIXELS);
                let pixels = self.operand.add(chunk * chunk_len(self.k_blocks) + row);
                let a = pixels.add(2 * CHUNK_PIXELS + row * (LANES - 1));
                let mut acc = [[s.zero(); W]; R];
                let (stride, weights) = (CHUNK_PIXELS * LANES, &mut { self.weights });
                multiply_as::<S, Bytes, R, W>(s, &mut acc, self.k_blocks, a, stride, weights);
                for w in 0..W {
                    let scale = s.load(self.scales.add(w * LANES));
                    let sum = s.load(self.sums.add(w * LANES));
                    let bias = s.load(self.bias.add(w * LANES));
                    for r in 0..R {
                        let pixel_scale = s.splat(*pixels.add(r));
                        let offset = s.splat(*pixels.add(CHUNK_PIXELS + r));
                        let x = s.fma(s.float_of_int(acc[r][w]), pixel_scale, s.mul(offset, sum));
                        acc[r][w] = s.fma(x, scale, bias);
                    }
                }
                self.target.put(s, &acc, R);
                self.first_pixel += R;
                self.target = self.target.moved(0, R);
            }
        }
    }
}

/// One panel for all pixels.
pub(super) fn panel(
    job: &PanelJob<'_>,
    width: usize,
    scales: WeightScales<'_>,
    operand: &[f32],
    mut out: MapMut<'_>,
) {
    let largest = Bytes::shape(job.isa).rows;
    let mut pixel = 0;
    while pixel < out.pixels() {
        let run = job.run_length(pixel, &out);
        let (tiles, rows) = match pixel % largest {
            0 if run >= largest => (run / largest, largest),
            within => (1, run.min(largest - within)),
        };
        with_tile!(rows, width, R, W => {
            let kernel = ByteTiles::<R, W> {
                operand: operand.as_ptr(),
                first_pixel: pixel,
                k_blocks: job.k_blocks,
                weights: job.weights.as_ptr(),
                bias: job.bias.as_ptr(),
                scales: scales.scales.as_ptr(),
                sums: scales.sums.as_ptr(),
                tiles,
                target: Target::new(job, &mut out, pixel),
            };
            // SAFETY: the run's pixels are in one piece in output and residual, tiles start at multiples of a size
            // that divides a chunk; the caller has compared the operand's length with pixels and weights, which
            // were packed for this width.
            unsafe { job.isa.run(kernel) }
        });
        pixel += tiles * rows;
    }
}
