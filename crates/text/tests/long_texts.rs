//! Texts of a million characters: the right ids, in about linear time (a quadratic step would take minutes
//! and more).

use mobileclip_text::{CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT, Tokenizer, clean};

const CHARS: usize = 1_000_000;

fn body(text: &str) -> Vec<u32> {
    let ids = Tokenizer::new().encode(text);
    ids[1..ids.len() - 1].to_vec()
}

#[test]
fn one_word() {
    // Eight times "a" is the longest run that has an entry; the last one ends the word.
    let short = body(&"a".repeat(80));
    let long = body(&"a".repeat(CHARS));
    assert_eq!(long.len(), CHARS / 8 + short.len() - 10);
    assert_eq!(long[..5], short[..5]);
    assert_eq!(long[long.len() - 5..], short[short.len() - 5..]);
}

#[test]
fn words_and_lines() {
    let cat = body("cat");
    assert_eq!(body(&"cat ".repeat(CHARS / 4)), cat.repeat(CHARS / 4));
    assert_eq!(body(&"cat\n".repeat(CHARS / 4)), cat.repeat(CHARS / 4));
    assert_eq!(body(&"\n".repeat(CHARS)), []);
}

#[test]
fn mojibake() {
    assert_eq!(clean(&"Ã© ".repeat(CHARS / 3)), "é ".repeat(CHARS / 3).trim_end());
    assert_eq!(clean(&"日Ã©".repeat(CHARS / 3)), "日é".repeat(CHARS / 3));
}

#[test]
fn references() {
    assert_eq!(clean(&"&eacute;".repeat(CHARS / 8)), "é".repeat(CHARS / 8));
    assert_eq!(clean(&"&".repeat(CHARS)), "&".repeat(CHARS));
    assert_eq!(clean(&format!("&#{};", "9".repeat(CHARS))), "\u{fffd}");
}

#[test]
fn references_escaped_over_and_over() {
    assert_eq!(clean(&format!("&{}lt;", "amp;".repeat(CHARS / 4))), "<");
    assert_eq!(
        clean(&format!("é &{}eacute; &{}", "#38;".repeat(CHARS / 10), "amp;".repeat(CHARS / 10 + 7))),
        "é é &"
    );
}

#[test]
fn rounds_end_where_each_takes_one_character() {
    // The two bytes of é read as Latin-1, and that again: what is right for a short text, and an end for a
    // long one.
    assert_eq!(clean(&format!("Ã{}©", "\u{83}".repeat(500))), "é");
    let ids = Tokenizer::new().tokenize(&format!("Ã{}", "\u{83}".repeat(CHARS / 4)), CONTEXT_LENGTH);
    assert_eq!((ids[0], ids[CONTEXT_LENGTH - 1]), (START_OF_TEXT, END_OF_TEXT));
}

#[test]
fn marks_and_sigmas() {
    assert_eq!(clean(&"\u{301}\u{323}".repeat(CHARS / 2)).chars().count(), CHARS);
    assert_eq!(clean(&"Σ".repeat(CHARS)), "σ".repeat(CHARS - 1) + "ς");
    assert_eq!(clean(&"\u{1b}[".repeat(CHARS / 2)), "[".repeat(CHARS / 2));
}
