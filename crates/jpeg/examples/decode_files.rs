//! Decodes JPEG files and prints for each one its path, size, channels and a hash of its pixels (FNV-1a, 64 bits) or
//! the error: `cargo run --release -p mobileclip-jpeg --example decode_files -- PHOTO...`; with `-` the paths come
//! from standard input, one a line. For comparing many files with another decoder.

use mobileclip_jpeg::{Limits, decode};
use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    if paths == ["-"] {
        paths = std::io::stdin().lock().lines().collect::<Result<_, _>>()?;
    }
    let mut out = std::io::stdout().lock();
    for path in paths {
        match decode(&std::fs::read(&path)?, Limits::default()) {
            Ok(image) => {
                let hash = image.pixels.iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, &byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
                });
                writeln!(out, "{path}\t{}x{}x{}\t{hash:016x}", image.width, image.height, image.channels)?;
            }
            Err(error) => writeln!(out, "{path}\terror\t{error}")?,
        }
    }
    Ok(())
}
