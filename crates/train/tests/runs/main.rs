//! Whole runs of a small model.

mod common;
mod reinforced;
mod whole;
