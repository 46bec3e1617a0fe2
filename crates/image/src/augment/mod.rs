//! Recorded augmentations: what was done to a picture before a teacher saw it, stored beside the teacher's embedding and done again
//! when a student is trained (dataset reinforcement, arXiv:2303.08983 and 2311.17049).
//!
//! A [`Config`] says which transformations there are; it is the JSON object of the published generator and trainer. [`Parameters`] are the
//! random decisions for one picture: [`Config::sample`] draws them, [`Config::replay`] carries them out, [`Config::read_paug`] and
//! [`Config::write_paug`] read and write them in the form of the published sets. Replayed pictures are byte-equal to those of
//! torchvision and Pillow (either order of its resize passes, [`Replay::pass_order`]).
//!
//! ```
//! use mobileclip_image::RgbImage;
//! use mobileclip_image::augment::{Config, Dialect, Replay};
//! let config = Config::parse(r#"{"random_resized_crop": {"size": 32, "interpolation": "bicubic"}, "rand_augment": {"p": 1.0}}"#)?;
//! let picture = RgbImage::new(50, 40, vec![200; 50 * 40 * 3])?;
//! let parameters = config.sample(7, "a195295cb62ac5f76bc328c83a0718aa", 0, (50, 40))?;
//! let augmented = config.replay(&parameters, &picture, &Replay::default())?;
//! assert_eq!((augmented.width(), augmented.height()), (32, 32));
//!
//! let stored = config.write_paug(&[parameters.clone()], Dialect::List);
//! assert_eq!(config.read_paug(stored.as_bytes())?, (vec![parameters], Dialect::List));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod draws;
mod error;
mod fields;
mod geometry;
mod json;
mod parameters;
mod paug;
mod replay;
mod sample;
mod tone;

pub use config::Config;
pub use error::Error;
pub use parameters::{CutMix, Operation, Parameters, PictureParameters, Size, Transform};
pub use paug::Dialect;
pub use replay::{MAX_PIXELS, Mixed, Replay};
