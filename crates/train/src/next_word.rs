//! The caption loss: how surprised a captioner is by each next id (arXiv:2205.01917, section 3.2).

use std::sync::{Mutex, PoisonError};

use mobileclip_arch::PAD;
use mobileclip_kernels::Pool;

/// How many of these rows' ids are to be predicted: all but the first of a row, and no padding.
pub(crate) fn labels(ids: &[u32], context: usize) -> usize {
    ids.chunks_exact(context.max(1)).flat_map(|row| row.iter().skip(1)).filter(|&&id| id != PAD).count()
}

/// The sum over all labels of −log p, times `weight`, from logits `[rows][vocabulary][context - 1]` at the places before the
/// labels. The logits become their gradient.
///
/// Sums are taken in double precision, row by row, so that they do not depend on the number of threads.
///
/// # Panics
/// If ids and logits are not of the same rows, or an id is not in the vocabulary.
pub(crate) fn surprise(
    pool: &Pool,
    logits: &mut [f32],
    ids: &[u32],
    context: usize,
    vocabulary: usize,
    weight: f64,
) -> f64 {
    let (count, numbers) = (ids.len() / context, vocabulary * (context - 1));
    assert_eq!(logits.len(), count * numbers, "logits of {count} texts");
    let mut losses = vec![0.0; count];
    let rows = ids.chunks_exact(context).zip(logits.chunks_exact_mut(numbers.max(1))).zip(&mut losses);
    let rows = Mutex::new(rows);
    let next = || rows.lock().unwrap_or_else(PoisonError::into_inner).next();
    pool.run(|_| {
        while let Some(((ids, logits), loss)) = next() {
            *loss = of_row(logits, &ids[1..], weight);
        }
    });
    losses.iter().sum()
}

/// The same of one text; `logits` are `[vocabulary][labels]`.
fn of_row(logits: &mut [f32], labels: &[u32], weight: f64) -> f64 {
    let places = labels.len();
    let mut largest = vec![f32::NEG_INFINITY; places];
    for scores in logits.chunks_exact(places) {
        largest.iter_mut().zip(scores).for_each(|(largest, score)| *largest = largest.max(*score));
    }
    let of_label = |logits: &[f32], place: usize| logits[labels[place] as usize * places + place];
    let wanted: Vec<f32> = (0..places).map(|place| of_label(logits, place)).collect();
    let mut sums = vec![0.0f64; places];
    for scores in logits.chunks_exact_mut(places) {
        for ((score, largest), sum) in scores.iter_mut().zip(&largest).zip(&mut sums) {
            *score = (*score - largest).exp();
            *sum += f64::from(*score);
        }
    }
    let mut loss = 0.0;
    // Padding teaches nothing.
    let mut factors = vec![0.0f32; places];
    for place in (0..places).filter(|&place| labels[place] != PAD) {
        loss += weight * (sums[place].ln() - f64::from(wanted[place] - largest[place]));
        factors[place] = (weight / sums[place]) as f32;
    }
    for scores in logits.chunks_exact_mut(places) {
        scores.iter_mut().zip(&factors).for_each(|(score, factor)| *score *= factor);
    }
    for place in (0..places).filter(|&place| labels[place] != PAD) {
        logits[labels[place] as usize * places + place] -= weight as f32;
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_surprise_by_the_size_of_the_vocabulary() {
        // Two texts of four ids, of which one ends early.
        let ids = [5, 1, 2, 6, 5, 6, 0, 0];
        assert_eq!(labels(&ids, 4), 4);
        let mut logits = vec![0.5; 2 * 7 * 3];
        let loss = surprise(&Pool::new(2), &mut logits, &ids, 4, 7, 0.25);
        assert!((loss - 7f64.ln()).abs() < 1e-6);
        let gradient = |text: usize, id: usize, place: usize| logits[(text * 7 + id) * 3 + place];
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-7, "{a}, not {b}");
        close(gradient(0, 3, 1), 0.25 / 7.0);
        close(gradient(0, 2, 1), 0.25 / 7.0 - 0.25);
        close(gradient(1, 6, 0), 0.25 / 7.0 - 0.25);
        close(gradient(1, 6, 1), 0.0);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut logits = vec![3000.0, -3000.0];
        let loss = surprise(&Pool::new(1), &mut logits, &[0, 1], 2, 2, 1.0);
        assert_eq!((loss, &logits[..]), (6000.0, &[1.0, -1.0][..]));
    }
}
