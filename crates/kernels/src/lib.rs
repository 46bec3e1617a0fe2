//! SIMD compute: one text per kernel over an instruction-set trait.

pub mod jpeg;
