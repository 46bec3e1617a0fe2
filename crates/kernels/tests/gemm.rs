//! Packed products against f64, on every instruction set.

mod support;

use mobileclip_kernels::{
    Activation, FileOrder, Isa, Map, MapMut, MapRef, PackedGemm, Residual, SharedNumbers, Tiles,
};
use std::sync::Arc;
use support::*;

struct Case {
    n: usize,
    k: usize,
    pixels: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
    input: Vec<f32>,
    exact: Vec<f64>,
    /// Sum of |a w| + |bias| of each output.
    mass: Vec<f64>,
}

impl Case {
    fn new(n: usize, k: usize, pixels: usize) -> Case {
        let mut numbers = Numbers::new((n * 1_000_003 + k * 1009 + pixels) as u64);
        let (weights, bias, input) = (numbers.vec(n * k), numbers.vec(n), numbers.vec(k * pixels));
        let (mut exact, mut mass) = (vec![0.0; n * pixels], vec![0.0; n * pixels]);
        for j in 0..n {
            for p in 0..pixels {
                let o = j * pixels + p;
                (exact[o], mass[o]) = (f64::from(bias[j]), f64::from(bias[j].abs()));
                for i in 0..k {
                    let product = f64::from(weights[j * k + i]) * f64::from(input[i * pixels + p]);
                    exact[o] += product;
                    mass[o] += product.abs();
                }
            }
        }
        Case { n, k, pixels, weights, bias, input, exact, mass }
    }

    fn pack(&self, isa: Isa, winograd: bool) -> PackedGemm {
        let pack = if winograd { PackedGemm::pack_winograd } else { PackedGemm::pack };
        pack(isa, self.n, self.k, &self.weights, Some(&self.bias))
    }

    fn run(&self, gemm: &PackedGemm, activation: Activation) -> Vec<f32> {
        let from = Map::tokens(self.k, self.pixels);
        let input = blocked(from, self.k, &self.input);
        let x = MapRef::new(from, &input);
        let to = Map::tokens(self.n, self.pixels);
        let mut out = marked(to);
        let operand = operand(gemm, x);
        let y = MapMut::new(to, &mut out);
        gemm.run(x, &operand, 0..gemm.panels(), activation, Residual::None, y);
        planar(to, self.n, &out)
    }

    /// A chain of k multiply-adds (Higham, Accuracy and Stability, 3.1); on the scalar twin products are rounded too.
    fn plain_bound(&self, i: usize) -> f64 {
        (self.k + 2) as f64 * U * self.mass[i]
    }

    /// One level of Winograd's form (Higham, 23.2.3): not componentwise, hence with the largest numbers, which are 1 here.
    fn winograd_bound(&self) -> f64 {
        18.0 * (self.k as f64 / 2.0 + 6.0) * U * (self.k as f64).max(1.0).sqrt()
    }
}

fn operand(gemm: &PackedGemm, x: MapRef<'_>) -> Vec<f32> {
    let mut operand = vec![f32::NAN; gemm.operand_len(x.pixels())];
    let chunk = gemm.operand_chunk(x.pixels());
    // One chunk at a time, last first: their order does not matter.
    for i in (0..gemm.operand_chunks(x.pixels())).rev() {
        gemm.make_operand(x, i..i + 1, &mut operand[i * chunk..(i + 1) * chunk]);
    }
    operand
}

const SIZES: [usize; 6] = [1, 15, 16, 17, 48, 97];

#[test]
fn plain_and_winograd_of_awkward_sizes() {
    for n in SIZES {
        for k in SIZES {
            for pixels in [0, 1, 2, 5, 8, 17, 23] {
                let case = Case::new(n, k, pixels);
                each_isa(|isa| {
                    let what = format!("{} {pixels}x{k}x{n}", isa.name());
                    let plain = case.run(&case.pack(isa, false), Activation::None);
                    close(&plain, &case.exact, |i| case.plain_bound(i), &what);
                    let winograd = case.run(&case.pack(isa, true), Activation::None);
                    close(&winograd, &case.exact, |_| case.winograd_bound(), &format!("{what} winograd"));
                });
            }
        }
    }
}

