//! Depthwise convolutions on blocked maps: each output channel reads one input channel.
//!
//! The input has a border of zeros at least as wide as the padding, so no kernel asks where the edge is. Each output
//! element is one chain of multiply-adds in a fixed order: bits do not depend on how rows are divided.

mod gradient;

pub use gradient::{depthwise_weight_gradient, spread, sum_pairs};

use crate::activation::{Activation, Function, with_activation};
use crate::buffer::Buffer;
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Geometry of a depthwise convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseShape {
    /// Output channels.
    pub channels: usize,
    /// Outputs of each input channel, 1 or 2: output channel o reads input channel o / multiplier.
    pub multiplier: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between windows, in both directions.
    pub stride: usize,
    /// Zeros above and below, left and right.
    pub padding: [usize; 2],
}

impl DepthwiseShape {
    /// A square kernel with padding k / 2.
    pub const fn square(channels: usize, multiplier: usize, k: usize, stride: usize) -> DepthwiseShape {
        DepthwiseShape { channels, multiplier, kernel: [k, k], stride, padding: [k / 2, k / 2] }
    }

    /// Height and width of the output for an input of this height and width.
    pub const fn output(&self, height: usize, width: usize) -> [usize; 2] {
        let rows = (height + 2 * self.padding[0]).saturating_sub(self.kernel[0] - 1).div_ceil(self.stride);
        let columns = (width + 2 * self.padding[1]).saturating_sub(self.kernel[1] - 1).div_ceil(self.stride);
        [rows, columns]
    }
}

/// Packed weights and bias of a depthwise convolution.
#[derive(Clone, Debug)]
pub struct Depthwise {
    isa: Isa,
    shape: DepthwiseShape,
    /// `[blocks][kernel rows * columns][16]`
    weights: Buffer,
    bias: Buffer,
}

impl Depthwise {
    /// Packs weights `[channels][kernel rows][kernel columns]` and a bias `[channels]`.
    ///
    /// # Panics
    /// If a length is not what the shape says, the multiplier is neither 1 nor 2, or kernel or stride is 0.
    pub fn pack(isa: Isa, shape: DepthwiseShape, weights: &[f32], bias: Option<&[f32]>) -> Depthwise {
        let [ky, kx] = shape.kernel;
        let taps = ky * kx;
        assert!(taps > 0 && shape.stride > 0, "empty kernel or stride: {shape:?}");
        assert!(matches!(shape.multiplier, 1 | 2), "multiplier {}", shape.multiplier);
        assert_eq!(weights.len(), shape.channels * taps, "weights of {shape:?}");
        let blocks = shape.channels.div_ceil(LANES);
        let mut packed = Buffer::zeroed(blocks * taps * LANES);
        for (c, w) in weights.chunks_exact(taps).enumerate() {
            for (t, w) in w.iter().enumerate() {
                packed[(c / LANES * taps + t) * LANES + c % LANES] = *w;
            }
        }
        let mut packed_bias = Buffer::zeroed(blocks * LANES);
        if let Some(bias) = bias {
            assert_eq!(bias.len(), shape.channels, "bias of {shape:?}");
            packed_bias[..bias.len()].copy_from_slice(bias);
        }
        Depthwise { isa, shape, weights: packed, bias: packed_bias }
    }

    /// Geometry.
    pub fn shape(&self) -> &DepthwiseShape {
        &self.shape
    }

