//! MobileCLIP image-text models: load, encode, score, index, search.
