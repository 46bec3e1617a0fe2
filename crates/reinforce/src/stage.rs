//! What a stage is: samples to samples, each by itself.

use mobileclip_shards::{Fault, Sample};
use serde_json::{Map, Value};

use crate::error::{Error, Failure, Result};

/// What happens to samples that a stage cannot use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBad {
    /// They are written as they are.
    #[default]
    Keep,
    /// They are left out.
    Drop,
}

impl OnBad {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Drop => "drop",
        }
    }
}

/// What became of a sample.
#[derive(Clone, Debug)]
pub enum Done {
    /// What the stage is for.
    Made(Sample),
    /// It could not be used, but stays.
    Kept(Sample, Fault),
    /// It could not be used, and is left out.
    Dropped(Fault),
    /// The stage chose to leave it out.
    Rejected,
}

/// Work on samples of which each is done by itself: what comes out must not depend on which others are in the chunk.
pub trait Stage: Sync {
    /// Everything that the output depends on besides the input; a folder is only ever continued with the same.
    fn settings(&self) -> Map<String, Value>;

    /// The samples of a chunk, in their order. Called by several threads at once.
    ///
    /// # Errors
    /// What would go wrong with any other sample as well.
    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>>;
}

/// What a failure means for the run.
pub(crate) fn settle(
    result: Result<Sample, Failure>,
    on_bad: OnBad,
    unused: impl FnOnce() -> Sample,
) -> Result<Done, Error> {
    match (result, on_bad) {
        (Ok(made), _) => Ok(Done::Made(made)),
        (Err(Failure::Error(error)), _) => Err(error),
        (Err(Failure::Fault(fault)), OnBad::Keep) => Ok(Done::Kept(unused(), fault)),
        (Err(Failure::Fault(fault)), OnBad::Drop) => Ok(Done::Dropped(fault)),
    }
}

/// The members of a JSON object.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
