//! Zero-shot classification, with CLIP_benchmark's definitions.

use mobileclip_shards::Matrix;

use crate::interval::{bootstrap, wilson};
use crate::metric::Metric;
use crate::ranks::{best, for_each_row, rank};

/// What cosines are multiplied by; the model's own scale is not used. It changes no rank.
const SCALE: f32 = 100.0;

/// The answers to pictures of known classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// The class answered for each picture.
    pub top1: Vec<usize>,
    /// How many classes stand before the right one.
    pub ranks: Vec<usize>,
}

/// Compares normalised embeddings of pictures (a row each) with those of classes.
pub(crate) fn answer(pictures: &Matrix, classes: &Matrix, targets: &[usize]) -> Answers {
    let target = |row: usize| targets.get(row).copied().unwrap_or(usize::MAX);
    let (top1, ranks) =
        for_each_row(pictures, classes, SCALE, |row, logits| (best(logits), rank(logits, target(row))))
            .into_iter()
            .unzip();
    Answers { top1, ranks }
}

/// acc1, acc5 (null with fewer than five classes) and mean_per_class_recall of the answers.
pub(crate) fn metrics(answers: &Answers, targets: &[usize], classes: usize) -> Vec<Metric> {
    let total = targets.len();
    let hits = |k: usize| answers.ranks.iter().filter(|&&rank| rank < k).count();
    let share = |name: &str, k: usize| {
        let value = (classes >= k && total > 0).then(|| hits(k) as f64 / total as f64);
        Metric::new(name, value, value.and_then(|_| wilson(hits(k), total)))
    };
    let is_right: Vec<bool> = answers.top1.iter().zip(targets).map(|(a, b)| a == b).collect();
    let all: Vec<usize> = (0..total).collect();
    let recall = |drawn: &[usize]| mean_recall(&is_right, targets, classes, drawn);
    vec![
        share("acc1", 1),
        share("acc5", 5),
        Metric::new("mean_per_class_recall", recall(&all), bootstrap(total, recall)),
    ]
}

/// The mean, over the classes that occur, of the share of their pictures that are answered right.
pub(crate) fn mean_recall(
    is_right: &[bool],
    targets: &[usize],
    classes: usize,
    drawn: &[usize],
) -> Option<f64> {
    let mut seen = vec![(0usize, 0usize); classes];
    for &i in drawn {
        let (Some(&target), Some(&is_right)) = (targets.get(i), is_right.get(i)) else { continue };
        if let Some((right, total)) = seen.get_mut(target) {
            *right += usize::from(is_right);
            *total += 1;
        }
    }
    let recalls: Vec<f64> = seen
        .iter()
        .filter(|(_, total)| *total > 0)
        .map(|&(right, total)| right as f64 / total as f64)
        .collect();
    (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

/// Mean average precision of pictures that each show any number of classes.
///
/// Per class, pictures are sorted by its logit, descending; the precision at each picture that shows it is averaged (a class that none
/// shows: 0); the mean over classes is the metric.
pub(crate) fn multilabel(pictures: &Matrix, classes: &Matrix, shows: &[Vec<bool>]) -> Vec<Metric> {
    let precisions = for_each_row(classes, pictures, SCALE, |class, logits| {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        let logit = |i: usize| logits.get(i).copied().unwrap_or_default();
        order.sort_by(|&a, &b| logit(b).total_cmp(&logit(a)));
        let is_shown = |i: &usize| shows.get(*i).and_then(|shows| shows.get(class)).copied().unwrap_or(false);
        let hits = order.iter().enumerate().filter(|(_, i)| is_shown(i));
        let at_hits: Vec<f64> =
            hits.enumerate().map(|(before, (place, _))| (before + 1) as f64 / (place + 1) as f64).collect();
        at_hits.iter().sum::<f64>() / at_hits.len().max(1) as f64
    });
    let mean = precisions.iter().sum::<f64>() / precisions.len().max(1) as f64;
    vec![Metric::new("mean_average_precision", (!shows.is_empty()).then_some(mean), None)]
}
