//! Steps that replace or remove single characters. Each returns `None` if it changes nothing.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::code_pages::windows_1252;
use crate::unicode::is_decimal_digit;

/// `text` with each character that `replace` has something for replaced by it.
fn replace_chars<'a>(text: &str, mut replace: impl FnMut(char) -> Option<Replacement<'a>>) -> Option<String> {
    let (first, _) = text.char_indices().find(|&(_, c)| replace(c).is_some())?;
    let (unchanged, rest) = text.split_at(first);
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(unchanged);
    for c in rest.chars() {
        match replace(c) {
            None => out.push(c),
            Some(Replacement::Char(c)) => out.push(c),
            Some(Replacement::Text(text)) => out.push_str(text),
            Some(Replacement::Compatibility(c)) => out.extend(std::iter::once(c).nfkc()),
        }
    }
    Some(out)
}

enum Replacement<'a> {
    Char(char),
    Text(&'a str),
    /// The compatibility form (NFKC) of the character.
    Compatibility(char),
}

/// C1 control characters are read as windows-1252; five have no character there and stay.
pub(super) fn fix_c1_controls(text: &str) -> Option<String> {
    replace_chars(text, |c| windows_1252_for_control(c).map(Replacement::Char))
}

/// What windows-1252 has at the place of a C1 control character.
pub(super) fn windows_1252_for_control(c: char) -> Option<char> {
    let byte = u8::try_from(u32::from(c)).ok().filter(|byte| (0x80..=0x9f).contains(byte))?;
    Some(windows_1252(byte)).filter(|&read| read != c)
}

/// Ligatures and digraphs of Latin letters that are no letters of their own.
pub(super) fn fix_latin_ligatures(text: &str) -> Option<String> {
    replace_chars(text, |c| {
        let letters = match c {
            'Ĳ' => "IJ",
            'ĳ' => "ij",
            'ŉ' => "ʼn",
            'Ǳ' => "DZ",
            'ǲ' => "Dz",
            'ǳ' => "dz",
            'Ǆ' => "DŽ",
            'ǅ' => "Dž",
            'ǆ' => "dž",
            'Ǉ' => "LJ",
            'ǈ' => "Lj",
            'ǉ' => "lj",
            'Ǌ' => "NJ",
            'ǋ' => "Nj",
            'ǌ' => "nj",
            'ﬀ' => "ff",
            'ﬁ' => "fi",
            'ﬂ' => "fl",
            'ﬃ' => "ffi",
            'ﬄ' => "ffl",
            'ﬅ' => "ſt",
            'ﬆ' => "st",
            _ => return None,
        };
        Some(Replacement::Text(letters))
    })
}

/// Half-width and full-width forms become the usual ones, the ideographic space a space.
pub(super) fn fix_character_width(text: &str) -> Option<String> {
    replace_chars(text, |c| match c {
        '\u{3000}' => Some(Replacement::Char(' ')),
        '\u{ff01}'..='\u{ffef}' => Some(Replacement::Compatibility(c)),
        _ => None,
    })
}

/// Curly quotation marks become straight.
pub(super) fn uncurl_quotes(text: &str) -> Option<String> {
    replace_chars(text, |c| match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => Some(Replacement::Char('\'')),
        '\u{201c}'..='\u{201f}' => Some(Replacement::Char('"')),
        _ => None,
    })
}

/// All line breaks become line feeds.
pub(super) fn fix_line_breaks(text: &str) -> Option<String> {
    if !text.contains(['\r', '\u{2028}', '\u{2029}', '\u{85}']) {
        return None;
    }
    Some(text.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n"))
}

/// Remove the sequences that colour text on a terminal: ESC, bracket, numbers with semicolons, letter.
pub(super) fn remove_terminal_escapes(text: &str) -> Option<String> {
    const START: &str = "\x1b[";
    let (before, mut rest) = text.split_at(text.find(START)?);
    let mut out = String::from(before);
    while let Some((before, after)) = rest.split_once(START) {
        out.push_str(before);
        let letters = after.trim_start_matches(|c| c == ';' || is_decimal_digit(c));
        match letters.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after) => rest = after,
            None => {
                out.push_str(START);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

/// Remove control characters that no text needs; those that are white space or shape their neighbours stay.
pub(super) fn remove_control_chars(text: &str) -> Option<String> {
    replace_chars(text, |c| match c {
        '\0'..='\x08'
        | '\x0b'
        | '\x0e'..='\x1f'
        | '\x7f'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}' => Some(Replacement::Text("")),
        _ => None,
    })
}

/// Unicode's composed form (NFC).
pub(super) fn normalize(text: &str) -> Option<String> {
    if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return None;
    }
    Some(text.nfc().collect())
}
