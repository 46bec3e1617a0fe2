//! Means over pixels and gates by sample and channel.

use mobileclip_arch::Shape;
use mobileclip_kernels::{self as kernels, LANES, MapMut, MapRef, Term};

use super::{Cpu, CpuTensor};

/// The numbers of one pixel, 16 for each block.
fn pixel(x: MapRef<'_>, pixel: usize) -> Vec<f32> {
    (0..x.blocks()).flat_map(|block| x.lanes(block, pixel).iter().copied()).collect()
}

fn write_pixel(numbers: &[f32], mut out: MapMut<'_>) {
    for (block, lanes) in numbers.chunks_exact(LANES).enumerate() {
        out.lanes_mut(block, 0).copy_from_slice(lanes);
    }
}

impl Cpu {
    pub(super) fn mean_pool(&self, x: &CpuTensor) -> CpuTensor {
        let mut out = self.new_tensor(x.batch, Shape::new(x.shape.channels, 1, 1));
        let (blocks, pixels) = (x.map().blocks, x.shape.pixels());
        self.sample_pieces(&mut out, |sample, _, out| {
            let mut means = vec![0.0; blocks * LANES];
            let x = x.view().with_pixels(sample * pixels..(sample + 1) * pixels);
            kernels::mean(self.isa, x, &mut means);
            write_pixel(&means, out);
        });
        out
    }

    pub(super) fn mean_pool_gradient(&self, shape: Shape, dy: &CpuTensor) -> CpuTensor {
        let mut out = self.new_tensor(dy.batch, shape);
        let part = 1.0 / shape.pixels() as f32;
        self.sample_pieces(&mut out, |sample, _, out| {
            let shift: Vec<f32> = pixel(dy.view(), sample).iter().map(|v| v * part).collect();
            kernels::blend(self.isa, None, None, Some(&shift), out);
        });
        out
    }

    pub(super) fn gate(&self, x: &CpuTensor, gate: &CpuTensor) -> CpuTensor {
        let mut out = self.new_tensor(x.batch, x.shape);
        self.sample_pieces(&mut out, |sample, tile, out| {
            let scale = pixel(gate.view(), sample);
            let term = Term { map: Some(tile.of(x.view())), scale: &scale };
            kernels::blend(self.isa, Some(term), None, None, out);
        });
        out
    }

    pub(super) fn gate_gradient(
        &self,
        x: &CpuTensor,
        gate: &CpuTensor,
        dy: CpuTensor,
    ) -> (CpuTensor, CpuTensor) {
        let mut dgate = self.new_tensor(x.batch, gate.shape);
        let (lanes, pixels) = (x.map().blocks * LANES, x.shape.pixels());
        self.sample_pieces(&mut dgate, |sample, _, out| {
            let (zeros, mut sums, mut products) = (vec![0.0; lanes], vec![0.0; lanes], vec![0.0; lanes]);
            let range = sample * pixels..(sample + 1) * pixels;
            let (dy, x) = (dy.view().with_pixels(range.clone()), x.view().with_pixels(range));
            kernels::add_products(self.isa, dy, x, &zeros, &mut sums, &mut products);
            write_pixel(&products, out);
        });
        let (mut dx, dy) = self.reuse_or_new(dy);
        self.sample_pieces(&mut dx, |sample, tile, out| {
            let scale = pixel(gate.view(), sample);
            let map = dy.as_ref().map(|dy| tile.of(dy.view()));
            kernels::blend(self.isa, Some(Term { map, scale: &scale }), None, None, out);
        });
        (dx, dgate)
    }
}
