//! Times the resize of a photo of 1632 x 1224 to shortest side and centre crop, on one thread.
//!
//! `cargo run --release -p mobileclip-image --example resize_speed`

use std::time::Instant;

use mobileclip_image::{Error, Filter, Preprocess, RgbImage};

const ROUNDS: usize = 100;

fn main() -> Result<(), Error> {
    let (width, height) = (1632, 1224);
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8;
    let photo = RgbImage::new(width, height, (0..(width * height * 3) as u32).map(noise).collect())?;
    for (size, interpolation) in
        [(256, Filter::Bicubic), (256, Filter::Bilinear), (224, Filter::Bicubic), (224, Filter::Lanczos)]
    {
        let preprocess = Preprocess { size: (size, size), interpolation, ..Preprocess::default() };
        let mut tensor = vec![0.0; preprocess.tensor_len()];
        let crop = time(|| preprocess.crop(&photo).map(drop))?;
        let whole = time(|| preprocess.apply_into(&photo, &mut tensor))?;
        println!("{width} x {height} to {size} {interpolation:?}: crop {crop}, with normalisation {whole}");
    }
    Ok(())
}

/// Median and fastest run.
fn time(mut work: impl FnMut() -> Result<(), Error>) -> Result<String, Error> {
    let mut times_ms = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work()?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.sort_by(f64::total_cmp);
    Ok(format!("{:.2} ms (fastest {:.2})", times_ms[ROUNDS / 2], times_ms[0]))
}
