//! Does a text look like mojibake? The heuristic of ftfy's `badness.py`: juxtapositions of characters that
//! are likelier to come from a wrong encoding than from a writer.

use super::mojibake::{
    ASCII_LOWER, ASCII_UPPER, BAD, BOX, C1, COMMON, CURRENCY, Classes, END_PUNCTUATION, KAOMOJI, LAW,
    LOWER_ACCENTED, LOWER_COMMON, NUMERIC, SPACE, START_PUNCTUATION, UPPER_ACCENTED, UPPER_COMMON, lookup,
};
use crate::unicode::is_python_word;

const ACCENTED: Classes = LOWER_ACCENTED | UPPER_ACCENTED;
const ASCII_LETTER: Classes = ASCII_LOWER | ASCII_UPPER;
const PUNCTUATION: Classes = START_PUNCTUATION | END_PUNCTUATION;
const SUSPECT: Classes = ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW;

/// Two neighbours that should not be.
const PAIRS: [(Classes, Classes); 10] = [
    (BAD | SUSPECT, BAD),
    (BAD, SUSPECT),
    (LOWER_ACCENTED | LOWER_COMMON | BOX | END_PUNCTUATION | CURRENCY | NUMERIC, UPPER_ACCENTED),
    (BOX | END_PUNCTUATION | CURRENCY | NUMERIC, LOWER_ACCENTED),
    (LOWER_ACCENTED | BOX | END_PUNCTUATION, CURRENCY),
    (UPPER_ACCENTED | BOX, NUMERIC | LAW),
    (CURRENCY | NUMERIC | BOX, START_PUNCTUATION),
    (BOX, KAOMOJI),
    (ACCENTED | CURRENCY | NUMERIC | PUNCTUATION | LAW, BOX),
    (BOX, END_PUNCTUATION),
];

const TRIPLES: [(Classes, Classes, Classes); 5] = [
    (ASCII_LETTER, LOWER_COMMON | UPPER_COMMON, BAD),
    (SPACE, UPPER_ACCENTED, CURRENCY),
    (ACCENTED | BOX | CURRENCY | END_PUNCTUATION, START_PUNCTUATION, NUMERIC),
    (ACCENTED | CURRENCY | NUMERIC | BOX | LAW, END_PUNCTUATION, START_PUNCTUATION),
    (ASCII_LOWER, UPPER_ACCENTED, START_PUNCTUATION | CURRENCY),
];

/// The characters from some place on with their classes.
struct Window<'a> {
    chars: &'a [char],
    classes: [Classes; 3],
}

impl<'a> Window<'a> {
    fn new(chars: &'a [char]) -> Self {
        let classes = |at: usize| chars.get(at).map_or(0, |&c| lookup(c).classes);
        Window { chars, classes: [classes(0), classes(1), classes(2)] }
    }

    fn has(&self, at: usize, members: &[char]) -> bool {
        self.chars.get(at).is_some_and(|c| members.contains(c))
    }

    fn in_class(&self, at: usize, classes: Classes) -> bool {
        self.classes.get(at).is_some_and(|&found| found & classes != 0)
    }

    fn starts_with(&self, start: &[char]) -> bool {
        self.chars.starts_with(start)
    }

    /// Whether a rule on classes alone matches here.
    fn breaks_class_rule(&self) -> bool {
        self.in_class(0, C1)
            || PAIRS.iter().any(|&(a, b)| self.in_class(0, a) && self.in_class(1, b))
            || TRIPLES
                .iter()
                .any(|&(a, b, c)| self.in_class(0, a) && self.in_class(1, b) && self.in_class(2, c))
            || (self.in_class(0, ACCENTED)
                && self.in_class(1, PUNCTUATION)
                && self.chars.get(2).is_some_and(|&c| is_python_word(c)))
    }

