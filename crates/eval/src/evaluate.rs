//! From an encoder and a set to a result.

use std::collections::BTreeMap;

use mobileclip::normalized;
use mobileclip_shards::{Matrix, Tally};

use crate::classification;
use crate::embed::{Encoder, Pictures, Watch};
use crate::error::{Error, Result};
use crate::interval::Interval;
use crate::metric::Metric;
use crate::probe::{self, ProbeOptions, Rows};
use crate::retrieval;
use crate::set::{Answers, EvalSet};

/// What came out for one set.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The set, as result files call it.
    pub dataset: String,
    /// `zeroshot_classification`, `zeroshot_retrieval` or `linear_probe`.
    pub task: &'static str,
    /// The variant's name.
    pub model: String,
    /// The numbers, in the benchmark's order.
    pub metrics: Vec<Metric>,
    /// Pictures that count.
    pub pictures: usize,
    /// What could not be used.
    pub faults: Tally,
    /// The first answer to each picture (to each text, in retrieval): what two precisions agree in, or do not.
    pub top1: Vec<usize>,
}

impl Outcome {
    /// A metric by name; `mean_recall@1` is made of the two that retrieval has.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let number = |name: &str| self.metrics.iter().find(|metric| metric.name == name)?.number();
        match name {
            "mean_recall@1" => {
                Some((number("image_retrieval_recall@1")? + number("text_retrieval_recall@1")?) / 2.0)
            }
            name => number(name),
        }
    }

    /// The metric that stands for the set unless another is asked for.
    pub fn main_metric(&self) -> &'static str {
        match self.task {
            "zeroshot_retrieval" => "mean_recall@1",
            "linear_probe" => "lp_acc1",
            _ if self.metrics.iter().any(|metric| metric.name == "mean_average_precision") => {
                "mean_average_precision"
            }
            _ => "acc1",
        }
    }

    /// The confidence intervals there are.
    pub fn intervals(&self) -> BTreeMap<&str, Interval> {
        self.metrics.iter().filter_map(|metric| Some((metric.name.as_str(), metric.interval?))).collect()
    }

    /// The share of first answers that are the same; `None` if the two did not answer the same number of questions.
    pub fn agreement(&self, other: &Self) -> Option<f64> {
        let same = self.top1.iter().zip(&other.top1).filter(|(a, b)| a == b).count();
        (self.top1.len() == other.top1.len() && !self.top1.is_empty())
            .then(|| same as f64 / self.top1.len() as f64)
    }
}

/// Zero-shot classification or retrieval, as the set asks.
///
/// # Errors
/// If the model is damaged, no picture can be read, or the run is interrupted.
pub fn zero_shot(
    encoder: &Encoder<'_>,
    set: &EvalSet,
    recall_at: &[usize],
    watch: Watch<'_>,
) -> Result<Outcome> {
    // Texts first: what is wrong with the prompts is said before an hour of pictures.
    match &set.answers {
        Answers::Classes(targets) => {
            let classes = class_embeddings(encoder, set, watch)?;
            let pictures = encoder.pictures(set, watch)?;
            let targets: Vec<usize> = pick(targets, &pictures);
            let answers = classification::answer(&pictures.rows, &classes, &targets);
            let metrics = classification::metrics(&answers, &targets, set.classes.len());
            Ok(outcome(encoder, set, "zeroshot_classification", metrics, pictures, answers.top1))
        }
        Answers::Shows(shows) => {
            let classes = class_embeddings(encoder, set, watch)?;
            let pictures = encoder.pictures(set, watch)?;
            let shows: Vec<Vec<bool>> = pick(shows, &pictures);
            let metrics = classification::multilabel(&pictures.rows, &classes, &shows);
            let top1 = classification::answer(&pictures.rows, &classes, &[]).top1;
            Ok(outcome(encoder, set, "zeroshot_classification", metrics, pictures, top1))
        }
        Answers::Captions(captions) => {
            let pictures = encoder.pictures(set, watch)?;
            let captions: Vec<Vec<String>> = pick(captions, &pictures);
            let of = |(picture, texts): (usize, &Vec<String>)| vec![picture; texts.len()];
            let picture_of: Vec<usize> = captions.iter().enumerate().flat_map(of).collect();
            let texts = encoder.texts(&captions.concat(), watch)?;
            let ranks = retrieval::rank_all(&pictures.rows, &texts, &picture_of);
            let metrics = retrieval::metrics(&ranks, &picture_of, recall_at);
            Ok(outcome(encoder, set, "zeroshot_retrieval", metrics, pictures, ranks.top1))
        }
    }
}

