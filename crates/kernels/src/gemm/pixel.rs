//! Products of a single pixel: several panels side by side.
//!
//! Each weight is used once, so such a product waits for memory, and more arrives from several places at a time than from one.

use super::tile::{PanelJob, Product, Target, has_tile, with_tile};
use crate::isa::Kernel;
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};
use std::marker::PhantomData;

/// Panels that are taken side by side, of the same form, width and length.
#[derive(Clone, Copy)]
pub(super) struct Streams {
    pub count: usize,
    /// How many panels further on the next one is.
    pub apart: usize,
    /// And how many f32 its weights are further on.
    pub weights_apart: usize,
}

/// The first of them is the job's, `width` blocks wide. Outputs have the bits that tiles of more pixels give them.
pub(super) fn panels<P: Product>(
    job: &PanelJob<'_>,
    width: usize,
    streams: Streams,
    input: MapRef<'_>,
    mut out: MapMut<'_>,
) {
    with_tile!(streams.count, width, C, W => {
        let kernel = Panels::<P, C, W> {
            product: PhantomData,
            a: input.plane().wrapping_add(input.offset_of(0)),
            a_stride: input.map().block_stride(),
            lanes: job.k_blocks * LANES / P::NUMBERS,
            weights: job.weights.as_ptr(),
            streams,
            bias: job.bias.as_ptr(),
            target: Target::new(job, &mut out, 0),
        };
        // SAFETY: the views have a pixel, and the caller has compared their blocks with the weights, which were packed for
        // so many panels of this width.
        unsafe { job.isa.run(kernel) }
    });
}

/// C panels of W vectors.
struct Panels<P, const C: usize, const W: usize> {
    product: PhantomData<P>,
    a: *const f32,
    a_stride: usize,
    /// Lanes of the input, a multiple of `UNROLL`.
    lanes: usize,
    weights: *const f32,
    streams: Streams,
    bias: *const f32,
    target: Target,
}

/// Lanes in the body of the innermost loop.
const UNROLL: usize = 4;

impl<P: Product, const C: usize, const W: usize> Kernel for Panels<P, C, W> {
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        if const { !has_tile::<S, P>(C, W) } {
            return; // never asked for, so not worth compiling
        }
        let mut acc = [[[s.zero(); W]; 1]; C];
        let mut weights = self.weights;
        // SAFETY: `panels` made the pointers from views and weights that hold all of these blocks.
        unsafe {
            for c in 0..C {
                for w in 0..W {
                    acc[c][0][w] = s.load(self.bias.add((c * self.streams.apart * W + w) * LANES));
                }
            }
            for lane in (0..self.lanes).step_by(UNROLL) {
                let a = self.a.add(lane / LANES * self.a_stride + lane % LANES);
                for k in 0..UNROLL {
                    let x = s.splat(*a.add(k));
                    for c in 0..C {
                        for w in 0..W {
                            let b = s.load(weights.add(c * self.streams.weights_apart + w * LANES));
                            acc[c][0][w] = P::step(s, x, b, acc[c][0][w]);
                        }
                    }
                    weights = weights.add(W * LANES);
                }
            }
            for c in 0..C {
                self.target.moved(c * self.streams.apart * W, 0).put(s, &acc[c], 1);
            }
        }
    }
}
