//! Whole runs of a small model.

mod common;
mod online;
mod reinforced;
mod whole;
