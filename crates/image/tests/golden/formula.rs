//! The images of `golden/images/README.md` that are made by a formula.

use mobileclip_image::{RgbImage, RgbaImage};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Source {
    file: Option<String>,
    formula: Option<String>,
    #[serde(default)]
    label: String,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    #[serde(default = "three")]
    pub channels: usize,
}

fn three() -> usize {
    3
}

impl Source {
    pub fn image(&self) -> RgbImage {
        match (&self.file, &self.formula) {
            (Some(file), None) => super::photo(file),
            (None, Some(kind)) => {
                let bytes = formula(kind, &self.label, self.width, self.height, self.channels);
                let rgb = match self.channels {
                    1 => bytes.iter().flat_map(|&v| [v; 3]).collect(),
                    3 => bytes,
                    _ => bytes.chunks(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
                };
                RgbImage::new(self.width, self.height, rgb).unwrap()
            }
            _ => panic!("a source is a file or a formula"),
        }
    }

    pub fn rgba(&self) -> RgbaImage {
        let bytes =
            formula(self.formula.as_ref().unwrap(), &self.label, self.width, self.height, self.channels);
        RgbaImage::new(self.width, self.height, &bytes).unwrap()
    }
}

/// FNV-1a of `input:` and the label, the state of a splitmix64 whose outputs' high bytes are the stream.
fn stream(label: &str, len: usize) -> Vec<u8> {
    let fnv = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3);
    let state = format!("input:{label}").as_bytes().iter().fold(0xCBF2_9CE4_8422_2325, fnv);
    let byte = |i: u64| {
        let mut z = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(state);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 56) as u8
    };
    (0..len as u64).map(byte).collect()
}

fn formula(kind: &str, label: &str, w: usize, h: usize, channels: usize) -> Vec<u8> {
    let blocks_across = w.div_ceil(8);
    let noise = match kind {
        "blocks" => stream(label, blocks_across * h.div_ceil(8) * channels),
        _ => stream(label, w * h * channels),
    };
    let mut pixels = Vec::new();
    for y in 0..h {
        for x in 0..w {
            for c in 0..channels {
                let value = match kind {
                    "noise" => noise[(y * w + x) * channels + c].into(),
                    "dark" if c == 2 => 90,
                    "dark" => 40 + usize::from(noise[(y * w + x) * channels + c] >> 3),
                    "blocks" => noise[((y / 8) * blocks_across + x / 8) * channels + c].into(),
                    "waves" => (3 * x * x + 5 * y * y + 2 * x * y + 85 * c * (x + y)) >> 5,
                    "ramp" => match c {
                        0 => x * 255 / (w - 1).max(1),
                        1 => y * 255 / (h - 1).max(1),
                        _ => (x + y) * 255 / (w + h - 2).max(1),
                    },
                    "const" => 50 + 60 * c,
                    other => panic!("unknown formula {other}"),
                };
                pixels.push(value as u8);
            }
        }
    }
    pixels
}
