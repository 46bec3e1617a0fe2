//! One number of a result.

use serde_json::Value;

use crate::interval::Interval;

/// A number with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `acc1`, `image_retrieval_recall@5`, ….
    pub name: String,
    /// The number; null where it does not exist (acc5 of four classes). Settings that stand among the metrics may be of other types.
    pub value: Value,
    /// Its confidence interval, where there is one.
    pub interval: Option<Interval>,
}

impl Metric {
    pub(crate) fn new(name: &str, value: Option<f64>, interval: Option<Interval>) -> Self {
        // A number that is not finite becomes null: results are strict JSON.
        Self { name: name.to_owned(), value: value.into(), interval }
    }

    pub(crate) fn setting(name: &str, value: impl Into<Value>) -> Self {
        Self { name: name.to_owned(), value: value.into(), interval: None }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }
}
