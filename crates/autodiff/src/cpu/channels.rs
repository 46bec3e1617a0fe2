//! BatchNorm, scales, sums of maps, LayerNorm.

use mobileclip_kernels::{self as kernels, Centered, LANES, LayerNorm, Term, Tiles};

use super::parallel::Tile;
use super::{Cpu, CpuTensor, add_to};
use crate::device::Moments;

/// One number for each channel, zeros for the lanes beyond.
pub(super) fn lanes(values: impl ExactSizeIterator<Item = f64>) -> Vec<f32> {
    let padded = values.len().div_ceil(LANES) * LANES;
    let mut out: Vec<f32> = values.map(|v| v as f32).collect();
    out.resize(padded, 0.0);
    out
}

/// The part of a channel vector that belongs to a tile's blocks.
fn part<'a>(vector: &'a [f32], tile: &Tile) -> &'a [f32] {
    &vector[tile.blocks.start * LANES..tile.blocks.end * LANES]
}

impl Cpu {
    /// a + factor · b.
    pub(super) fn combine(&self, a: CpuTensor, b: &CpuTensor, factor: f32) -> CpuTensor {
        let (mut out, a) = self.reuse_or_new(a);
        let all = |v: f32| vec![v; out.map().blocks * LANES];
        let (zero, one, factor) = (all(0.0), all(1.0), all(factor));
        self.pieces(&mut out, |tile, out| {
            let map = a.as_ref().map(|a| tile.of(a.view()));
            let centered =
                Centered { map: tile.of(b.view()), center: part(&zero, &tile), scale: part(&factor, &tile) };
            kernels::blend(self.isa, Some(Term { map, scale: part(&one, &tile) }), Some(centered), None, out);
        });
        out
    }

    pub(super) fn scale_channels(&self, x: CpuTensor, scale: &[f32]) -> CpuTensor {
        let scale = lanes(scale.iter().map(|v| f64::from(*v)));
        let (mut out, x) = self.reuse_or_new(x);
        self.pieces(&mut out, |tile, out| {
            let map = x.as_ref().map(|x| tile.of(x.view()));
            let term = Term { map, scale: part(&scale, &tile) };
            kernels::blend(self.isa, Some(term), None, None, out);
        });
        out
    }

    pub(super) fn scale_samples(&self, x: CpuTensor, factors: &[f32]) -> CpuTensor {
        let (mut out, x) = self.reuse_or_new(x);
        let blocks = out.map().blocks;
        self.sample_pieces(&mut out, |sample, tile, out| {
            let map = x.as_ref().map(|x| tile.of(x.view()));
            let scale = vec![factors[sample]; blocks * LANES];
            kernels::blend(self.isa, Some(Term { map, scale: &scale }), None, None, out);
        });
        out
    }

    /// The sums over all pixels of a and of a (b - center).
    pub(super) fn products(&self, a: &CpuTensor, b: &CpuTensor, center: &[f64]) -> [Vec<f64>; 2] {
        let center = lanes(center.iter().copied());
        self.sum_parts(a, |_, pixels, [sums, products]| {
            let (a, b) = (a.view().with_pixels(pixels.clone()), b.view().with_pixels(pixels));
            kernels::add_products(self.isa, a, b, &center, sums, products);
        })
    }

    /// Parts' moments, joined in order (Chan, Golub and LeVeque 1979).
    pub(super) fn moments(&self, x: &CpuTensor) -> Moments {
        let (parts, lanes) = (self.parts(x), x.map().blocks * LANES);
        let found = self.parts_of_sums(x, |_, pixels, [mean, deviations]| {
            kernels::moments(self.isa, x.view().with_pixels(pixels), mean, deviations);
        });
        let channels = x.shape.channels;
        let (mut mean, mut deviations, mut count) = (vec![0.0; channels], vec![0.0; channels], 0.0);
        for (i, part) in found.chunks_exact(2 * lanes).enumerate() {
            let n = (parts[i + 1] - parts[i]) as f64;
            for c in 0..channels {
                let step = f64::from(part[c]) - mean[c];
                mean[c] += step * n / (count + n);
                deviations[c] += f64::from(part[lanes + c]) + step * step * count * n / (count + n);
            }
            count += n;
        }
        Moments { mean, variance: deviations.iter().map(|d| d / count).collect() }
    }