#[test]
fn every_count_of_pixels_and_panel_width() {
    for pixels in 1..=33 {
        let case = Case::new(80, 32, pixels);
        let wide = Case::new(112, 48, pixels);
        each_isa(|isa| {
            for case in [&case, &wide] {
                let what = format!("{} {pixels} pixels", isa.name());
                let plain = case.run(&case.pack(isa, false), Activation::None);
                close(&plain, &case.exact, |i| case.plain_bound(i), &what);
                let winograd = case.run(&case.pack(isa, true), Activation::None);
                close(&winograd, &case.exact, |_| case.winograd_bound(), &format!("{what} winograd"));
            }
        });
    }
}

#[test]
fn zero_inputs_give_the_bias() {
    each_isa(|isa| {
        for winograd in [false, true] {
            let case = Case::new(20, 0, 3);
            let out = case.run(&case.pack(isa, winograd), Activation::None);
            close(&out, &case.exact, |_| 0.0, isa.name());
        }
    });
}

#[test]
fn epilogues() {
    let case = Case::new(70, 40, 29);
    each_isa(|isa| {
        for winograd in [false, true] {
            let gemm = case.pack(isa, winograd);
            let bare = case.run(&gemm, Activation::None);
            let relu = case.run(&gemm, Activation::Relu);
            let expected: Vec<f32> = bare.iter().map(|v| v.max(0.0)).collect();
            same_bits(&relu, &expected, "relu");
            for activation in [Activation::Gelu, Activation::QuickGelu, Activation::Sigmoid] {
                let out = case.run(&gemm, activation);
                let f = |x: f64| match activation {
                    Activation::Gelu => gelu(x),
                    Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
                    _ => 1.0 / (1.0 + (-x).exp()),
                };
                let expected: Vec<f64> = bare.iter().map(|v| f(f64::from(*v))).collect();
                // Measured bounds of the functions themselves, see tests/activation.rs.
                let bound = |i: usize| 4e-7 + 4.0 * U * expected[i].abs();
                close(&out, &expected, bound, &format!("{} {activation:?}", isa.name()));
            }
        }
    });
}

/// Padded and plain maps for input, output and residual; residual in place and apart, with and without activation.
#[test]
fn borders_and_residuals() {
    let (n, k, height, width) = (33, 20, 5, 7);
    let pixels = height * width;
    let case = Case::new(n, k, pixels);
    let added = Numbers::new(7).vec(n * pixels);
    let plain = Map::new(n, height, width);
    each_isa(|isa| {
        for winograd in [false, true] {
            let gemm = case.pack(isa, winograd);
            for activation in [Activation::None, Activation::Gelu] {
                let bare = case.run(&gemm, activation);
                let expected: Vec<f32> = bare.iter().zip(&added).map(|(a, b)| a + b).collect();
                for (border_in, border_out, border_residual) in [(0, 0, 0), (0, 3, 1), (2, 0, 3), (1, 1, 0)] {
                    if winograd && border_in > 0 {
                        continue;
                    }
                    let from = Map::new(k, height, width).with_border(border_in, border_in);
                    let to = plain.with_border(border_out, border_out);
                    let input = blocked(from, k, &case.input);
                    let x = MapRef::new(from, &input);
                    let operand = operand(&gemm, x);

                    let mut out = marked(to);
                    let y = MapMut::new(to, &mut out);
                    gemm.run(x, &operand, 0..gemm.panels(), activation, Residual::None, y);
                    same_bits(&planar(to, n, &out), &bare, "no residual");

                    let mut out = marked(to);
                    let residual = plain.with_border(border_residual, border_residual);
                    let r = blocked(residual, n, &added);
                    let r = Residual::Map(MapRef::new(residual, &r));
                    gemm.run(x, &operand, 0..gemm.panels(), activation, r, MapMut::new(to, &mut out));
                    same_bits(&planar(to, n, &out), &expected, "residual");

                    let mut out = blocked(to, n, &added);
                    let y = MapMut::new(to, &mut out);
                    gemm.run(x, &operand, 0..gemm.panels(), activation, Residual::InPlace, y);
                    let inner = MapRef::new(to, &out);
                    for p in 0..pixels {
                        for c in 0..n {
                            let got = inner.lanes(c / 16, p)[c % 16];
                            assert_eq!(got.to_bits(), expected[c * pixels + p].to_bits(), "in place");
                        }
                    }
                }
            }
        }
    });
}

