//! Ranks of right answers among scores. Equal scores stand in the order of their index, so that a result never depends on how a sort
//! treats them.

use std::num::NonZero;

use mobileclip_shards::Matrix;

/// Lanes of a dot product: independent sums, which a compiler can keep in vector registers.
const LANES: usize = 16;

/// The dot product of two rows.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// How many scores stand before the one at `at`: greater ones, and equal ones of a lower index.
pub(crate) fn rank(scores: &[f32], at: usize) -> usize {
    let Some(&score) = scores.get(at) else { return scores.len() };
    let stands_before = |(i, &other): (usize, &f32)| other > score || (other == score && i < at);
    scores.iter().enumerate().filter(|&entry| stands_before(entry)).count()
}

/// The index of the greatest score, the lowest if several are equal.
pub(crate) fn best(scores: &[f32]) -> usize {
    let better =
        |best: (usize, f32), (i, &score): (usize, &f32)| if score > best.1 { (i, score) } else { best };
    scores.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0
}

/// For each row of `queries`: what `answer` makes of its dot products with all rows of `candidates`, times `scale`.
pub(crate) fn for_each_row<T: Send>(
    queries: &Matrix,
    candidates: &Matrix,
    scale: f32,
    answer: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let rows: Vec<usize> = (0..queries.rows()).collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let chunk = rows.len().div_ceil(threads).max(1);
    let work = |rows: &[usize]| -> Vec<T> {
        let mut scores = vec![0.0; candidates.rows()];
        let mut one = |&row: &usize| {
            let query = queries.row(row);
            for (i, score) in scores.iter_mut().enumerate() {
                *score = scale * dot(query, candidates.row(i));
            }
            answer(row, &scores)
        };
        rows.iter().map(&mut one).collect()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(chunk).map(|rows| scope.spawn(|| work(rows))).collect();
        // A thread that panicked passes its panic on.
        let join = |part: std::thread::ScopedJoinHandle<'_, Vec<T>>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        parts.into_iter().flat_map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_stand_in_their_order() {
        let scores = [1.0, 3.0, 3.0, 0.0];
        assert_eq!((0..4).map(|i| rank(&scores, i)).collect::<Vec<_>>(), [2, 0, 1, 3]);
        assert_eq!(best(&scores), 1);
        assert_eq!((rank(&scores, 4), best(&[])), (4, 0));
    }

    #[test]
    fn dot_products_of_every_length() {
        for n in 0..70usize {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let b = vec![2.0; n];
            assert_eq!(dot(&a, &b), (n * n.saturating_sub(1)) as f32);
        }
    }

    #[test]
    fn rows_come_in_their_order() {
        let queries = Matrix::new(5, 1, vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let candidates = Matrix::new(2, 1, vec![1.0, -1.0]).unwrap();
        let rows = for_each_row(&queries, &candidates, 10.0, |row, scores| (row, scores.to_vec()));
        assert_eq!(rows[3], (3, vec![40.0, -40.0]));
        assert_eq!(rows.len(), 5);
        let none = Matrix::new(0, 1, Vec::new()).unwrap();
        assert!(for_each_row(&none, &candidates, 1.0, |row, _| row).is_empty());
    }
}
