//! `data/merges.bin` against the published list of merges, of which it is made.
//!
//! To make it anew: `cargo test -p mobileclip-text --test vocabulary -- --ignored`.

use std::collections::HashMap;
use std::fs::{File, read, write};
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use mobileclip_text::{END_OF_TEXT, START_OF_TEXT, Tokenizer, VOCABULARY_SIZE};

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The lines of the list that are used: behind the first, which is a comment, as many as the vocabulary has
/// room for.
fn published_merges() -> Vec<(String, String)> {
    let mut text = String::new();
    let file = File::open(in_crate("../../golden/tokens/bpe_simple_vocab_16e6.txt.gz")).unwrap();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines = text.split('\n').skip(1).take(VOCABULARY_SIZE - 2 * 256 - 2);
    lines.map(|line| line.split_once(' ').unwrap()).map(|(left, right)| (left.into(), right.into())).collect()
}

/// The characters that stand for the bytes, in the vocabulary's order: the printable ones for themselves,
/// then the others as U+0100, U+0101, ...
fn alphabet() -> Vec<(u8, char)> {
    let is_printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let printable = (0..=255).filter(is_printable).map(|byte| (byte, char::from(byte)));
    let others = (0..=255).filter(|byte| !is_printable(byte)).zip('\u{100}'..);
    printable.chain(others).collect()
}

/// The vocabulary as open_clip spells it, without the two marks.
fn published_vocabulary(merges: &[(String, String)]) -> Vec<String> {
    let bytes = alphabet().into_iter().map(|(_, c)| c.to_string());
    let ends = alphabet().into_iter().map(|(_, c)| format!("{c}</w>"));
    bytes.chain(ends).chain(merges.iter().map(|(left, right)| format!("{left}{right}"))).collect()
}

fn packed() -> Vec<u8> {
    let merges = published_merges();
    let ids: HashMap<String, u16> = published_vocabulary(&merges).into_iter().zip(0..).collect();
    merges.iter().flat_map(|(left, right)| [ids[left], ids[right]]).flat_map(u16::to_le_bytes).collect()
}

#[test]
fn merges_are_the_published_ones() {
    assert!(
        read(in_crate("data/merges.bin")).unwrap() == packed(),
        "data/merges.bin differs from the published list"
    );
}

#[test]
#[ignore = "writes data/merges.bin"]
fn write_merges() {
    write(in_crate("data/merges.bin"), packed()).unwrap();
}

/// The encoder's order of work relies on it: what a merge gives is new, so later merges alone can use it.
#[test]
fn a_merge_uses_only_what_earlier_ones_gave() {
    let merges = published_merges();
    let vocabulary = published_vocabulary(&merges);
    let ids: HashMap<&str, usize> = vocabulary.iter().map(String::as_str).zip(0..).collect();
    assert_eq!(ids.len(), VOCABULARY_SIZE - 2, "an entry is there twice");
    for (rank, (left, right)) in merges.iter().enumerate() {
        assert!(
            ids[left.as_str()] < 512 + rank && ids[right.as_str()] < 512 + rank,
            "merge {rank}: {left} {right}"
        );
    }
}

#[test]
fn every_entry_is_spelt_as_published() {
    let tokenizer = Tokenizer::new();
    let byte_of: HashMap<char, u8> = alphabet().into_iter().map(|(byte, c)| (c, byte)).collect();
    for (id, entry) in published_vocabulary(&published_merges()).iter().enumerate() {
        let bytes: Vec<u8> = entry.chars().map(|c| byte_of[&c]).collect();
        let expected = String::from_utf8_lossy(&bytes).replace("</w>", " ");
        assert_eq!(tokenizer.decode(&[id as u32]), expected, "id {id}");
    }
    assert_eq!(tokenizer.decode(&[START_OF_TEXT, END_OF_TEXT]), "<start_of_text><end_of_text>");
}
