//! A linear probe as CLIP_benchmark trains it: one linear layer on frozen features, cross-entropy, AdamW with a cosine schedule; the weight decay
//! found by a search on a validation split, if there is one.

use mobileclip_shards::Matrix;

use crate::embed::{Progress, Watch, go_on};
use crate::error::Result;
use crate::interval::{Random, bootstrap, wilson};
use crate::metric::Metric;
use crate::ranks::{best, rank};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// The weight decays that are tried: 10^-6 to 10^2, evenly in the logarithm.
const DECAYS: usize = 97;
/// Those tried first, and how far from the best the next three are.
const FIRST_TRIALS: [usize; 7] = [0, 16, 32, 48, 64, 80, 96];
const SPANS: [usize; 4] = [8, 4, 2, 1];

/// How a probe is trained. The defaults are the benchmark's.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeOptions {
    /// The learning rate that the cosine starts from.
    pub rate: f64,
    /// Times that all rows are seen.
    pub epochs: usize,
    /// Rows of a step.
    pub batch: usize,
    /// Of the start weights, the order of rows, few shots and the validation split. (The benchmark's numbers of the same seed are others:
    /// they come from torch's generator.)
    pub seed: u64,
    /// Rows of each class to train on; 0 stands for all.
    pub shots: usize,
    /// The share of the training rows on which the weight decay is chosen; 0: no weight decay.
    pub validation: f64,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { rate: 0.1, epochs: 10, batch: 64, seed: 0, shots: 0, validation: 0.0 }
    }
}

/// Features with their classes.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    /// Normalised, a row each.
    pub features: Matrix,
    pub targets: Vec<usize>,
}

impl Rows {
    fn len(&self) -> usize {
        self.targets.len()
    }

    /// Rows by number.
    pub(crate) fn pick(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&row| self.features.row(row)).copied().collect();
        let features = Matrix::new(rows.len(), self.features.columns(), values);
        Self {
            features: features.expect("rows of one width"),
            targets: rows.iter().filter_map(|&row| self.targets.get(row).copied()).collect(),
        }
    }
}

/// A linear layer: `weight` is `[classes][features]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Linear {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

impl Linear {
    /// Uniform within the inverse root of the number of features, as torch starts a linear layer.
    fn start(features: usize, classes: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let bound = 1.0 / (features.max(1) as f64).sqrt();
        let mut draw = || (2.0 * random.unit() - 1.0) * bound;
        let weight = (0..features * classes).map(|_| draw()).collect();
        Self { weight, bias: (0..classes).map(|_| draw()).collect() }
    }

    fn logits(&self, row: &[f32]) -> Vec<f64> {
        let weights = self.weight.chunks_exact(row.len().max(1));
        weights.zip(&self.bias).map(|(weight, bias)| bias + dot(row, weight)).collect()
    }
}

fn dot(row: &[f32], weight: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (rows, row_rest) = row.as_chunks::<LANES>();
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    let mut sums = [0f64; LANES];
    for (row, weight) in rows.iter().zip(weights) {
        for ((sum, &x), w) in sums.iter_mut().zip(row).zip(weight) {
            *sum += f64::from(x) * w;
        }
    }
    sums.iter().sum::<f64>() + row_rest.iter().zip(weight_rest).map(|(&x, w)| f64::from(x) * w).sum::<f64>()
}

/// Moments of AdamW for one list of parameters. The decay is on all of them, the bias too.
struct AdamW {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl AdamW {
    fn new(parameters: usize) -> Self {
        Self { first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }

    /// Step number `step`, from 1.
    fn step(&mut self, parameters: &mut [f64], gradient: &[f64], rate: f64, decay: f64, step: i32) {
        let (correct1, correct2) = (1.0 - BETA1.powi(step), (1.0 - BETA2.powi(step)).sqrt());
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, g), (first, second)) in parameters.iter_mut().zip(gradient).zip(moments) {
            *parameter *= 1.0 - rate * decay;
            *first = BETA1 * *first + (1.0 - BETA1) * g;
            *second = BETA2 * *second + (1.0 - BETA2) * g * g;
            *parameter -= rate / correct1 * *first / (second.sqrt() / correct2 + EPSILON);
        }
    }
}

