//! Text-to-picture and picture-to-text retrieval, with CLIP_benchmark's definitions.

use mobileclip_shards::Matrix;

use crate::interval::{bootstrap, wilson};
use crate::metric::Metric;
use crate::ranks::{best, for_each_row, rank};

/// Ranks of right answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranks {
    /// For each text: the picture answered.
    pub top1: Vec<usize>,
    /// For each text: how many pictures stand before its own.
    pub of_texts: Vec<usize>,
    /// For each picture: how many texts stand before the best of its own; as many as there are texts, if it has none.
    pub of_pictures: Vec<usize>,
}

/// Compares normalised embeddings; text `t` belongs to picture `picture_of[t]`.
pub(crate) fn rank_all(pictures: &Matrix, texts: &Matrix, picture_of: &[usize]) -> Ranks {
    let own = |text: usize| picture_of.get(text).copied().unwrap_or(usize::MAX);
    let (top1, of_texts) =
        for_each_row(texts, pictures, 1.0, |text, scores| (best(scores), rank(scores, own(text))))
            .into_iter()
            .unzip();
    let mut texts_of = vec![Vec::new(); pictures.rows()];
    for (text, &picture) in picture_of.iter().enumerate() {
        if let Some(texts) = texts_of.get_mut(picture) {
            texts.push(text);
        }
    }
    let of_pictures = for_each_row(pictures, texts, 1.0, |picture, scores| {
        let own = texts_of.get(picture).into_iter().flatten();
        own.map(|&text| rank(scores, text)).min().unwrap_or(scores.len())
    });
    Ranks { top1, of_texts, of_pictures }
}

/// Recall at each `k`: `image_retrieval_recall` is over texts (is its picture among the `k` best), `text_retrieval_recall` over pictures (is
/// at least one of its texts among the `k` best). Null where `k` exceeds the number of what is chosen from.
pub(crate) fn metrics(ranks: &Ranks, picture_of: &[usize], ks: &[usize]) -> Vec<Metric> {
    let (texts, pictures) = (ranks.of_texts.len(), ranks.of_pictures.len());
    // Captions of one picture are no independent questions: pictures are drawn with all of theirs.
    let mut texts_of = vec![Vec::new(); pictures];
    for (text, &picture) in picture_of.iter().enumerate() {
        if let Some(texts) = texts_of.get_mut(picture) {
            texts.push(text);
        }
    }
    let mut metrics = Vec::new();
    for &k in ks {
        let is_hit = |text: &usize| ranks.of_texts.get(*text).is_some_and(|&rank| rank < k);
        let hits = (0..texts).filter(is_hit).count();
        let value = (k <= pictures).then(|| share(hits, texts)).flatten();
        let tally: Vec<(usize, usize)> = texts_of
            .iter()
            .map(|texts| (texts.iter().filter(|text| is_hit(text)).count(), texts.len()))
            .collect();
        let resampled = |drawn: &[usize]| {
            let drawn = drawn.iter().filter_map(|&picture| tally.get(picture));
            let (hits, texts) = drawn.fold((0, 0), |sum, tally| (sum.0 + tally.0, sum.1 + tally.1));
            share(hits, texts)
        };
        let interval = value.and_then(|_| bootstrap(pictures, resampled));
        metrics.push(Metric::new(&format!("image_retrieval_recall@{k}"), value, interval));

        let hits = ranks.of_pictures.iter().filter(|&&rank| rank < k).count();
        let value = (k <= texts).then(|| share(hits, pictures)).flatten();
        let interval = value.and_then(|_| wilson(hits, pictures));
        metrics.push(Metric::new(&format!("text_retrieval_recall@{k}"), value, interval));
    }
    metrics
}

/// As the benchmark computes it: in single precision.
fn share(hits: usize, total: usize) -> Option<f64> {
    (total > 0).then(|| f64::from(hits as f32 / total as f32))
}
