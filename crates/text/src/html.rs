//! HTML character references, as Python's `html.unescape` resolves them (HTML standard, 13.2.5.72 to
//! 13.2.5.80, on text that is no attribute).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use entities::ENTITIES;

use crate::code_pages::windows_1252;

/// Longest run of characters that is taken for a name.
const MAX_NAME_CHARS: usize = 32;

/// The names, with their ampersand and, but for the 106 legacy ones, semicolon.
static NAMED: LazyLock<HashMap<&str, &str>> =
    LazyLock::new(|| ENTITIES.iter().map(|entity| (entity.entity, entity.characters)).collect());

/// What the named reference that is exactly `reference` (`&amp;`, `&amp`) stands for.
pub(crate) fn named(reference: &str) -> Option<&'static str> {
    NAMED.get(reference).copied()
}

/// The longest named reference at the start of `reference`: its length and what it stands for.
pub(crate) fn longest_named(reference: &str) -> Option<(usize, &'static str)> {
    // The shortest name is `&gt`.
    (3..=reference.len()).rev().find_map(|length| {
        let value = reference.get(..length).and_then(named)?;
        Some((length, value))
    })
}

/// A numeric reference stands for a character, or for nothing if no document may contain what it says.
pub(crate) fn numeric(code: u32) -> Option<char> {
    match code {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => Some(windows_1252(code as u8)),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ => match char::from_u32(code) {
            None => Some('\u{fffd}'),
            Some(_) if code & 0xfffe == 0xfffe => None,
            found => found,
        },
    }
}

/// The number that digits of this radix give; past the range of characters it stays there.
pub(crate) fn parse_code(digits: &str, radix: u32) -> u32 {
    digits
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0u32, |code, digit| code.saturating_mul(radix).saturating_add(digit))
}

/// Resolve all references in `text` once.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, reference) = rest.split_at(at);
        out.push_str(before);
        let length = match reference.strip_prefix("&#") {
            Some(number) => 2 + push_numeric(number, &mut out),
            None => push_named(reference, &mut out),
        };
        rest = reference.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Append what `&#` and `number` stand for; return how much of `number` was used.
fn push_numeric(number: &str, out: &mut String) -> usize {
    let (radix, prefix) = if number.starts_with(['x', 'X']) { (16, 1) } else { (10, 0) };
    let digits = number.get(prefix..).unwrap_or_default();
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(length);
    if digits.is_empty() {
        out.push_str("&#");
        return 0;
    }
    out.extend(numeric(parse_code(digits, radix)));
    prefix + length + usize::from(rest.starts_with(';'))
}

/// Append what the named reference at the start of `text` stands for; return how much of `text` was used.
fn push_named(text: &str, out: &mut String) -> usize {
    let after = text.get(1..).unwrap_or_default();
    let name_length = after
        .char_indices()
        .enumerate()
        .find(|&(count, (_, c))| {
            count == MAX_NAME_CHARS || matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';')
        })
        .map_or(after.len(), |(_, (at, _))| at);
    let mut length = 1 + name_length;
    if name_length > 0 && text.as_bytes().get(length) == Some(&b';') {
        length += 1;
    }
    let reference = text.get(..length).unwrap_or(text);
    match longest_named(reference) {
        Some((used, value)) => {
            out.push_str(value);
            out.push_str(reference.get(used..).unwrap_or_default());
        }
        None => out.push_str(reference),
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_with_and_without_semicolon() {
        assert_eq!(
            unescape("&eacute;&eacute&copy 2020 &notit; &notin; &bogus; &; &"),
            "éé© 2020 ¬it; ∉ &bogus; &; &"
        );
        assert_eq!(unescape("&CounterClockwiseContourIntegral;&bne;&ltx&lt&gt;"), "∳=\u{20e5}<x<>");
    }

    #[test]
    fn numbers_follow_the_standard_and_invalid_ones_vanish() {
        assert_eq!(unescape("&#65;&#x42;&#X43&#128512;"), "ABC😀");
        assert_eq!(
            unescape("&#0;&#xD800;&#x110000;&#99999999999999999999;"),
            "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"
        );
        assert_eq!(unescape("a&#1;&#11;&#x1F;&#x7F;&#xFDD0;&#xFFFE;&#x1FFFF;b"), "ab");
        assert_eq!(unescape("&#133;&#x81;&#13;&#9;"), "…\u{81}\r\t");
        assert_eq!(unescape("&#;&#x;&#xZ;&#a"), "&#;&#x;&#xZ;&#a");
    }

    #[test]
    fn a_name_has_at_most_32_characters() {
        let long = format!("&{}amp;", "é".repeat(40));
        assert_eq!(unescape(&long), long);
        assert_eq!(unescape(&format!("&amp{}", "x".repeat(40))), format!("&{}", "x".repeat(40)));
    }
}
