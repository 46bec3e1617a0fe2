//! MobileCLIP image-text models: load a checkpoint, encode pictures and texts, compare them, search a
//! folder of photos.
//!
//! ```no_run
//! use mobileclip::{Labels, Model};
//!
//! let model = Model::load("MobileCLIP2-S0")?; // or a directory, a .pt, a .safetensors file
//! let labels = Labels::embed(&model, &["cat".into(), "dog".into()], &["a photo of a {}".into()])?;
//! let photo = model.encode_file("photo.jpg".as_ref())?;
//! for score in labels.scores(&model, &photo) {
//!     println!("{:5.1} % {}", 100.0 * score.probability, score.label);
//! }
//! # Ok::<(), mobileclip::Error>(())
//! ```
#![forbid(unsafe_code)]

mod batch;
mod caption;
mod deploy;
mod error;
mod fingerprint;
pub mod index;
mod inspect;
mod label_cache;
mod model;
mod onnx;
mod scopes;
mod source;
pub mod table;
mod zero_shot;

pub use caption::{CaptionOptions, CaptionWriter};
pub use deploy::{DeployOptions, write_deploy, write_deploy_with};
pub use error::{Error, Result};
pub use inspect::{Inspection, PreprocessFacts};
pub use label_cache::{LabelCache, cache_folder};
pub use mobileclip_arch::{Form, Manifest, Shape, Tower as Which, Variant, variant, variants};
pub use mobileclip_captioner::{Filter, Method, Settings as CaptionSettings};
pub use mobileclip_checkpoint::{Checkpoint, FloatType, write_open_clip};
pub use mobileclip_engine::{FeatureMap, Input, Precision, Tower};
pub use mobileclip_hub as hub;
pub use mobileclip_image::{self as image, DecodeOptions, RgbImage};
pub use mobileclip_onnx::PixelOrder;
pub use mobileclip_text::Tokenizer;
pub use model::{FeatureExtractor, LoadOptions, Model, locate, normalized, open_checkpoint};
pub use onnx::OnnxOptions;
pub use zero_shot::{DEFAULT_TEMPLATE, Labels, Score};
