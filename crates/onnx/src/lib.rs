//! The reading of a graph that writes it as an ONNX model, for runtimes other than ours.
//!
//! [`Settings`] say what the model takes and gives, [`write()`] makes the file. Weights go from the checkpoint into the file one
//! tensor at a time, so that writing needs no more memory than the largest of them.
//!
//! - Operators are those of opset 17 ([`OPSET`]), or 18 ([`OPSET_WITH_PICTURES`]) where pictures are resized inside.
//! - The batch is dynamic. Height and width, or the number of tokens, are those of the settings.
//! - Feature maps are `[N, C, H, W]`, tokens `[N, T, D]`.
//! - Names of nodes and constants come from the canonical names of the checkpoint. A linear layer on tokens has a `matrix`,
//!   `[inputs, outputs]`, where the checkpoint has a `weight`, `[outputs, inputs]`.
#![forbid(unsafe_code)]

mod attention;
mod builder;
mod error;
mod pictures;
pub mod proto;
mod translate;
mod write;

pub use builder::Settings;
pub use error::{Error, Result};
pub use pictures::{Pictures, PixelOrder};
pub use write::{Written, write};

/// The operators' version of a model that takes pixels or ids.
pub const OPSET: i64 = 17;
/// The operators' version of a model that takes pictures: the first with an antialiased `Resize`.
pub const OPSET_WITH_PICTURES: i64 = 18;
/// The version of the format that goes with both.
pub(crate) const IR_VERSION: i64 = 8;
