//! LayerNorm against f64, on every instruction set.

mod support;

use mobileclip_kernels::{LayerNorm, Map, MapMut, MapRef};
use support::*;

fn check(channels: usize, height: usize, width: usize, offset: f32, amplitude: f32) {
    let pixels = height * width;
    let mut numbers = Numbers::new(channels as u64);
    let (weight, bias) = (numbers.vec(channels), numbers.vec(channels));
    let x: Vec<f32> = numbers.vec(channels * pixels).iter().map(|v| v * amplitude + offset).collect();
    for eps in [1e-5f32, 1e-6] {
        let (mut exact, mut bound) = (vec![0.0; channels * pixels], vec![0.0; channels * pixels]);
        for p in 0..pixels {
            let at = |c: usize| f64::from(x[c * pixels + p]);
            let n = channels as f64;
            let mean = (0..channels).map(at).sum::<f64>() / n;
            let variance = (0..channels).map(|c| (at(c) - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + f64::from(eps)).sqrt();
            // Errors: the mean's, of a sum of n terms (in 16 lanes), scaled as the result is; then relative ones.
            let of_mean = U * (n / 16.0 + 8.0) * f64::from(offset.abs() + amplitude) * factor;
            for c in 0..channels {
                let d = (at(c) - mean) * factor;
                exact[c * pixels + p] = d * f64::from(weight[c]) + f64::from(bias[c]);
                bound[c * pixels + p] =
                    (of_mean * (1.0 + d * d) + U * (n / 16.0 + 16.0) * d.abs() + U) * 1.0 + U;
            }
        }
        let from = Map::new(channels, height, width).with_border(1, 2);
        let to = Map::new(channels, height, width).with_border(0, 1);
        let input = blocked(from, channels, &x);
        each_isa(|isa| {
            let mut out = marked(to);
            let norm = LayerNorm::new(isa, eps, &weight, &bias);
            norm.run(MapRef::new(from, &input), MapMut::new(to, &mut out));
            let whole = planar(to, channels, &out);
            let what = format!("{} {channels} channels of {pixels} pixels", isa.name());
            close(&whole, &exact, |i| bound[i], &what);

            // Split in the middle, into a map of another shape.
            let flat = Map::tokens(channels, pixels);
            let mut out = marked(flat);
            let cut = pixels / 2;
            let (first, second) = MapMut::new(flat, &mut out).split_at_pixel(cut);
            let x = MapRef::new(from, &input);
            norm.run(x.with_pixels(cut..pixels), second);
            norm.run(x.with_pixels(0..cut), first);
            same_bits(&planar(flat, channels, &out), &whole, &what);
        });
    }
}

#[test]
fn awkward_widths_and_counts() {
    for channels in [1, 15, 16, 17, 64, 97, 512] {
        for (height, width) in [(1, 1), (2, 3), (3, 5), (1, 17)] {
            check(channels, height, width, 0.0, 1.0);
        }
    }
}

#[test]
fn a_large_mean_does_not_drown_the_variance() {
    check(320, 2, 2, 1000.0, 1.0);
    check(320, 2, 2, 0.0, 1e-4);
}
