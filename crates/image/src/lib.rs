//! Photos to the numbers that an image tower takes: decoding, Pillow-exact resizing, preprocessing, and
//! the recorded augmentations of reinforced training ([`augment`]).
//!
//! Everything works on 8-bit RGB and is byte-equal to what Pillow and torchvision compute, which is what the models were trained with.
//!
//! ```
//! use mobileclip_image::{DecodeOptions, Preprocess, decode};
//! // A 1 x 1 GIF with one red pixel.
//! let gif = b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
//! let photo = decode(gif, &DecodeOptions::default())?;
//! let tensor = Preprocess::default().apply(&photo)?;
//! assert_eq!(tensor.len(), 3 * 224 * 224);
//! # Ok::<(), mobileclip_image::Error>(())
//! ```
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod augment;
mod decode;
mod error;
mod filter;
mod preprocess;
mod resize;
mod rgb;
mod rgba;

pub use decode::{DecodeOptions, Format, decode, decode_file};
pub use error::Error;
pub use filter::Filter;
pub use preprocess::{
    OPENAI_MEAN, OPENAI_STD, Preprocess, PreprocessCfg, ResizeMode, center_crop, shortest_size,
};
pub use resize::{MAX_SIDE, PassOrder, crop_resize, resize};
pub use rgb::{Rect, RgbImage};
pub use rgba::RgbaImage;