    /// Whether a sequence typical of some encoding stands here.
    fn breaks_sequence_rule(&self) -> bool {
        match self.chars.first() {
            Some('Œ' | 'œ') => self.chars.len() > 1 && !self.in_class(1, ASCII_LETTER),
            Some('Â' | 'Ã' | 'Î' | 'Ð') if self.latin_1_in_windows_1252() => true,
            Some('×') => self.has(1, &['²', '³']),
            Some('Ø' | 'Ù') => self.arabic_at(0) && self.arabic_at(2),
            Some('à') => self.has(1, &['²', 'µ', '¹', '¼', '½', '¾']),
            Some('√') => self.has(1, &['±', '∂', '†', '≠', '®', '™', '´', '≤', '≥', '¥', 'µ', 'ø']),
            Some('≈') => self.has(1, &['°', '¢']),
            Some('‚') => {
                (self.has(1, &['Ä'])
                    && self.has(2, &['ì', 'î', 'ï', 'ò', 'ô', 'ú', 'ù', 'û', '†', '°', '¢', 'π']))
                    || (self.has(1, &['â', 'ó']) && self.has(2, &['à', 'ä', '°', 'ê']))
            }
            Some('в') => self.starts_with(&['в', 'Ђ']),
            Some('В' | 'Г' | 'Р' | 'С') => {
                self.cyrillic_in_windows_1251() || self.twice_mistaken_for_windows_1251()
            }
            Some('β') => self.has(1, &['€']) && self.has(2, &['™', '\u{a0}', 'Ά', '\u{ad}', '®', '°']),
            Some('Β' | 'Γ' | 'Ξ' | 'Ο') => {
                (self.in_class(1, C1 | BAD | PUNCTUATION | CURRENCY) || self.has(1, &['°']))
                    && self.has(2, &['Β', 'Γ', 'Ξ', 'Ο'])
            }
            Some('ā') => self.has(1, &['€']),
            _ => false,
        }
    }

    fn latin_1_in_windows_1252(&self) -> bool {
        const SECOND: [char; 18] = [
            '€', 'œ', 'Š', 'š', '¢', '£', 'Ÿ', 'ž', '\u{a0}', '\u{ad}', '®', '©', '°', '·', '»', '–', '—',
            '´',
        ];
        self.in_class(1, PUNCTUATION) || self.has(1, &SECOND)
    }

    /// An Arabic letter: two characters, of which the second is too common to prove anything alone.
    fn arabic_at(&self, at: usize) -> bool {
        let second = self.chars.get(at + 1).map_or(0, |&c| lookup(c).classes);
        self.has(at, &['Ø', 'Ù'])
            && (second & (COMMON | CURRENCY | BAD | NUMERIC | START_PUNCTUATION) != 0
                || self.has(at + 1, &['Ÿ', 'Š', '®', '°', 'µ', '»']))
    }

    fn cyrillic_in_windows_1251(&self) -> bool {
        (self.in_class(1, C1 | BAD | PUNCTUATION | CURRENCY) || self.has(1, &['°', 'µ']))
            && self.has(2, &['В', 'Г', 'Р', 'С'])
    }

    fn twice_mistaken_for_windows_1251(&self) -> bool {
        self.starts_with(&['Г', 'ў', 'В', 'Ђ', 'В'])
            && self.chars.get(5).is_some_and(|&c| c != '\n')
            && self.chars.get(6).is_some_and(|c| c.is_ascii_alphabetic() || *c == ' ')
    }

    /// Whether an accented letter stands here in a place where only its lost second byte explains it.
    fn breaks_context_rule(&self, is_start: bool) -> bool {
        (self.in_class(0, UPPER_ACCENTED) && self.has(1, &['°']))
            || (self.has(0, &['Ã']) && self.has(1, &['\u{a0}', '¡']))
            || (is_start && self.has(0, &['Ã', 'Â']) && self.has(1, &[' ']))
            || (self.in_class(0, ASCII_LOWER)
                && ((self.has(1, &['Ã', 'Â']) && self.has(2, &[' ']))
                    || (self.in_class(1, SPACE) && self.has(2, &['Ã', 'Â']) && self.has(3, &[' ']))))
            || ((self.in_class(0, ASCII_LOWER | END_PUNCTUATION) || self.has(0, &['.', ',', '?', '!']))
                && self.has(1, &['Â'])
                && (self.in_class(2, PUNCTUATION) || self.has(2, &[' '])))
    }
}

/// Whether `text` looks as if it contained mojibake.
pub(super) fn is_bad(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).any(|at| {
        let rest = chars.get(at..).unwrap_or_default();
        // Every rule has a character beyond ASCII among its first three.
        if rest.iter().take(3).all(char::is_ascii) {
            return false;
        }
        let window = Window::new(rest);
        window.breaks_class_rule() || window.breaks_sequence_rule() || window.breaks_context_rule(at == 0)
    })
}