/// Is told of each pass over the rows.
type Tick<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Trains a layer.
fn train(rows: &Rows, start: &Linear, decay: f64, options: &ProbeOptions, tick: Tick<'_>) -> Result<Linear> {
    let width = rows.features.columns();
    let mut layer = start.clone();
    let mut of_weight = AdamW::new(layer.weight.len());
    let mut of_bias = AdamW::new(layer.bias.len());
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut random = Random::new(options.seed);
    let batch = options.batch.max(1);
    let steps = options.epochs * order.len().div_ceil(batch);
    let mut step = 0;
    for _ in 0..options.epochs {
        random.shuffle(&mut order);
        for batch in order.chunks(batch) {
            let rate =
                0.5 * options.rate * (1.0 + (std::f64::consts::PI * f64::from(step) / steps as f64).cos());
            step += 1;
            let mut weight = vec![0.0; layer.weight.len()];
            let mut bias = vec![0.0; layer.bias.len()];
            for &row in batch {
                let features = rows.features.row(row);
                let target = rows.targets.get(row).copied().unwrap_or(usize::MAX);
                let errors = softmax_error(layer.logits(features), target, batch.len());
                let parts = weight.chunks_exact_mut(width.max(1)).zip(&mut bias).zip(errors);
                for ((weight, bias), error) in parts {
                    weight.iter_mut().zip(features).for_each(|(w, &x)| *w += error * f64::from(x));
                    *bias += error;
                }
            }
            of_weight.step(&mut layer.weight, &weight, rate, decay, step);
            of_bias.step(&mut layer.bias, &bias, rate, decay, step);
        }
        tick()?;
    }
    Ok(layer)
}

/// The gradient of the mean cross-entropy by one row's logits.
fn softmax_error(mut logits: Vec<f64>, target: usize, batch: usize) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logits.iter_mut().for_each(|logit| *logit = (*logit - max).exp());
    let sum: f64 = logits.iter().sum();
    let scale = 1.0 / batch as f64;
    for (class, value) in logits.iter_mut().enumerate() {
        *value = (*value / sum - f64::from(u8::from(class == target))) * scale;
    }
    logits
}

/// The answer to each row, and how many classes stand before the right one.
fn answers(layer: &Linear, rows: &Rows) -> (Vec<usize>, Vec<usize>) {
    let of = |row: usize| {
        let logits: Vec<f32> = layer.logits(rows.features.row(row)).iter().map(|&v| v as f32).collect();
        (best(&logits), rank(&logits, rows.targets.get(row).copied().unwrap_or(usize::MAX)))
    };
    (0..rows.len()).map(of).unzip()
}

fn acc1(layer: &Linear, rows: &Rows) -> f64 {
    let (_, ranks) = answers(layer, rows);
    ranks.iter().filter(|&&rank| rank == 0).count() as f64 / rows.len().max(1) as f64
}

/// One try of the search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    pub decay: f64,
    pub acc1: f64,
}

/// The weight decay that is best on the validation rows: every sixteenth of the 97, then closer and closer around the best.
pub(crate) fn search_decay(
    train_rows: &Rows,
    validation: &Rows,
    start: &Linear,
    options: &ProbeOptions,
    tick: Tick<'_>,
) -> Result<(f64, Vec<Trial>)> {
    let decay = |i: usize| 10f64.powf(-6.0 + 8.0 * i as f64 / (DECAYS - 1) as f64);
    let mut trials = Vec::new();
    let mut peak = |candidates: &[usize]| -> Result<usize> {
        let mut best = (0, 0.0);
        for &i in candidates {
            let acc1 = acc1(&train(train_rows, start, decay(i), options, tick)?, validation);
            trials.push(Trial { decay: decay(i), acc1 });
            if acc1 > best.1 {
                best = (i, acc1);
            }
        }
        Ok(best.0)
    };
    let mut at = peak(&FIRST_TRIALS)?;
    for span in SPANS {
        at = peak(&[at.saturating_sub(span), at, (at + span).min(DECAYS - 1)])?;
    }
    Ok((decay(at), trials))
}

