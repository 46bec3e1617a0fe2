//! Whole runs with toy teachers on real photos.

mod common;
mod damage;
mod embeddings;
mod preview;
mod reruns;
mod workers;
