//! The tokenizer: text to ids and back.

use std::fmt;

use crate::bpe::{Scratch, encode_word};
use crate::clean::clean;
use crate::split::pieces;
use crate::unicode::is_python_space;
use crate::vocabulary::{END_OF_TEXT_NAME, Ranks, START_OF_TEXT_NAME, VOCABULARY_SIZE, Vocabulary, WORD_END};

/// Context length of the image-text models: exactly so many ids go into their text towers.
pub const CONTEXT_LENGTH: usize = 77;

/// CLIP's byte-pair encoder with the cleaning that open_clip puts before it.
///
/// Building one takes under a millisecond (the vocabulary is in the program); it can be shared between
/// threads.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    ranks: Ranks,
}

impl Tokenizer {
    /// The tokenizer of CLIP's vocabulary.
    pub fn new() -> Self {
        Tokenizer::of_size(VOCABULARY_SIZE)
    }

    /// A tokenizer of CLIP's vocabulary cut to `size` entries: all bytes, the merges that come first in the list (they are in
    /// the order of how often they were found), and the two marks, whose ids are the last. So there is no unknown word: a rare one
    /// becomes more and shorter pieces. A size under [`SMALLEST_VOCABULARY`](crate::SMALLEST_VOCABULARY) or over
    /// [`VOCABULARY_SIZE`] counts as that.
    ///
    /// ```
    /// let tokenizer = mobileclip_text::Tokenizer::of_size(4096);
    /// assert_eq!(tokenizer.encode("a cat"), [4094, 320, 2368, 4095]);
    /// let rare = tokenizer.encode("pomegranate");
    /// assert!(rare.len() > 3 && rare.iter().all(|&id| id < 4096));
    /// assert_eq!(tokenizer.decode(&rare), "<start_of_text>pomegranate <end_of_text>");
    /// ```
    pub fn of_size(size: usize) -> Self {
        let vocabulary = Vocabulary::of_size(size);
        Tokenizer { vocabulary, ranks: Ranks::new(vocabulary) }
    }

