//! CLIP's text cleaning and byte-pair encoding.
//!
//! A caption goes through three stages, each a module that answers one question:
//!
//! 1. [`clean()`]: repair text that was decoded with the wrong encoding (as Python's `ftfy.fix_text` does by
//!    default), resolve HTML character references twice, collapse white space, lower the case;
//! 2. split the clean text into words, numbers and runs of punctuation, with CLIP's pattern;
//! 3. byte-pair encode each of them with CLIP's 49,408 entries, or with those of them that come first.
//!
//! The ids equal those of open_clip's `SimpleTokenizer`, with which every MobileCLIP checkpoint was trained.
//!
//! ```
//! let tokenizer = mobileclip_text::Tokenizer::new();
//! assert_eq!(tokenizer.encode("A photo of a cat"), [49406, 320, 1125, 539, 320, 2368, 49407]);
//! assert_eq!(tokenizer.encode("a photo of a cafÃ©"), tokenizer.encode("a photo of a café"));
//! assert_eq!(tokenizer.tokenize("a cat", 6), [49406, 320, 2368, 49407, 0, 0]);
//! assert_eq!(tokenizer.decode(&[320, 2368]), "a cat ");
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

mod bpe;
mod clean;
mod code_pages;
mod html;
mod repair;
mod split;
mod tokenizer;
mod unicode;
mod vocabulary;

pub use clean::clean;
pub use tokenizer::{CONTEXT_LENGTH, Tokenizer};
pub use vocabulary::{END_OF_TEXT, SMALLEST_VOCABULARY, START_OF_TEXT, VOCABULARY_SIZE};
