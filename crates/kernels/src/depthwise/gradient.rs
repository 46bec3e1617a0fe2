//! Gradients of depthwise convolutions.
//!
//! The input's gradient is itself a depthwise convolution: of the output's gradient, spread out by the stride, with the
//! kernel turned by half a turn. With two outputs for each input channel, [`sum_pairs`] joins what comes back.

use super::DepthwiseShape;
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};

/// Copies a plane (one block) to every `stride`-th pixel of every `stride`-th row of a larger one; zeros between them.
///
/// # Panics
/// If either view is not a whole plane, or the larger one does not hold the last pixel.
pub fn spread(input: MapRef<'_>, stride: usize, mut out: MapMut<'_>) {
    let (from, to) = (input.map(), out.map());
    assert_eq!((input.blocks(), out.blocks()), (1, 1), "blocks");
    let whole = input.pixels().is_multiple_of(from.width.max(1)) && out.pixels() == to.pixels();
    assert!(whole && stride > 0, "whole planes and a stride");
    let rows = input.pixels().checked_div(from.width).unwrap_or(0);
    let last = |n: usize| n.saturating_sub(1) * stride;
    assert!(
        rows == 0 || last(rows) < to.height && last(from.width) < to.width,
        "{from:?} does not fit {to:?}"
    );
    for pixel in 0..out.pixels() {
        let (y, x) = (pixel / to.width, pixel % to.width);
        let lanes = out.lanes_mut(0, pixel);
        let inside = y / stride < rows && x / stride < from.width;
        match y.is_multiple_of(stride) && x.is_multiple_of(stride) && inside {
            true => lanes.copy_from_slice(input.lanes(0, y / stride * from.width + x / stride)),
            false => lanes.fill(0.0),
        }
    }
}

/// Sums neighbouring lanes of two blocks into one: lane i of `out` is the sum of lanes 2i and 2i + 1 of both, one after
/// the other. `second` is `None` where the channels end with the first.
///
/// # Panics
/// If the views differ in shape or have more than one block.
pub fn sum_pairs(first: MapRef<'_>, second: Option<MapRef<'_>>, mut out: MapMut<'_>) {
    const HALF: usize = LANES / 2;
    for view in [Some(first), second].into_iter().flatten() {
        assert_eq!((view.blocks(), view.pixels()), (1, out.pixels()), "shapes of the views");
    }
    assert_eq!(out.blocks(), 1, "blocks");
    for pixel in 0..out.pixels() {
        let lanes = out.lanes_mut(0, pixel);
        lanes.fill(0.0);
        for (half, view) in [Some(first), second].into_iter().enumerate() {
            if let Some(view) = view {
                let from = view.lanes(0, pixel);
                for i in 0..HALF {
                    lanes[half * HALF + i] = from[2 * i] + from[2 * i + 1];
                }
            }
        }
    }
}

/// Adds the gradient of one block's weights, `[taps][16]`, from one sample.
///
/// * `input`: the one block of the sample that output block `block` reads, with a border at least as wide as the padding.
/// * `dy`: that block of the output's gradient, without a border.
///
/// # Panics
/// If shapes do not fit each other.
pub fn depthwise_weight_gradient(
    isa: Isa,
    shape: &DepthwiseShape,
    block: usize,
    input: MapRef<'_>,
    dy: MapRef<'_>,
    weights: &mut [f32],
) {
    let (from, to) = (input.map(), dy.map());
    let [rows, width] = shape.output(from.height, from.width);
    let [ky, kx] = shape.kernel;
    assert_eq!((input.blocks(), dy.blocks()), (1, 1), "blocks");
    assert_eq!(input.pixels(), from.pixels(), "the input must be the whole plane");
    assert!(from.border_y >= shape.padding[0] && from.border_x >= shape.padding[1], "border of {from:?}");
    assert_eq!(weights.len(), ky * kx * LANES, "weights of {shape:?}");
    assert!(to.is_dense() && to.width == width && dy.pixels() == rows * width, "shape of the output");
    if dy.pixels() == 0 {
        return;
    }
    let top = from.border_y - shape.padding[0];
    let job = Job {
        x: input.plane().wrapping_add(top * from.row_stride() + (from.border_x - shape.padding[1]) * LANES),
        x_row: from.row_stride(),
        dy: dy.plane().wrapping_add(dy.offset_of(0)),
        width,
        rows,
        kernel: shape.kernel,
        stride: shape.stride,
        doubled: (shape.multiplier == 2).then_some(block % 2),
        weights: weights.as_mut_ptr(),
    };
    // SAFETY: the windows of all outputs lie in the bordered plane, dy's pixels in one piece, the weights have the kernel's
    // taps.
    unsafe {
        match (kx, shape.stride, shape.multiplier) {
            (3, 1, 1) => isa.run(Fast::<3, 1, false>(job)),
            (3, 2, 1) => isa.run(Fast::<3, 2, false>(job)),
            (3, 1, 2) => isa.run(Fast::<3, 1, true>(job)),
            (7, 1, 1) => isa.run(Fast::<7, 1, false>(job)),
            (7, 2, 2) => isa.run(Fast::<7, 2, true>(job)),
            _ => isa.run(General(job)),
        }
    }
}

