//! Sums, moments and blends over channels, slopes of activations, and the optimiser's pass, on every instruction set.

mod support;

use mobileclip_kernels::{
    Activation, AdamW, Centered, LANES, Map, MapMut, MapRef, Term, activate_gradient, add_products, add_sums,
    blend, moments, sum_of_squares,
};
use support::*;

#[test]
fn sums_and_moments() {
    for (height, width) in [(1, 1), (1, 5), (3, 33)] {
        let (channels, pixels) = (20, height * width);
        let mut numbers = Numbers::new(pixels as u64);
        let (a, b) = (numbers.vec(channels * pixels), numbers.vec(channels * pixels));
        let center = numbers.vec(2 * LANES);
        for border in [0, 2] {
            let map = Map::new(channels, height, width).with_border(border, border);
            let (a_data, b_data) = (blocked(map, channels, &a), blocked(map, channels, &b));
            let (a_view, b_view) = (MapRef::new(map, &a_data), MapRef::new(map, &b_data));
            let sum = |f: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
                (0..channels).map(|c| (0..pixels).map(|p| f(c, c * pixels + p)).sum()).collect()
            };
            let sums = sum(&|_, i| f64::from(a[i]));
            let products = sum(&|c, i| f64::from(a[i]) * (f64::from(b[i]) - f64::from(center[c])));
            let means: Vec<f64> = sums.iter().map(|s| s / pixels as f64).collect();
            let squares = sum(&|c, i| (f64::from(a[i]) - means[c]).powi(2));
            let bound = (pixels + 4) as f64 * U * 2.0;
            each_isa(|isa| {
                let mut got = vec![0.0; 2 * LANES];
                add_sums(isa, a_view, &mut got);
                close(&got[..channels], &sums, |_| bound, isa.name());
                let (mut got, mut got_products) = (vec![0.0; 2 * LANES], vec![0.0; 2 * LANES]);
                add_products(isa, a_view, b_view, &center, &mut got, &mut got_products);
                close(&got[..channels], &sums, |_| bound, isa.name());
                close(&got_products[..channels], &products, |_| 2.0 * bound, isa.name());
                let (mut mean, mut deviations) = (vec![f32::NAN; 2 * LANES], vec![f32::NAN; 2 * LANES]);
                moments(isa, a_view, &mut mean, &mut deviations);
                close(&mean[..channels], &means, |_| bound, isa.name());
                close(&deviations[..channels], &squares, |_| 4.0 * bound, isa.name());
            });
        }
    }
}

#[test]
fn blends() {
    for (channels, height, width) in [(1, 1, 1), (20, 3, 5), (33, 1, 18)] {
        let plain = Map::new(channels, height, width);
        let n = channels * plain.pixels();
        let mut numbers = Numbers::new(n as u64);
        let (a, b) = (numbers.vec(n), numbers.vec(n));
        let vectors: Vec<Vec<f32>> = (0..4).map(|_| numbers.vec(plain.blocks * LANES)).collect();
        let bordered = plain.with_border(1, 2);
        let (a_data, b_data) = (blocked(plain, channels, &a), blocked(bordered, channels, &b));
        for case in 0..16 {
            let with = |bit: usize| case & bit > 0;
            let exact: Vec<f64> = (0..n)
                .map(|i| {
                    let c = i / plain.pixels();
                    let v = |k: usize| f64::from(vectors[k][c]);
                    let mut sum = 0.0;
                    if with(1) {
                        sum += f64::from(a[i]) * v(0);
                    }
                    if with(2) {
                        sum += (f64::from(b[i]) - v(1)) * v(2);
                    }
                    if with(4) {
                        sum += v(3);
                    }
                    sum
                })
                .collect();
            each_isa(|isa| {
                let in_place = with(8);
                let mut out = if in_place { a_data.clone() } else { marked(plain) };
                let map = (!in_place).then_some(MapRef::new(plain, &a_data));
                let term = with(1).then_some(Term { map, scale: &vectors[0] });
                let map = MapRef::new(bordered, &b_data);
                let centered = with(2).then_some(Centered { map, center: &vectors[1], scale: &vectors[2] });
                let shift = with(4).then_some(&vectors[3][..]);
                blend(isa, term, centered, shift, MapMut::new(plain, &mut out));
                close(&planar(plain, channels, &out), &exact, |_| 8.0 * U, &format!("{} {case}", isa.name()));
            });
        }
    }
}