/// Trains on some rows and answers others: the benchmark's metrics, and the classes answered.
pub(crate) fn probe(
    train_rows: &Rows,
    validation: Option<&Rows>,
    test: &Rows,
    start: &Linear,
    options: &ProbeOptions,
    watch: Watch<'_>,
) -> Result<(Linear, Vec<Metric>, Vec<usize>)> {
    let trials = validation.map_or(0, |_| FIRST_TRIALS.len() + 3 * SPANS.len());
    let (mut done, total) = (0, (trials + 1) * options.epochs);
    let tick = &mut || {
        done += 1;
        go_on(watch(Progress { what: "passes", done, total, failed: 0 }))
    };
    let (decay, last) = match validation {
        None => (0.0, train_rows.clone()),
        Some(validation) => {
            let (decay, _) = search_decay(train_rows, validation, start, options, tick)?;
            // The last training takes all rows; few shots stay few.
            (decay, if options.shots > 0 { train_rows.clone() } else { join(train_rows, validation) })
        }
    };
    let layer = train(&last, start, decay, options, tick)?;
    let (top1, ranks) = answers(&layer, test);
    let total = test.len();
    let hits = |k: usize| ranks.iter().filter(|&&rank| rank < k).count();
    // Six classes and more, by the highest label that occurs: another rule than zero-shot classification's.
    let has_acc5 = test.targets.iter().any(|&target| target >= 5);
    let share = |name: &str, k: usize| {
        Metric::new(name, Some(hits(k) as f64 / total.max(1) as f64), wilson(hits(k), total))
    };
    let classes = layer.bias.len();
    let is_right: Vec<bool> = top1.iter().zip(&test.targets).map(|(a, b)| a == b).collect();
    let all: Vec<usize> = (0..total).collect();
    let recall =
        |drawn: &[usize]| crate::classification::mean_recall(&is_right, &test.targets, classes, drawn);
    let decay = match validation {
        None => serde_json::Value::from(0),
        Some(_) => decay.into(),
    };
    let shots = if options.shots > 0 { i64::try_from(options.shots).unwrap_or(i64::MAX) } else { -1 };
    let metrics = vec![
        share("lp_acc1", 1),
        if has_acc5 { share("lp_acc5", 5) } else { Metric::new("lp_acc5", None, None) },
        Metric::new("lp_mean_per_class_recall", recall(&all), bootstrap(total, recall)),
        Metric::setting("weight_decay", decay),
        Metric::setting("epochs", options.epochs),
        Metric::setting("seed", options.seed),
        Metric::setting("fewshot_k", shots),
        Metric::setting("normalized", true),
    ];
    Ok((layer, metrics, top1))
}

/// A layer for these rows, at its start.
pub(crate) fn start(rows: &Rows, classes: usize, options: &ProbeOptions) -> Linear {
    Linear::start(rows.features.columns(), classes, options.seed)
}

fn join(a: &Rows, b: &Rows) -> Rows {
    let values = a.features.values().iter().chain(b.features.values()).copied().collect();
    let features = Matrix::new(a.len() + b.len(), a.features.columns(), values);
    let targets = a.targets.iter().chain(&b.targets).copied().collect();
    Rows { features: features.expect("rows of one width"), targets }
}

/// Numbers of the rows to train on, and of those to choose the weight decay on.
///
/// # Errors
/// A class of which there are too few for the shots asked for, and how many there are.
pub(crate) fn split(
    targets: &[usize],
    classes: usize,
    options: &ProbeOptions,
) -> std::result::Result<(Vec<usize>, Vec<usize>), (usize, usize)> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    Random::new(options.seed).shuffle(&mut order);
    let validation = (targets.len() as f64 * options.validation.clamp(0.0, 1.0)).round() as usize;
    let mut train = order.split_off(validation);
    if options.shots > 0 {
        let mut taken = vec![0usize; classes];
        train.retain(|&row| {
            let target = targets.get(row).copied().unwrap_or(usize::MAX);
            let Some(taken) = taken.get_mut(target).filter(|taken| **taken < options.shots) else {
                return false;
            };
            *taken += 1;
            true
        });
        if let Some(class) = taken.iter().position(|&taken| taken < options.shots) {
            return Err((class, taken.get(class).copied().unwrap_or_default()));
        }
    }
    Ok((train, order))
}
