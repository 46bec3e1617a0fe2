//! Captions of pictures: a CoCa model's texts continued id by id, with what was computed of them kept. The rules are those of
//! open_clip's `generate` at the version that the published generator of captions pins.
#![forbid(unsafe_code)]

mod beam;
mod captioner;
mod error;
mod random;
mod sample;
mod scores;
mod settings;

pub use captioner::{Captioner, Picture, Request};
pub use error::{Error, Result};
pub use scores::{Filter, adjust};
pub use settings::{Method, Settings};
