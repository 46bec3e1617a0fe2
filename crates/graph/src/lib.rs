//! One tower as a graph: traced from the program of `mobileclip_arch`, then fused.
#![forbid(unsafe_code)]

mod check;
mod evaluate;
mod fuse;
mod hoist;
mod ir;
mod trace;
mod value;

pub use ir::{Graph, Node, NodeId, Op};
pub use value::Value;
