//! Comparison with messages that say where two results part.

/// Norm of the difference over norm of the golden.
pub fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut got.iter().zip(expected).map(|(a, b)| a - b));
    difference / norm(&mut expected.iter().copied())
}

/// Asserts that [`relative_error`] is at most `tolerance`; a NaN fails.
///
/// # Panics
/// If it is more, with the worst entry.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let error = relative_error(got, expected);
    if error <= tolerance {
        return;
    }
    let distance = |i: usize| (got[i] - expected[i]).abs();
    let worst =
        (0..got.len()).fold(0, |w, i| if distance(i) > distance(w) || got[i].is_nan() { i } else { w });
    panic!(
        "{what}: relative error {error:.3e} exceeds {tolerance:.1e}; worst at {worst}: got {}, expected {}",
        got[worst], expected[worst]
    );
}
