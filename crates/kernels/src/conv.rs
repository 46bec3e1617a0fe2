//! Dense convolutions: stems and patch embeddings.
//!
//! Windows of a few output pixels at a time are gathered into scratch memory in the blocked layout and multiplied as in
//! [`PackedGemm`]; the whole image is never unfolded. Where windows are near each other (stems), only the rows under them are
//! copied, with their padding, and multiplied in place.

use crate::activation::Activation;
use crate::gemm::rows::Windows;
use crate::gemm::{PackedGemm, Residual};
use crate::isa::{Isa, Precision};
use crate::map::{Map, MapMut, MapRef};
use crate::simd::LANES;

/// Geometry of a dense convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between windows, in both directions.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl ConvShape {
    /// Height and width of the output for an input of this height and width.
    pub const fn output(&self, height: usize, width: usize) -> [usize; 2] {
        let rows = (height + 2 * self.padding).saturating_sub(self.kernel[0] - 1).div_ceil(self.stride);
        let columns = (width + 2 * self.padding).saturating_sub(self.kernel[1] - 1).div_ceil(self.stride);
        [rows, columns]
    }
}

/// What a convolution reads.
#[derive(Clone, Copy)]
pub enum ConvInput<'a> {
    /// An image `[C][H][W]`.
    Planar {
        /// `C * H * W` numbers.
        data: &'a [f32],
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A whole map (its border is not read).
    Blocked(MapRef<'a>),
}

/// Packed weights and bias of a dense convolution, for one kind of input.
#[derive(Clone, Debug)]
pub struct PackedConv {
    shape: ConvShape,
    planar: bool,
    gemm: PackedGemm,
}

impl PackedConv {
    /// Packs weights `[outputs][inputs][kernel rows][kernel columns]` and a bias `[outputs]` for images `[C][H][W]`.
    ///
    /// # Panics
    /// If a length is not what the shape says, or kernel or stride is 0.
    pub fn pack_planar(isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> PackedConv {
        check(&shape, weights);
        let k = shape.inputs * shape.kernel[0] * shape.kernel[1];
        PackedConv { shape, planar: true, gemm: PackedGemm::pack(isa, shape.outputs, k, weights, bias) }
    }

    /// The same for blocked maps.
    ///
    /// # Panics
    /// As [`PackedConv::pack_planar`].
    pub fn pack_blocked(isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> PackedConv {
        PackedConv::pack_blocked_as(Precision::F32, isa, shape, weights, bias)
    }

    /// The same for blocked maps and products of some precision.
    ///
    /// # Panics
    /// As [`PackedConv::pack_planar`] and [`PackedGemm::pack_as`].
    pub fn pack_blocked_as(
        precision: Precision,
        isa: Isa,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> PackedConv {
        check(&shape, weights);
        let taps = shape.kernel[0] * shape.kernel[1];
        let lanes = shape.inputs.div_ceil(LANES) * LANES;
        // Gathered windows are [taps][input blocks][16].
        let mut ordered = vec![0.0; shape.outputs * taps * lanes];
        for o in 0..shape.outputs {
            for c in 0..shape.inputs {
                for t in 0..taps {
                    ordered[(o * taps + t) * lanes + c] = weights[(o * shape.inputs + c) * taps + t];
                }
            }
        }
        let gemm = PackedGemm::pack_as(precision, isa, shape.outputs, taps * lanes, &ordered, bias);
        PackedConv { shape, planar: false, gemm }
    }

    /// Geometry.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// f32 of scratch for gathering so many output pixels at a time. More pixels read the weights less often.
    pub fn scratch_len(&self, pixels: usize) -> usize {
        let pixels = pixels.max(1);
        Map::tokens(self.gemm.k(), pixels).len() + self.gemm.operand_len(pixels)
    }

    /// Computes the output's pixels from `first_pixel` (row by row) on, as many as `out` has, all channels.
    ///
    /// `scratch` decides how many pixels are gathered at a time, at least `scratch_len(1)`; bits do not depend on it.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run(
        &self,
        input: ConvInput<'_>,
        first_pixel: usize,
        activation: Activation,
        out: MapMut<'_>,
        scratch: &mut [f32],
    ) {
        let (height, width) = match input {
            ConvInput::Planar { data, height, width } => {
                assert!(self.planar, "packed for blocked input");
                assert_eq!(data.len(), self.shape.inputs * height * width, "length of the image");
                (height, width)
            }
            ConvInput::Blocked(x) => {
                assert!(!self.planar, "packed for planar input");
                assert_eq!(x.blocks(), self.shape.inputs.div_ceil(LANES), "blocks of the input");
                assert_eq!(x.pixels(), x.map().pixels(), "the input must be the whole map");
                (x.map().height, x.map().width)
            }
        };
        let [out_height, out_width] = self.shape.output(height, width);
        assert!(first_pixel + out.pixels() <= out_height * out_width, "pixels of the output");
        let at_once = scratch.len() / self.scratch_len(1).max(1);
        assert!(at_once > 0, "scratch is smaller than one window");
        let (mut rest, mut pixel) = (out, first_pixel);
        while rest.pixels() > 0 {
            let mut n = rest.pixels().min(at_once);
            if let ConvInput::Planar { data, .. } = input
                && PackedGemm::has_windows(self.shape.stride)
                && self.shape.stride <= self.shape.kernel[1]
            {
                let (y, x) = (pixel / out_width, pixel % out_width);
                n = n.min(out_width - x);
                let (part, after) = rest.split_at_pixel(n);
                rest = after;
                let windows = self.copy_rows(data, height, width, y, x, n, scratch);
                self.gemm.run_windows(&windows, activation, part);
                pixel += n;
                continue;
            }
            let (part, after) = rest.split_at_pixel(n);
            rest = after;
            let map = Map::tokens(self.gemm.k(), n);
            let (windows, operand) = scratch.split_at_mut(map.len());
            for i in 0..n {
                let (y, x) = ((pixel + i) / out_width, (pixel + i) % out_width);
                match input {
                    ConvInput::Planar { data, .. } => {
                        self.gather_planar(data, height, width, y, x, n, i, windows)
                    }
                    ConvInput::Blocked(map) => self.gather_blocked(map, y, x, n, i, windows),
                }
            }
            let windows = MapRef::new(map, windows);
            let operand = &mut operand[..self.gemm.operand_len(n)];
            self.gemm.make_operand(windows, 0..self.gemm.operand_chunks(n), operand);
            self.gemm.run(windows, operand, 0..self.gemm.panels(), activation, Residual::None, part);
            pixel += n;
        }
    }

    /// Copies what is under the windows of the n outputs from (y, x) on.
    fn copy_rows<'a>(
        &self,
        data: &[f32],
        height: usize,
        width: usize,
        y: usize,
        x: usize,
        n: usize,
        scratch: &'a mut [f32],
    ) -> Windows<'a> {
        let ConvShape { inputs, kernel: [rows, columns], stride, padding, .. } = self.shape;
        // Not longer than n gathered windows, as the stride is at most a row of a window.
        let len = (n - 1) * stride + columns;
        let (count, left) = (inputs * rows, x * stride);
        for (i, out) in scratch[..count * len].chunks_exact_mut(len).enumerate() {
            let row = (y * stride + i % rows).wrapping_sub(padding);
            if row >= height {
                out.fill(0.0);
                continue;
            }
            let line = &data[(i / rows * height + row) * width..][..width];
            // Columns left - padding .. left - padding + len of the image.
            let before = padding.saturating_sub(left).min(len);
            let start = (left + before - padding).min(width);
            let inside = (len - before).min(width - start);
            out[..before].fill(0.0);
            out[before..before + inside].copy_from_slice(&line[start..start + inside]);
            out[before + inside..].fill(0.0);
        }
        Windows { rows: &scratch[..count * len], count, stride: len, columns, step: stride }
    }

    /// Copies the window of output (y, x) to pixel i of n.
    fn gather_planar(
        &self,
        data: &[f32],
        height: usize,
        width: usize,
        y: usize,
        x: usize,
        n: usize,
        i: usize,
        out: &mut [f32],
    ) {
        let ConvShape { inputs, kernel: [rows, columns], stride, padding, .. } = self.shape;
        let mut k = 0;
        for c in 0..inputs {
            for ky in 0..rows {
                let row = (y * stride + ky).wrapping_sub(padding);
                for kx in 0..columns {
                    let column = (x * stride + kx).wrapping_sub(padding);
                    let inside = row < height && column < width;
                    let v = if inside { data[(c * height + row) * width + column] } else { 0.0 };
                    out[(k / LANES * n + i) * LANES + k % LANES] = v;
                    k += 1;
                }
            }
        }
        // Lanes beyond K in the last block.
        let used = k % LANES;
        if used > 0 {
            out[(k / LANES * n + i) * LANES..][used..LANES].fill(0.0);
        }
    }

    fn gather_blocked(&self, map: MapRef<'_>, y: usize, x: usize, n: usize, i: usize, out: &mut [f32]) {
        let ConvShape { kernel: [rows, columns], stride, padding, .. } = self.shape;
        let (height, width) = (map.map().height, map.map().width);
        let mut block = 0;
        for ky in 0..rows {
            let row = (y * stride + ky).wrapping_sub(padding);
            for kx in 0..columns {
                let column = (x * stride + kx).wrapping_sub(padding);
                for b in 0..map.blocks() {
                    let to = &mut out[(block * n + i) * LANES..][..LANES];
                    if row < height && column < width {
                        to.copy_from_slice(map.lanes(b, row * width + column));
                    } else {
                        to.fill(0.0);
                    }
                    block += 1;
                }
            }
        }
    }
}

fn check(shape: &ConvShape, weights: &[f32]) {
    let taps = shape.kernel[0] * shape.kernel[1];
    assert!(taps > 0 && shape.stride > 0, "empty kernel or stride: {shape:?}");
    assert_eq!(weights.len(), shape.outputs * shape.inputs * taps, "weights of {shape:?}");
}
