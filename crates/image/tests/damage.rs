//! Photos that are cut or have wrong bits: an image or an error, never a panic; and files that promise more than they hold.

use std::fs;
use std::path::PathBuf;

use mobileclip_image::{DecodeOptions, Error, decode};

/// One file of each format and flavour, small so that thousands of damaged copies can be tried.
const FILES: [&str; 14] = [
    "tiny_17x11_420.jpg",
    "exif_6.jpg",
    "one_pixel.png",
    "gray_4bit.png",
    "astronaut_1bit.png",
    "astronaut_palette_trns.png",
    "astronaut_rgb_interlaced.png",
    "astronaut_alpha.webp",
    "coffee_lossy_odd.webp",
    "coffee_lossless.webp",
    "transparent.gif",
    "rocket_palette.bmp",
    "rocket_gray_lzw.tif",
    "rocket_lzw.tif",
];

fn photo(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/images/photos");
    fs::read(folder.join(name)).unwrap()
}

/// A step that lets about `count` places be tried.
fn step(len: usize, count: usize) -> usize {
    (len / count).max(1)
}

#[test]
fn cut_photos_are_errors_until_the_pixels_are_whole() {
    for name in FILES {
        let bytes = photo(name);
        for len in (0..bytes.len() / 2).step_by(step(bytes.len(), 60)) {
            let result = decode(&bytes[..len], &DecodeOptions::upright());
            assert!(result.is_err(), "{name} cut to {len} of {} bytes", bytes.len());
        }
        for len in (bytes.len() / 2..bytes.len()).step_by(step(bytes.len(), 60)) {
            // The last bytes may be no pixels; then the photo is whole.
            let _whole_or_error = decode(&bytes[..len], &DecodeOptions::upright());
        }
        assert!(decode(&bytes, &DecodeOptions::upright()).is_ok(), "{name}");
    }
}

#[test]
fn wrong_bits_do_not_panic() {
    let options = DecodeOptions::upright().with_max_pixels(1 << 20);
    for name in FILES {
        let bytes = photo(name);
        // Every byte of the header, then some of the rest.
        let places = (0..bytes.len().min(64)).chain((64..bytes.len()).step_by(step(bytes.len(), 60)));
        for at in places {
            for value in [bytes[at] ^ 1 << (at % 8), 0, 255] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                if let Ok(image) = decode(&damaged, &options) {
                    assert!(image.width() * image.height() <= 1 << 20, "{name} at {at}");
                }
            }
        }
    }
}

/// A PNG of one chunk after the header, which is deflated zeros.
fn png(width: u32, height: u32, zeros: usize) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![0; zeros]).unwrap();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    for (name, data) in [(b"IHDR", header), (b"IDAT", encoder.finish().unwrap()), (b"IEND", Vec::new())] {
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(&data);
        file.extend((data.len() as u32).to_be_bytes());
        file.extend(name);
        file.extend(&data);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

#[test]
fn two_hundred_megapixels_are_refused_unless_allowed() {
    let bomb = png(20_000, 10_000, 100);
    let error = decode(&bomb, &DecodeOptions::default()).unwrap_err();
    assert!(matches!(error, Error::TooManyPixels { width: 20_000, height: 10_000, .. }), "{error}");
    let error = decode(&bomb, &DecodeOptions::default().with_max_pixels(1 << 30)).unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
}

#[test]
fn long_thin_images_and_surplus_data_are_read() {
    for (width, height) in [(1, 20_000), (20_000, 1), (1, 1)] {
        let bytes = (width as usize * 3 + 1) * height as usize;
        let image = decode(&png(width, height, bytes), &DecodeOptions::default()).unwrap();
        assert_eq!((image.width(), image.height()), (width as usize, height as usize));
    }
    // Data that inflates to 64 MB for one pixel: no more of it is looked at than the pixel needs.
    assert!(decode(&png(1, 1, 64 << 20), &DecodeOptions::default()).is_ok());
}
