//! Linear layers and 1×1 convolutions.

use mobileclip_kernels::{Activation, Chunks, MAX_TILES, PackedGemm, Residual, WeightGradient};

use super::parallel::bounds;
use super::{Cpu, CpuTensor};
use crate::device::Matrix;

/// Pixels of a task: enough that a panel of weights, once in the second cache, is used for some time.
const PIXELS: usize = 256;

impl Cpu {
    pub(super) fn product(&self, x: &CpuTensor, matrix: &Matrix) -> CpuTensor {
        let conv = matrix.conv;
        let gemm = self.packed(conv.outputs, conv.inputs, matrix.weight, matrix.bias, matrix.is_transposed);
        let out = self.new_tensor(x.batch, x.shape.with_channels(conv.outputs));
        self.multiply(&gemm, x, Residual::None, out)
    }

    pub(super) fn product_input(
        &self,
        matrix: &Matrix,
        dy: &CpuTensor,
        into: Option<CpuTensor>,
    ) -> CpuTensor {
        let conv = matrix.conv;
        let gemm = self.packed(conv.inputs, conv.outputs, matrix.weight, None, !matrix.is_transposed);
        let (residual, out) = match into.map(|into| self.reuse_or_new(into)) {
            None => (None, self.new_tensor(dy.batch, dy.shape.with_channels(conv.inputs))),
            Some((out, None)) => {
                return self.multiply(&gemm, dy, Residual::InPlace, out);
            }
            Some((out, shared)) => (shared, out),
        };
        let residual = residual.as_ref().map_or(Residual::None, |r| Residual::Map(r.view()));
        self.multiply(&gemm, dy, residual, out)
    }

    pub(super) fn product_weight(&self, x: &CpuTensor, matrix: &Matrix, dy: &CpuTensor, dweight: &mut [f32]) {
        let gradient = WeightGradient::new(self.isa, matrix.conv.outputs, matrix.conv.inputs);
        let mut packed = self.arena.take(gradient.packed_len());
        let packed = &mut packed[..gradient.packed_len()];
        packed.fill(0.0);
        // Only so many parts can be claimed at a time.
        for (group, packed) in packed.chunks_mut(MAX_TILES * gradient.task_len().max(1)).enumerate() {
            let tasks = packed.len() / gradient.task_len();
            let parts = Chunks::new(packed, gradient.task_len());
            self.each(tasks, 0, |task, _| {
                gradient.run(group * MAX_TILES + task, x.view(), dy.view(), parts.claim(task));
            });
        }
        match matrix.is_transposed {
            true => gradient.unpack_transposed(packed, dweight),
            false => gradient.unpack(packed, dweight),
        }
    }

    /// `n` outputs of `k` inputs; `[k][n]` in memory if transposed.
    pub(super) fn packed(
        &self,
        n: usize,
        k: usize,
        weight: &[f32],
        bias: Option<&[f32]>,
        is_transposed: bool,
    ) -> PackedGemm {
        match is_transposed {
            true => PackedGemm::pack_transposed(self.isa, n, k, weight, bias),
            false => PackedGemm::pack(self.isa, n, k, weight, bias),
        }
    }

    fn multiply(
        &self,
        gemm: &PackedGemm,
        x: &CpuTensor,
        residual: Residual<'_>,
        mut out: CpuTensor,
    ) -> CpuTensor {
        let pixels = x.map().pixels();
        let columns = bounds(pixels, pixels.div_ceil(PIXELS).min(MAX_TILES));
        // Few pixels: the outputs are divided too.
        let panels = bounds(gemm.panels(), (MAX_TILES / columns.len()).clamp(1, 32 / columns.len().min(32)));
        let rows: Vec<usize> = panels.iter().map(|&panel| gemm.panel_bounds()[panel]).collect();
        let x = x.view();
        self.tiles(out.view_mut(), &rows, &columns, 0, |tile, out, _| {
            let first = rows.partition_point(|&row| row <= tile.blocks.start) - 1;
            let residual = match residual {
                Residual::Map(map) => Residual::Map(tile.of(map)),
                other => other,
            };
            let x = x.with_pixels(tile.pixels.clone());
            gemm.run(x, &[], panels[first]..panels[first + 1], Activation::None, residual, out);
        });
        out
    }
}
