//! SHA-256 of decoded, resized or augmented images, one request a line; `compat/images` and `compat/augment` compare them with
//! Pillow's.
//!
//! A request is a JSON object: `{"file": path, "upright": bool}` decodes, `{"seed": n, "from": [w, h], "to": [w, h], "filter": …,
//! "pass_order": …, "mode": "resize" | "shortest" | "longest" | "squash", "fill_color": n}` resizes noise or makes a crop of it,
//! `{"config": …, "stored": …, "picture": path or [seed, w, h], "pass_order": …, "rounds": n}` replays a recorded augmentation. The
//! answer is `width height digest`, after the last kind of request also the fastest round's milliseconds (decoding included), or
//! `error` and the reason.

use std::io::{BufRead, BufReader, stdin};
use std::time::Instant;

use mobileclip_image::augment::{Config, Replay};
use mobileclip_image::{
    DecodeOptions, Filter, PassOrder, Preprocess, ResizeMode, RgbImage, decode_file, resize,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Decode {
        file: String,
        upright: bool,
    },
    Resize {
        seed: u64,
        from: [usize; 2],
        to: [usize; 2],
        filter: Filter,
        pass_order: PassOrder,
        mode: String,
        fill_color: u8,
    },
    Replay {
        config: Value,
        stored: Value,
        picture: Picture,
        pass_order: PassOrder,
        rounds: usize,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Picture {
    File(String),
    Noise(u64, usize, usize),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in BufReader::new(stdin()).lines() {
        match answer(serde_json::from_str(&line?)?) {
            Ok((image, ms)) => {
                let ms = ms.map(|ms| format!(" {ms:.4}")).unwrap_or_default();
                println!("{} {} {}{ms}", image.width(), image.height(), digest(image.pixels()));
            }
            Err(error) => println!("error {error}"),
        }
    }
    Ok(())
}

fn answer(request: Request) -> Result<(RgbImage, Option<f64>), Box<dyn std::error::Error>> {
    match request {
        Request::Decode { file, upright } => {
            let options = if upright { DecodeOptions::upright() } else { DecodeOptions::default() };
            Ok((decode_file(file, &options)?, None))
        }
        Request::Resize { seed, from: [width, height], to, filter, pass_order, mode, fill_color } => {
            let image = RgbImage::new(width, height, noise(seed, width * height * 3))?;
            if mode == "resize" {
                return Ok((resize(&image, to[0], to[1], filter, pass_order)?, None));
            }
            let resize_mode: ResizeMode = serde_json::from_value(mode.into())?;
            let size = (to[1], to[0]);
            let preprocess = Preprocess {
                size,
                resize_mode,
                interpolation: filter,
                pass_order,
                fill_color,
                ..Preprocess::default()
            };
            Ok((preprocess.crop(&image)?, None))
        }
        Request::Replay { config, stored, picture, pass_order, rounds } => {
            let config = Config::from_value(&config)?;
            let (parameters, _) = config.read_param_aug(&json!([stored]))?;
            let how = Replay { pass_order, ..Replay::default() };
            let (made, file) = match picture {
                Picture::File(file) => (None, file),
                Picture::Noise(seed, width, height) => {
                    (Some(RgbImage::new(width, height, noise(seed, width * height * 3))?), String::new())
                }
            };
            let once = || -> Result<RgbImage, Box<dyn std::error::Error>> {
                match &made {
                    Some(image) => Ok(config.replay(&parameters[0], image, &how)?),
                    None => {
                        let image = decode_file(&file, &DecodeOptions::default())?;
                        Ok(config.replay(&parameters[0], &image, &how)?)
                    }
                }
            };
            let mut fastest_ms = f64::INFINITY;
            let mut image = once()?;
            for _ in 0..rounds {
                let start = Instant::now();
                image = once()?;
                fastest_ms = fastest_ms.min(start.elapsed().as_secs_f64() * 1e3);
            }
            Ok((image, Some(fastest_ms)))
        }
    }
}

/// The high bytes of splitmix64.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let byte = |i: u64| {
        let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 56) as u8
    };
    (0..len as u64).map(byte).collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
