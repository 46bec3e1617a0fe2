//! Dense convolutions: stems and patch embeddings. Windows are gathered into columns, which are multiplied.

use mobileclip_arch::{Conv, Shape};
use mobileclip_kernels::{
    Activation, Chunks, LANES, Map, MapMut, MapRef, PackedGemm, Residual, WeightGradient,
};

use super::parallel::bounds;
use super::{Cpu, CpuTensor};
use crate::device::Matrix;

/// Output pixels whose windows are gathered at a time.
const PIXELS: usize = 128;

/// Parts of the batch whose weight gradients are summed separately and then joined in order.
const PARTS: usize = 8;

impl Cpu {
    pub(super) fn convolution(&self, x: &CpuTensor, matrix: &Matrix) -> CpuTensor {
        let windows = Windows::new(&matrix.conv, x.shape);
        let gemm = PackedGemm::pack(self.isa, matrix.conv.outputs, windows.len(), matrix.weight, matrix.bias);
        let mut out = self.new_tensor(x.batch, windows.output);
        let pixels = out.map().pixels();
        let columns = bounds(pixels, pixels.div_ceil(PIXELS).min(mobileclip_kernels::MAX_TILES));
        let blocks = [0, out.map().blocks];
        let scratch = windows.columns(PIXELS).len();
        self.tiles(out.view_mut(), &blocks, &columns, scratch, |tile, mut out, scratch| {
            let mut first = tile.pixels.start;
            while first < tile.pixels.end {
                let count = PIXELS.min(tile.pixels.end - first);
                let (now, rest) = out.split_at_pixel(count);
                windows.gather(x.view(), first, count, scratch);
                let gathered = MapRef::new(windows.columns(count), scratch);
                gemm.run(gathered, &[], 0..gemm.panels(), Activation::None, Residual::None, now);
                (first, out) = (first + count, rest);
            }
        });
        out
    }

    pub(super) fn convolution_input(
        &self,
        shape: Shape,
        matrix: &Matrix,
        dy: &CpuTensor,
        into: Option<CpuTensor>,
    ) -> CpuTensor {
        let windows = Windows::new(&matrix.conv, shape);
        let outputs = matrix.conv.outputs;
        let gemm = PackedGemm::pack_transposed(self.isa, windows.len(), outputs, matrix.weight, None);
        let mut out = self.new_tensor(dy.batch, shape);
        let borders = self.samples(dy.batch, shape.pixels(), 1);
        let blocks = [0, out.map().blocks];
        let scratch = windows.columns(PIXELS).len();
        self.tiles(out.view_mut(), &blocks, &borders, scratch, |tile, mut out, scratch| {
            for sample in tile.pixels.start / shape.pixels()..tile.pixels.end / shape.pixels() {
                let (mut now, rest) = out.split_at_pixel(shape.pixels());
                out = rest;
                clear(&mut now);
                let per_sample = windows.output.pixels();
                for first in (0..per_sample).step_by(PIXELS) {
                    let count = PIXELS.min(per_sample - first);
                    let start = sample * per_sample + first;
                    let dy = dy.view().with_pixels(start..start + count);
                    let columns = windows.columns(count);
                    let to = MapMut::new(columns, scratch);
                    gemm.run(dy, &[], 0..gemm.panels(), Activation::None, Residual::None, to);
                    windows.scatter(MapRef::new(columns, scratch), first, now.reborrow());
                }
            }
        });
        match into {
            Some(into) => self.combine(into, &out, 1.0),
            None => out,
        }
    }

