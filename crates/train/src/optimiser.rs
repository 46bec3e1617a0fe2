//! AdamW over all parameters of a model, with clipping by the global norm.

use std::sync::{Mutex, PoisonError};

use mobileclip_autodiff::{Gradients, Parameters};
use mobileclip_kernels::{self as kernels, Isa, Pool};

/// The largest logarithm of a logit scale.
const LARGEST_LOG_SCALE: f32 = 4.605_170_2; // ln 100

/// Numbers of a task.
const CHUNK: usize = 1 << 16;

/// AdamW's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the divisor.
    pub eps: f64,
    /// Weight decay of those that have it, see [`has_weight_decay`].
    pub weight_decay: f64,
}

impl AdamW {
    /// The published trainer's defaults for a model's name: those of the vision transformers if it has "vit" in it.
    pub fn for_model(name: &str) -> AdamW {
        let is_vit = name.to_lowercase().contains("vit");
        let (beta2, eps) = if is_vit { (0.98, 1e-6) } else { (0.999, 1e-8) };
        AdamW { beta1: 0.9, beta2, eps, weight_decay: 0.2 }
    }
}

/// The published trainer's rule: none for vectors and scalars, nor for names with `bn`, `ln`, `bias` or `logit_scale` in them.
pub fn has_weight_decay(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && !["bn", "ln", "bias", "logit_scale"].iter().any(|part| name.contains(part))
}

/// How one parameter is moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Factor of the learning rate.
    pub rate: f64,
    /// Factor of the weight decay.
    pub decay: f64,
}

impl Rule {
    /// The full rate, and decay by [`has_weight_decay`].
    pub fn published(name: &str, shape: &[usize]) -> Rule {
        Rule { rate: 1.0, decay: if has_weight_decay(name, shape) { 1.0 } else { 0.0 } }
    }
}

/// AdamW's state for all parameters.
#[derive(Clone, Debug)]
pub struct Optimiser {
    adamw: AdamW,
    steps: u64,
    rules: Vec<Rule>,
    /// Means of gradients and of their squares, for each parameter.
    means: Vec<[Vec<f32>; 2]>,
}

impl Optimiser {
    /// A state of zeros; `rule` is asked for the name and shape of every tensor.
    pub fn new(adamw: AdamW, parameters: &Parameters, rule: impl Fn(&str, &[usize]) -> Rule) -> Optimiser {
        let specs = (0..parameters.len()).map(|i| parameters.spec(i));
        let rules = specs.map(|spec| rule(&spec.name, &spec.shape)).collect();
        let zeros = |i: usize| {
            let len = if parameters.is_trained(i) { parameters.values(i).len() } else { 0 };
            [vec![0.0; len], vec![0.0; len]]
        };
        Optimiser { adamw, steps: 0, rules, means: (0..parameters.len()).map(zeros).collect() }
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The means of parameter `index`'s gradients and of their squares; empty if it is not trained.
    pub fn state(&self, index: usize) -> [&[f32]; 2] {
        self.means[index].each_ref().map(Vec::as_slice)
    }

    /// The same, to be restored from a checkpoint.
    pub fn state_mut(&mut self, index: usize) -> [&mut [f32]; 2] {
        self.means[index].each_mut().map(Vec::as_mut_slice)
    }

    /// Restores the count of steps.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Moves the parameters that have a gradient. Gradients longer than `clip`, all together, are scaled to it. Returns their
    /// length before that.
    ///
    /// # Panics
    /// If a parameter has a gradient that had none to be trained for when the state was made.
    pub fn step(
        &mut self,
        pool: &Pool,
        isa: Isa,
        parameters: &mut Parameters,
        gradients: &Gradients,
        rate: f64,
        clip: Option<f64>,
    ) -> f64 {
        let norm = global_norm(pool, isa, gradients, parameters.len());
        let factor = clip.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0));
        self.steps += 1;
        let AdamW { beta1, beta2, eps, weight_decay } = self.adamw;
        // f64 powers are exact enough for any count of steps: beyond some thousands they are 0.
        let of_steps = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        for (index, (rule, means)) in self.rules.iter().zip(&mut self.means).enumerate() {
            let Some(gradient) = gradients.get(index) else { continue };
            let rate = rate * rule.rate;
            let update = kernels::AdamW {
                gradient_scale: factor,
                keep: 1.0 - rate * weight_decay * rule.decay,
                beta1,
                beta2,
                step: rate / of_steps(beta1),
                root: of_steps(beta2).sqrt(),
                eps,
            };
            let [mean, square] = means;
            assert_eq!(mean.len(), gradient.len(), "state of `{}`", parameters.spec(index).name);
            let chunks = parameters
                .values_mut(index)
                .chunks_mut(CHUNK)
                .zip(gradient.chunks(CHUNK))
                .zip(mean.chunks_mut(CHUNK).zip(square.chunks_mut(CHUNK)));
            let chunks = Mutex::new(chunks);
            let next = || chunks.lock().unwrap_or_else(PoisonError::into_inner).next();
            pool.run(|_| {
                while let Some(((values, gradient), (mean, square))) = next() {
                    update.run(isa, values, gradient, mean, square);
                }
            });
        }
        norm
    }
}

/// The length of all gradients as one vector.
fn global_norm(pool: &Pool, isa: Isa, gradients: &Gradients, count: usize) -> f64 {
    let chunks: Vec<&[f32]> =
        (0..count).filter_map(|i| gradients.get(i)).flat_map(|g| g.chunks(CHUNK)).collect();
    let mut sums = vec![0.0; chunks.len()];
    crate::matrix::for_rows(pool, &mut sums, 1, |i, sum| sum[0] = kernels::sum_of_squares(isa, chunks[i]));
    sums.iter().sum::<f64>().sqrt()
}

/// Keeps the stored logarithm of the logit scale within [0, ln 100], as after every published step.
pub fn clamp_logit_scale(parameters: &mut Parameters) {
    if let Some(index) = parameters.index("logit_scale") {
        parameters.values_mut(index).iter_mut().for_each(|v| *v = v.clamp(0.0, LARGEST_LOG_SCALE));
    }
}
