//! Depthwise convolutions against f64, on every instruction set.

mod support;

use mobileclip_kernels::{Activation, Depthwise, DepthwiseShape, Map, MapMut, MapRef, Tiles};
use support::*;

/// Result and sum of |products| + |bias|, `[channels][out pixels]`.
fn reference(
    shape: &DepthwiseShape,
    [height, width]: [usize; 2],
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
) -> (Vec<f64>, Vec<f64>) {
    let [ky, kx] = shape.kernel;
    let [rows, columns] = shape.output(height, width);
    let (mut exact, mut mass) = (Vec::new(), Vec::new());
    for c in 0..shape.channels {
        for y in 0..rows {
            for x0 in 0..columns {
                let (mut sum, mut total) = (f64::from(bias[c]), f64::from(bias[c].abs()));
                for dy in 0..ky {
                    for dx in 0..kx {
                        let row = (y * shape.stride + dy).wrapping_sub(shape.padding[0]);
                        let column = (x0 * shape.stride + dx).wrapping_sub(shape.padding[1]);
                        if row < height && column < width {
                            let v = x[(c / shape.multiplier * height + row) * width + column];
                            let product = f64::from(v) * f64::from(weights[(c * ky + dy) * kx + dx]);
                            sum += product;
                            total += product.abs();
                        }
                    }
                }
                exact.push(sum);
                mass.push(total);
            }
        }
    }
    (exact, mass)
}

fn check(shape: DepthwiseShape, size: [usize; 2]) {
    let [height, width] = size;
    let taps = shape.kernel[0] * shape.kernel[1];
    let inputs = shape.channels / shape.multiplier;
    let mut numbers = Numbers::new((height * 100 + width * 10 + taps) as u64);
    let (weights, bias) = (numbers.vec(shape.channels * taps), numbers.vec(shape.channels));
    let x = numbers.vec(inputs * height * width);
    let (exact, mass) = reference(&shape, size, &x, &weights, &bias);
    let [rows, columns] = shape.output(height, width);
    each_isa(|isa| {
        let depthwise = Depthwise::pack(isa, shape, &weights, Some(&bias));
        for extra in [0, 1] {
            let what = format!("{} {shape:?} on {size:?}, border + {extra}", isa.name());
            let from = Map::new(inputs, height, width)
                .with_border(shape.padding[0] + extra, shape.padding[1] + extra);
            let input = blocked(from, inputs, &x);
            let x = MapRef::new(from, &input);
            let to = Map::new(shape.channels, rows, columns).with_border(extra, 2 * extra);
            let mut out = marked(to);
            let y = MapMut::new(to, &mut out);
            depthwise.run(x, 0..to.blocks, 0, Activation::None, y);
            let whole = planar(to, shape.channels, &out);
            close(&whole, &exact, |i| (taps + 2) as f64 * U * mass[i], &what);

            // In parts, last block and last row first, with an activation.
            let mut out = marked(to);
            let (block_cuts, cuts) =
                ((0..=to.blocks).collect::<Vec<_>>(), (0..=rows).map(|r| r * columns).collect::<Vec<_>>());
            let tiles = Tiles::new(MapMut::new(to, &mut out), &block_cuts, &cuts);
            for block in (0..to.blocks).rev() {
                for row in (0..rows).rev() {
                    let y = tiles.claim(block, row);
                    depthwise.run(x, block..block + 1, row, Activation::Relu, y);
                }
            }
            let relu: Vec<f32> = whole.iter().map(|v| v.max(0.0)).collect();
            same_bits(&planar(to, shape.channels, &out), &relu, &what);
        }
    });
}

#[test]
fn kernels_of_the_family() {
    for size in [[1, 1], [2, 3], [7, 7], [9, 16], [4, 17], [13, 31]] {
        for channels in [1, 16, 34] {
            for (multiplier, k, stride) in [(1, 3, 1), (1, 3, 2), (1, 7, 1)] {
                check(DepthwiseShape::square(channels, multiplier, k, stride), size);
            }
        }
        for channels in [2, 16, 32, 34, 66] {
            for (multiplier, k, stride) in [(2, 7, 2), (2, 3, 1)] {
                check(DepthwiseShape::square(channels, multiplier, k, stride), size);
            }
        }
    }
}

#[test]
fn text_mixer_kernel() {
    for tokens in [1, 5, 16, 77] {
        let shape =
            DepthwiseShape { channels: 40, multiplier: 1, kernel: [1, 11], stride: 1, padding: [0, 5] };
        check(shape, [1, tokens]);
    }
}

#[test]
fn other_kernels() {
    for size in [[5, 6], [11, 3]] {
        check(DepthwiseShape::square(17, 1, 5, 1), size);
        check(DepthwiseShape::square(17, 1, 5, 2), size);
        check(DepthwiseShape::square(18, 2, 5, 3), size);
        check(DepthwiseShape::square(17, 1, 7, 2), size);
        check(DepthwiseShape::square(17, 1, 1, 1), size);
        let shape = DepthwiseShape { channels: 3, multiplier: 1, kernel: [3, 2], stride: 2, padding: [1, 0] };
        check(shape, size);
    }
}

#[test]
#[should_panic(expected = "narrower than the padding")]
fn missing_border_is_refused() {
    let isa = mobileclip_kernels::Isa::detect();
    let depthwise = Depthwise::pack(isa, DepthwiseShape::square(16, 1, 3, 1), &[0.0; 144], None);
    let map = Map::new(16, 4, 4);
    let (input, mut out) = (vec![0.0; map.len()], vec![0.0; map.len()]);
    let (x, y) = (MapRef::new(map, &input), MapMut::new(map, &mut out));
    depthwise.run(x, 0..1, 0, Activation::None, y);
}