#[derive(Clone, Copy)]
struct Job {
    /// Tap (0, 0) of the first output.
    x: *const f32,
    x_row: usize,
    dy: *const f32,
    width: usize,
    rows: usize,
    kernel: [usize; 2],
    stride: usize,
    doubled: Option<usize>,
    weights: *mut f32,
}

/// Kernels with K columns and stride T; DOUBLE: multiplier 2.
struct Fast<const K: usize, const T: usize, const DOUBLE: bool>(Job);

impl<const K: usize, const T: usize, const DOUBLE: bool> Kernel for Fast<K, T, DOUBLE> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let job = self.0;
        // SAFETY: by the promise of `depthwise_weight_gradient`.
        unsafe {
            for y in 0..job.rows {
                let dy = job.dy.add(y * job.width * LANES);
                for ky in 0..job.kernel[0] {
                    let x = job.x.add((y * T + ky) * job.x_row);
                    let weights = job.weights.add(ky * K * LANES);
                    let mut acc = [s.zero(); K];
                    for kx in 0..K {
                        acc[kx] = s.load(weights.add(kx * LANES));
                    }
                    let mut at = 0;
                    while const { S::SHAPE.segment >= 8 } && at + 8 <= job.width {
                        self.segment::<S, 8>(s, x.add(at * T * LANES), dy.add(at * LANES), &mut acc);
                        at += 8;
                    }
                    while at + 2 <= job.width {
                        self.segment::<S, 2>(s, x.add(at * T * LANES), dy.add(at * LANES), &mut acc);
                        at += 2;
                    }
                    if at < job.width {
                        self.segment::<S, 1>(s, x.add(at * T * LANES), dy.add(at * LANES), &mut acc);
                    }
                    for kx in 0..K {
                        s.store(weights.add(kx * LANES), acc[kx]);
                    }
                }
            }
        }
    }
}

impl<const K: usize, const T: usize, const DOUBLE: bool> Fast<K, T, DOUBLE> {
    /// N outputs of a row: each input vector is loaded once and multiplied with up to K / T of them.
    ///
    /// # Safety
    /// `x` points to the first tap of N windows, `dy` to N pixels.
    #[inline(always)]
    unsafe fn segment<S: Simd, const N: usize>(
        &self,
        s: S,
        x: *const f32,
        dy: *const f32,
        acc: &mut [S::V; K],
    ) {
        // SAFETY: by the caller.
        unsafe {
            let mut d = [s.zero(); N];
            for i in 0..N {
                d[i] = s.load(dy.add(i * LANES));
            }
            // As in the forward kernel: a macro, because loops nested deeper are not unrolled.
            macro_rules! phase {
                ($phase:literal) => {
                    if $phase < T {
                        for i in 0..N + (K - 1 - $phase) / T {
                            let mut v = s.load(x.add((i * T + $phase) * LANES));
                            if DOUBLE {
                                v = s.double_lanes(v, self.0.doubled.unwrap_or(0));
                            }
                            for j in 0..(K - 1 - $phase) / T + 1 {
                                if i >= j && i - j < N {
                                    acc[j * T + $phase] = s.fma(v, d[i - j], acc[j * T + $phase]);
                                }
                            }
                        }
                    }
                };
            }
            phase!(0);
            phase!(1);
        }
    }
}

/// Any kernel and stride.
struct General(Job);

impl Kernel for General {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        const CHAINS: usize = 4;
        let job = self.0;
        let [rows, columns] = job.kernel;
        // SAFETY: by the promise of `depthwise_weight_gradient`.
        unsafe {
            for tap in 0..rows * columns {
                let (ky, kx) = (tap / columns, tap % columns);
                let mut acc = [s.zero(); CHAINS];
                for y in 0..job.rows {
                    let x = job.x.add((y * job.stride + ky) * job.x_row + kx * LANES);
                    let dy = job.dy.add(y * job.width * LANES);
                    for i in 0..job.width.div_ceil(CHAINS) {
                        for j in 0..CHAINS {
                            let at = i * CHAINS + j;
                            if at < job.width {
                                let mut v = s.load(x.add(at * job.stride * LANES));
                                if let Some(half) = job.doubled {
                                    v = s.double_lanes(v, half);
                                }
                                acc[j] = s.fma(v, s.load(dy.add(at * LANES)), acc[j]);
                            }
                        }
                    }
                }
                let sum = s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]));
                let out = job.weights.add(tap * LANES);
                s.store(out, s.add(s.load(out), sum));
            }
        }
    }
}
