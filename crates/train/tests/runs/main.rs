//! Whole runs of a small model.

mod captioner;
mod common;
mod online;
mod reinforced;
mod whole;
