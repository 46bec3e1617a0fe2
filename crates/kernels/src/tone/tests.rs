use super::{blend_constant, blend_grey, grey_sum, sharpen, text};

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Lengths around the blocks, and factors that cut off below, above and nowhere.
const LENGTHS: [usize; 7] = [0, 3, 93, 96, 99, 192, 300];
const FACTORS: [f32; 6] = [-0.5, 0.1, 0.27, 0.73, 1.27, 1.9];

#[test]
fn dispatched_functions_are_their_texts() {
    for len in LENGTHS {
        for factor in FACTORS {
            let (mut a, mut b) = (noise(len), noise(len));
            blend_constant(&mut a, 77, factor);
            text::blend_constant(&mut b, 77, factor);
            assert_eq!(a, b);
            blend_grey(&mut a, factor);
            text::blend_grey(&mut b, factor);
            assert_eq!(a, b);
            assert_eq!(grey_sum(&a), text::grey_sum(&b));
        }
    }
}

/// Pillow's definition, operation by operation.
fn defined(d: u8, v: u8, factor: f32) -> u8 {
    let difference = i32::from(v) - i32::from(d);
    let product = factor * difference as f32;
    let sum = f32::from(d) + product;
    if sum <= 0.0 {
        0
    } else if sum >= 255.0 {
        255
    } else {
        sum as u8
    }
}

#[test]
fn blends_are_pillows_for_every_pair_of_samples() {
    for factor in FACTORS {
        for d in 0..=255 {
            let mut samples: Vec<u8> = (0..=255).collect();
            blend_constant(&mut samples, d, factor);
            for (v, blended) in (0..=255).zip(samples) {
                assert_eq!(blended, defined(d, v, factor), "{d} {v} {factor}");
            }
        }
    }
}

#[test]
fn greys_of_pixels_and_their_sum() {
    let pixels = noise(300);
    let grey =
        |p: &[u8]| (19595 * u32::from(p[0]) + 38470 * u32::from(p[1]) + 7471 * u32::from(p[2]) + 32768) >> 16;
    assert_eq!(grey_sum(&pixels), pixels.chunks(3).map(|p| u64::from(grey(p))).sum::<u64>());
    let mut blended = pixels.clone();
    blend_grey(&mut blended, 1.9);
    for (before, after) in pixels.chunks(3).zip(blended.chunks(3)) {
        for c in 0..3 {
            assert_eq!(after[c], defined(grey(before) as u8, before[c], 1.9));
        }
    }
}

#[test]
fn sharpening_keeps_the_border_and_follows_the_kernel() {
    for (width, height) in [(1, 5), (2, 2), (3, 3), (5, 4), (40, 7)] {
        let src = noise(width * height * 3);
        let mut dst = vec![0; src.len()];
        sharpen(&src, &mut dst, width, height, 1.9);
        let at = |x: usize, y: usize, c: usize| f64::from(src[(y * width + x) * 3 + c]);
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    let v = src[(y * width + x) * 3 + c];
                    let inside = x > 0 && y > 0 && x + 1 < width && y + 1 < height;
                    let expected = if inside {
                        let window = (0..9).map(|k| at(x + k % 3 - 1, y + k / 3 - 1, c)).sum::<f64>();
                        defined(((window + 4.0 * at(x, y, c)) / 13.0 + 0.5) as u8, v, 1.9)
                    } else {
                        v
                    };
                    assert_eq!(dst[(y * width + x) * 3 + c], expected, "{width} x {height}: {x} {y} {c}");
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "a factor of inf")]
fn factors_must_be_finite() {
    blend_constant(&mut [0], 0, f32::INFINITY);
}
