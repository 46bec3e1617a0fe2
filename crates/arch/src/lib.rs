//! The MobileCLIP family, written once as a program over a small set of operations, and the two readings that need
//! nothing else: [`Manifest`] (what a checkpoint holds) and [`Reference`] (the numbers, slowly, in double precision).
//!
//! ```
//! let variant = mobileclip_arch::variant("MobileCLIP2-S0").unwrap();
//! let manifest = mobileclip_arch::Manifest::of(variant);
//! assert_eq!(manifest.parameters(mobileclip_arch::Form::Train, None), 74_835_073);
//! ```
#![forbid(unsafe_code)]

mod array;
mod coca;
mod manifest;
mod mci;
mod model;
mod names;
mod ops;
mod reference;
mod resample;
mod text;
mod transformer;
mod variant;
mod vit;
mod weights;

pub use array::Array;
pub use coca::{Coca, Encoded};
pub use manifest::{Form, Manifest, Role, TensorSpec};
pub use model::Tower;
pub use names::Names;
pub use ops::{
    Activation, Attention, Conv, Linear, Ops, PAD, Part, Positions, Resample, Seen, Shape, StepOps, Take,
    class_sees,
};
pub use reference::Reference;
pub use resample::{resample, resize_text_positions};
pub use variant::{
    AttentionNorm, Blocks, Captioner, ClipVit, Dialect, Image, Interpolation, Mci, Mixer, Preprocess,
    ResizeMode, Stem, Text, TimmVit, Variant, VariantError, variant, variants,
};
pub use weights::{Packed, Weights};