    pub(super) fn normalise(
        &self,
        x: &CpuTensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        bias: &[f32],
    ) -> CpuTensor {
        let center = lanes(moments.mean.iter().copied());
        let scale = lanes(scales(moments, eps, weight).into_iter());
        let shift = lanes(bias.iter().map(|b| f64::from(*b)));
        let mut out = self.new_tensor(x.batch, x.shape);
        self.pieces(&mut out, |tile, out| {
            let (center, scale) = (part(&center, &tile), part(&scale, &tile));
            let centered = Centered { map: tile.of(x.view()), center, scale };
            kernels::blend(self.isa, None, Some(centered), Some(part(&shift, &tile)), out);
        });
        out
    }

    /// With r = 1 / sqrt(variance + eps): `dweight = r Σ dy (x - mean)`, `dbias = Σ dy`, and
    /// `dx = weight r (dy - dbias / n - (x - mean) r dweight / n)`.
    pub(super) fn normalise_gradient(
        &self,
        x: &CpuTensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        constant: bool,
        dy: CpuTensor,
        wanted: bool,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> Option<CpuTensor> {
        let n = x.map().pixels() as f64;
        let [sums, mut products] = self.products(&dy, x, &moments.mean);
        let root: Vec<f64> = moments.variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        products.iter_mut().zip(&root).for_each(|(p, r)| *p *= r);
        add_to(dweight, &products);
        add_to(dbias, &sums);
        if !wanted {
            return None;
        }
        let scale = scales(moments, eps, weight);
        if constant {
            return Some(self.scale_channels(dy, &lanes(scale.into_iter())[..weight.len()]));
        }
        let channels = 0..scale.len();
        let center = lanes(moments.mean.iter().copied());
        let of_x = lanes(channels.clone().map(|c| -scale[c] * root[c] * products[c] / n));
        let shift = lanes(channels.map(|c| -scale[c] * sums[c] / n));
        let of_dy = lanes(scale.iter().copied());
        let (mut out, dy) = self.reuse_or_new(dy);
        self.pieces(&mut out, |tile, out| {
            let map = dy.as_ref().map(|dy| tile.of(dy.view()));
            let term = Term { map, scale: part(&of_dy, &tile) };
            let (center, scale) = (part(&center, &tile), part(&of_x, &tile));
            let centered = Centered { map: tile.of(x.view()), center, scale };
            kernels::blend(self.isa, Some(term), Some(centered), Some(part(&shift, &tile)), out);
        });
        Some(out)
    }

    pub(super) fn layer_norm(&self, x: &CpuTensor, eps: f64, weight: &[f32], bias: &[f32]) -> CpuTensor {
        let norm = LayerNorm::new(self.isa, eps as f32, weight, bias);
        let mut out = self.new_tensor(x.batch, x.shape);
        let (map, parts) = (x.map(), self.parts(x));
        self.tiles(out.view_mut(), &[0, map.blocks], &parts, 0, |tile, out, _| {
            norm.run(tile.of(x.view()), out);
        });
        out
    }

    pub(super) fn layer_norm_gradient(
        &self,
        x: &CpuTensor,
        eps: f64,
        weight: &[f32],
        dy: CpuTensor,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> CpuTensor {
        let norm = LayerNorm::new(self.isa, eps as f32, weight, &vec![0.0; weight.len()]);
        let (mut out, dy) = self.reuse_or_new(dy);
        let (map, parts) = (x.map(), self.parts(x));
        let (blocks, x_view) = ([0, map.blocks], x.view());
        let tiles = Tiles::new(out.view_mut(), &blocks, &parts);
        let sums = self.sum_parts(x, |part, pixels, [of_weight, of_bias]| {
            let dy = dy.as_ref().map(|dy| dy.view().with_pixels(pixels.clone()));
            norm.gradient(x_view.with_pixels(pixels), dy, tiles.claim(0, part), of_weight, of_bias);
        });
        add_to(dweight, &sums[0]);
        add_to(dbias, &sums[1]);
        out
    }
}

/// weight / sqrt(variance + eps).
fn scales(moments: &Moments, eps: f64, weight: &[f32]) -> Vec<f64> {
    weight.iter().zip(&moments.variance).map(|(w, v)| f64::from(*w) / (v + eps).sqrt()).collect()
}
