//! How captions are written.

use crate::error::{Error, Result};
use crate::scores::Filter;

/// How the next id is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Always the best.
    Greedy,
    /// By chance among those that a filter leaves.
    Sample(Filter),
    /// The best of several texts that are continued side by side. Its scores are sums of logits, as published, and there is
    /// nothing by chance.
    Beam {
        /// How many texts; published as 6 in 3 groups, which do the same each, so that it is 2 here.
        width: usize,
    },
}

/// How captions are written. The defaults are those of the published generator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How the next id is chosen.
    pub method: Method,
    /// Ids at most, start and end mark included; one more than the context at most.
    pub max_ids: usize,
    /// Ids before which no text ends, the start mark included.
    pub min_ids: usize,
    /// Scores are divided by it after the filter: below 1 for less chance, above for more.
    pub temperature: f64,
    /// Above 1, ids that are there already become less likely.
    pub repetition_penalty: f64,
    /// Seed of everything that is by chance.
    pub seed: u64,
    /// The id that a text starts with, unless it is given a beginning.
    pub start: u32,
    /// The id that ends a text.
    pub end: u32,
    /// The id that fills rows up; a text that chooses it has ended, too.
    pub pad: u32,
    /// Texts that are continued together at most.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            method: Method::Sample(Filter::TopP(0.9)),
            max_ids: 30,
            min_ids: 5,
            temperature: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
            start: 49406,
            end: 49407,
            pad: 0,
            batch: 32,
        }
    }
}

impl Settings {
    /// What contradicts itself, or a model of so many ids (`vocabulary`) and this `context`.
    pub(crate) fn check(&self, context: usize, vocabulary: usize) -> Result<()> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let problem = if self.max_ids <= self.min_ids {
            format!("at most {} ids and at least {}: there must be room", self.max_ids, self.min_ids)
        } else if self.max_ids < 2 {
            format!("captions of {} ids cannot hold a start and an end mark", self.max_ids)
        } else if self.max_ids > context + 1 {
            let most = context + 1;
            format!("captions of {} ids, this model's context of {context} allows {most}", self.max_ids)
        } else if !positive(self.temperature) {
            format!("the temperature is {}, must be above 0", self.temperature)
        } else if !positive(self.repetition_penalty) {
            format!("the repetition penalty is {}, must be above 0", self.repetition_penalty)
        } else if self.batch == 0 {
            "no text at a time".to_owned()
        } else if let Some(id) =
            [self.start, self.end, self.pad].into_iter().find(|&id| id as usize >= vocabulary)
        {
            format!("id {id} is not below the vocabulary's {vocabulary}")
        } else if let Some(problem) = self.method.problem(vocabulary) {
            problem
        } else {
            return Ok(());
        };
        Err(Error::Settings(problem))
    }
}

impl Method {
    fn problem(&self, vocabulary: usize) -> Option<String> {
        match *self {
            Self::Sample(Filter::TopP(p)) if !(p > 0.0 && p <= 1.0) => {
                Some(format!("top-p is {p}, must be above 0 and at most 1"))
            }
            Self::Sample(Filter::TopK(0)) => Some("top-k is 0, must be 1 at least".to_owned()),
            // Each text needs two candidates.
            Self::Beam { width } if width == 0 || width > 64 || 2 * width > vocabulary => {
                Some(format!("{width} beams, must be 1 to {}", 64.min(vocabulary / 2)))
            }
            _ => None,
        }
    }
}