#[test]
fn slopes_of_activations() {
    let x: Vec<f32> = (-3000..=3000).map(|i| i as f32 / 400.0).chain([-1e4, -88.0, 88.0, 1e4, 0.0]).collect();
    let dy = Numbers::new(1).vec(x.len());
    let map = Map::new(1, 1, x.len());
    let (data, slopes) = (blocked(map, 1, &x), blocked(map, 1, &dy));
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let density = |v: f64| (-v * v / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = |v: f64| 0.5 * erfc(v.abs() / 2f64.sqrt());
    type Slope<'a> = &'a dyn Fn(f64) -> f64;
    let gelu: Slope = &|v| if v > 0.0 { 1.0 - tail(v) + v * density(v) } else { tail(v) + v * density(v) };
    let quick: Slope = &|v| {
        let g = sigmoid(1.702 * v);
        g + 1.702 * v * g * (1.0 - g)
    };
    // The tables' own errors; for the others some roundings of numbers below 2 (or 30, in QuickGELU's product).
    let cases: [(Activation, Slope, f64); 5] = [
        (Activation::None, &|_| 1.0, 0.0),
        (Activation::Gelu, gelu, 8e-7),
        (Activation::QuickGelu, quick, 2e-6),
        (Activation::Relu, &|v| if v > 0.0 { 1.0 } else { 0.0 }, 0.0),
        (Activation::Sigmoid, &|v| sigmoid(v) * (1.0 - sigmoid(v)), 3e-7),
    ];
    for (activation, slope, bound) in cases {
        let exact: Vec<f64> = x.iter().zip(&dy).map(|(x, d)| slope(f64::from(*x)) * f64::from(*d)).collect();
        each_isa(|isa| {
            let what = format!("{} {activation:?}", isa.name());
            let (mut out, mut in_place) = (marked(map), slopes.clone());
            let dy = MapRef::new(map, &slopes);
            activate_gradient(isa, activation, MapRef::new(map, &data), Some(dy), MapMut::new(map, &mut out));
            let got = planar(map, 1, &out);
            close(&got, &exact, |_| bound, &what);
            activate_gradient(
                isa,
                activation,
                MapRef::new(map, &data),
                None,
                MapMut::new(map, &mut in_place),
            );
            same_bits(&planar(map, 1, &in_place), &got, &what);
        });
    }
}

#[test]
fn a_step_of_adamw() {
    for n in [1, 16, 37, 5000] {
        let mut numbers = Numbers::new(n as u64);
        let (p, g, m) = (numbers.vec(n), numbers.vec(n), numbers.vec(n));
        let v: Vec<f32> = numbers.vec(n).iter().map(|v| v.abs()).collect();
        let rule = AdamW {
            gradient_scale: 0.3,
            keep: 0.999,
            beta1: 0.9,
            beta2: 0.98,
            step: 1e-2,
            root: 0.4,
            eps: 1e-6,
        };
        let exact: Vec<[f64; 3]> = (0..n)
            .map(|i| {
                let [p, g, m, v] = [p[i], g[i], m[i], v[i]].map(f64::from);
                let g = g * rule.gradient_scale;
                let m = rule.beta1 * m + (1.0 - rule.beta1) * g;
                let v = rule.beta2 * v + (1.0 - rule.beta2) * g * g;
                [p * rule.keep - rule.step * m / (v.sqrt() / rule.root + rule.eps), m, v]
            })
            .collect();
        let [parameters, means, mean_squares] =
            [0, 1, 2].map(|k| exact.iter().map(|e| e[k]).collect::<Vec<f64>>());
        let squares: f64 = g.iter().map(|v| f64::from(*v).powi(2)).sum();
        each_isa(|isa| {
            let (mut p, mut m, mut v) = (p.clone(), m.clone(), v.clone());
            rule.run(isa, &mut p, &g, &mut m, &mut v);
            let what = format!("{} {n}", isa.name());
            // The step is at most 0.4, when v is nearly zero.
            close(&p, &parameters, |i| U * (4.0 + 4.0 * parameters[i].abs()), &what);
            close(&m, &means, |_| 4.0 * U, &what);
            close(&v, &mean_squares, |_| 4.0 * U, &what);
            assert!((sum_of_squares(isa, &g) - squares).abs() <= 300.0 * U * squares, "{what}");
        });
    }
}
