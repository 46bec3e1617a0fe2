//! Numbers, maps and comparisons for the kernel tests.
#![allow(dead_code)] // each test file uses its part

use mobileclip_kernels::{Isa, LANES, Map};

/// Half the distance from 1 to the next f32: the relative error of one rounding.
pub const U: f64 = 5.960_464_477_539_063e-8;

/// Repeatable numbers in [-1, 1).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

pub fn each_isa(mut f: impl FnMut(Isa)) {
    for isa in Isa::available() {
        f(isa);
    }
}

/// Blocked from `[channels][pixels]`: the border zero, lanes beyond the channels 0.5, since only finiteness is promised.
pub fn blocked(map: Map, channels: usize, planar: &[f32]) -> Vec<f32> {
    let mut data = vec![0.0; map.len()];
    for p in 0..map.pixels() {
        for c in 0..map.blocks * LANES {
            let v = if c < channels { planar[c * map.pixels() + p] } else { 0.5 };
            data[map.offset(c / LANES, p / map.width, p % map.width) + c % LANES] = v;
        }
    }
    data
}

/// A buffer to write into: every number is a mark that must not survive inside the map nor vanish from its border.
pub const MARK: f32 = -12345.5;

pub fn marked(map: Map) -> Vec<f32> {
    vec![MARK; map.len()]
}

/// `[channels][pixels]` from blocked; checks that everything was written but the border.
pub fn planar(map: Map, channels: usize, data: &[f32]) -> Vec<f32> {
    let mut left = data.to_vec();
    let mut out = vec![0.0; channels * map.pixels()];
    for p in 0..map.pixels() {
        for c in 0..map.blocks * LANES {
            let o = map.offset(c / LANES, p / map.width, p % map.width) + c % LANES;
            assert!(data[o] != MARK, "pixel {p} channel {c} of {map:?} was not written");
            if c < channels {
                out[c * map.pixels() + p] = data[o];
            }
            left[o] = MARK;
        }
    }
    assert!(left.iter().all(|v| *v == MARK), "the border of {map:?} was written");
    out
}

/// Compares each number with its own bound.
#[track_caller]
pub fn close(got: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let mut worst = (0.0, 0);
    for i in 0..got.len() {
        let ratio = (f64::from(got[i]) - expected[i]).abs() / bound(i).max(f64::MIN_POSITIVE);
        if ratio > worst.0 || ratio.is_nan() {
            worst = (ratio, i);
        }
    }
    let (ratio, i): (f64, usize) = worst;
    assert!(
        ratio <= 1.0,
        "{what}: index {i}: expected {}, got {}, error {:e} is {ratio:.2} times the bound",
        expected[i],
        got[i],
        f64::from(got[i]) - expected[i]
    );
}

/// Compares bits.
#[track_caller]
pub fn same_bits(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}: length");
    for i in 0..a.len() {
        assert!(a[i].to_bits() == b[i].to_bits(), "{what}: index {i}: {} and {} differ", a[i], b[i]);
    }
}

/// erfc by its series and its continued fraction.
pub fn erfc(x: f64) -> f64 {
    if x < 2.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - sum * 2.0 / std::f64::consts::PI.sqrt()
    } else {
        let fraction = (1..200).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (x + f));
        (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
    }
}

pub fn gelu(x: f64) -> f64 {
    x.max(0.0) - 0.5 * x.abs() * erfc(x.abs() / 2f64.sqrt())
}
