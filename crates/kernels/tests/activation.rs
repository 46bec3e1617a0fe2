//! Activations against f64: a sweep over all magnitudes, and special values.

mod support;

use mobileclip_kernels::{Activation, Isa, Map, MapMut, activate};
use support::*;

fn apply(isa: Isa, activation: Activation, x: &[f32]) -> Vec<f32> {
    let map = Map::tokens(16, x.len().div_ceil(16));
    let mut data = vec![0.0; map.len()];
    data[..x.len()].copy_from_slice(x);
    activate(isa, activation, MapMut::new(map, &mut data));
    data.truncate(x.len());
    data
}

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Gelu => gelu(x),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Relu => x.max(0.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

/// Largest error of a result.
fn bound(activation: Activation, x: f64) -> f64 {
    let exact = exact(activation, x).abs();
    match activation {
        Activation::None | Activation::Relu => 0.0,
        // The documented 3.3e-7: the polynomials' error and the roundings of their arithmetic, plus that of the result.
        Activation::Gelu => 3.3e-7 + U * exact,
        // e^x to 2 units, a sum, a quotient; -1.702 x is rounded, which the exponential makes a relative error; beyond
        // -87 the exponential stands still.
        Activation::QuickGelu => 1e-35 + (6.0 + 2.0 * 1.702 * x.abs()) * U * exact,
        Activation::Sigmoid => 1e-37 + 6.0 * U * exact,
    }
}

const ALL: [Activation; 5] =
    [Activation::None, Activation::Gelu, Activation::QuickGelu, Activation::Relu, Activation::Sigmoid];

fn sweep(step: usize) {
    // Both signs, every exponent up to 100, mantissas `step` apart.
    let largest = 100f32.to_bits();
    for start in (0..largest).step_by(1 << 24) {
        let end = largest.min(start + (1 << 24));
        let x: Vec<f32> =
            (start..end).step_by(step).flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)]).collect();
        for activation in ALL {
            let expected: Vec<f64> = x.iter().map(|x| exact(activation, f64::from(*x))).collect();
            each_isa(|isa| {
                let got = apply(isa, activation, &x);
                let bound = |i: usize| bound(activation, f64::from(x[i]));
                close(&got, &expected, bound, &format!("{} {activation:?}", isa.name()));
            });
        }
    }
}

#[test]
fn sampled_magnitudes() {
    sweep(10_007);
}

#[test]
#[ignore = "all 2.2 thousand million arguments take minutes"]
fn every_magnitude() {
    sweep(1);
}

#[test]
fn special_values() {
    each_isa(|isa| {
        let huge = [f32::INFINITY, f32::MAX, 1e10];
        for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Relu] {
            assert_eq!(apply(isa, activation, &huge), huge, "{} {activation:?}", isa.name());
            assert_eq!(apply(isa, activation, &[0.0, -0.0]), [0.0, 0.0]);
            assert!(apply(isa, activation, &[-1e4])[0].abs() < 3e-7, "{} {activation:?}", isa.name());
        }
        assert_eq!(apply(isa, Activation::Sigmoid, &[f32::INFINITY, 0.0]), [1.0, 0.5]);
        for activation in ALL {
            assert!(apply(isa, activation, &[f32::NAN])[0].is_nan(), "{} {activation:?}", isa.name());
        }
    });
}