/// A linear probe on the pictures' embeddings: trained on one set, tested on another with the same classes.
///
/// # Errors
/// As [`zero_shot`]; if a set is not one of classification, or the two have different numbers of classes; or a class has fewer pictures than shots
/// are asked for.
pub fn linear_probe(
    encoder: &Encoder<'_>,
    train: &EvalSet,
    test: &EvalSet,
    options: &ProbeOptions,
    watch: Watch<'_>,
) -> Result<Outcome> {
    if train.classes.len() != test.classes.len() {
        let (classes, expected) = (train.classes.len(), test.classes.len());
        return Err(Error::OtherClasses { path: train.path.clone(), classes, expected });
    }
    let (all, _) = rows(encoder, train, watch)?;
    let (test_rows, pictures) = rows(encoder, test, watch)?;
    let (picked, validation) =
        probe::split(&all.targets, train.classes.len(), options).map_err(|(class, found)| {
            let class = train.classes.get(class).cloned().unwrap_or_default();
            Error::FewShots { path: train.path.clone(), class, found, needed: options.shots }
        })?;
    let validation = (options.validation > 0.0).then(|| all.pick(&validation));
    let picked = all.pick(&picked);
    let start = probe::start(&picked, train.classes.len(), options);
    let (_, metrics, top1) = probe::probe(&picked, validation.as_ref(), &test_rows, &start, options, watch)?;
    Ok(outcome(encoder, test, "linear_probe", metrics, pictures, top1))
}

fn rows(encoder: &Encoder<'_>, set: &EvalSet, watch: Watch<'_>) -> Result<(Rows, Pictures)> {
    let Answers::Classes(targets) = &set.answers else {
        let reason = "a probe needs a set of which each picture has one class".to_owned();
        return Err(Error::Layout { path: set.path.clone(), reason });
    };
    let pictures = encoder.pictures(set, watch)?;
    Ok((Rows { features: pictures.rows.clone(), targets: pick(targets, &pictures) }, pictures))
}

/// Each class's embedding: its sentences' embeddings, averaged and normalised again.
fn class_embeddings(encoder: &Encoder<'_>, set: &EvalSet, watch: Watch<'_>) -> Result<Matrix> {
    let mut texts = Vec::new();
    let mut ends = Vec::new();
    for class in &set.classes {
        let sentences = set.prompts.of(class);
        texts.extend(sentences.map_err(|reason| Error::Layout { path: set.path.clone(), reason })?);
        ends.push(texts.len());
    }
    let embedded = encoder.texts(&texts, watch)?;
    let width = embedded.columns();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let mean = |(start, &end): (usize, &usize)| {
        let mut sum = vec![0f32; width];
        for row in start..end {
            sum.iter_mut().zip(embedded.row(row)).for_each(|(sum, v)| *sum += v);
        }
        // The length of the sum does not matter: it is normalised.
        normalized(sum)
    };
    let values = starts.zip(&ends).flat_map(mean).collect();
    Ok(Matrix::new(set.classes.len(), width, values).expect("a row for each class"))
}

/// The answers to the pictures that have an embedding.
fn pick<T: Clone>(answers: &[T], pictures: &Pictures) -> Vec<T> {
    pictures.kept.iter().filter_map(|&i| answers.get(i).cloned()).collect()
}

fn outcome(
    encoder: &Encoder<'_>,
    set: &EvalSet,
    task: &'static str,
    metrics: Vec<Metric>,
    pictures: Pictures,
    top1: Vec<usize>,
) -> Outcome {
    let mut faults = set.faults.clone();
    faults.extend(&pictures.faults);
    Outcome {
        dataset: set.name.clone(),
        task,
        model: encoder.model().variant().name.clone(),
        metrics,
        pictures: pictures.kept.len(),
        faults,
        top1,
    }
}
