//! Whole runs with toy teachers on real photos.

mod common;
mod damage;
mod embeddings;
mod reruns;
mod workers;
