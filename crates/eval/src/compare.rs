//! Two result files side by side.

use std::path::Path;

use crate::error::Result;
use crate::results::read_results;

/// A metric that at least one of two files has.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The set.
    pub dataset: String,
    /// The metric.
    pub metric: String,
    /// Its value in the first file.
    pub a: Option<f64>,
    /// Its value in the second file.
    pub b: Option<f64>,
}

/// All metrics of two result files of either kind, by set and name.
///
/// # Errors
/// If a file cannot be read.
pub fn compare(a: &Path, b: &Path) -> Result<Vec<Difference>> {
    let (a, b) = (read_results(a)?, read_results(b)?);
    let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
    keys.sort();
    keys.dedup();
    let of = |key: &(String, String)| Difference {
        dataset: key.0.clone(),
        metric: key.1.clone(),
        a: a.get(key).copied(),
        b: b.get(key).copied(),
    };
    Ok(keys.into_iter().map(of).collect())
}
