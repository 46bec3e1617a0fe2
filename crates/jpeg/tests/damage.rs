//! Damaged files: an error or an image of the announced size, never a panic, never a long wait.

use mobileclip_jpeg::{Error, Limits, Reduction, decode, decode_reduced, read_header};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn jpegs_below(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "jpg")).collect();
    paths.sort();
    paths
}

/// Files of up to 64 KiB of every structure.
fn small_files() -> Vec<(PathBuf, Vec<u8>)> {
    let paths = [jpegs_below("../../golden/images/photos"), jpegs_below("tests/files")].concat();
    let files = paths.into_iter().map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    });
    files.filter(|(_, bytes)| bytes.len() <= 1 << 16).collect()
}

/// SplitMix64.
struct Stream(u64);

impl Stream {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// Overwrites, flips, removes, repeats or cuts a few bytes.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0..3 => bytes[at] = self.below(256) as u8,
                3 => bytes[at] ^= 1 << self.below(8),
                4 => bytes[at] = [0xFF, 0xD0, 0xD9, 0xDA, 0xC4, 0, 1][self.below(7)],
                5 => drop(bytes.drain(at..(at + self.below(20)).min(bytes.len()))),
                6 => {
                    let part = bytes[at..(at + self.below(300)).min(bytes.len())].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, part);
                }
                _ if self.below(8) == 0 => bytes.truncate(at.max(4)),
                _ => {}
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}

fn damage_many(seed: u64, rounds: usize, time: Duration) {
    let files = small_files();
    let mut stream = Stream(seed);
    // A damaged header may claim any size: what a hostile file costs is bounded by the limits.
    let limits = Limits { max_pixels: 4_000_000, ..Limits::default() };
    let (start, mut decoded, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    let mut done = 0;
    while done < rounds && start.elapsed() < time {
        let (path, bytes) = &files[stream.below(files.len())];
        let mut bytes = bytes.clone();
        stream.damage(&mut bytes);
        let call = Instant::now();
        let reductions = [Reduction::None, Reduction::Half, Reduction::Quarter, Reduction::Eighth];
        let reduction = reductions[done % reductions.len()];
        if let Ok(image) = decode_reduced(&bytes, limits, reduction) {
            assert_eq!(image.pixels.len(), image.width * image.height * image.channels);
            let header = read_header(&bytes).unwrap();
            assert_eq!(reduction.size(header.width, header.height), (image.width, image.height));
            decoded += 1;
        }
        let elapsed = call.elapsed();
        assert!(elapsed < Duration::from_secs(5), "{} damaged: {elapsed:?}", path.display());
        slowest = slowest.max(elapsed);
        done += 1;
    }
    println!("{done} damaged files, {decoded} decoded, slowest call {slowest:?}");
    assert!(decoded > done / 20, "only {decoded} of {done} got past the header: the test tests little");
}

#[test]
fn damaged_files_do_not_panic() {
    damage_many(1, 2000, Duration::from_secs(3));
}

/// `cargo test --release -p mobileclip-jpeg --test damage -- --ignored --nocapture`
#[test]
#[ignore = "takes a minute"]
fn damaged_files_for_a_minute() {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    damage_many(seed, usize::MAX, Duration::from_secs(60));
}

/// Pillow gives no partial image.
#[test]
fn cut_files_are_errors() {
    let mut cut = 0;
    for (path, bytes) in small_files().iter().filter(|(_, bytes)| bytes.len() < 3000) {
        let whole = decode(bytes, Limits::default());
        if whole.is_err() {
            continue;
        }
        for length in 0..bytes.len() {
            let result = decode(&bytes[..length], Limits::default());
            // Complete but for its end marker (and what one of the files has in its place), a file decodes.
            if length + 10 >= bytes.len() && result == whole {
                continue;
            }
            assert!(result.is_err(), "{} cut to {length} of {} bytes", path.display(), bytes.len());
            cut += 1;
        }
    }
    assert!(cut > 1000);
}

#[test]
fn limits_are_kept() {
    let photo = |name: &str| std::fs::read(jpegs_below("../../golden/images/photos")[0].with_file_name(name));
    let bytes = photo("rocket_progressive_420.jpg").unwrap();
    let limits = Limits { max_pixels: 640 * 427 - 1, ..Limits::default() };
    assert_eq!(
        decode(&bytes, limits),
        Err(Error::TooManyPixels { width: 640, height: 427, max_pixels: 640 * 427 - 1 })
    );
    // Pixels alone would fit, pixels and coefficients do not.
    let limits = Limits { max_bytes: 1_000_000, ..Limits::default() };
    assert!(matches!(decode(&bytes, limits), Err(Error::TooMuchMemory { bytes: 1_000_001.., .. })));
    let limits = Limits { max_scans: 9, ..Limits::default() };
    assert_eq!(decode(&bytes, limits), Err(Error::TooManyScans { max_scans: 9 }));
    assert!(decode(&bytes, Limits { max_scans: 10, ..Limits::default() }).is_ok());
    let bytes = photo("rocket.jpg").unwrap();
    assert!(decode(&bytes, Limits { max_bytes: 1_000_000, max_scans: 1, ..Limits::default() }).is_ok());
}