    /// Computes some blocks and rows of the output.
    ///
    /// * `input`: the whole map of `channels / multiplier` channels, with a border at least as wide as the padding.
    /// * `blocks`: output blocks, as many as `out` has.
    /// * `first_row`: row of the convolution's output that becomes the first row of `out`.
    /// * `out`: whole rows of a map as wide as the convolution's output.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run(
        &self,
        input: MapRef<'_>,
        blocks: Range<usize>,
        first_row: usize,
        activation: Activation,
        out: MapMut<'_>,
    ) {
        let in_blocks = self.shape.channels.div_ceil(self.shape.multiplier).div_ceil(LANES);
        assert_eq!(input.blocks(), in_blocks, "blocks of the input");
        self.run_blocks(input, 0, blocks, first_row, activation, out);
    }

    /// Computes one block of a sample from the one block of the input that it reads: that of [`Depthwise::run`]'s input
    /// which has the number `block / multiplier`.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run_block(&self, input: MapRef<'_>, block: usize, out: MapMut<'_>) {
        assert_eq!(input.blocks(), 1, "blocks of the input");
        let first = block / self.shape.multiplier;
        self.run_blocks(input, first, block..block + 1, 0, Activation::None, out);
    }

    /// `first_in_block`: which of the input's blocks the view's first one is.
    fn run_blocks(
        &self,
        input: MapRef<'_>,
        first_in_block: usize,
        blocks: Range<usize>,
        first_row: usize,
        activation: Activation,
        mut out: MapMut<'_>,
    ) {
        let shape = &self.shape;
        let (from, to) = (input.map(), out.map());
        let [out_height, out_width] = shape.output(from.height, from.width);
        assert_eq!(input.pixels(), from.pixels(), "the input must be the whole map");
        assert!(
            from.border_y >= shape.padding[0] && from.border_x >= shape.padding[1],
            "the border of {from:?} is narrower than the padding of {shape:?}"
        );
        assert!(
            blocks.start <= blocks.end && blocks.end <= shape.channels.div_ceil(LANES),
            "blocks {blocks:?}"
        );
        assert_eq!(blocks.len(), out.blocks(), "blocks of the output");
        assert_eq!(to.width, out_width, "width of the output");
        if out.pixels() == 0 {
            return;
        }
        assert!(
            out.first_pixel().is_multiple_of(out_width) && out.pixels().is_multiple_of(out_width),
            "the output must be whole rows"
        );
        let rows = out.pixels() / out_width;
        assert!(first_row <= out_height && rows <= out_height - first_row, "rows of the output");

        let taps = shape.kernel[0] * shape.kernel[1];
        let top = first_row * shape.stride + from.border_y - shape.padding[0];
        let first = top * from.row_stride() + (from.border_x - shape.padding[1]) * LANES;
        for (i, block) in blocks.enumerate() {
            let in_block = block / shape.multiplier - first_in_block;
            // SAFETY: the first window starts inside the bordered plane, the output block is one of the view's.
            let (x, o) = unsafe {
                (
                    input.plane().add(in_block * from.block_stride() + first),
                    out.plane().add(i * to.block_stride() + out.offset_of(0)),
                )
            };
            let job = Job {
                x,
                x_row: from.row_stride(),
                kernel: shape.kernel,
                stride: shape.stride,
                weights: self.weights[block * taps * LANES..].as_ptr(),
                bias: self.bias[block * LANES..].as_ptr(),
                out: o,
                out_row: to.row_stride(),
                width: out_width,
                rows,
                doubled: (shape.multiplier == 2).then_some(block % 2),
                activation,
            };
            // SAFETY: windows of all `rows` x `width` outputs lie in the bordered plane (border >= padding), weights and
            // bias belong to this block, the output rows to the view.
            unsafe {
                match (shape.kernel[1], shape.stride, shape.multiplier) {
                    (3, 1, 1) => self.isa.run(Fast::<3, 1, false>(job)),
                    (3, 2, 1) => self.isa.run(Fast::<3, 2, false>(job)),
                    (3, 1, 2) => self.isa.run(Fast::<3, 1, true>(job)),
                    (7, 1, 1) => self.isa.run(Fast::<7, 1, false>(job)),
                    (7, 2, 2) => self.isa.run(Fast::<7, 2, true>(job)),
                    _ => self.isa.run(General(job)),
                }
            }
        }
    }
}

/// Some rows of one output block.
#[derive(Clone, Copy)]
struct Job {
    /// Tap (0, 0) of the first output.
    x: *const f32,
    x_row: usize,
    kernel: [usize; 2],
    stride: usize,
    weights: *const f32,
    bias: *const f32,
    out: *mut f32,
    out_row: usize,
    width: usize,
    rows: usize,
    /// Which half of the input's lanes, each twice, the output's lanes read.
    doubled: Option<usize>,
    activation: Activation,
}

impl Job {
    /// Applies the activation to a row, which is still in the first cache.
    ///
    /// # Safety
    /// `row` holds `width` pixels.
    #[inline(always)]
    unsafe fn activate<S: Simd>(&self, s: S, row: *mut f32) {
        if self.activation != Activation::None {
            // SAFETY: by the caller.
            unsafe { s.call(Activate { data: row, pixels: self.width, activation: self.activation }) }
        }
    }
}

/// Applies an activation to pixels in one piece.
pub(crate) struct Activate {
    pub data: *mut f32,
    pub pixels: usize,
    pub activation: Activation,
}

impl Kernel for Activate {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        with_activation!(self.activation, f => {
            for i in 0..self.pixels {
                // SAFETY: `data` holds `pixels` pixels.
                unsafe {
                    let p = self.data.add(i * LANES);
                    s.store(p, f.apply(s, s.load(p)));
                }
            }
        });
    }
}

/// Kernels with K columns and stride T; DOUBLE: multiplier 2.
struct Fast<const K: usize, const T: usize, const DOUBLE: bool>(Job);

