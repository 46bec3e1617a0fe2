//! Depthwise convolutions, block by block and sample by sample: one plane with its border fits the second cache.

use mobileclip_arch::Shape;
use mobileclip_kernels::{
    self as kernels, Chunks, Depthwise, DepthwiseShape, LANES, MAX_TILES, Map, MapMut, MapRef,
};

use super::parallel::bounds;
use super::{Cpu, CpuTensor};
use crate::device::Matrix;

impl Cpu {
    pub(super) fn depthwise(&self, x: &CpuTensor, matrix: &Matrix) -> CpuTensor {
        let (shape, repeat) = geometry(matrix);
        let depthwise = Depthwise::pack(self.isa, shape, matrix.weight, matrix.bias);
        let [height, width] = shape.output(x.shape.height, x.shape.width);
        let mut out = self.new_tensor(x.batch, Shape::new(shape.channels, height, width));
        let planes = Planes { repeat, ..Planes::of(x.shape, shape.padding) };
        self.planes(&mut out, planes.bordered.len(), |block, sample, out, scratch| {
            let input = planes.read(self.isa, x, block / shape.multiplier, sample, 1, scratch);
            depthwise.run_block(input, block, out);
        });
        out
    }

    pub(super) fn depthwise_input(
        &self,
        shape: Shape,
        matrix: &Matrix,
        dy: &CpuTensor,
        into: Option<CpuTensor>,
    ) -> CpuTensor {
        let (forward, repeat) = geometry(matrix);
        let [ky, kx] = forward.kernel;
        let turned: Vec<f32> = matrix.weight.chunks(ky * kx).flat_map(|w| w.iter().rev().copied()).collect();
        let padding = [ky - 1 - forward.padding[0], kx - 1 - forward.padding[1]];
        let backward = DepthwiseShape { multiplier: 1, stride: 1, padding, ..forward };
        let depthwise = Depthwise::pack(self.isa, backward, &turned, None);
        let spread = Shape::new(
            dy.shape.channels,
            shape.height + 2 * forward.padding[0] + 1 - ky,
            shape.width + 2 * forward.padding[1] + 1 - kx,
        );
        let planes = Planes::of(spread, padding);
        let plane = Map::new(LANES, shape.height, shape.width);
        // What is added: nothing, the output itself, or another tensor.
        let (mut out, added) = match into.map(|into| self.reuse_or_new(into)) {
            Some((out, shared)) => (out, Some(shared)),
            None => (self.new_tensor(dy.batch, shape), None),
        };
        let blocks = dy.map().blocks;
        let scratch_len = planes.bordered.len() + 3 * plane.len();
        self.planes(&mut out, scratch_len, |block, sample, out, scratch| {
            let (bordered, rest) = scratch.split_at_mut(planes.bordered.len());
            let (first, rest) = rest.split_at_mut(plane.len());
            let (second, sum) = rest.split_at_mut(plane.len());
            let mut run = |block: usize, to: MapMut<'_>| {
                let dy = planes.read(self.isa, dy, block, sample, forward.stride, bordered);
                depthwise.run_block(dy, block, to);
            };
            if forward.multiplier == 1 && repeat == 1 && added.is_none() {
                return run(block, out);
            }
            if repeat > 1 {
                sum.fill(0.0);
                for of_output in block * repeat..blocks.min((block + 1) * repeat) {
                    run(of_output, MapMut::new(plane, first));
                    for (sum, first) in sum.chunks_exact_mut(LANES).zip(first.chunks_exact(LANES)) {
                        for (lane, v) in first.iter().enumerate() {
                            sum[(of_output * LANES + lane) / repeat - block * LANES] += v;
                        }
                    }
                }
            } else if forward.multiplier == 1 {
                run(block, MapMut::new(plane, sum));
            } else {
                run(2 * block, MapMut::new(plane, first));
                let has_second = 2 * block + 1 < blocks;
                if has_second {
                    run(2 * block + 1, MapMut::new(plane, second));
                }
                let second = has_second.then(|| MapRef::new(plane, second));
                kernels::sum_pairs(MapRef::new(plane, first), second, MapMut::new(plane, sum));
            }
            let sum = MapRef::new(plane, sum);
            match &added {
                None => kernels::copy(self.isa, sum, out),
                Some(None) => kernels::add_assign(self.isa, sum, out),
                Some(Some(shared)) => {
                    let shared = sample_plane(shared, block, sample);
                    kernels::add(self.isa, sum, shared, out);
                }
            }
        });
        out
    }

    pub(super) fn depthwise_weight(
        &self,
        x: &CpuTensor,
        matrix: &Matrix,
        dy: &CpuTensor,
        dweight: &mut [f32],
    ) {
        let (shape, repeat) = geometry(matrix);
        let taps = shape.kernel[0] * shape.kernel[1];
        let (blocks, len) = (dy.map().blocks, taps * LANES);
        let planes = Planes { repeat, ..Planes::of(x.shape, shape.padding) };
        // One sum for each block and part of the batch, joined in the parts' order.
        let parts = bounds(x.batch, (MAX_TILES / blocks.max(1)).max(1));
        let count = parts.len() - 1;
        let mut sums = vec![0.0; blocks * count * len];
        for (group, sums) in sums.chunks_mut(MAX_TILES / count * count * len).enumerate() {
            let first = group * (MAX_TILES / count);
            let tasks = sums.len() / len;
            let chunks = Chunks::new(sums, len);
            self.each(tasks, planes.bordered.len(), |task, scratch| {
                let (block, part) = (first + task / count, task % count);
                let sums = chunks.claim(task);
                for sample in parts[part]..parts[part + 1] {
                    let x = planes.read(self.isa, x, block / shape.multiplier, sample, 1, scratch);
                    let dy = sample_plane(dy, block, sample);
                    kernels::depthwise_weight_gradient(self.isa, &shape, block, x, dy, sums);
                }
            });
        }
        for (i, dweight) in dweight.iter_mut().enumerate() {
            let (channel, tap) = (i / taps, i % taps);
            let at = channel / LANES * count * len + tap * LANES + channel % LANES;
            *dweight += (0..count).map(|part| f64::from(sums[at + part * len])).sum::<f64>() as f32;
        }
    }

    /// Runs `f(block, sample, out, scratch)` for every block of every sample.
    fn planes(
        &self,
        out: &mut CpuTensor,
        scratch_len: usize,
        f: impl Fn(usize, usize, MapMut<'_>, &mut [f32]) + Sync,
    ) {
        let (map, pixels) = (out.map(), out.shape.pixels());
        let blocks = bounds(map.blocks, MAX_TILES);
        let borders = self.samples(out.batch, pixels, blocks.len() - 1);
        self.tiles(out.view_mut(), &blocks, &borders, scratch_len, |tile, out, scratch| {
            let mut rest = Some(out);
            for block in tile.blocks.clone() {
                let Some((mut row, after)) = rest.take().map(|rest| rest.split_at_block(1)) else { return };
                rest = Some(after);
                for sample in tile.pixels.start / pixels..tile.pixels.end / pixels {
                    let (now, later) = row.split_at_pixel(pixels);
                    row = later;
                    f(block, sample, now, scratch);
                }
            }
        });
    }
}

