//! Products of bf16 and of bytes against f64, on every instruction set with and without its extensions.

mod support;

use mobileclip_kernels::{Activation, Isa, Map, MapMut, MapRef, PackedGemm, Precision, Residual, Tiles};
use support::*;

/// The nearest number of 8 bits, ties to even.
fn bf16(x: f32) -> f64 {
    if x == 0.0 {
        return 0.0;
    }
    let unit = 2f64.powi(f64::from(x).abs().log2().floor() as i32 - 7);
    (f64::from(x) / unit).round_ties_even() * unit
}

/// What bytes stand for, with the rounding of the f32 in between.
struct Bytes {
    scale: f32,
    offset: f32,
    bytes: Vec<f64>,
}

fn input_bytes(pixel: &[f32]) -> Bytes {
    let least = pixel.iter().fold(0f32, |a, b| a.min(*b));
    let largest = pixel.iter().fold(0f32, |a, b| a.max(*b));
    let scale = (largest - least) / 255.0;
    let inverse = if (1.0 / scale).is_finite() { 1.0 / scale } else { 0.0 };
    let bytes = pixel.iter().map(|v| f64::from(((v - least) * inverse).clamp(0.0, 255.0).round_ties_even()));
    Bytes { scale, offset: least, bytes: bytes.collect() }
}

fn weight_bytes(row: &[f32]) -> Bytes {
    let scale = row.iter().fold(0f32, |a, b| a.max(b.abs())) / 127.0;
    let inverse = if (1.0 / scale).is_finite() { 1.0 / scale } else { 0.0 };
    let bytes = row.iter().map(|v| f64::from((v * inverse).round_ties_even()));
    Bytes { scale, offset: 0.0, bytes: bytes.collect() }
}

struct Case {
    n: usize,
    k: usize,
    pixels: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    /// `[k][pixels]`
    input: Vec<f32>,
}

impl Case {
    fn new(n: usize, k: usize, pixels: usize) -> Case {
        let mut numbers = Numbers::new((n * 1_000_003 + k * 1009 + pixels) as u64);
        let (weights, bias, input) = (numbers.vec(n * k), numbers.vec(n), numbers.vec(k * pixels));
        Case { n, k, pixels, weights, bias, input }
    }

    fn pixel(&self, p: usize) -> Vec<f32> {
        (0..self.k).map(|i| self.input[i * self.pixels + p]).collect()
    }

    /// Results, and sums of magnitudes, `[n][pixels]`.
    fn expected(&self, precision: Precision) -> (Vec<f64>, Vec<f64>) {
        let (mut exact, mut mass) = (vec![0.0; self.n * self.pixels], vec![0.0; self.n * self.pixels]);
        for p in 0..self.pixels {
            let x = self.pixel(p);
            let bytes = input_bytes(&x);
            for j in 0..self.n {
                let w = &self.weights[j * self.k..][..self.k];
                let of_weights = weight_bytes(w);
                let (mut sum, mut sum_of_magnitudes) =
                    (f64::from(self.bias[j]), f64::from(self.bias[j].abs()));
                for i in 0..self.k {
                    let product = match precision {
                        Precision::F32 => f64::from(x[i]) * f64::from(w[i]),
                        Precision::Bf16 => bf16(x[i]) * bf16(w[i]),
                        Precision::Int8 => {
                            let x = f64::from(bytes.scale) * bytes.bytes[i] + f64::from(bytes.offset);
                            x * f64::from(of_weights.scale) * of_weights.bytes[i]
                        }
                    };
                    sum += product;
                    sum_of_magnitudes += product.abs();
                }
                if precision == Precision::Int8 {
                    // The two parts of the sum may be larger than it.
                    let all: f64 = of_weights.bytes.iter().map(|b| b.abs()).sum();
                    let largest = f64::from(bytes.scale) * 255.0 + f64::from(bytes.offset.abs());
                    sum_of_magnitudes += f64::from(of_weights.scale) * all * largest;
                }
                (exact[j * self.pixels + p], mass[j * self.pixels + p]) = (sum, sum_of_magnitudes);
            }
        }
        (exact, mass)
    }

    fn pack(&self, precision: Precision, isa: Isa) -> PackedGemm {
        PackedGemm::pack_as(precision, isa, self.n, self.k, &self.weights, Some(&self.bias))
    }

    fn run(&self, gemm: &PackedGemm, activation: Activation) -> Vec<f32> {
        let from = Map::tokens(self.k, self.pixels);
        let input = blocked(from, self.k, &self.input);
        let x = MapRef::new(from, &input);
        let to = Map::tokens(self.n, self.pixels);
        let mut out = marked(to);
        let (sums, y) = (operand(gemm, x), MapMut::new(to, &mut out));
        gemm.run(x, &sums, 0..gemm.panels(), activation, Residual::None, y);
        planar(to, self.n, &out)
    }
}

