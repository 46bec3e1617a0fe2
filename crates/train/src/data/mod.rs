//! Samples of shards to batches: in an order that is a function of (seed, epoch, sample), decoded ahead by threads.

mod captions;
mod classes;
mod crop;
mod loader;
mod order;
mod source;

pub use loader::{Loader, Position};
pub use source::{Item, Skip, Source};
