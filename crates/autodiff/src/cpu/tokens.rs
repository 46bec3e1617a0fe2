//! Embeddings, positions, class tokens, and taking one token.

use mobileclip_arch::Shape;
use mobileclip_kernels::{self as kernels, LANES, MapMut, MapRef};

use super::{Cpu, CpuTensor};

/// Copies whole pixels.
fn copy_pixel(from: MapRef<'_>, pixel: usize, to: &mut MapMut<'_>, place: usize) {
    for block in 0..from.blocks() {
        to.lanes_mut(block, place).copy_from_slice(from.lanes(block, pixel));
    }
}

impl Cpu {
    pub(super) fn embed(&self, batch: usize, ids: &[u32], table: &[f32], width: usize) -> CpuTensor {
        let tokens = ids.len() / batch.max(1);
        let mut out = self.new_tensor(batch, Shape::tokens(width, tokens));
        self.sample_pieces(&mut out, |_, tile, out| {
            kernels::gather_rows(table, width, &ids[tile.pixels], None, out);
        });
        out
    }

    pub(super) fn embed_gradient(&self, ids: &[u32], dy: &CpuTensor, dtable: &mut [f32]) {
        let width = dy.shape.channels;
        // Two tokens may share a row, so one thread adds them all, in order.
        for (pixel, id) in ids.iter().enumerate() {
            let row = &mut dtable[*id as usize * width..][..width];
            for (block, row) in row.chunks_mut(LANES).enumerate() {
                row.iter_mut().zip(dy.view().lanes(block, pixel)).for_each(|(row, d)| *row += d);
            }
        }
    }

    pub(super) fn add_rows(&self, x: &CpuTensor, rows: &[f32]) -> CpuTensor {
        let width = x.shape.channels;
        let mut out = self.new_tensor(x.batch, x.shape);
        self.sample_pieces(&mut out, |_, tile, mut out| {
            kernels::copy(self.isa, tile.of(x.view()), out.reborrow());
            for (pixel, row) in rows.chunks_exact(width).enumerate() {
                for (block, row) in row.chunks(LANES).enumerate() {
                    out.lanes_mut(block, pixel).iter_mut().zip(row).for_each(|(out, v)| *out += v);
                }
            }
        });
        out
    }

    pub(super) fn add_rows_gradient(&self, dy: &CpuTensor, drows: &mut [f32]) {
        let (width, pixels) = (dy.shape.channels, dy.shape.pixels());
        for (pixel, row) in drows.chunks_exact_mut(width).enumerate() {
            for (block, row) in row.chunks_mut(LANES).enumerate() {
                for (lane, sum) in row.iter_mut().enumerate() {
                    let of_sample = |s: usize| f64::from(dy.view().lanes(block, s * pixels + pixel)[lane]);
                    *sum += (0..dy.batch).map(of_sample).sum::<f64>() as f32;
                }
            }
        }
    }

    pub(super) fn prepend(&self, x: &CpuTensor, token: &[f32]) -> CpuTensor {
        let pixels = x.shape.pixels();
        let mut out = self.new_tensor(x.batch, Shape::tokens(x.shape.channels, pixels + 1));
        self.sample_pieces(&mut out, |sample, _, mut out| {
            kernels::write_pixel(token, 0, out.reborrow());
            let (_, rest) = out.split_at_pixel(1);
            kernels::copy(self.isa, x.view().with_pixels(sample * pixels..(sample + 1) * pixels), rest);
        });
        out
    }

    pub(super) fn prepend_gradient(&self, shape: Shape, dy: &CpuTensor, dtoken: &mut [f32]) -> CpuTensor {
        let tokens = dy.shape.pixels();
        for sample in 0..dy.batch {
            for (block, sum) in dtoken.chunks_mut(LANES).enumerate() {
                let lanes = dy.view().lanes(block, sample * tokens);
                sum.iter_mut().zip(lanes).for_each(|(sum, d)| *sum += d);
            }
        }
        let mut out = self.new_tensor(dy.batch, shape);
        self.sample_pieces(&mut out, |sample, _, out| {
            let after = dy.view().with_pixels(sample * tokens + 1..(sample + 1) * tokens);
            kernels::copy(self.isa, after, out);
        });
        out
    }

    pub(super) fn select(&self, x: &CpuTensor, places: &[usize]) -> CpuTensor {
        let pixels = x.shape.pixels();
        let mut out = self.new_tensor(x.batch, Shape::tokens(x.shape.channels, places.len()));
        self.sample_pieces(&mut out, |sample, _, mut out| {
            for (to, from) in places.iter().enumerate() {
                copy_pixel(x.view(), sample * pixels + from, &mut out, to);
            }
        });
        out
    }

    pub(super) fn select_gradient(&self, shape: Shape, places: &[usize], dy: &CpuTensor) -> CpuTensor {
        let mut out = self.new_tensor(dy.batch, shape);
        self.sample_pieces(&mut out, |sample, _, mut out| {
            kernels::blend(self.isa, None, None, None, out.reborrow());
            for (from, to) in places.iter().enumerate() {
                copy_pixel(dy.view(), sample * places.len() + from, &mut out, *to);
            }
        });
        out
    }

    pub(super) fn take(&self, x: &CpuTensor, places: &[usize]) -> CpuTensor {
        let pixels = x.shape.pixels();
        let mut out = self.new_tensor(x.batch, Shape::new(x.shape.channels, 1, 1));
        let mut to = out.view_mut();
        for (sample, place) in places.iter().enumerate() {
            copy_pixel(x.view(), sample * pixels + place, &mut to, sample);
        }
        out
    }

    pub(super) fn take_gradient(&self, shape: Shape, places: &[usize], dy: &CpuTensor) -> CpuTensor {
        let mut out = self.new_tensor(dy.batch, shape);
        self.sample_pieces(&mut out, |sample, _, mut out| {
            kernels::blend(self.isa, None, None, None, out.reborrow());
            copy_pixel(dy.view(), sample, &mut out, places[sample]);
        });
        out
    }
}
