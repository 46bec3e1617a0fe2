//! Gradients of products, convolutions and normalisations against f64, on every instruction set.

mod support;

use mobileclip_kernels::{
    Activation, Attention, Depthwise, DepthwiseShape, LANES, LayerNorm, Map, MapMut, MapRef, PackedGemm,
    Residual, WeightGradient, depthwise_weight_gradient, spread, sum_pairs,
};
use support::*;

#[test]
fn weights_of_products() {
    for (n, k, pixels) in [(1, 1, 1), (16, 16, 5), (33, 40, 7), (20, 17, 300), (70, 96, 129), (48, 64, 1)] {
        let mut numbers = Numbers::new((n * k) as u64);
        let (x, dy) = (numbers.vec(k * pixels), numbers.vec(n * pixels));
        let old = numbers.vec(n * k);
        let (mut exact, mut mass) = (vec![0.0; n * k], vec![0.0; n * k]);
        for i in 0..n * k {
            let (o, c) = (i / k, i % k);
            (exact[i], mass[i]) = (f64::from(old[i]), f64::from(old[i].abs()));
            for p in 0..pixels {
                let product = f64::from(dy[o * pixels + p]) * f64::from(x[c * pixels + p]);
                exact[i] += product;
                mass[i] += product.abs();
            }
        }
        let from = Map::tokens(k, pixels);
        let to = Map::new(n, 1, pixels).with_border(1, 2);
        let (x, dy) = (blocked(from, k, &x), blocked(to, n, &dy));
        let (x, dy) = (MapRef::new(from, &x), MapRef::new(to, &dy));
        each_isa(|isa| {
            let gradient = WeightGradient::new(isa, n, k);
            let mut packed = vec![0.0; gradient.packed_len()];
            for (task, part) in packed.chunks_mut(gradient.task_len()).enumerate() {
                gradient.run(task, x, dy, part);
            }
            let what = format!("{} {n} x {k} of {pixels} pixels", isa.name());
            let mut weights = old.clone();
            gradient.unpack(&packed, &mut weights);
            close(&weights, &exact, |i| (pixels + 2) as f64 * U * mass[i], &what);
            let mut transposed: Vec<f32> = (0..n * k).map(|i| old[i % n * k + i / n]).collect();
            gradient.unpack_transposed(&packed, &mut transposed);
            let back: Vec<f32> = (0..n * k).map(|i| transposed[i % k * n + i / k]).collect();
            same_bits(&back, &weights, &what);

            // Pixels in two calls: the same chain.
            let mut parts = vec![0.0; gradient.packed_len()];
            for (task, part) in parts.chunks_mut(gradient.task_len()).enumerate() {
                let cut = pixels / 2;
                for range in [0..cut, cut..pixels] {
                    gradient.run(task, x.with_pixels(range.clone()), dy.with_pixels(range), part);
                }
            }
            let mut weights_of_parts = old.clone();
            gradient.unpack(&parts, &mut weights_of_parts);
            same_bits(&weights_of_parts, &weights, &what);
        });
    }
}

#[test]
fn transposed_weights_give_the_same_products() {
    for (n, k, pixels) in [(1, 1, 3), (16, 32, 9), (37, 50, 5), (48, 17, 33)] {
        let mut numbers = Numbers::new(7);
        let (w, x, bias) = (numbers.vec(n * k), numbers.vec(k * pixels), numbers.vec(n));
        let transposed: Vec<f32> = (0..n * k).map(|i| w[i % n * k + i / n]).collect();
        let (from, to) = (Map::tokens(k, pixels), Map::tokens(n, pixels));
        let x = blocked(from, k, &x);
        each_isa(|isa| {
            let results = [
                PackedGemm::pack(isa, n, k, &w, Some(&bias)),
                PackedGemm::pack_transposed(isa, n, k, &transposed, Some(&bias)),
            ]
            .map(|gemm| {
                let mut out = marked(to);
                let (x, y) = (MapRef::new(from, &x), MapMut::new(to, &mut out));
                gemm.run(x, &[], 0..gemm.panels(), Activation::None, Residual::None, y);
                planar(to, n, &out)
            });
            same_bits(&results[0], &results[1], isa.name());
        });
    }
}

