//! Dense convolutions against f64, on every instruction set.

mod support;

use mobileclip_kernels::{Activation, ConvInput, ConvShape, Isa, Map, MapMut, MapRef, PackedConv, Precision};
use support::*;

fn check(shape: ConvShape, [height, width]: [usize; 2]) {
    let ConvShape { inputs, outputs, kernel: [ky, kx], stride, padding } = shape;
    let k = inputs * ky * kx;
    let mut numbers = Numbers::new((height * 100 + width * 10 + k) as u64);
    let (weights, bias) = (numbers.vec(outputs * k), numbers.vec(outputs));
    let image = numbers.vec(inputs * height * width);
    let [rows, columns] = shape.output(height, width);
    let (mut exact, mut mass) = (Vec::new(), Vec::new());
    for o in 0..outputs {
        for y in 0..rows {
            for x in 0..columns {
                let (mut sum, mut total) = (f64::from(bias[o]), f64::from(bias[o].abs()));
                for c in 0..inputs {
                    for dy in 0..ky {
                        for dx in 0..kx {
                            let row = (y * stride + dy).wrapping_sub(padding);
                            let column = (x * stride + dx).wrapping_sub(padding);
                            if row < height && column < width {
                                let v = image[(c * height + row) * width + column];
                                let w = weights[((o * inputs + c) * ky + dy) * kx + dx];
                                sum += f64::from(v) * f64::from(w);
                                total += f64::from((v * w).abs());
                            }
                        }
                    }
                }
                exact.push(sum);
                mass.push(total);
            }
        }
    }
    let to = Map::new(outputs, rows, columns).with_border(1, 1);
    let from = Map::new(inputs, height, width).with_border(2, 0);
    let maps = blocked(from, inputs, &image);
    each_isa(|isa| {
        let what = format!("{} {shape:?} on {height} x {width}", isa.name());
        let planar_input = ConvInput::Planar { data: &image, height, width };
        let blocked_input = ConvInput::Blocked(MapRef::new(from, &maps));
        for (conv, input) in [
            (PackedConv::pack_planar(isa, shape, &weights, Some(&bias)), planar_input),
            (PackedConv::pack_blocked(isa, shape, &weights, Some(&bias)), blocked_input),
        ] {
            let mut out = marked(to);
            let mut scratch = vec![f32::NAN; conv.scratch_len(8)];
            conv.run(input, 0, Activation::None, MapMut::new(to, &mut out), &mut scratch);
            let whole = planar(to, outputs, &out);
            close(&whole, &exact, |i| (k + 2) as f64 * U * mass[i], &what);

            // In two parts, one window at a time.
            let mut out = marked(to);
            let cut = to.pixels() / 3;
            let (first, second) = MapMut::new(to, &mut out).split_at_pixel(cut);
            let mut scratch = vec![f32::NAN; conv.scratch_len(1)];
            conv.run(input, cut, Activation::Relu, second, &mut scratch);
            conv.run(input, 0, Activation::Relu, first, &mut scratch);
            let relu: Vec<f32> = whole.iter().map(|v| v.max(0.0)).collect();
            same_bits(&planar(to, outputs, &out), &relu, &what);
        }
    });
    // Narrow numbers: as near as their bits, and the same bits however windows are gathered.
    for isa in Isa::with_each_extension() {
        for (precision, unit) in [(Precision::Bf16, 2f64.powi(-8)), (Precision::Int8, 2f64.powi(-5))] {
            let conv = PackedConv::pack_blocked_as(precision, isa, shape, &weights, Some(&bias));
            let what = format!("{isa:?} {precision} {shape:?} on {height} x {width}");
            let run = |pixels: usize| {
                let (mut out, mut scratch) = (marked(to), vec![f32::NAN; conv.scratch_len(pixels)]);
                let (input, y) = (ConvInput::Blocked(MapRef::new(from, &maps)), MapMut::new(to, &mut out));
                conv.run(input, 0, Activation::None, y, &mut scratch);
                planar(to, outputs, &out)
            };
            let whole = run(8);
            close(&whole, &exact, |i| unit * mass[i].max(k as f64 / 4.0), &what);
            same_bits(&run(1), &whole, &what);
        }
    }
}

#[test]
fn stems_of_the_family() {
    let stem = ConvShape { inputs: 3, outputs: 40, kernel: [3, 3], stride: 2, padding: 1 };
    for size in [[1, 1], [2, 2], [16, 16], [7, 37], [33, 18]] {
        check(stem, size);
    }
    check(ConvShape { outputs: 64, ..stem }, [12, 40]);
    check(ConvShape { inputs: 1, outputs: 16, ..stem }, [6, 6]);
}

#[test]
fn patches_of_the_family() {
    for (kernel, padding) in [(4, 0), (4, 1), (8, 0), (14, 0), (16, 0)] {
        let shape = ConvShape { inputs: 3, outputs: 33, kernel: [kernel, kernel], stride: kernel, padding };
        check(shape, [2 * kernel, 3 * kernel]);
        check(shape, [2 * kernel + 1, kernel]);
    }
    check(ConvShape { inputs: 48, outputs: 20, kernel: [2, 2], stride: 2, padding: 0 }, [6, 10]);
}

#[test]
fn other_kernels() {
    check(ConvShape { inputs: 5, outputs: 17, kernel: [3, 2], stride: 1, padding: 2 }, [4, 5]);
    check(ConvShape { inputs: 17, outputs: 3, kernel: [1, 1], stride: 3, padding: 0 }, [7, 8]);
}
