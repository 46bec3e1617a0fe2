//! Times decoding a photo and cutting out of it what a tower sees: shortest side to 256, bicubic, centre crop; one thread.
//!
//! `cargo run --release -p mobileclip-image --example photo_speed -- PHOTO RUNS BYTES` prints the milliseconds of each run as JSON,
//! `{"decode":[…],"crop":[…]}`, and writes the bytes of the crop to the file BYTES. `compat/images/bench.py` compares both with
//! Pillow's. On Linux it is the time on the processor, so that other work does not count.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use mobileclip_image::{DecodeOptions, Filter, Preprocess, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photo, runs, out] = &arguments[..] else { return Err("usage: photo_speed PHOTO RUNS BYTES".into()) };
    let file = std::fs::read(Path::new(photo))?;
    let preprocess = Preprocess { size: (256, 256), interpolation: Filter::Bicubic, ..Preprocess::default() };
    let (mut decode_ms, mut crop_ms) = (Vec::new(), Vec::new());
    for _ in 0..runs.parse::<usize>()?.max(1) {
        let start = Clock::start();
        let image = decode(&file, &DecodeOptions::default())?;
        decode_ms.push(start.ms());
        let start = Clock::start();
        let crop = preprocess.crop(&image)?;
        crop_ms.push(start.ms());
        std::fs::write(out, crop.pixels())?;
    }
    println!("{{\"decode\":{decode_ms:?},\"crop\":{crop_ms:?}}}");
    Ok(())
}

struct Clock(Instant, Option<u64>);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), processor_ns())
    }

    fn ms(&self) -> f64 {
        match (self.1, processor_ns()) {
            (Some(start), Some(end)) => (end - start) as f64 / 1e6,
            _ => self.0.elapsed().as_secs_f64() * 1e3,
        }
    }
}

/// Nanoseconds that this thread has run.
fn processor_ns() -> Option<u64> {
    // The kernel brings the counter up to date when the thread gives way.
    std::thread::yield_now();
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
