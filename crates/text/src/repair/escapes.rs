//! HTML references in text that may or may not be HTML: stricter than a browser, since "this&not that" is no escape.

use crate::html::{longest_named, named, numeric, parse_code};

/// Longest run of letters and digits that is taken for a name or number.
const MAX_NAME_BYTES: usize = 24;

/// Resolve references that end in a semicolon; also names of letters all in capitals (`&NTILDE;`).
pub(super) fn unescape_html(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find('&')).map(|at| from + at) {
        from = at + 1;
        let Some(reference) = reference_at(text, at) else { continue };
        if let Some(value) = resolve(reference) {
            out.push_str(text.get(copied..at).unwrap_or_default());
            out.push_str(&value);
            copied = at + reference.len();
        }
        from = at + reference.len();
    }
    (copied > 0).then(|| {
        out.push_str(text.get(copied..).unwrap_or_default());
        out
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

/// A name that the standard writes in small letters, in capitals, unless a browser would read something in it as it is.
fn resolve_capitals(reference: &str) -> Option<String> {
    if reference.bytes().any(|byte| byte.is_ascii_lowercase()) || longest_named(reference).is_some() {
        return None;
    }
    named(&reference.to_ascii_lowercase()).map(str::to_uppercase)
}