/// One sample's depthwise convolution and both gradients, as a training device puts them together.
fn check_depthwise(shape: DepthwiseShape, [height, width]: [usize; 2]) {
    let [ky, kx] = shape.kernel;
    let (taps, m) = (ky * kx, shape.multiplier);
    let inputs = shape.channels / m;
    let [rows, columns] = shape.output(height, width);
    let mut numbers = Numbers::new((height * 31 + width * 7 + taps) as u64);
    let weights = numbers.vec(shape.channels * taps);
    let x = numbers.vec(inputs * height * width);
    let dy = numbers.vec(shape.channels * rows * columns);
    let (mut dw, mut dx) = (vec![0.0; weights.len()], vec![0.0; x.len()]);
    let (mut dw_mass, mut dx_mass) = (dw.clone(), dx.clone());
    for c in 0..shape.channels {
        for (o, d) in dy[c * rows * columns..][..rows * columns].iter().enumerate() {
            for t in 0..taps {
                let row = (o / columns * shape.stride + t / kx).wrapping_sub(shape.padding[0]);
                let column = (o % columns * shape.stride + t % kx).wrapping_sub(shape.padding[1]);
                if row < height && column < width {
                    let (i, w) = ((c / m * height + row) * width + column, c * taps + t);
                    let (of_w, of_x) =
                        (f64::from(*d) * f64::from(x[i]), f64::from(*d) * f64::from(weights[w]));
                    dw[w] += of_w;
                    dw_mass[w] += of_w.abs();
                    dx[i] += of_x;
                    dx_mass[i] += of_x.abs();
                }
            }
        }
    }
    let turned: Vec<f32> = weights.chunks(taps).flat_map(|w| w.iter().rev().copied()).collect();
    let to = Map::new(shape.channels, rows, columns);
    let dy = blocked(to, shape.channels, &dy);
    let dy = MapRef::new(to, &dy);
    let from = Map::new(inputs, height, width).with_border(shape.padding[0], shape.padding[1]);
    let x = blocked(from, inputs, &x);
    each_isa(|isa| {
        let what = format!("{} {shape:?} on {height} x {width}", isa.name());
        let mut got = vec![0.0; to.blocks * taps * LANES];
        for (block, got) in got.chunks_mut(taps * LANES).enumerate() {
            let x = MapRef::new(from, &x).with_blocks(block / m..block / m + 1);
            depthwise_weight_gradient(isa, &shape, block, x, dy.with_blocks(block..block + 1), got);
        }
        let got: Vec<f32> = (0..dw.len())
            .map(|i| got[(i / taps / LANES * taps + i % taps) * LANES + i / taps % LANES])
            .collect();
        let terms = (rows * columns + 2) as f64;
        close(&got, &dw, |i| terms * U * dw_mass[i], &what);

        let back = DepthwiseShape {
            multiplier: 1,
            stride: 1,
            padding: [ky - 1 - shape.padding[0], kx - 1 - shape.padding[1]],
            ..shape
        };
        let depthwise = Depthwise::pack(isa, back, &turned, None);
        let wide =
            Map::new(LANES, height + 2 * shape.padding[0] + 1 - ky, width + 2 * shape.padding[1] + 1 - kx)
                .with_border(back.padding[0], back.padding[1]);
        let plane = Map::new(LANES, height, width);
        let planes: Vec<Vec<f32>> = (0..to.blocks)
            .map(|block| {
                let mut bordered = vec![0.0; wide.len()];
                spread(dy.with_blocks(block..block + 1), shape.stride, MapMut::new(wide, &mut bordered));
                let mut out = marked(plane);
                depthwise.run_block(MapRef::new(wide, &bordered), block, MapMut::new(plane, &mut out));
                out
            })
            .collect();
        let result = Map::new(inputs, height, width);
        let mut out = marked(result);
        for (block, out) in out.chunks_mut(plane.len()).enumerate() {
            if m == 1 {
                out.copy_from_slice(&planes[block]);
                continue;
            }
            let second = planes.get(2 * block + 1).map(|p| MapRef::new(plane, p));
            sum_pairs(MapRef::new(plane, &planes[2 * block]), second, MapMut::new(plane, out));
        }
        let got = planar(result, inputs, &out);
        close(&got, &dx, |i| (m * taps + 2) as f64 * U * dx_mass[i], &what);
    });
}

