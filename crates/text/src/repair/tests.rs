use super::*;

#[test]
fn tags_switch_unescaping_off_to_the_end() {
    assert_eq!(fix_text("&EACUTE;\na < b\n&EACUTE;"), "É\na < b\n&EACUTE;");
}

#[test]
fn references_are_resolved_until_none_is_left() {
    assert_eq!(fix_text("&amp;amp;amp;lt;p&amp;gt;"), "<p>");
    assert_eq!(
        fix_text("&NTILDE; &nTILDE; &SZLIG; &LTIMES; &#59; &#xZZ; &notin"),
        "Ñ &nTILDE; SS &LTIMES; &#59; &#xZZ; &notin"
    );
}

#[test]
fn segments_are_cut_at_a_million_characters() {
    let line = "é".repeat(2 * MAX_SEGMENT_CHARS + 5);
    assert_eq!(
        segments(&line).map(|segment| segment.chars().count()).collect::<Vec<_>>(),
        [1_000_000, 1_000_000, 5]
    );
}

#[test]
fn repairs_by_kind() {
    for (broken, fixed) in [
        ("âœ” No problems", "✔ No problems"),
        ("ÃƒÂ©tÃƒÂ©", "été"),
        ("Ã\u{a0} la mode, voilÃ  le travail", "à la mode, voilà le travail"),
        ("â€œ like this â€\u{fffd}", "\" like this \u{fffd}"),
        ("l’Ã©tÃ© en espaÃ±ol 日本", "l'été en español 日本"),
        ("caf\u{e9} \u{80} 5", "café € 5"),
        ("\u{93}quoted\u{94} \u{81}", "\"quoted\" \u{81}"),
        ("ＬＯＵＤ　ﬁｎ ŉ", "LOUD fin 'n"),
        ("\u{1b}[1;31mred\u{1b}[0m \u{1b}[x\u{1b}[;", "red [;"),
        ("a\r\nb\rc\u{2028}d\u{0}\u{feff}", "a\nb\nc\nd"),
        ("e\u{301}", "é"),
    ] {
        assert_eq!(fix_text(broken), fixed, "{broken:?}");
    }
}

/// Shortening a chain gives what the rounds would have given one by one.
#[test]
fn chains_are_shortened_only_where_nothing_else_happens() {
    for levels in 1..40 {
        let links = "amp;".repeat(levels);
        assert_eq!(fix_text(&format!("&{links}lt;")), "<", "{levels}");
        // The other reference becomes mojibake first, which is repaired while the chain is there.
        assert_eq!(fix_text(&format!("&{links}eacute; &amp;Atilde;&copy;")), "é é", "{levels}");
        assert_eq!(fix_text(&format!("&{links}#38;{links}x")), "&x", "{levels}");
    }
    assert_eq!(shorten_chains("&amp;amp;amp;"), None);
    assert_eq!(shorten_chains("&amp;amp;amp;amp;amp; &bogus;").as_deref(), Some("&amp;amp;amp; &bogus;"));
    assert_eq!(shorten_chains("&amp;amp;amp;amp;amp; &lt;"), None);
}
