//! Self-attention, a sample to a task.

use mobileclip_arch::Attention;
use mobileclip_kernels as kernels;

use super::{Cpu, CpuTensor};

fn kernel(attention: &Attention) -> kernels::Attention {
    kernels::Attention {
        heads: attention.heads,
        head_dim: attention.head_width,
        scale: (attention.head_width as f64).powf(-0.5) as f32,
        is_causal: attention.is_causal,
    }
}

impl Cpu {
    pub(super) fn attend(&self, qkv: &CpuTensor, attention: &Attention) -> CpuTensor {
        let (kernel, pixels) = (kernel(attention), qkv.shape.pixels());
        let mut out = self.new_tensor(qkv.batch, qkv.shape.with_channels(attention.width()));
        let (blocks, borders) = ([0, out.map().blocks], self.samples(qkv.batch, pixels, 1));
        let scratch_len = kernel.sample_scratch_len(pixels);
        self.tiles(out.view_mut(), &blocks, &borders, scratch_len, |tile, mut out, scratch| {
            for start in tile.pixels.step_by(pixels.max(1)) {
                let (now, rest) = out.split_at_pixel(pixels);
                kernel.run_sample(self.isa, qkv.view().with_pixels(start..start + pixels), now, scratch);
                out = rest;
            }
        });
        out
    }

    pub(super) fn attend_gradient(
        &self,
        qkv: &CpuTensor,
        attention: &Attention,
        dy: &CpuTensor,
    ) -> CpuTensor {
        let (kernel, pixels) = (kernel(attention), qkv.shape.pixels());
        let mut out = self.new_tensor(qkv.batch, qkv.shape);
        let (blocks, borders) = ([0, out.map().blocks], self.samples(qkv.batch, pixels, 1));
        let scratch_len = kernel.sample_scratch_len(pixels);
        self.tiles(out.view_mut(), &blocks, &borders, scratch_len, |tile, mut out, scratch| {
            for start in tile.pixels.step_by(pixels.max(1)) {
                let (now, rest) = out.split_at_pixel(pixels);
                let range = start..start + pixels;
                let (qkv, dy) = (qkv.view().with_pixels(range.clone()), dy.view().with_pixels(range));
                kernel.gradient(self.isa, qkv, dy, now, scratch);
                out = rest;
            }
        });
        out
    }
}
