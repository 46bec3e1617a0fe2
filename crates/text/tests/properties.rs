//! What holds for any text and any ids.

use std::sync::LazyLock;

use mobileclip_text::{END_OF_TEXT, START_OF_TEXT, Tokenizer, VOCABULARY_SIZE, clean};
use proptest::prelude::*;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::new);

/// Any text, and text of what the cleaning looks at: mojibake, references, controls, odd letters.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "Ã",
        "©",
        "Â",
        "â",
        "€",
        "™",
        "\u{83}",
        "\u{9d}",
        "\u{a0}",
        "\u{fffd}",
        "?",
        "ð",
        "Ÿ",
        "˜",
        "€",
        "í",
        "¢",
        "À",
        "\u{80}",
        "Œ",
        "×",
        "Ð",
        "ÑŠ",
        "Î",
        "ā",
        "├",
        "⌐",
        "√",
        "&",
        "amp;",
        "#",
        "x",
        "26;",
        "eacute;",
        "EACUTE;",
        "lt;",
        "<",
        ">",
        ";",
        "<end_of_text>",
        "\u{1b}[",
        "1;3",
        "m",
        "\r",
        "\n",
        "\u{2028}",
        "\0",
        "\u{1a}",
        "\u{feff}",
        "ſ",
        "'s",
        "Σ",
        "ΑΣ",
        "İ",
        "\u{345}",
        "\u{301}",
        "ﬁ",
        "Ａ",
        "ŉ",
        "ㄱ",
        "한",
        "日本",
        "😀",
        " ",
        "the",
        "1",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())]
}

proptest! {
    #[test]
    fn ids_fill_the_context_and_keep_the_end(text in text(), context_length in 0usize..100) {
        let all = TOKENIZER.encode(&text);
        prop_assert_eq!(all[0], START_OF_TEXT);
        prop_assert_eq!(all.last(), Some(&END_OF_TEXT));
        prop_assert!(all.iter().all(|&id| (id as usize) < VOCABULARY_SIZE));
        let cut = TOKENIZER.tokenize(&text, context_length);
        prop_assert_eq!(cut.len(), context_length);
        if all.len() <= context_length {
            prop_assert_eq!(&cut[..all.len()], &all[..]);
            prop_assert!(cut[all.len()..].iter().all(|&id| id == 0));
        } else if let Some(last) = context_length.checked_sub(1) {
            prop_assert_eq!(&cut[..last], &all[..last]);
            prop_assert_eq!(cut[last], END_OF_TEXT);
        }
    }

    #[test]
    fn decoding_gives_the_clean_text_back(text in text()) {
        let ids = TOKENIZER.encode(&text);
        let decoded = TOKENIZER.decode(&ids[1..ids.len() - 1]);
        // Where words were cut is not kept; the pattern drops one mark (`split.rs`).
        let visible = |text: &str| text.replace(|c: char| c.is_whitespace() || c == '\u{345}', "");
        prop_assert_eq!(visible(&decoded), visible(&clean(&text)));
    }

    #[test]
    fn clean_text_has_single_spaces_and_no_removable_controls(text in text()) {
        let cleaned = clean(&text);
        prop_assert_eq!(cleaned.split_whitespace().collect::<Vec<_>>().join(" "), &*cleaned);
        let has_control = cleaned.contains(['\0', '\u{1a}', '\u{feff}']);
        prop_assert!(!has_control);
    }

    #[test]
    fn any_ids_can_be_decoded(ids in prop::collection::vec(prop_oneof![0u32..50_000, any::<u32>()], 0..50)) {
        let text = TOKENIZER.decode(&ids);
        prop_assert!(text.contains(TOKENIZER.caption(&ids).as_str()));
        let unknown = ids.iter().filter(|&&id| id as usize >= VOCABULARY_SIZE).count();
        prop_assert!(text.matches(char::REPLACEMENT_CHARACTER).count() >= unknown);
    }
}