    /// Number of entries of the vocabulary; ids are smaller.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.size()
    }

    /// The ids of a text of any length, between start and end mark ([`START_OF_TEXT`](crate::START_OF_TEXT) and
    /// [`END_OF_TEXT`](crate::END_OF_TEXT) in the whole vocabulary).
    ///
    /// A `<start_of_text>` or `<end_of_text>` in the text itself becomes the mark's id, as in the reference:
    /// what follows the latter does not reach the features.
    ///
    /// ```
    /// let tokenizer = mobileclip_text::Tokenizer::new();
    /// assert_eq!(tokenizer.encode(""), [49406, 49407]);
    /// assert_eq!(tokenizer.encode("diving & snorkeling"), tokenizer.encode(" Diving &amp; Snorkeling"));
    /// ```
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = self.start_and_body(text, usize::MAX);
        ids.push(self.vocabulary.end_of_text());
        ids
    }

    /// The ids of a text, cut or padded to `context_length`: a text that is too long loses its end but keeps
    /// the end mark, a shorter one is filled with 0 (which is also the id of `!` inside a word).
    ///
    /// A `context_length` of 0 gives nothing, one of 1 the end mark alone.
    ///
    /// ```
    /// let tokenizer = mobileclip_text::Tokenizer::new();
    /// assert_eq!(tokenizer.tokenize("a cat and a dog", 4), [49406, 320, 2368, 49407]);
    /// ```
    pub fn tokenize(&self, text: &str, context_length: usize) -> Vec<u32> {
        let mut ids = self.start_and_body(text, context_length);
        ids.push(self.vocabulary.end_of_text());
        if ids.len() > context_length {
            ids.truncate(context_length);
            if let Some(last) = ids.last_mut() {
                *last = self.vocabulary.end_of_text();
            }
        }
        ids.resize(context_length, 0);
        ids
    }

    /// The text that ids stand for: their spellings joined, each end of a word a space, bytes that are not
    /// UTF-8 as U+FFFD (also for an id outside the vocabulary). The marks appear as `<start_of_text>` and
    /// `<end_of_text>`.
    ///
    /// ```
    /// let tokenizer = mobileclip_text::Tokenizer::new();
    /// let ids = tokenizer.encode("It's 5 °C");
    /// assert_eq!(tokenizer.decode(&ids), "<start_of_text>it 's 5 ° c <end_of_text>");
    /// ```
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            self.vocabulary.spell(id, &mut bytes);
        }
        String::from_utf8_lossy(&bytes).replace(WORD_END, " ")
    }

    /// The caption in a captioner's output: the first sentence without its full stop, between the last start
    /// mark and the first end mark.
    ///
    /// ```
    /// let tokenizer = mobileclip_text::Tokenizer::new();
    /// assert_eq!(tokenizer.caption(&tokenizer.tokenize("A cat on a mat. More.", 77)), "a cat on a mat");
    /// ```
    pub fn caption(&self, ids: &[u32]) -> String {
        let text = self.decode(ids);
        let before_end = text.split(END_OF_TEXT_NAME).next().unwrap_or_default();
        let after_start = before_end.rsplit(START_OF_TEXT_NAME).next().unwrap_or_default();
        let sentence = after_start.split('.').next().unwrap_or_default();
        sentence.trim_end_matches(is_python_space).to_owned()
    }

    /// Start mark and text without the end mark; words that begin behind `enough` ids are left out.
    fn start_and_body(&self, text: &str, enough: usize) -> Vec<u32> {
        let text = clean(text);
        let mut ids = vec![self.vocabulary.start_of_text()];
        let mut scratch = Scratch::default();
        for piece in pieces(&text) {
            if ids.len() >= enough {
                break;
            }
            match piece {
                START_OF_TEXT_NAME => ids.push(self.vocabulary.start_of_text()),
                END_OF_TEXT_NAME => ids.push(self.vocabulary.end_of_text()),
                word => encode_word(&self.ranks, word, &mut scratch, &mut ids),
            }
        }
        ids
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary).finish_non_exhaustive()
    }
}

impl Default for Tokenizer {
    fn default() -> Self {
        Tokenizer::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocabulary::{END_OF_TEXT, SMALLEST_VOCABULARY, START_OF_TEXT};

    #[test]
    fn a_tokenizer_is_shared_between_threads() {
        let tokenizer = Tokenizer::new();
        let expected = tokenizer.encode("a cat");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| assert_eq!(tokenizer.encode("a cat"), expected));
            }
        });
    }

    #[test]
    fn short_contexts_keep_the_end_mark() {
        let tokenizer = Tokenizer::new();
        assert_eq!(tokenizer.tokenize("a cat", 0), []);
        assert_eq!(tokenizer.tokenize("a cat", 1), [END_OF_TEXT]);
        assert_eq!(tokenizer.tokenize("a cat", 2), [START_OF_TEXT, END_OF_TEXT]);
        assert_eq!(tokenizer.tokenize("", 3), [START_OF_TEXT, END_OF_TEXT, 0]);
    }

    #[test]
    fn a_cut_vocabulary_spells_what_the_whole_one_does() {
        let whole = Tokenizer::new();
        for size in [0, SMALLEST_VOCABULARY, 1000, 8192, VOCABULARY_SIZE, usize::MAX] {
            let tokenizer = Tokenizer::of_size(size);
            assert_eq!(tokenizer.vocabulary_size(), size.clamp(SMALLEST_VOCABULARY, VOCABULARY_SIZE));
            for text in ["an espresso maker, 2 °C", "🐈 naïve", "", "<end_of_text> x"] {
                let ids = tokenizer.encode(text);
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_size()), "{size} {text}");
                assert_eq!(tokenizer.decode(&ids), whole.decode(&whole.encode(text)), "{size} {text}");
                assert_eq!(ids.last().copied(), u32::try_from(tokenizer.vocabulary_size() - 1).ok());
            }
        }
        assert_eq!(Tokenizer::of_size(usize::MAX).encode("a cat"), whole.encode("a cat"));
    }
}
