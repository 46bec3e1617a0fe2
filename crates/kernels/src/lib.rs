//! SIMD compute: one text per kernel over an instruction-set trait.
//!
//! - [`Isa`] says which instruction set runs a kernel; it exists only where the processor has it.
//! - Feature maps and token matrices are blocked, `[ceil(C/16)][pixels][16]`: [`Map`] describes one, [`MapRef`] and
//!   [`MapMut`] are views of a part of one, [`Tiles`] and [`Chunks`] hand parts to the threads of a [`Pool`].
//! - Products are of f32, bf16 or bytes ([`Precision`]); sums and everything else are f32.
//! - Weights are packed once for an instruction set: [`PackedGemm`], [`PackedConv`], [`Depthwise`], [`LayerNorm`].
//!   [`Attention`] has none; element-wise functions are [`activate`], [`add`], [`scale_channels`], [`mean`], …
//! - Gradients for training: [`WeightGradient`], [`depthwise_weight_gradient`] (whose input's gradient is a convolution again:
//!   [`spread`], [`sum_pairs`]), [`LayerNorm::gradient`], [`Attention::gradient`], [`activate_gradient`], the sums and [`blend`]s
//!   of channels that BatchNorm is made of, and the optimiser's [`AdamW`].
//! - [`jpeg`] has the inner loops of the decoder, [`tone`] those of changes of colour.
//!
//! Every public function is safe: it checks the shapes once, before the loops. Bits never depend on how the work is divided
//! among threads, except where a function says so.

mod activation;
mod attention;
mod buffer;
mod channels;
mod conv;
mod depthwise;
mod gemm;
mod isa;
pub mod jpeg;
mod map;
mod norm;
mod optimiser;
mod peak;
mod pointwise;
mod pool;
mod relayout;
pub mod resize;
mod simd;
mod tiles;
pub mod tone;

pub use activation::Activation;
pub use attention::Attention;
pub use buffer::{Buffer, SharedNumbers};
pub use channels::{Centered, Term, activate_gradient, add_products, add_sums, blend, moments};
pub use conv::{ConvInput, ConvShape, PackedConv};
pub use depthwise::{Depthwise, DepthwiseShape, depthwise_weight_gradient, spread, sum_pairs};
pub use gemm::gradient::WeightGradient;
pub use gemm::{FileOrder, PackedGemm, Residual};
pub use isa::{Isa, Precision};
pub use map::{Map, MapMut, MapRef};
pub use norm::LayerNorm;
pub use optimiser::{AdamW, sum_of_squares};
pub use peak::{peak_gflops, peak_gflops_of};
pub use pointwise::{activate, add, add_assign, copy, mean, scale_channels, scale_channels_in_place};
pub use pool::Pool;
pub use relayout::{
    gather_rows, pack_planar, pack_rows, read_pixel, unpack_planar, unpack_rows, write_pixel,
};
pub use simd::LANES;
pub use tiles::{Chunks, MAX_TILES, Tiles};