#[test]
fn depthwise_kernels_strides_and_multipliers() {
    for (k, stride, multiplier) in
        [(3, 1, 1), (3, 2, 1), (3, 1, 2), (7, 1, 1), (7, 2, 2), (7, 2, 1), (5, 1, 1)]
    {
        for size in [[1, 1], [4, 9], [8, 16], [11, 7]] {
            for channels in [2, 16, 40] {
                check_depthwise(DepthwiseShape::square(channels, multiplier, k, stride), size);
            }
        }
    }
    for (kernel, padding, stride) in [([1, 11], [0, 5], 1), ([1, 1], [0, 0], 1), ([1, 1], [0, 0], 2)] {
        for multiplier in [1, 2] {
            let shape = DepthwiseShape { channels: 34, multiplier, kernel, stride, padding };
            check_depthwise(shape, [3, 13]);
        }
    }
}

#[test]
fn layer_norm() {
    for (channels, pixels) in [(1, 3), (15, 5), (16, 4), (40, 9), (512, 6)] {
        let mut numbers = Numbers::new(channels as u64);
        let (weight, bias) = (numbers.vec(channels), numbers.vec(channels));
        let (x, dy) = (numbers.vec(channels * pixels), numbers.vec(channels * pixels));
        let eps = 1e-3;
        let mut dx = vec![0.0; x.len()];
        let (mut dweight, mut dbias) = (vec![0.0; channels], vec![0.0; channels]);
        let n = channels as f64;
        for p in 0..pixels {
            let at = |v: &[f32], c: usize| f64::from(v[c * pixels + p]);
            let mean = (0..channels).map(|c| at(&x, c)).sum::<f64>() / n;
            let variance = (0..channels).map(|c| (at(&x, c) - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + f64::from(eps)).sqrt();
            let hat: Vec<f64> = (0..channels).map(|c| (at(&x, c) - mean) * factor).collect();
            let g: Vec<f64> = (0..channels).map(|c| at(&dy, c) * f64::from(weight[c])).collect();
            let g_mean = g.iter().sum::<f64>() / n;
            let product = g.iter().zip(&hat).map(|(g, h)| g * h).sum::<f64>() / n;
            for c in 0..channels {
                dx[c * pixels + p] = factor * (g[c] - g_mean - hat[c] * product);
                dweight[c] += at(&dy, c) * hat[c];
                dbias[c] += at(&dy, c);
            }
        }
        // A value of unit size from some sums over the channels; the smallest factor of one channel is 1 / sqrt(eps).
        let bound = U * (n / 4.0 + 64.0) * 4.0;
        let (from, to) = (Map::new(channels, 1, pixels).with_border(1, 1), Map::tokens(channels, pixels));
        let (x, bordered) = (blocked(from, channels, &x), blocked(from, channels, &dy));
        each_isa(|isa| {
            let norm = LayerNorm::new(isa, eps, &weight, &bias);
            let what = format!("{} {channels} channels of {pixels} pixels", isa.name());
            let x = MapRef::new(from, &x);
            let mut out = marked(to);
            let mut sums = [vec![0.0; to.blocks * LANES], vec![0.0; to.blocks * LANES]];
            let [of_weight, of_bias] = &mut sums;
            let dy_view = MapRef::new(from, &bordered);
            norm.gradient(x, Some(dy_view), MapMut::new(to, &mut out), of_weight, of_bias);
            let got = planar(to, channels, &out);
            let scale = if channels == 1 { 1.0 / f64::from(eps).sqrt() } else { 4.0 };
            close(&got, &dx, |_| bound * scale, &what);
            close(&of_weight[..channels], &dweight, |_| bound * pixels as f64, &what);
            close(&of_bias[..channels], &dbias, |_| bound * pixels as f64, &what);

            let mut in_place = blocked(to, channels, &dy);
            let mut unused = [vec![0.0; to.blocks * LANES], vec![0.0; to.blocks * LANES]];
            let [of_weight, of_bias] = &mut unused;
            norm.gradient(x, None, MapMut::new(to, &mut in_place), of_weight, of_bias);
            same_bits(&planar(to, channels, &in_place), &got, &what);
        });
    }
}

/// The same numbers as f64, forward and backward, `[channels][tokens]`.
fn attention_reference(a: &Attention, tokens: usize, qkv: &[f32], dy: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let width = a.width();
    let index =
        |part: usize, head: usize, i: usize, t: usize| (part * width + head * a.head_dim + i) * tokens + t;
    let (mut out, mut gradient) = (vec![0.0; width * tokens], vec![0.0; 3 * width * tokens]);
    for head in 0..a.heads {
        let at = |part: usize, i: usize, t: usize| f64::from(qkv[index(part, head, i, t)]);
        for t in 0..tokens {
            let seen = if a.is_causal { t + 1 } else { tokens };
            let scale = f64::from(a.scale);
            let scores: Vec<f64> = (0..seen)
                .map(|u| (0..a.head_dim).map(|i| at(0, i, t) * at(1, i, u)).sum::<f64>() * scale)
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp() / sum).collect();
            let d = |i: usize| f64::from(dy[index(0, head, i, t)]);
            let slopes: Vec<f64> =
                (0..seen).map(|u| (0..a.head_dim).map(|i| d(i) * at(2, i, u)).sum()).collect();
            let mean: f64 = slopes.iter().zip(&weights).map(|(s, w)| s * w).sum();
            for u in 0..seen {
                let slope = weights[u] * (slopes[u] - mean) * scale;
                for i in 0..a.head_dim {
                    out[index(0, head, i, t)] += weights[u] * at(2, i, u);
                    gradient[index(2, head, i, u)] += weights[u] * d(i);
                    gradient[index(0, head, i, t)] += slope * at(1, i, u);
                    gradient[index(1, head, i, u)] += slope * at(0, i, t);
                }
            }
        }
    }
    (out, gradient)
}