/// Any division into panels and pixels gives the bits of one call; for Winograd panels the pixels stay together.
#[test]
fn division_does_not_change_bits() {
    let case = Case::new(150, 64, 61);
    each_isa(|isa| {
        for winograd in [false, true] {
            let gemm = case.pack(isa, winograd);
            let whole = case.run(&gemm, Activation::Gelu);
            let from = Map::tokens(case.k, case.pixels);
            let input = blocked(from, case.k, &case.input);
            let x = MapRef::new(from, &input);
            let operand = operand(&gemm, x);
            let to = Map::tokens(case.n, case.pixels);
            let mut out = marked(to);
            let cuts: &[usize] = if winograd { &[0, 61] } else { &[0, 1, 9, 10, 40, 61] };
            let tiles = Tiles::new(MapMut::new(to, &mut out), gemm.panel_bounds(), cuts);
            std::thread::scope(|scope| {
                for panel in 0..gemm.panels() {
                    let (tiles, gemm, operand) = (&tiles, &gemm, &operand);
                    scope.spawn(move || {
                        for (j, cut) in cuts.windows(2).enumerate() {
                            let part = x.with_pixels(cut[0]..cut[1]);
                            let y = tiles.claim(panel, j);
                            gemm.run(part, operand, panel..panel + 1, Activation::Gelu, Residual::None, y);
                        }
                    });
                }
            });
            same_bits(&planar(to, case.n, &out), &whole, isa.name());
        }
    });
}

/// A single pixel goes through other kernels, which take panels side by side: more than there are streams, and a rest.
#[test]
fn a_single_pixel_has_the_bits_that_it_has_among_others() {
    for n in [33, 200, 610] {
        for k in [0, 17, 48] {
            let case = Case::new(n, k, 3);
            each_isa(|isa| {
                let gemm = case.pack(isa, false);
                let whole = case.run(&gemm, Activation::Gelu);
                let from = Map::tokens(k, case.pixels);
                let input = blocked(from, k, &case.input);
                let (x, to) = (MapRef::new(from, &input), Map::tokens(n, 1));
                for pixel in 0..case.pixels {
                    let mut out = marked(to);
                    let (part, y) = (x.with_pixels(pixel..pixel + 1), MapMut::new(to, &mut out));
                    gemm.run(part, &[], 0..gemm.panels(), Activation::Gelu, Residual::None, y);
                    let expected: Vec<f32> = (0..n).map(|c| whole[c * case.pixels + pixel]).collect();
                    same_bits(&planar(to, n, &out), &expected, &format!("{} {k}x{n}", isa.name()));
                }
            });
        }
    }
}

#[test]
#[should_panic(expected = "blocks of the input")]
fn wrong_input_is_refused() {
    let gemm = PackedGemm::pack(Isa::detect(), 16, 32, &[0.0; 512], None);
    let (input, mut out) = ([0.0; 16], [0.0; 16]);
    let map = Map::tokens(16, 1);
    let (x, y) = (MapRef::new(map, &input), MapMut::new(map, &mut out));
    gemm.run(x, &[], 0..1, Activation::None, Residual::None, y);
}

#[test]
fn weights_packed_for_a_file_come_back_and_give_the_same_bits() {
    for n in [1, 16, 17, 33, 48, 64, 96, 97, 130, 224] {
        for k in [1, 16, 31, 32, 48, 70] {
            let case = Case::new(n, k, 9);
            for is_winograd in [false, true] {
                let what = format!("{n} x {k}, winograd {is_winograd}");
                let order = FileOrder::new(n, k, is_winograd);
                let packed = order.pack(Isa::scalar(), &case.weights);
                let spare = order.spare(&case.weights);
                for isa in Isa::available() {
                    assert!(
                        *order.pack(isa, &case.weights) == *packed,
                        "{what}: {} packs otherwise",
                        isa.name()
                    );
                    assert!(order.unpack(isa, &packed, &spare) == case.weights, "{what}: {}", isa.name());
                    let shared: SharedNumbers = Arc::new(packed.to_vec());
                    let gemm = PackedGemm::from_file(isa, &order, shared, Some(&case.bias));
                    assert_eq!(gemm.is_some(), FileOrder::is_of(isa));
                    if let Some(gemm) = gemm {
                        assert!(gemm.is_shared());
                        let expected = case.run(&case.pack(isa, is_winograd), Activation::Gelu);
                        assert!(case.run(&gemm, Activation::Gelu) == expected, "{what}: other bits");
                    }
                    let short: SharedNumbers = Arc::new(packed[1..].to_vec());
                    assert!(PackedGemm::from_file(isa, &order, short, None).is_none());
                }
            }
        }
    }
}