/// One chunk at a time, last first: their order does not matter.
fn operand(gemm: &PackedGemm, x: MapRef<'_>) -> Vec<f32> {
    let mut operand = vec![f32::NAN; gemm.operand_len(x.pixels())];
    let chunk = gemm.operand_chunk(x.pixels());
    for i in (0..gemm.operand_chunks(x.pixels())).rev() {
        gemm.make_operand(x, i..i + 1, &mut operand[i * chunk..(i + 1) * chunk]);
    }
    operand
}

const NARROW: [Precision; 2] = [Precision::Bf16, Precision::Int8];

fn each_extension(mut f: impl FnMut(Isa, &str)) {
    for isa in Isa::with_each_extension() {
        f(isa, &format!("{isa:?}"));
    }
}

/// What subnormal numbers, which may be taken for zero, can add up to.
const TINY: f64 = 1e-35;

/// A chain of k multiply-adds (Higham, Accuracy and Stability, 3.1); bytes have few roundings.
fn check(case: &Case, pixels: usize) {
    for precision in NARROW {
        let (exact, mass) = case.expected(precision);
        each_extension(|isa, name| {
            let got = case.run(&case.pack(precision, isa), Activation::None);
            let what = format!("{name} {precision:?} {pixels}x{}x{}", case.k, case.n);
            close(&got, &exact, |i| (case.k + 6) as f64 * U * mass[i] + TINY, &what);
        });
    }
}

#[test]
fn awkward_sizes() {
    for n in [1, 15, 16, 17, 48, 97] {
        for k in [0, 1, 15, 16, 17, 33, 48, 80, 97] {
            for pixels in [0, 1, 2, 5, 8, 17, 23] {
                check(&Case::new(n, k, pixels), pixels);
            }
        }
    }
}

#[test]
fn every_count_of_pixels() {
    for pixels in 1..=33 {
        check(&Case::new(112, 48, pixels), pixels);
    }
}

/// Numbers are as near to those of f32 as 8 bits, or 8 bits of a range, allow.
#[test]
fn errors_are_those_of_the_precision() {
    let case = Case::new(64, 256, 40);
    let (exact, _) = case.expected(Precision::F32);
    let size = (exact.iter().map(|v| v * v).sum::<f64>() / exact.len() as f64).sqrt();
    each_extension(|isa, name| {
        for (precision, least, most) in [(Precision::Bf16, 5e-4, 3e-3), (Precision::Int8, 2e-3, 1e-2)] {
            let got = case.run(&case.pack(precision, isa), Activation::None);
            let errors: f64 = got.iter().zip(&exact).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
            let error = (errors / exact.len() as f64).sqrt() / size;
            assert!((least..most).contains(&error), "{name} {precision:?}: relative error {error}");
        }
    });
}

#[test]
fn epilogues_borders_and_residuals() {
    let (n, k, height, width) = (33, 52, 5, 7);
    let pixels = height * width;
    let case = Case::new(n, k, pixels);
    let added = Numbers::new(7).vec(n * pixels);
    for precision in NARROW {
        each_extension(|isa, _| {
            let gemm = case.pack(precision, isa);
            for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
                let bare = case.run(&gemm, activation);
                let expected: Vec<f32> = bare.iter().zip(&added).map(|(a, b)| a + b).collect();
                for (border_in, border_out) in [(0, 0), (0, 3), (2, 0), (1, 1)] {
                    let from = Map::new(k, height, width).with_border(border_in, border_in);
                    let to = Map::new(n, height, width).with_border(border_out, border_out);
                    let input = blocked(from, k, &case.input);
                    let x = MapRef::new(from, &input);
                    let sums = operand(&gemm, x);
                    let mut out = marked(to);
                    let y = MapMut::new(to, &mut out);
                    gemm.run(x, &sums, 0..gemm.panels(), activation, Residual::None, y);
                    same_bits(&planar(to, n, &out), &bare, "no residual");
                    let mut out = marked(to);
                    let r = blocked(to, n, &added);
                    let r = Residual::Map(MapRef::new(to, &r));
                    gemm.run(x, &sums, 0..gemm.panels(), activation, r, MapMut::new(to, &mut out));
                    same_bits(&planar(to, n, &out), &expected, "residual");
                }
            }
            let bare = case.run(&gemm, Activation::None);
            let relu: Vec<f32> = bare.iter().map(|v| v.max(0.0)).collect();
            same_bits(&case.run(&gemm, Activation::Relu), &relu, "relu");
        });
    }
}

