//! The learning rate as a function of the step, as open_clip's schedules.

/// How the rate goes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Cosine,
    Constant { cooldown_steps: u64, power: f64, end: f64 },
}

/// A rate for every step, counted from 0: a linear warm-up, then a curve.
///
/// ```
/// let schedule = mobileclip_train::Schedule::cosine(1e-3, 10, 100);
/// assert_eq!(schedule.rate(9), 1e-3);
/// assert!(schedule.rate(100) < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    base: f64,
    warmup: u64,
    total: u64,
    shape: Shape,
}

impl Schedule {
    /// Half a cosine from `base` down to 0 at step `total`.
    pub fn cosine(base: f64, warmup: u64, total: u64) -> Schedule {
        Schedule { base, warmup, total, shape: Shape::Cosine }
    }

    /// `base` to the end.
    pub fn constant(base: f64, warmup: u64, total: u64) -> Schedule {
        Schedule::cooldown(base, warmup, total, 0, 1.0, 0.0)
    }

    /// `base`, and in the last steps a polynomial of this power down to `end`.
    pub fn cooldown(
        base: f64,
        warmup: u64,
        total: u64,
        cooldown_steps: u64,
        power: f64,
        end: f64,
    ) -> Schedule {
        Schedule { base, warmup, total, shape: Shape::Constant { cooldown_steps, power, end } }
    }

    /// The rate of a step.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.base * (step + 1) as f64 / self.warmup as f64;
        }
        match self.shape {
            Shape::Cosine => {
                let part = (step - self.warmup) as f64 / self.total.saturating_sub(self.warmup).max(1) as f64;
                0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos()) * self.base
            }
            Shape::Constant { cooldown_steps, power, end } => {
                let start = self.total.saturating_sub(cooldown_steps);
                if step < start || cooldown_steps == 0 {
                    return self.base;
                }
                let part = (step - start) as f64 / (self.total - start).max(1) as f64;
                (1.0 - part.min(1.0)).powf(power) * (self.base - end) + end
            }
        }
    }
}
