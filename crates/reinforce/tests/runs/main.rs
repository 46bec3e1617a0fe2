//! Whole runs with toy teachers on real photos.

mod common;
mod embeddings;
mod reruns;