/// Any division into panels and pixels gives the bits of one call.
#[test]
fn division_does_not_change_bits() {
    let case = Case::new(150, 70, 61);
    for precision in NARROW {
        each_extension(|isa, name| {
            let gemm = case.pack(precision, isa);
            let whole = case.run(&gemm, Activation::Gelu);
            let from = Map::tokens(case.k, case.pixels);
            let input = blocked(from, case.k, &case.input);
            let x = MapRef::new(from, &input);
            let to = Map::tokens(case.n, case.pixels);
            let mut out = marked(to);
            let cuts = [0, 1, 9, 10, 40, 61];
            let tiles = Tiles::new(MapMut::new(to, &mut out), gemm.panel_bounds(), &cuts);
            for (j, cut) in cuts.windows(2).enumerate() {
                let part = x.with_pixels(cut[0]..cut[1]);
                let sums = operand(&gemm, part);
                for panel in 0..gemm.panels() {
                    let y = tiles.claim(panel, j);
                    gemm.run(part, &sums, panel..panel + 1, Activation::Gelu, Residual::None, y);
                }
            }
            same_bits(&planar(to, case.n, &out), &whole, name);
        });
    }
}

/// A single pixel goes through other kernels, which take panels side by side: more than there are streams, and a rest.
#[test]
fn a_single_pixel_has_the_bits_that_it_has_among_others() {
    for (n, k) in [(33, 80), (200, 48), (610, 70)] {
        let case = Case::new(n, k, 3);
        for precision in NARROW {
            each_extension(|isa, name| {
                let gemm = case.pack(precision, isa);
                let whole = case.run(&gemm, Activation::Gelu);
                let from = Map::tokens(k, case.pixels);
                let input = blocked(from, k, &case.input);
                let (x, to) = (MapRef::new(from, &input), Map::tokens(n, 1));
                for pixel in 0..case.pixels {
                    let mut out = marked(to);
                    let (part, y) = (x.with_pixels(pixel..pixel + 1), MapMut::new(to, &mut out));
                    let sums = operand(&gemm, part);
                    gemm.run(part, &sums, 0..gemm.panels(), Activation::Gelu, Residual::None, y);
                    let expected: Vec<f32> = (0..n).map(|c| whole[c * case.pixels + pixel]).collect();
                    same_bits(&planar(to, n, &out), &expected, &format!("{name} {precision:?} {k}x{n}"));
                }
            });
        }
    }
}

/// Bytes and their sums are integers, and what follows is fused on all but the scalar twin.
#[test]
fn bytes_give_the_same_bits_on_every_vector_unit() {
    let case = Case::new(50, 133, 19);
    let all = Isa::with_each_extension();
    let results: Vec<Vec<f32>> = all
        .iter()
        .filter(|isa| **isa != Isa::scalar())
        .map(|isa| case.run(&case.pack(Precision::Int8, *isa), Activation::None))
        .collect();
    for result in results.iter().skip(1) {
        same_bits(result, &results[0], "int8");
    }
}

/// Zeros, constants, one outlier, tiny numbers: scales that divide by zero or nearly so.
#[test]
fn degenerate_pixels_and_weights() {
    let mut case = Case::new(20, 24, 9);
    for i in 0..case.k {
        case.input[i * 9] = 0.0;
        case.input[i * 9 + 1] = 0.75;
        case.input[i * 9 + 2] = -0.75;
        case.input[i * 9 + 3] = 1e-39;
        case.input[i * 9 + 4] = if i == 5 { 1e6 } else { 0.25 };
        case.weights[i] = 0.0;
        case.weights[case.k + i] = 1e-42;
    }
    check(&case, 9);
}

#[test]
fn a_number_that_is_none_is_not_hidden() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::new(20, 40, 9);
        case.input[17 * 9 + 4] = bad;
        for precision in NARROW {
            each_extension(|isa, name| {
                let got = case.run(&case.pack(precision, isa), Activation::None);
                for (i, v) in got.iter().enumerate() {
                    assert_eq!(v.is_finite(), i % 9 != 4, "{name} {precision:?} {bad}: {i} is {v}");
                }
            });
        }
    }
}

#[test]
fn ties_round_to_even() {
    // 1 + 2^-8 and 1 + 3 * 2^-8 lie between two bf16; the weight is one.
    let input = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8), -1.0 - 2f32.powi(-8), 3.0e38];
    for (x, expected) in input.into_iter().zip([1.0, 1.0 + 2f32.powi(-6), -1.0, bf16(3.0e38) as f32]) {
        each_extension(|isa, name| {
            let gemm = PackedGemm::pack_as(Precision::Bf16, isa, 1, 1, &[1.0], None);
            let (map, input) = (Map::tokens(1, 1), vec![x; 16]);
            let mut out = vec![0.0; 16];
            let view = MapRef::new(map, &input);
            let y = MapMut::new(map, &mut out);
            gemm.run(view, &operand(&gemm, view), 0..1, Activation::None, Residual::None, y);
            assert_eq!(out[0], expected, "{name}");
        });
    }
}
