//! MobileCLIP image-text models: load, encode, score, index, search.

pub mod index;
pub mod table;
