//! Checkpoint files to tensors by canonical name.
//!
//! [`TensorFile`] opens one file of weights, whatever its container: safetensors, a torch zip or the legacy format that
//! `torch.save` wrote before PyTorch 1.6. The file is mapped, not read; tensors are views into the map and are decoded when
//! asked for. Pickles are read by an interpreter of our own that knows no functions, only data, so a file can do nothing but
//! be refused.
//!
//! ```
//! # fn main() -> Result<(), mobileclip_checkpoint::Error> {
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/checkpoints/zip_f16.pt");
//! let file = mobileclip_checkpoint::TensorFile::open(path)?;
//! let scale = file.get("logit_scale").expect("every CLIP has one");
//! assert_eq!(scale.shape(), &[] as &[usize]);
//! assert!((scale.to_f32()?[0] - 4.605).abs() < 1e-2);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

mod bytes;
mod checkpoint;
mod config;
mod detect;
mod dialect;
mod dtype;
mod error;
mod export;
mod file;
mod fit;
mod format;
mod hints;
mod limits;
mod locate;
mod pickle;
mod view;

pub use checkpoint::{CheckedWeights, Checkpoint, Options, PreprocessSource, Tensor};
pub use dtype::Dtype;
pub use error::{Error, Listing, Misfit, PickleError, Result};
pub use export::{FloatType, write_open_clip};
pub use file::{Container, TensorFile};
pub use limits::Limits;
pub use locate::WEIGHTS;
pub use view::TensorView;
