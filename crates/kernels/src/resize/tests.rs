//! Every backend against the scalar twin, the scalar twin against the definition.

use proptest::prelude::*;

use super::*;

/// Taps of a plausible shape: windows that move to the right, weights of both signs.
fn taps(source_len: usize, outputs: usize, longest: usize, seed: u64) -> Taps {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize
    };
    let mut taps = Taps::new(source_len);
    for i in 0..outputs {
        let start = (source_len * i / outputs.max(1)).min(source_len - 1);
        let count = (1 + next() % longest).min(source_len - start);
        let weights: Vec<i32> = (0..count).map(|_| next() as i32 % (6 << 20) - (1 << 20)).collect();
        taps.push(start, &weights);
    }
    taps
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|i| ((i ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn run(backend: Backend, taps: &Taps, src: &[u8], stride: usize, rows: usize) -> Vec<u8> {
    let dst_stride = taps.len() * 3 + 5;
    let mut dst = vec![7; dst_stride * rows];
    RgbFilter::new(backend, taps.clone()).apply(src, stride, &mut dst, dst_stride, rows);
    dst
}

#[test]
fn scalar_follows_the_definition() {
    let mut taps = Taps::new(3);
    taps.push(0, &[1 << 21, 1 << 21]);
    taps.push(1, &[-(1 << 21), 3 << 21]);
    let src = [10, 0, 255, 21, 0, 0, 200, 0, 90];
    // (10 + 21) / 2 rounds up; 1.5 * 200 - 0.5 * 21 is clamped.
    assert_eq!(run(Backend::SCALAR, &taps, &src, 9, 1)[..6], [16, 0, 128, 255, 0, 135]);
    let mut sums = [HALF; 2];
    accumulate(Backend::SCALAR, &mut sums, &[1 << 21, -(1 << 22)], &[9, 3, 4, 5], 2);
    let mut out = [1; 2];
    finish(Backend::SCALAR, &sums, &mut out);
    assert_eq!(out, [1, 0]);
}

#[test]
fn the_best_backend_is_available() {
    let all = Backend::available();
    assert_eq!(all[0].name(), "scalar");
    assert!(all.contains(&Backend::best()));
}

#[test]
#[should_panic(expected = "reach beyond")]
fn taps_beyond_the_source_are_refused() {
    Taps::new(4).push(2, &[1, 2, 3]);
}

#[test]
#[should_panic(expected = "rows need")]
fn short_sources_are_refused() {
    let taps = taps(8, 4, 3, 1);
    RgbFilter::new(Backend::best(), taps).apply(&[0; 47], 24, &mut [0; 24], 12, 2);
}

proptest! {
    #[test]
    fn horizontal_backends_agree(
        source_len in 1usize..150, outputs in 0usize..90, longest in 1usize..70, rows in 0usize..10, pad in 0usize..7,
        seed in any::<u64>(),
    ) {
        let taps = taps(source_len, outputs, longest, seed);
        let stride = source_len * 3 + pad;
        let src = noise(stride * rows, seed);
        let expected = run(Backend::SCALAR, &taps, &src, stride, rows);
        for backend in Backend::available() {
            prop_assert_eq!(&run(backend, &taps, &src, stride, rows), &expected, "{}", backend.name());
        }
    }

    #[test]
    fn vertical_backends_agree(width in 0usize..400, rows in 0usize..40, pad in 0usize..5, seed in any::<u64>()) {
        let stride = width + pad;
        let src = noise(stride * rows, seed);
        let weights: Vec<i32> = noise(rows * 3, !seed).chunks(3)
            .map(|b| i32::from(b[0]) << 15 | i32::from(b[1]) << 7 | i32::from(b[2] >> 1)).map(|w| w - (1 << 21)).collect();
        let all: Vec<(Vec<i32>, Vec<u8>)> = Backend::available().into_iter().map(|backend| {
            let mut sums = vec![HALF; width];
            accumulate(backend, &mut sums, &weights, &src, stride);
            let mut out = vec![0; width];
            finish(backend, &sums, &mut out);
            (sums, out)
        }).collect();
        for other in &all {
            prop_assert_eq!(other, &all[0]);
        }
    }
}
