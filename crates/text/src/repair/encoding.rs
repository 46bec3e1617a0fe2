//! Text that was encoded in UTF-8 and decoded as something else.

use super::badness::is_bad;
use super::bytes::{decode_utf8, replace_lossy_sequences, restore_byte_a0};
use super::characters::{fix_c1_controls, windows_1252_for_control};
use super::effort::Effort;
use super::mojibake::{
    CONTINUATION, Classes, FIRST_OF_2, FIRST_OF_3, FIRST_OF_4, STRICT_CONTINUATION, encode, lookup,
    possible_pages,
};
use crate::code_pages::{CODE_PAGES, LATIN_1_PAGE};

/// Undo the mistake as often as it was made; `None` if it was not.
pub(super) fn fix_encoding(text: &str, effort: &mut Effort) -> Option<String> {
    let mut fixed = fix_once(text, effort)?;
    while effort.spend(&fixed) {
        match fix_once(&fixed, effort) {
            Some(better) => fixed = better,
            None => break,
        }
    }
    Some(fixed)
}

fn fix_once(text: &str, effort: &mut Effort) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    let possible = possible_pages(text);
    let fixed =
        CODE_PAGES.iter().enumerate().filter(|&(page, _)| possible.get(page) == Some(&true)).find_map(
            |(index, page)| {
                let mut bytes = encode(text, index);
                if page.restores_a0 {
                    bytes = restore_byte_a0(bytes);
                }
                if page.is_sloppy {
                    bytes = replace_lossy_sequences(bytes);
                }
                decode_utf8(bytes)
            },
        );
    if let Some(fixed) = fixed {
        return (fixed != text).then_some(fixed);
    }
    fix_embedded(text, effort)
        .or_else(|| if possible[LATIN_1_PAGE] { latin_1_as_windows_1252(text) } else { None })
        .or_else(|| fix_c1_controls(text))
}

/// Repair the parts of `text` that look like UTF-8 sequences, each for itself.
fn fix_embedded(text: &str, effort: &mut Effort) -> Option<String> {
    let chars: Vec<(char, Classes)> = text.chars().map(|c| (c, lookup(c).classes)).collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_continuation = false;
    let mut at = 0;
    while let Some(sequences) = chars.get(at..).filter(|sequences| !sequences.is_empty()) {
        let found = if after_continuation { 0 } else { utf8_run(sequences) };
        let count = found.max(1);
        let bytes = sequences.iter().take(count).map(|(c, _)| c.len_utf8()).sum();
        let (part, after) = rest.split_at(bytes);
        // A part that is the whole gives no new sight of it.
        match (found > 0 && found < chars.len() && is_bad(part)).then(|| fix_encoding(part, effort)).flatten()
        {
            Some(fixed) => out.push_str(&fixed),
            None => out.push_str(part),
        }
        rest = after;
        at += count;
        after_continuation =
            sequences.get(count - 1).is_some_and(|(_, classes)| classes & STRICT_CONTINUATION != 0);
    }
    (out != text).then_some(out)
}

/// How many characters at the start of `chars` look like UTF-8 sequences read with a wrong encoding.
fn utf8_run(chars: &[(char, Classes)]) -> usize {
    let in_class = |at: usize, class: Classes| chars.get(at).is_some_and(|(_, classes)| classes & class != 0);
    let mut length = 0;
    loop {
        let sequence =
            [(FIRST_OF_2, 2), (FIRST_OF_3, 3), (FIRST_OF_4, 4)].into_iter().find(|&(first, count)| {
                in_class(length, first) && (1..count).all(|at| in_class(length + at, CONTINUATION))
            });
        match sequence {
            Some((_, count)) => length += count,
            None => return length,
        }
    }
}

/// Latin-1 text with control characters was windows-1252; `None` also if one of them has no character there.
fn latin_1_as_windows_1252(text: &str) -> Option<String> {
    let read = |c| if is_c1_control(c) { windows_1252_for_control(c) } else { Some(c) };
    if text.chars().any(is_c1_control) { text.chars().map(read).collect() } else { None }
}

fn is_c1_control(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}
