//! Repair of text that was decoded, escaped or typeset wrongly: the default steps of ftfy 6.3.1's `fix_text`
//! (Robyn Speer, Apache-2.0), reimplemented; see the crate's `NOTICE`.

mod badness;
mod bytes;
mod characters;
mod effort;
mod encoding;
mod escapes;
mod mojibake;

use std::borrow::Cow;

use characters::{
    fix_c1_controls, fix_character_width, fix_latin_ligatures, fix_line_breaks, normalize,
    remove_control_chars, remove_terminal_escapes, uncurl_quotes,
};
use effort::Effort;
use encoding::fix_encoding;
use escapes::{shorten_chains, unescape_html};

/// Longest piece that is looked at as a whole, in characters.
const MAX_SEGMENT_CHARS: usize = 1_000_000;

/// Repair `text`, each line for itself.
pub(crate) fn fix_text(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut effort = Effort::for_text(text);
    // Text with a tag in it is taken for HTML that is meant to stay so, to its end.
    let mut unescapes = true;
    let mut out = String::with_capacity(text.len());
    for segment in text.split_inclusive('\n').flat_map(segments) {
        unescapes &= !segment.contains('<');
        out.push_str(&fix_segment(segment, unescapes, &mut effort));
    }
    Cow::Owned(out)
}

/// Whether no step has anything to do: the usual caption.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| is_inert(byte) && byte != b'&')
}

/// Whether no step but the unescaping of HTML has to do with text of such bytes.
fn is_inert(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\x0c')
}

/// `line` in pieces of at most [`MAX_SEGMENT_CHARS`] characters.
fn segments(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(MAX_SEGMENT_CHARS).map_or(rest.len(), |(at, _)| at);
        let (segment, after) = rest.split_at(end);
        rest = after;
        (!segment.is_empty()).then_some(segment)
    })
}

/// Apply all steps until they change nothing.
fn fix_segment<'a>(segment: &'a str, unescapes: bool, effort: &mut Effort) -> Cow<'a, str> {
    let mut text = Cow::Borrowed(segment);
    while effort.spend(&text) {
        let before = text.clone();
        if unescapes {
            text = apply(text, unescape_html);
        }
        let unescaped = text.clone();
        if !text.bytes().all(is_inert) {
            text = fix_characters(text, effort);
        }
        if text == before {
            break;
        }
        if text == unescaped {
            text = apply(text, shorten_chains);
        }
    }
    text
}

/// Apply all steps but the unescaping of HTML once.
fn fix_characters<'a>(text: Cow<'a, str>, effort: &mut Effort) -> Cow<'a, str> {
    let mut text = apply(text, |text| fix_encoding(text, effort));
    if !text.is_ascii() {
        for step in [fix_c1_controls, fix_latin_ligatures, fix_character_width, uncurl_quotes] {
            text = apply(text, step);
        }
    }
    for step in [fix_line_breaks, remove_terminal_escapes, remove_control_chars, normalize] {
        text = apply(text, step);
    }
    text
}

/// What `step` makes of `text`; `None` from it means that it changes nothing.
fn apply<'a>(text: Cow<'a, str>, step: impl FnOnce(&str) -> Option<String>) -> Cow<'a, str> {
    step(&text).map_or(text, Cow::Owned)
}

#[cfg(test)]
mod tests;
