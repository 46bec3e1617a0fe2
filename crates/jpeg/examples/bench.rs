//! Times decoding: `cargo run --release -p mobileclip-jpeg --example bench -- [--runs N] PHOTO...`.
//!
//! Prints for each photo and each reduction the median and the minimum of N (default 30) runs on one thread, in milliseconds and
//! megapixels per second. On Linux it is the time on the processor, so that other work does not count.

use mobileclip_jpeg::{Limits, Reduction, decode_reduced};
use std::time::Instant;

/// Nanoseconds that this thread has run.
fn cpu_ns() -> Option<u64> {
    // The kernel brings the counter up to date when the thread gives way.
    std::thread::yield_now();
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths: Vec<String> = std::env::args().skip(1).collect();
    let mut runs = 30;
    if paths.first().is_some_and(|first| first == "--runs") && paths.len() > 1 {
        runs = paths[1].parse::<usize>()?.max(1);
        paths.drain(..2);
    }
    let reductions = [Reduction::None, Reduction::Half, Reduction::Quarter, Reduction::Eighth];
    for (path, reduction) in paths.iter().flat_map(|path| reductions.map(|reduction| (path, reduction))) {
        let bytes = std::fs::read(path)?;
        let mut times_ms = Vec::with_capacity(runs);
        let mut megapixels = 0.0;
        for _ in 0..runs {
            let (start, start_cpu) = (Instant::now(), cpu_ns());
            let image = decode_reduced(&bytes, Limits::default(), reduction)?;
            times_ms.push(match (start_cpu, cpu_ns()) {
                (Some(start), Some(end)) => (end - start) as f64 / 1e6,
                _ => start.elapsed().as_secs_f64() * 1e3,
            });
            megapixels = (image.width * image.height) as f64 / 1e6;
        }
        times_ms.sort_by(f64::total_cmp);
        let (median, min) = (times_ms[runs / 2], times_ms[0]);
        println!(
            "{path}, reduction {reduction:?}: {megapixels:.2} MP, median {median:.2} ms ({:.0} MP/s), min {min:.2} ms ({:.0} MP/s)",
            megapixels / median * 1e3,
            megapixels / min * 1e3
        );
    }
    Ok(())
}
