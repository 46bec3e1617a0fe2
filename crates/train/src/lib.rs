//! Training: from a configuration and shards to a model.
//!
//! - [`run`] does it all, as a [`Config`] says: data, loop, checkpoints, log, the finished model.
//! - [`data`] makes samples of shards ready for batches, in an order that does not depend on threads.
//!
//! The numeric part can be used by itself:
//!
//! - [`Objective`] says what is minimised: CLIP's or SigLIP's loss, distillation from teachers, or both; summed over true and
//!   synthetic captions. For captioners: CLIP's loss and that of the next words.
//! - [`step::gradients`] runs a batch forward and backward.
//! - [`Optimiser`] moves the parameters by AdamW; [`Schedule`] gives the rate, [`Ema`] keeps an average.
#![forbid(unsafe_code)]

pub mod config;
mod curves;
pub mod data;
mod ema;
mod error;
mod groups;
mod init;
mod log;
mod loss;
mod matrix;
mod next_word;
mod optimiser;
mod rows;
mod run;
mod save;
mod schedule;
pub mod step;
mod teacher;
mod tensorboard;

pub use config::Config;
pub use ema::Ema;
pub use error::{Error, Result};
pub use log::Line;
pub use loss::{
    Captions, Contrast, Losses, Objective, ObjectiveError, Pairs, Prompts, TeacherAverage, Teachers, Weights,
};
pub use optimiser::{AdamW, Optimiser, Rule, clamp_logit_scale, has_weight_decay};
pub use rows::{Normalised, Rows};
pub use run::{Event, Helpers, Judge, Plan, Report, Resume, plan, run, variant_of};
pub use schedule::Schedule;
pub use teacher::Teacher;
