//! HTML references in text that may or may not be HTML: stricter than a browser, since "this&not that" is no
//! escape.

use crate::html::{longest_named, named, numeric, parse_code};

/// Longest run of letters and digits that is taken for a name or number.
const MAX_NAME_BYTES: usize = 24;

/// Resolve references that end in a semicolon; also names of letters all in capitals (`&NTILDE;`).
pub(super) fn unescape_html(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for reference in references(text) {
        out.push_str(text.get(copied..reference.at).unwrap_or_default());
        out.push_str(&reference.value);
        copied = reference.end;
    }
    (copied > 0).then(|| {
        out.push_str(text.get(copied..).unwrap_or_default());
        out
    })
}

/// Rounds that a chain keeps of those ahead of it: the characters next to it that the steps look at, up to
/// six, then stay the same.
const ROUNDS_KEPT: usize = 3;

/// Do many rounds of unescaping at once, for text that was escaped over and over: in `&amp;amp;amp;amp;`
/// each round takes one `amp;` away. `None` if there is more ahead than such chains, each of the same links
/// and longer than [`ROUNDS_KEPT`]; else the text of the last round before something else can happen. Right
/// only if no other step has anything to do with `text`.
pub(super) fn shorten_chains(text: &str) -> Option<String> {
    let mut chains = Vec::new();
    for reference in references(text) {
        let links = text.get(reference.at + 1..).filter(|_| reference.value == "&")?;
        let link = text.get(reference.at + 1..reference.end)?;
        let length =
            links.as_bytes().chunks_exact(link.len()).take_while(|&next| next == link.as_bytes()).count();
        chains.push((reference.at + 1, link.len(), length));
    }
    let rounds = chains
        .iter()
        .map(|&(_, _, length)| length)
        .min()?
        .checked_sub(ROUNDS_KEPT)
        .filter(|&rounds| rounds > 0)?;
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (at, link_bytes, _) in chains {
        out.push_str(text.get(copied..at)?);
        copied = at + rounds * link_bytes;
    }
    out.push_str(text.get(copied..)?);
    Some(out)
}

/// A reference and what it stands for.
struct Reference {
    at: usize,
    end: usize,
    value: String,
}

/// The references in `text` that can be resolved.
fn references(text: &str) -> impl Iterator<Item = Reference> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + text.get(from..)?.find('&')?;
            from = at + 1;
            let Some(reference) = reference_at(text, at) else { continue };
            from = at + reference.len();
            if let Some(value) = resolve(reference) {
                return Some(Reference { at, end: from, value });
            }
        }
    })
}

/// What looks like a reference at byte `at`, from the ampersand to the semicolon.
fn reference_at(text: &str, at: usize) -> Option<&str> {
    let bytes = text.as_bytes().get(at + 1..)?;
    let hash = usize::from(bytes.first() == Some(&b'#'));
    let length = bytes
        .get(hash..)?
        .iter()
        .take(MAX_NAME_BYTES + 1)
        .take_while(|byte| byte.is_ascii_alphanumeric())
        .count();
    let end = hash + length;
    if length == 0 || length > MAX_NAME_BYTES || bytes.get(end) != Some(&b';') {
        return None;
    }
    text.get(at..at + end + 2)
}

fn resolve(reference: &str) -> Option<String> {
    let Some(number) = reference.strip_prefix("&#").and_then(|rest| rest.strip_suffix(';')) else {
        return named(reference).map(str::to_owned).or_else(|| resolve_capitals(reference));
    };
    let (radix, digits) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (16, digits),
        None => (10, number),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let value: String = numeric(parse_code(digits, radix)).into_iter().collect();
    // A semicolon is taken for the reference's own, left over.
    (value != ";").then_some(value)
}

/// A name that the standard writes in small letters, in capitals, unless a browser would read something in
/// it as it is.
fn resolve_capitals(reference: &str) -> Option<String> {
    if reference.bytes().any(|byte| byte.is_ascii_lowercase()) || longest_named(reference).is_some() {
        return None;
    }
    named(&reference.to_ascii_lowercase()).map(str::to_uppercase)
}
