//! CLIP's pattern: which pieces of a clean text are encoded each for itself.
//!
//! In Python, case-insensitive:
//! `<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`

use crate::unicode::{is_letter, is_number};
use crate::vocabulary::{END_OF_TEXT_NAME, START_OF_TEXT_NAME};

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// COMBINING YPOGEGRAMMENI, a mark whose capital is a letter: without regard to case it is in none of the
/// three classes, and the pattern passes over it.
const YPOGEGRAMMENI: char = '\u{345}';

/// The matches of the pattern in `text`, in order.
pub(crate) fn pieces(text: &str) -> Pieces<'_> {
    Pieces { rest: text }
}

pub(crate) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let first = self.rest.chars().next()?;
            let (piece, rest) = self.rest.split_at(match_length(self.rest, first));
            self.rest = rest;
            if !is_skipped(first) {
                return Some(piece);
            }
        }
    }
}

fn is_skipped(c: char) -> bool {
    c.is_whitespace() || c == YPOGEGRAMMENI
}

/// Length in bytes of the piece at the start of `text`, at least that of `first`, its first character.
fn match_length(text: &str, first: char) -> usize {
    let keywords: &[&str] = match first {
        '<' => &[START_OF_TEXT_NAME, END_OF_TEXT_NAME],
        '\'' => &CONTRACTIONS,
        _ => &[],
    };
    if let Some(length) = keywords.iter().find_map(|keyword| prefix_ignoring_case(text, keyword)) {
        return length;
    }
    if is_number(first) || is_skipped(first) {
        first.len_utf8()
    } else if is_letter(first) {
        text.find(|c| !is_letter(c)).unwrap_or(text.len())
    } else {
        text.find(|c| is_letter(c) || is_number(c) || is_skipped(c)).unwrap_or(text.len())
    }
}

/// Length of the start of `text` that equals `keyword` (ASCII, lower case) under simple case folding.
fn prefix_ignoring_case(text: &str, keyword: &str) -> Option<usize> {
    let mut rest = text.char_indices();
    for wanted in keyword.chars() {
        let (_, found) = rest.next()?;
        // The long s is the only character beyond ASCII that folds to a letter of a keyword.
        let is_equal = found.eq_ignore_ascii_case(&wanted) || (wanted == 's' && found == 'ſ');
        if !is_equal {
            return None;
        }
    }
    Some(rest.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        pieces(text).collect()
    }

    #[test]
    fn contractions_are_cut_off_and_digits_stand_alone() {
        assert_eq!(split("it's 2024, they'll"), ["it", "'s", "2", "0", "2", "4", ",", "they", "'ll"]);
        assert_eq!(split("x'ſ o'clock"), ["x", "'ſ", "o", "'", "clock"]);
    }

    #[test]
    fn marks_are_found_where_no_punctuation_runs_into_them() {
        assert_eq!(split("a<end_of_text>b"), ["a", "<end_of_text>", "b"]);
        assert_eq!(split("!<end_of_text>"), ["!<", "end", "_", "of", "_", "text", ">"]);
        assert_eq!(split("<ſtart_of_text>"), ["<ſtart_of_text>"]);
    }

    #[test]
    fn ypogegrammeni_vanishes_and_separates() {
        assert_eq!(split("a\u{345}b\u{345}\u{345}!\u{345}!"), ["a", "b", "!", "!"]);
    }
}
