//! The model family, written once as a program over a small set of operations.
