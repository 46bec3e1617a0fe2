//! Decoding, Pillow-exact resizing and preprocessing.