#[test]
fn attention_of_any_width() {
    for (heads, head_dim) in [(1, 1), (2, 8), (3, 8), (2, 32), (1, 80), (5, 20)] {
        for (tokens, is_causal) in [(1, false), (5, true), (16, false), (33, true)] {
            let a = Attention { heads, head_dim, scale: (head_dim as f32).powf(-0.5), is_causal };
            let mut numbers = Numbers::new((tokens * head_dim) as u64);
            let qkv = numbers.vec(3 * a.width() * tokens);
            let dy = numbers.vec(a.width() * tokens);
            let (exact, exact_gradient) = attention_reference(&a, tokens, &qkv, &dy);
            let (from, to) = (Map::tokens(3 * a.width(), tokens), Map::tokens(a.width(), tokens));
            let (qkv, dy) = (blocked(from, 3 * a.width(), &qkv), blocked(to, a.width(), &dy));
            each_isa(|isa| {
                let what = format!("{} {a:?} {tokens} tokens", isa.name());
                let mut scratch = vec![f32::NAN; a.sample_scratch_len(tokens)];
                let mut out = marked(to);
                a.run_sample(isa, MapRef::new(from, &qkv), MapMut::new(to, &mut out), &mut scratch);
                // Numbers below 1: a score is off by (dim + 2) U dim scale, sums have `tokens` terms.
                let relative =
                    U * (2.0 * (head_dim + 2) as f64 * (head_dim as f64).sqrt() + 2.0 * tokens as f64 + 16.0);
                close(&planar(to, a.width(), &out), &exact, |_| relative, &what);
                let mut gradient = marked(from);
                a.gradient(
                    isa,
                    MapRef::new(from, &qkv),
                    MapRef::new(to, &dy),
                    MapMut::new(from, &mut gradient),
                    &mut scratch,
                );
                let got = planar(from, 3 * a.width(), &gradient);
                // A slope is a sum over the head's channels.
                close(&got, &exact_gradient, |_| relative * (2.0 + head_dim as f64 * 0.5), &what);
            });
        }
    }
}