impl<const K: usize, const T: usize, const DOUBLE: bool> Kernel for Fast<K, T, DOUBLE> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let job = self.0;
        // SAFETY: by the promise of `Depthwise::run`.
        unsafe {
            for y in 0..job.rows {
                let x = job.x.add(y * T * job.x_row);
                let out = job.out.add(y * job.out_row);
                let mut at = 0;
                while const { S::SHAPE.segment >= 8 } && at + 8 <= job.width {
                    self.segment::<S, 8>(s, x.add(at * T * LANES), out.add(at * LANES));
                    at += 8;
                }
                while const { S::SHAPE.segment >= 4 } && at + 4 <= job.width {
                    self.segment::<S, 4>(s, x.add(at * T * LANES), out.add(at * LANES));
                    at += 4;
                }
                while at + 2 <= job.width {
                    self.segment::<S, 2>(s, x.add(at * T * LANES), out.add(at * LANES));
                    at += 2;
                }
                if at < job.width {
                    self.segment::<S, 1>(s, x.add(at * T * LANES), out.add(at * LANES));
                }
                job.activate(s, out);
            }
        }
    }
}

impl<const K: usize, const T: usize, const DOUBLE: bool> Fast<K, T, DOUBLE> {
    /// N outputs of a row. Each input vector is loaded once per kernel row and used by up to K / T outputs.
    ///
    /// # Safety
    /// `x` points to the first tap of N windows, `out` to N pixels.
    #[inline(always)]
    unsafe fn segment<S: Simd, const N: usize>(&self, s: S, x: *const f32, out: *mut f32) {
        let job = &self.0;
        // SAFETY: by the caller.
        unsafe {
            let mut acc = [s.load(job.bias); N];
            for ky in 0..job.kernel[0] {
                let x = x.add(ky * job.x_row);
                let mut w = [s.zero(); K];
                for kx in 0..K {
                    w[kx] = s.load(job.weights.add((ky * K + kx) * LANES));
                }
                // Inputs at distance 0, T, 2T, … from the first, then those at 1, 1 + T, …. A macro, because the compiler
                // does not unroll loops nested deeper than this, and then keeps `acc` in memory.
                macro_rules! phase {
                    ($phase:literal) => {
                        if $phase < T {
                            for i in 0..N + (K - 1 - $phase) / T {
                                let mut v = s.load(x.add((i * T + $phase) * LANES));
                                if DOUBLE {
                                    v = s.double_lanes(v, job.doubled.unwrap_or(0));
                                }
                                for j in 0..(K - 1 - $phase) / T + 1 {
                                    if i >= j && i - j < N {
                                        acc[i - j] = s.fma(v, w[j * T + $phase], acc[i - j]);
                                    }
                                }
                            }
                        }
                    };
                }
                phase!(0);
                phase!(1);
            }
            for i in 0..N {
                s.store(out.add(i * LANES), acc[i]);
            }
        }
    }
}

/// Any kernel and stride.
struct General(Job);

impl Kernel for General {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let job = self.0;
        // SAFETY: by the promise of `Depthwise::run`.
        unsafe {
            for y in 0..job.rows {
                let x = job.x.add(y * job.stride * job.x_row);
                let out = job.out.add(y * job.out_row);
                let mut at = 0;
                while const { S::SHAPE.segment >= 8 } && at + 8 <= job.width {
                    job.general::<S, 8>(s, x.add(at * job.stride * LANES), out.add(at * LANES));
                    at += 8;
                }
                while at + 4 <= job.width {
                    job.general::<S, 4>(s, x.add(at * job.stride * LANES), out.add(at * LANES));
                    at += 4;
                }
                while at < job.width {
                    job.general::<S, 1>(s, x.add(at * job.stride * LANES), out.add(at * LANES));
                    at += 1;
                }
                job.activate(s, out);
            }
        }
    }
}

impl Job {
    /// # Safety
    /// As `Fast::segment`.
    #[inline(always)]
    unsafe fn general<S: Simd, const N: usize>(&self, s: S, x: *const f32, out: *mut f32) {
        let [rows, columns] = self.kernel;
        // SAFETY: by the caller.
        unsafe {
            let mut acc = [s.load(self.bias); N];
            for ky in 0..rows {
                for kx in 0..columns {
                    let w = s.load(self.weights.add((ky * columns + kx) * LANES));
                    for i in 0..N {
                        let mut v = s.load(x.add(ky * self.x_row + (i * self.stride + kx) * LANES));
                        if let Some(half) = self.doubled {
                            v = s.double_lanes(v, half);
                        }
                        acc[i] = s.fma(v, w, acc[i]);
                    }
                }
            }
            for i in 0..N {
                s.store(out.add(i * LANES), acc[i]);
            }
        }
    }
}
