//! Runs a [`Graph`](mobileclip_graph::Graph) on the CPU: weights packed once, plans and arenas kept for each input
//! shape, every node divided among the threads of a [`Pool`]. Bits depend neither on the number of threads nor on the
//! batch.
#![forbid(unsafe_code)]

mod attend;
mod chain;
mod decoder;
mod error;
mod layer;
mod plan;
mod precision;
mod run;
mod tower;

pub use decoder::{Decoder, Memory, Text};
pub use error::EngineError;
pub use layer::{ProductForm, product_forms};
pub use mobileclip_kernels::{FileOrder, Isa, Pool, Precision};
pub use run::end_of_text;
pub use tower::{FeatureMap, Input, Output, Tower};
