//! The real binary in a temporary folder, with a tiny model of formula weights.

mod caption;
mod classify;
mod common;
mod convert;
mod embed;
mod eval;
mod export;
mod hub;
mod index;
mod models;
mod nonsense;
mod precision;
mod reinforce;
mod shards;
mod tools;
#[cfg(feature = "train")]
mod train;
