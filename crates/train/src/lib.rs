//! Training, the numeric part: losses with their gradients, a step over one or several micro-batches, AdamW, schedules, EMA.
//!
//! - [`Objective`] says what is minimised: CLIP's or SigLIP's loss, distillation from teachers, or both; summed over true and
//!   synthetic captions.
//! - [`step::gradients`] runs a batch forward and backward.
//! - [`Optimiser`] moves the parameters by AdamW; [`Schedule`] gives the rate, [`Ema`] keeps an average.
#![forbid(unsafe_code)]

mod ema;
mod loss;
mod matrix;
mod optimiser;
mod rows;
mod schedule;
pub mod step;

pub use ema::Ema;
pub use loss::{Captions, Contrast, Losses, Objective, ObjectiveError, Pairs, TeacherAverage, Teachers};
pub use optimiser::{AdamW, Optimiser, Rule, clamp_logit_scale, has_weight_decay};
pub use rows::{Normalised, Rows};
pub use schedule::Schedule;
