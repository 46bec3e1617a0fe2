//! What the tests of all crates share: formula weights, golden readers, toy models, comparison. A dev-dependency only.
#![forbid(unsafe_code)]

pub mod captioner;
pub mod compare;
pub mod formula;
pub mod golden;
pub mod toys;
