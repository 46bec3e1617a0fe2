//! Small dense algebra in double precision: a loss is cheap beside the towers, and its logits reach 100.

use std::sync::{Mutex, PoisonError};

use mobileclip_kernels::Pool;

/// Runs `f(row, numbers)` for every row of a matrix, on all threads.
pub(crate) fn for_rows(pool: &Pool, values: &mut [f64], width: usize, f: impl Fn(usize, &mut [f64]) + Sync) {
    let rows = Mutex::new(values.chunks_mut(width.max(1)).enumerate());
    let next = || rows.lock().unwrap_or_else(PoisonError::into_inner).next();
    pool.run(|_| {
        while let Some((row, numbers)) = next() {
            f(row, numbers);
        }
    });
}

/// `a bᵀ` for `a` `[m, k]` and `b` `[n, k]`: `[m, n]`.
pub(crate) fn product_transposed(pool: &Pool, a: &[f64], b: &[f64], k: usize) -> Vec<f64> {
    let (m, n) = (a.len() / k, b.len() / k);
    let mut out = vec![0.0; m * n];
    for_rows(pool, &mut out, n, |i, row| {
        for (out, b) in row.iter_mut().zip(b.chunks_exact(k)) {
            *out = dot(&a[i * k..][..k], b);
        }
    });
    out
}

/// Eight chains, so that the compiler may use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

/// `a b` for `a` `[m, n]` and `b` `[n, k]`: `[m, k]`.
pub(crate) fn product(pool: &Pool, a: &[f64], b: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; a.len() / n.max(1) * k];
    for_rows(pool, &mut out, k, |i, row| {
        for (factor, b) in a[i * n..][..n].iter().zip(b.chunks_exact(k)) {
            row.iter_mut().zip(b).for_each(|(out, b)| *out += factor * b);
        }
    });
    out
}

/// The transpose of a matrix of rows of `n` numbers.
pub(crate) fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    let rows = a.len() / n.max(1);
    (0..rows * n).map(|i| a[i % rows * n + i / rows]).collect()
}

/// Every row's log softmax.
pub(crate) fn log_softmax(pool: &Pool, logits: &mut [f64], n: usize) {
    for_rows(pool, logits, n, |_, row| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (v - largest).exp()).sum();
        // In two steps: the sum of both is large, and its rounding would show in probabilities that nearly cancel.
        let log_sum = sum.ln();
        row.iter_mut().for_each(|v| *v = (*v - largest) - log_sum);
    });
}