    pub(super) fn convolution_weight(
        &self,
        x: &CpuTensor,
        matrix: &Matrix,
        dy: &CpuTensor,
        dweight: &mut [f32],
    ) {
        let windows = Windows::new(&matrix.conv, x.shape);
        let gradient = WeightGradient::new(self.isa, matrix.conv.outputs, windows.len());
        let parts = bounds(x.batch, PARTS);
        let mut packed = self.arena.take((parts.len() - 1) * gradient.packed_len());
        let packed = &mut packed[..(parts.len() - 1) * gradient.packed_len()];
        packed.fill(0.0);
        let chunks = Chunks::new(packed, gradient.packed_len().max(1));
        let per_sample = windows.output.pixels();
        self.each(parts.len() - 1, windows.columns(PIXELS).len(), |part, scratch| {
            let sums = chunks.claim(part);
            let end = parts[part + 1] * per_sample;
            for first in (parts[part] * per_sample..end).step_by(PIXELS) {
                let count = PIXELS.min(end - first);
                windows.gather(x.view(), first, count, scratch);
                let gathered = MapRef::new(windows.columns(count), scratch);
                let dy = dy.view().with_pixels(first..first + count);
                for (task, sums) in sums.chunks_exact_mut(gradient.task_len()).enumerate() {
                    gradient.run(task, gathered, dy, sums);
                }
            }
        });
        for part in packed.chunks_exact(gradient.packed_len().max(1)) {
            gradient.unpack(part, dweight);
        }
    }
}

fn clear(out: &mut MapMut<'_>) {
    for block in 0..out.blocks() {
        for pixel in 0..out.pixels() {
            out.lanes_mut(block, pixel).fill(0.0);
        }
    }
}

/// The windows of a convolution over one shape, as columns in the weights' own order: channel, row, column.
struct Windows {
    conv: Conv,
    input: Shape,
    output: Shape,
}

impl Windows {
    /// # Panics
    /// If the padded input is smaller than the kernel.
    fn new(conv: &Conv, input: Shape) -> Windows {
        let output = conv.output(input);
        let Some(output) = output else { panic!("{input:?} is smaller than the kernel of {conv:?}") };
        Windows { conv: *conv, input, output }
    }

    /// Numbers of a window.
    const fn len(&self) -> usize {
        self.conv.inputs * self.conv.kernel.0 * self.conv.kernel.1
    }

    /// The layout of so many columns.
    const fn columns(&self, count: usize) -> Map {
        Map::tokens(self.len(), count)
    }

    /// Input pixel under tap (ky, kx) of an output pixel, both of one sample.
    fn under(&self, pixel: usize, ky: usize, kx: usize) -> Option<usize> {
        let (conv, output) = (&self.conv, self.output);
        let y = (pixel / output.width * conv.stride + ky).checked_sub(conv.padding.0)?;
        let x = (pixel % output.width * conv.stride + kx).checked_sub(conv.padding.1)?;
        (y < self.input.height && x < self.input.width).then_some(y * self.input.width + x)
    }

    /// Windows of `count` output pixels of the batch from `first` on.
    fn gather(&self, x: MapRef<'_>, first: usize, count: usize, out: &mut [f32]) {
        let (kh, kw) = self.conv.kernel;
        let taps = kh * kw;
        let len = self.columns(count).len();
        out[..len].fill(0.0);
        for i in 0..count {
            let (sample, pixel) = ((first + i) / self.output.pixels(), (first + i) % self.output.pixels());
            for tap in 0..taps {
                let Some(under) = self.under(pixel, tap / kw, tap % kw) else { continue };
                let under = sample * self.input.pixels() + under;
                for block in 0..x.blocks() {
                    let channels = LANES.min(self.conv.inputs - block * LANES);
                    for (lane, v) in x.lanes(block, under)[..channels].iter().enumerate() {
                        let k = (block * LANES + lane) * taps + tap;
                        out[(k / LANES * count + i) * LANES + k % LANES] = *v;
                    }
                }
            }
        }
    }

    /// Adds columns of one sample's output pixels from `first` on to where they were gathered.
    fn scatter(&self, columns: MapRef<'_>, first: usize, mut out: MapMut<'_>) {
        let (kh, kw) = self.conv.kernel;
        let taps = kh * kw;
        for i in 0..columns.pixels() {
            for tap in 0..taps {
                let Some(under) = self.under(first + i, tap / kw, tap % kw) else { continue };
                for block in 0..out.blocks() {
                    let channels = LANES.min(self.conv.inputs - block * LANES);
                    for (lane, v) in out.lanes_mut(block, under)[..channels].iter_mut().enumerate() {
                        let k = (block * LANES + lane) * taps + tap;
                        *v += columns.lanes(k / LANES, i)[k % LANES];
                    }
                }
            }
        }
    }
}
