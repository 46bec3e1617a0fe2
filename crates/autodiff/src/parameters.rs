//! A model's tensors and their gradients.

use std::collections::HashMap;

use mobileclip_arch::{Form, Manifest, Role, TensorSpec, Weights};

/// Momentum of BatchNorm's running statistics (PyTorch's default, which all models of the family use).
const MOMENTUM: f64 = 0.1;

/// The train-form tensors of a model by canonical name, row-major, in the manifest's order.
#[derive(Clone, Debug)]
pub struct Parameters {
    specs: Vec<TensorSpec>,
    values: Vec<Vec<f32>>,
    is_trained: Vec<bool>,
    by_name: HashMap<String, usize>,
    /// How often each [`Role::Counter`] tensor's BatchNorm has seen a batch; f32 would stop counting at 2^24.
    counts: Vec<u64>,
}

impl Parameters {
    /// The manifest's train-form tensors with the numbers of `weights`; all parameters are trained.
    ///
    /// # Panics
    /// If a tensor of `weights` has another length than the manifest says: whoever made them has checked that.
    pub fn new(manifest: &Manifest, weights: &dyn Weights) -> Parameters {
        let specs: Vec<TensorSpec> = manifest.of_form(Form::Train).cloned().collect();
        let values: Vec<Vec<f32>> = specs.iter().map(|s| weights.f32(&s.name).into_owned()).collect();
        for (spec, values) in specs.iter().zip(&values) {
            assert_eq!(values.len() as u64, spec.elements(), "`{}`", spec.name);
        }
        let count = |(s, v): (&TensorSpec, &Vec<f32>)| if s.role == Role::Counter { v[0] as u64 } else { 0 };
        Parameters {
            is_trained: specs.iter().map(|s| s.role == Role::Parameter).collect(),
            by_name: specs.iter().enumerate().map(|(i, s)| (s.name.clone(), i)).collect(),
            counts: specs.iter().zip(&values).map(count).collect(),
            specs,
            values,
        }
    }

    /// Number of tensors, statistics and counters among them.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// The place of a name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Name, shape and role of tensor `index`.
    pub fn spec(&self, index: usize) -> &TensorSpec {
        &self.specs[index]
    }

    /// The numbers of tensor `index`. A counter's are in [`Parameters::count`].
    pub fn values(&self, index: usize) -> &[f32] {
        &self.values[index]
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index]
    }

    /// The batches that the BatchNorm of counter `index` has seen.
    pub fn count(&self, index: usize) -> u64 {
        self.counts[index]
    }

    /// Sets a counter.
    pub fn set_count(&mut self, index: usize, count: u64) {
        self.counts[index] = count;
        self.values[index].fill(count as f32);
    }

    /// Whether gradients are wanted for tensor `index`.
    pub fn is_trained(&self, index: usize) -> bool {
        self.is_trained[index]
    }

    /// Freezes or frees the parameter `index`; statistics are never trained.
    pub fn set_trained(&mut self, index: usize, trained: bool) {
        self.is_trained[index] = trained && self.specs[index].role == Role::Parameter;
    }

    /// Moves running means and variances towards a batch's, and counts it, as PyTorch does.
    pub fn apply(&mut self, statistics: &[BatchStatistics]) {
        for batch in statistics {
            let unbiased = batch.count as f64 / (batch.count.max(2) - 1) as f64;
            let moved =
                [(batch.running_mean, &batch.mean, 1.0), (batch.running_var, &batch.variance, unbiased)];
            for (index, new, factor) in moved {
                for (old, new) in self.values[index].iter_mut().zip(new) {
                    *old = ((1.0 - MOMENTUM) * f64::from(*old) + MOMENTUM * factor * new) as f32;
                }
            }
            self.set_count(batch.counter, self.counts[batch.counter] + 1);
        }
    }
}

impl Weights for Parameters {
    fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    fn f32(&self, name: &str) -> std::borrow::Cow<'_, [f32]> {
        self.index(name).map_or_else(|| panic!("no tensor `{name}`"), |i| self.values(i).into())
    }
}

/// What one BatchNorm saw of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Place of `running_mean` in [`Parameters`].
    pub running_mean: usize,
    /// Place of `running_var`.
    pub running_var: usize,
    /// Place of `num_batches_tracked`.
    pub counter: usize,
    /// Means of the channels.
    pub mean: Vec<f64>,
    /// Variances of the channels, divided by `count`.
    pub variance: Vec<f64>,
    /// Numbers of each channel.
    pub count: usize,
}

/// Sums of gradients for the trained tensors of [`Parameters`].
#[derive(Clone, Debug)]
pub struct Gradients {
    lengths: Vec<usize>,
    sums: Vec<Option<Vec<f32>>>,
    /// Memory of earlier steps.
    spare: Vec<Vec<f32>>,
}

impl Gradients {
    /// None yet.
    pub fn new(parameters: &Parameters) -> Gradients {
        let lengths: Vec<usize> = parameters.values.iter().map(Vec::len).collect();
        Gradients { sums: vec![None; lengths.len()], spare: vec![Vec::new(); lengths.len()], lengths }
    }

    /// The gradient of tensor `index`, if it got any.
    pub fn get(&self, index: usize) -> Option<&[f32]> {
        self.sums[index].as_deref()
    }

    /// What is to be added to for tensor `index`; zeros at first.
    pub fn sum(&mut self, index: usize) -> &mut [f32] {
        let (spare, len) = (&mut self.spare[index], self.lengths[index]);
        self.sums[index].get_or_insert_with(|| {
            let mut values = std::mem::take(spare);
            match values.len() {
                // New memory is zero without being touched.
                0 => values = vec![0.0; len],
                _ => values.fill(0.0),
            }
            values
        })
    }

    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        for (sum, spare) in self.sums.iter_mut().zip(&mut self.spare) {
            if let Some(sum) = sum.take() {
                *spare = sum;
            }
        }
    }
}
