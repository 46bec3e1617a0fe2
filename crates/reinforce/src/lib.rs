//! Shards to reinforced shards (multi-modal reinforcement, arXiv:2311.17049): what strong teachers think of pictures and captions is
//! computed once and stored, so that small models learn it for free.
//!
//! A [`Stage`] makes samples of samples: [`Captioning`] writes synthetic captions, [`Filtering`] keeps samples whose captions fit, [`Embeddings`]
//! augments pictures and records what teachers make of them. [`run`] sends a list of
//! shards through a stage by several threads. Its output depends on the samples and the stage's settings alone: a shard appears whole or
//! not at all, with the same bytes whoever makes it, so a rerun goes on where the last one stopped.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use mobileclip::{LoadOptions, Model};
//! use mobileclip_reinforce::{Augmentations, Captions, Effort, Embeddings, OnBad, Output, Teachers, run};
//! use mobileclip_shards::{ArrayType, expand};
//!
//! let options = LoadOptions { threads: 1, ..LoadOptions::default() };
//! let teachers = Teachers::new(vec![Model::open("teacher".as_ref(), &options)?])?;
//! let published = Augmentations::published(teachers.side());
//! let augmentations = Augmentations::new(published, "default".as_ref(), 10, 0, Default::default())?;
//! let (captions, dtype, on_bad) = (Captions::Text, ArrayType::F32, OnBad::Keep);
//! let stage = Embeddings { teachers, augmentations, captions, synthetic: None, dtype, on_bad };
//! stage.rehearse()?;
//! let effort = Effort { threads: 2, chunk: 16 };
//! let output = Output::new("reinforced", effort);
//! let report = run(&stage, &expand(&["shards/{00000..00019}.tar"])?, &output, &mut |_| ControlFlow::Continue(()))?;
//! println!("{} samples", report.counts.made);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod alive;
mod augmentations;
mod captioning;
mod embeddings;
mod error;
mod filtering;
mod folder;
mod lease;
mod pipeline;
mod preview;
mod run;
pub mod schedule;
mod stage;
mod teachers;
mod verify;

pub use augmentations::Augmentations;
pub use captioning::Captioning;
pub use embeddings::{Captions, Embeddings};
pub use error::{Error, Result};
pub use filtering::Filtering;
pub use folder::{CONFIG, MANIFEST, Naming, Note, Packing};
pub use pipeline::{Counts, Effort};
pub use preview::{contact_sheet, write_sheet};
/// The type of [`Embeddings::synthetic`].
pub use regex::Regex;
pub use run::{Event, Output, Progress, Report, run};
pub use stage::{Done, OnBad, Stage};
pub use teachers::Teachers;
pub use verify::{Cosines, Verification, recorded_augmentations, verify};
