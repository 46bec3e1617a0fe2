//! Confidence intervals of 95 %.
//!
//! A share of pictures that are answered independently of each other gets Wilson's score interval, which is right for shares near 0 and 1
//! too. A mean over classes, and a share of captions of which several belong to one picture, get the percentile bootstrap over pictures:
//! 1,000 resamples from a fixed seed, so that a result is the same each time.

use serde::{Deserialize, Serialize};

/// The normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;
const RESAMPLES: usize = 1000;
const SEED: u64 = 0x6d6f_6269_6c65_636c;

/// Between these the value lies, with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Wilson's score interval of `hits` among `total`.
pub(crate) fn wilson(hits: usize, total: usize) -> Option<Interval> {
    if total == 0 {
        return None;
    }
    let (n, p) = (total as f64, hits as f64 / total as f64);
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some(Interval { low: ((centre - half) / scale).max(0.0), high: ((centre + half) / scale).min(1.0) })
}

/// The percentile bootstrap of a statistic of units that are drawn with replacement; `statistic` is given the drawn units' numbers.
pub(crate) fn bootstrap(
    units: usize,
    mut statistic: impl FnMut(&[usize]) -> Option<f64>,
) -> Option<Interval> {
    if units == 0 {
        return None;
    }
    let mut random = Random::new(SEED);
    let mut drawn = vec![0; units];
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.iter_mut().for_each(|unit| *unit = random.below(units));
        values.extend(statistic(&drawn));
    }
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied();
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

/// Splitmix64 (Steele, Lea & Flood 2014): the same numbers everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is above 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // The high half of a product: its bias of 2^-64 n is beyond notice.
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number of [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Puts items in random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R: `prop.test(8, 10, correct = FALSE)`, and Brown, Cai and DasGupta 2001 for 0 of n: high = z² / (n + z²).
    #[test]
    fn wilson_is_wilsons() {
        let some = wilson(8, 10).unwrap();
        assert!((some.low - 0.490_162_5).abs() < 1e-6 && (some.high - 0.943_317_8).abs() < 1e-6, "{some:?}");
        let none = wilson(0, 20).unwrap();
        assert!(none.low == 0.0 && (none.high - Z * Z / (20.0 + Z * Z)).abs() < 1e-12);
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn the_bootstrap_of_a_share_is_near_wilsons() {
        let share = |drawn: &[usize]| Some(drawn.iter().filter(|&&unit| unit < 300).count() as f64 / 1000.0);
        let found = bootstrap(1000, share).unwrap();
        let expected = wilson(300, 1000).unwrap();
        assert!(
            (found.low - expected.low).abs() < 5e-3 && (found.high - expected.high).abs() < 5e-3,
            "{found:?}"
        );
        assert_eq!(bootstrap(1000, share).unwrap(), found);
    }

    #[test]
    fn a_shuffle_keeps_all() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::new(1).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
