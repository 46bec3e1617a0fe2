//! A random part of a picture.

use mobileclip_autodiff::Random;
use mobileclip_image::{Rect, RgbImage};

/// A part with an area and a ratio drawn evenly (the ratio's logarithm), as torchvision's `RandomResizedCrop` draws it: ten
/// tries, then the largest central part whose ratio is allowed.
pub(super) fn random_part(
    random: Random,
    width: usize,
    height: usize,
    scale: [f64; 2],
    ratio: [f64; 2],
) -> Rect {
    let draw = |number: u64, [low, high]: [f64; 2]| low + (high - low) * random.with(number).unit();
    let (w, h) = (width as f64, height as f64);
    for attempt in 0..10 {
        let area = w * h * draw(4 * attempt, scale);
        let ratio = draw(4 * attempt + 1, ratio.map(f64::ln)).exp();
        let part = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round() as usize);
        if part[0] > 0 && part[0] <= width && part[1] > 0 && part[1] <= height {
            let place =
                |number, room: usize| (random.with(4 * attempt + number).unit() * (room + 1) as f64) as i64;
            let (left, top) = (place(2, width - part[0]), place(3, height - part[1]));
            return Rect { left, top, width: part[0], height: part[1] };
        }
    }
    let (part_width, part_height) = match w / h {
        narrow if narrow < ratio[0] => (width, ((w / ratio[0]).round() as usize).clamp(1, height)),
        wide if wide > ratio[1] => (((h * ratio[1]).round() as usize).clamp(1, width), height),
        _ => (width, height),
    };
    let middle = |room: usize| i64::try_from(room / 2).unwrap_or_default();
    Rect {
        left: middle(width - part_width),
        top: middle(height - part_height),
        width: part_width,
        height: part_height,
    }
}

/// Left and right exchanged.
pub(super) fn mirrored(image: &RgbImage) -> Result<RgbImage, mobileclip_image::Error> {
    let rows = image.pixels().chunks_exact(3 * image.width());
    let pixels = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
    RgbImage::new(image.width(), image.height(), pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_inside_and_vary() {
        let part = |seed, scale| random_part(Random::new(seed), 60, 40, scale, [0.75, 4.0 / 3.0]);
        let mut areas = Vec::new();
        for seed in 0..200 {
            let rect = part(seed, [0.1, 1.0]);
            assert!(rect.left >= 0 && rect.left as usize + rect.width <= 60);
            assert!(rect.top >= 0 && rect.top as usize + rect.height <= 40);
            areas.push((rect.width * rect.height) as f64 / 2400.0);
        }
        assert!(areas.iter().any(|&a| a < 0.2) && areas.iter().any(|&a| a > 0.8));
        assert_eq!(part(1, [0.5, 1.0]), part(1, [0.5, 1.0]));
    }

    #[test]
    fn thin_pictures_fall_back_to_their_centre() {
        let rect = random_part(Random::new(0), 1000, 10, [0.9, 1.0], [0.75, 4.0 / 3.0]);
        assert_eq!((rect.left, rect.top, rect.width, rect.height), (493, 0, 13, 10));
    }

    #[test]
    fn mirrors() {
        let image = RgbImage::new(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(mirrored(&image).unwrap().pixels(), [4, 5, 6, 1, 2, 3]);
    }
}
