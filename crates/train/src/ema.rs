//! An exponential moving average of the weights.

use mobileclip_arch::Role;
use mobileclip_autodiff::Parameters;

/// `average = decay · average + (1 − decay) · parameter` after every step. Statistics and counters are copied.
#[derive(Clone, Debug)]
pub struct Ema {
    decay: f64,
    average: Parameters,
}

impl Ema {
    /// Starts with these parameters.
    pub fn new(decay: f64, parameters: &Parameters) -> Ema {
        Ema { decay, average: parameters.clone() }
    }

    /// Moves the average.
    pub fn update(&mut self, parameters: &Parameters) {
        let (keep, take) = (self.decay as f32, (1.0 - self.decay) as f32);
        for index in 0..parameters.len() {
            let new = parameters.values(index);
            match parameters.spec(index).role {
                Role::Parameter => {
                    let average = self.average.values_mut(index).iter_mut();
                    average.zip(new).for_each(|(average, new)| *average = keep * *average + take * new);
                }
                Role::Statistic => self.average.values_mut(index).copy_from_slice(new),
                Role::Counter => self.average.set_count(index, parameters.count(index)),
            }
        }
    }

    /// The average.
    pub fn parameters(&self) -> &Parameters {
        &self.average
    }

    /// The average, to be restored from a checkpoint.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.average
    }
}
