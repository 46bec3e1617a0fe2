//! CLIP's text cleaning and byte-pair encoding.