/// The kernel crate's words for a depthwise convolution. Kernels make one or two outputs of each channel; where there are
/// more, planes are read with every channel repeated so often, and the kernels make one.
///
/// # Panics
/// If the groups are not single channels: the architecture has no others.
fn geometry(matrix: &Matrix) -> (DepthwiseShape, usize) {
    let conv = matrix.conv;
    assert!(conv.groups == conv.inputs, "groups of several channels: {conv:?}");
    let outputs = conv.outputs / conv.inputs;
    let (multiplier, repeat) = if outputs <= 2 { (outputs, 1) } else { (1, outputs) };
    let shape = DepthwiseShape {
        channels: conv.outputs,
        multiplier,
        kernel: [conv.kernel.0, conv.kernel.1],
        stride: conv.stride,
        padding: [conv.padding.0, conv.padding.1],
    };
    (shape, repeat)
}

/// One block of one sample.
fn sample_plane(x: &CpuTensor, block: usize, sample: usize) -> MapRef<'_> {
    let pixels = x.shape.pixels();
    let len = pixels * LANES;
    let plane = Map::new(LANES, x.shape.height, x.shape.width);
    MapRef::new(plane, &x.block[(block * x.batch + sample) * len..][..len])
}

/// Planes with a border, made when they are needed.
struct Planes {
    bordered: Map,
    /// How often each channel appears.
    repeat: usize,
}

impl Planes {
    fn of(shape: Shape, padding: [usize; 2]) -> Planes {
        Planes {
            bordered: Map::new(LANES, shape.height, shape.width).with_border(padding[0], padding[1]),
            repeat: 1,
        }
    }

    /// The plane with a border of zeros and its pixels spread by `stride`, in scratch unless it is just that already.
    fn read<'a>(
        &self,
        isa: kernels::Isa,
        x: &'a CpuTensor,
        block: usize,
        sample: usize,
        stride: usize,
        scratch: &'a mut [f32],
    ) -> MapRef<'a> {
        let map = self.bordered;
        if self.repeat > 1 {
            return self.read_repeated(x, block, sample, scratch);
        }
        let plane = sample_plane(x, block, sample);
        if stride == 1 && map.border_x == 0 && map.border_y == 0 {
            return plane;
        }
        let mut bordered = MapMut::new(map, &mut scratch[..map.len()]);
        bordered.zero_border();
        match stride {
            1 => kernels::copy(isa, plane, bordered),
            _ => kernels::spread(plane, stride, bordered),
        }
        MapRef::new(map, scratch)
    }

    /// Block `block` of what the channels become when each is repeated.
    fn read_repeated<'a>(
        &self,
        x: &CpuTensor,
        block: usize,
        sample: usize,
        scratch: &'a mut [f32],
    ) -> MapRef<'a> {
        let map = self.bordered;
        scratch[..map.len()].fill(0.0);
        let mut bordered = MapMut::new(map, &mut scratch[..map.len()]);
        for lane in 0..LANES {
            let channel = (block * LANES + lane) / self.repeat;
            if channel < x.shape.channels {
                let plane = sample_plane(x, channel / LANES, sample);
                for pixel in 0..plane.pixels() {
                    bordered.lanes_mut(0, pixel)[lane] = plane.lanes(0, pixel)[channel % LANES];
                }
            }
        }
        MapRef::new(map, scratch)
    }
}
