//! Properties of resizing and preprocessing on random sizes.

use mobileclip_image::{
    Filter, PassOrder, Preprocess, Rect, ResizeMode, RgbImage, center_crop, crop_resize, resize,
    shortest_size,
};
use proptest::prelude::*;

fn noise(width: usize, height: usize, seed: u64) -> RgbImage {
    let byte = |i: u64| ((i ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    RgbImage::new(width, height, (0..(width * height * 3) as u64).map(byte).collect()).unwrap()
}

fn filter() -> impl Strategy<Value = Filter> {
    prop::sample::select(vec![
        Filter::Nearest,
        Filter::Box,
        Filter::Bilinear,
        Filter::Hamming,
        Filter::Bicubic,
        Filter::Lanczos,
    ])
}

fn order() -> impl Strategy<Value = PassOrder> {
    prop::sample::select(vec![PassOrder::Pillow13, PassOrder::HorizontalFirst])
}

proptest! {
    /// Computing the crop's window alone is the same as cropping the whole.
    #[test]
    fn the_window_is_the_crop_of_the_whole(
        width in 1usize..90, height in 1usize..90, size in 1usize..70, filter in filter(), order in order(), seed in any::<u64>(),
    ) {
        let image = noise(width, height, seed);
        let (w, h) = shortest_size(width, height, size);
        let whole = center_crop(&resize(&image, w, h, filter, order).unwrap(), size, size);
        let preprocess = Preprocess { size: (size, size), interpolation: filter, pass_order: order, ..Preprocess::default() };
        prop_assert_eq!(preprocess.crop(&image).unwrap(), whole);
    }

    /// Rows and columns change places: a horizontal pass is a vertical one of the transposed image.
    #[test]
    fn the_passes_are_the_same_filter(width in 1usize..90, height in 1usize..40, to in 1usize..90, filter in filter(), seed in any::<u64>()) {
        let image = noise(width, height, seed);
        let transposed = transpose(&image);
        let wide = resize(&image, to, height, filter, PassOrder::Pillow13).unwrap();
        let high = resize(&transposed, height, to, filter, PassOrder::Pillow13).unwrap();
        prop_assert_eq!(transpose(&wide), high);
    }

    /// A box inside the image is cut out without a copy; the result is that of the copy.
    #[test]
    fn boxes_are_cut_first(
        width in 1usize..60, height in 1usize..60, left in -20i64..60, top in -20i64..60, w in 1usize..60, h in 1usize..60,
        filter in filter(), order in order(), seed in any::<u64>(),
    ) {
        let image = noise(width, height, seed);
        let area = Rect { left, top, width: w, height: h };
        let expected = resize(&image.crop(area, 0), 17, 23, filter, order).unwrap();
        let found = crop_resize(&image, area, 17, 23, filter, order).unwrap();
        prop_assert_eq!(found, expected);
    }

    /// Every mode gives the size that was asked for, whatever the photo.
    #[test]
    fn the_result_has_the_size(
        width in 1usize..300, height in 1usize..300, th in 1usize..40, tw in 1usize..40,
        mode in prop::sample::select(vec![ResizeMode::Shortest, ResizeMode::Longest, ResizeMode::Squash]),
    ) {
        let preprocess = Preprocess { size: (th, tw), resize_mode: mode, ..Preprocess::default() };
        let crop = preprocess.crop(&noise(width, height, 1)).unwrap();
        prop_assert_eq!((crop.height(), crop.width()), (th, tw));
    }
}

fn transpose(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let pixels = (0..width).flat_map(|x| (0..height).flat_map(move |y| image.pixel(x, y).unwrap())).collect();
    RgbImage::new(height, width, pixels).unwrap()
}
