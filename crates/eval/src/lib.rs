//! How good a model is on local data: zero-shot classification, retrieval, and linear probes on its features, with the definitions of
//! [CLIP_benchmark](https://github.com/LAION-AI/CLIP_benchmark), and result files of its form and of DataComp's.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use mobileclip_eval::{Encoder, EvalSet, SetOptions, benchmark_json, zero_shot};
//!
//! let model = mobileclip::Model::load("MobileCLIP2-S0")?;
//! let set = EvalSet::open("data/cifar10-test".as_ref(), &SetOptions::default())?;
//! let outcome = zero_shot(&Encoder::new(&model, None), &set, &[1, 5, 10], &mut |_| ControlFlow::Continue(()))?;
//! println!("{}", benchmark_json(&outcome, "MobileCLIP2-S0"));
//! # Ok::<(), mobileclip_eval::Error>(())
//! ```
#![forbid(unsafe_code)]

mod classification;
mod compare;
mod embed;
mod error;
mod evaluate;
mod interval;
mod metric;
mod probe;
mod prompts;
mod ranks;
mod results;
mod retrieval;
mod set;
mod store;
mod suite;

#[cfg(test)]
mod golden_tests;

pub use compare::{Difference, compare};
pub use embed::{Encoder, Progress, Watch};
pub use error::{Error, Result};
pub use evaluate::{Outcome, linear_probe, zero_shot};
pub use interval::Interval;
pub use metric::Metric;
pub use probe::ProbeOptions;
pub use prompts::{DEFAULT_TEMPLATE, Prompts};
pub use results::{ResultLine, append_line, benchmark_json, benchmark_name, read_lines, read_results};
pub use set::{EvalSet, SetOptions, Task};
pub use store::EmbeddingStore;
pub use suite::{Average, Suite, SuiteSet};
