//! One module a command; each has a `run` that gives the exit status.

pub mod bench;
pub mod caption;
pub mod classify;
pub mod convert;
pub mod download;
pub mod embed;
pub mod eval;
pub mod export;
pub mod index;
pub mod inspect;
pub mod manual;
pub mod models;
pub mod reinforce;
pub mod search;
pub mod shards;
pub mod tokens;
#[cfg(feature = "train")]
pub mod train;
