//! The rows that open_clip's tokenizer gave (`golden/tokens/README.md`).

use std::fs::read_to_string;
use std::path::Path;

use mobileclip_text::{CONTEXT_LENGTH, END_OF_TEXT, Tokenizer, clean};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The golden's files are split at line feeds alone: texts hold other line separators, escaped or not.
fn read<Row: DeserializeOwned>(name: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokens").join(name);
    let text = read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[derive(Deserialize)]
struct Row {
    kind: String,
    text: String,
    ids: Vec<u32>,
    clean: Option<String>,
    untruncated_len: Option<usize>,
}

/// Letters newer than the reference's Unicode 14, which Rust lower-cases and Python 3.11 does not.
const NEWER_THAN_THE_REFERENCE: &str = "unicode15";

#[test]
fn rows() {
    let tokenizer = Tokenizer::new();
    let rows: Vec<Row> = read("rows.jsonl");
    assert_eq!(rows.len(), 3905);
    let mut wrong = Vec::new();
    for row in rows.iter().filter(|row| row.kind != NEWER_THAN_THE_REFERENCE) {
        let cleaned = clean(&row.text);
        let mut padded = row.ids.clone();
        padded.resize(CONTEXT_LENGTH, 0);
        let all = tokenizer.encode(&row.text);
        let is_equal = cleaned == *row.clean.as_ref().unwrap_or(&row.text)
            && tokenizer.tokenize(&row.text, CONTEXT_LENGTH) == padded
            && all.len() == row.untruncated_len.unwrap_or(row.ids.len())
            && all.last() == Some(&END_OF_TEXT);
        if !is_equal {
            wrong.push(format!("{} {:?}: cleaned {cleaned:?}, expected {:?}", row.kind, row.text, row.clean));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows differ:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[derive(Deserialize)]
struct ContextRow {
    context: usize,
    text: String,
    ids: Vec<u32>,
}

#[test]
fn other_context_lengths() {
    let tokenizer = Tokenizer::new();
    let rows: Vec<ContextRow> = read("context.jsonl");
    assert_eq!(rows.len(), 20);
    for row in rows {
        let mut padded = row.ids;
        padded.resize(row.context, 0);
        assert_eq!(
            tokenizer.tokenize(&row.text, row.context),
            padded,
            "context {}: {:?}",
            row.context,
            row.text
        );
    }
}

#[derive(Deserialize)]
struct DecodeRow {
    ids: Vec<u32>,
    text: String,
    caption: String,
}

#[test]
fn decoding() {
    let tokenizer = Tokenizer::new();
    let rows: Vec<DecodeRow> = read("decode.jsonl");
    assert_eq!(rows.len(), 60);
    for row in rows {
        assert_eq!(tokenizer.decode(&row.ids), row.text, "{:?}", row.ids);
        assert_eq!(tokenizer.caption(&row.ids), row.caption, "{:?}", row.ids);
    }
}
