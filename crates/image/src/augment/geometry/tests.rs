use super::*;

fn noise(width: usize, height: usize) -> RgbImage {
    let bytes =
        (0..(width * height * 3) as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    RgbImage::from_parts(width, height, bytes)
}

fn of(operation: Operation, magnitude: f64, image: &RgbImage) -> RgbImage {
    let transform = Transform { operation, magnitude };
    let m = matrix(&transform, image.width(), image.height()).unwrap();
    affine(image, &m, Filter::Nearest, [9, 8, 7])
}

/// Pillow's loop with a test of every coordinate.
fn fixed_plainly(source: &RgbImage, m: &Matrix, fill: [u8; 3]) -> RgbImage {
    let fix = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let mut out = filled(source.width(), source.height(), fill);
    let x0 = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
    let y0 = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    let stride = source.width() * 3;
    for (i, pixel) in out.pixels_mut().chunks_exact_mut(3).enumerate() {
        let (x, y) = ((i * 3 % stride / 3) as i64, (i * 3 / stride) as i64);
        let at = ((x0 + fix(m[0]) * x + fix(m[1]) * y) >> 16, (y0 + fix(m[3]) * x + fix(m[4]) * y) >> 16);
        let place = usize::try_from(at.0).and_then(|x| Ok((x, usize::try_from(at.1)?)));
        if let Some(found) = place.ok().and_then(|(x, y)| source.pixel(x, y)) {
            pixel.copy_from_slice(&found);
        }
    }
    out
}

#[test]
fn lines_are_cut_where_they_leave_the_picture() {
    for (width, height) in [(1, 1), (2, 9), (40, 31)] {
        let image = noise(width, height);
        for operation in [Operation::ShearX, Operation::ShearY, Operation::Rotate] {
            for magnitude in [-170.0, -45.0, -1.0, -0.3, -0.01, 0.02, 0.9, 9.0, 90.0, 180.0, 275.5] {
                let m = matrix(&Transform { operation, magnitude }, width, height).unwrap();
                if m[1] == 0.0 && m[3] == 0.0 || !fits_fixed(&m, width, height) {
                    continue;
                }
                let found = affine(&image, &m, Filter::Nearest, [1, 2, 3]);
                assert_eq!(
                    found,
                    fixed_plainly(&image, &m, [1, 2, 3]),
                    "{operation:?} {magnitude} {width} x {height}"
                );
            }
        }
    }
}

#[test]
fn translations_move_whole_pixels() {
    let image = noise(7, 5);
    for shift in [-7.0, -3.9, -1.0, 0.0, 0.99, 2.0, 6.5, 1e300] {
        let (right, down) =
            (of(Operation::TranslateX, shift, &image), of(Operation::TranslateY, shift, &image));
        let by = shift.trunc() as i64;
        for y in 0..5 {
            for x in 0..7 {
                let moved =
                    |v: usize, limit: i64| (v as i64).checked_sub(by).filter(|v| (0..limit).contains(v));
                let expected = moved(x, 7).and_then(|x| image.pixel(x as usize, y)).unwrap_or([9, 8, 7]);
                assert_eq!(right.pixel(x, y), Some(expected), "{shift} {x} {y}");
                let expected = moved(y, 5).and_then(|y| image.pixel(x, y as usize)).unwrap_or([9, 8, 7]);
                assert_eq!(down.pixel(x, y), Some(expected), "{shift} {x} {y}");
            }
        }
    }
}

#[test]
fn quarter_turns_are_exact() {
    let image = noise(6, 6);
    let quarter = of(Operation::Rotate, 90.0, &image);
    for (x, y) in [(0, 0), (5, 2), (3, 4)] {
        assert_eq!(quarter.pixel(x, y), image.pixel(5 - y, x));
    }
    let half = of(Operation::Rotate, -180.0, &image);
    assert_eq!(of(Operation::Rotate, 90.0, &quarter), half);
    assert_eq!(half.pixel(0, 1), image.pixel(5, 4));
}

#[test]
fn mirrored_twice_is_the_picture() {
    let image = noise(5, 3);
    let mut mirrored = image.clone();
    flip(&mut mirrored);
    assert_eq!(mirrored.pixel(0, 2), image.pixel(4, 2));
    flip(&mut mirrored);
    assert_eq!(mirrored, image);
}

#[test]
fn weighing_filters_keep_a_flat_picture_and_follow_a_slope() {
    let flat = RgbImage::from_parts(9, 9, vec![77; 243]);
    let m = rotation(33.0, (4.5, 4.5));
    let slope = RgbImage::from_parts(9, 1, (0..9).flat_map(|x| [x * 20; 3]).collect());
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        assert_eq!(affine(&flat, &m, filter, [77; 3]), flat, "{filter:?}");
        let shifted = affine(&slope, &[1.0, 0.0, 0.25, 0.0, 1.0, 0.0], filter, [0; 3]);
        // Between the ends, a quarter of the step of 20; bicubic with a = -1 bends it by less than one.
        for x in 1..7 {
            let expected = x as i32 * 20 + 5;
            assert!((i32::from(shifted.pixel(x, 0).unwrap()[0]) - expected).abs() <= 2, "{filter:?} {x}");
        }
    }
}
