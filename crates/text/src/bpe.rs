//! Byte-pair encoding of one word.
//!
//! The rule: as long as some neighbouring pair has a merge, take the one of lowest rank and merge all its
//! occurrences from the left (Sennrich, Haddow, Birch 2016, section 3.2). Doing that literally takes time
//! quadratic in the length of the word, and a caption may be one word of a million characters. A heap of
//! (rank, position) gives the same in O(n log n): what a merge creates can only take part in merges of
//! higher rank (`tests/vocabulary.rs` checks this of the list), so occurrences of one rank leave the heap
//! together, from the left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vocabulary::{Ranks, byte_id, last_byte_id, merged_id, parts};

const NONE: u32 = u32::MAX;
/// Id of a symbol that was merged into its left neighbour; not in the vocabulary.
const GONE: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Symbol {
    id: u16,
    previous: u32,
    next: u32,
}

/// Buffers that are kept from word to word.
#[derive(Default)]
pub(crate) struct Scratch {
    symbols: Vec<Symbol>,
    /// Candidates: rank in the upper 16 bits, position of the left symbol below.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Scratch {
    fn symbol(&self, at: u32) -> Option<Symbol> {
        self.symbols.get(at as usize).copied()
    }

    fn offer(&mut self, ranks: &Ranks, left_at: u32) {
        let Some(left) = self.symbol(left_at) else { return };
        let Some(right) = self.symbol(left.next) else { return };
        if let Some(rank) = ranks.get(left.id, right.id) {
            self.heap.push(Reverse(u64::from(rank) << 48 | u64::from(left_at)));
        }
    }

    fn merge(&mut self, ranks: &Ranks, candidate: u64) {
        let (rank, left_at) = ((candidate >> 48) as u16, candidate as u32);
        let Some(left) = self.symbol(left_at) else { return };
        let Some(right) = self.symbol(left.next) else { return };
        if parts(rank) != Some((left.id, right.id)) {
            return; // One of the two has become part of something else meanwhile.
        }
        if let Some(symbol) = self.symbols.get_mut(left.next as usize) {
            symbol.id = GONE;
            symbol.next = NONE;
        }
        if let Some(symbol) = self.symbols.get_mut(left_at as usize) {
            symbol.id = merged_id(rank);
            symbol.next = right.next;
        }
        if let Some(symbol) = self.symbols.get_mut(right.next as usize) {
            symbol.previous = left_at;
        }
        self.offer(ranks, left.previous);
        self.offer(ranks, left_at);
    }
}

/// Append the ids of `word`. (A word over 4 GiB would be cut there.)
pub(crate) fn encode_word(ranks: &Ranks, word: &str, scratch: &mut Scratch, out: &mut Vec<u32>) {
    let length = u32::try_from(word.len()).unwrap_or(NONE);
    scratch.symbols.clear();
    scratch.heap.clear();
    scratch.symbols.extend((0..length).zip(word.bytes()).map(|(at, byte)| Symbol {
        id: if at + 1 == length { last_byte_id(byte) } else { byte_id(byte) },
        previous: at.checked_sub(1).unwrap_or(NONE),
        next: if at + 1 == length { NONE } else { at + 1 },
    }));
    for at in 0..length {
        scratch.offer(ranks, at);
    }
    while let Some(Reverse(candidate)) = scratch.heap.pop() {
        scratch.merge(ranks, candidate);
    }
    out.extend(scratch.symbols.iter().filter(|symbol| symbol.id != GONE).map(|symbol| u32::from(symbol.id)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::{VOCABULARY_SIZE, Vocabulary};

    fn ranks() -> Ranks {
        Ranks::new(Vocabulary::of_size(VOCABULARY_SIZE))
    }

    /// The rule to the letter: the pair of lowest rank, all its occurrences from the left, again.
    fn encode_word_literally(ranks: &Ranks, word: &str) -> Vec<u32> {
        let mut ids: Vec<u16> = word.bytes().map(byte_id).collect();
        if let (Some(id), Some(byte)) = (ids.last_mut(), word.bytes().last()) {
            *id = last_byte_id(byte);
        }
        while let Some(rank) = ids.windows(2).filter_map(|pair| ranks.get(pair[0], pair[1])).min() {
            let (left, right) = parts(rank).unwrap();
            let mut merged = Vec::new();
            let mut rest = ids.as_slice();
            while let Some(&id) = rest.first() {
                let is_pair = rest.starts_with(&[left, right]);
                merged.push(if is_pair { merged_id(rank) } else { id });
                rest = &rest[if is_pair { 2 } else { 1 }..];
            }
            ids = merged;
        }
        ids.into_iter().map(u32::from).collect()
    }

    fn encode(ranks: &Ranks, word: &str) -> Vec<u32> {
        let mut out = Vec::new();
        encode_word(ranks, word, &mut Scratch::default(), &mut out);
        out
    }

    const WORD: &str = "[a-e]{1,40}|[a-z]{1,20}|[!-/:-@]{1,20}|\\PC{1,20}";

    proptest! {
        #[test]
        fn heap_gives_what_the_rule_says(words in prop::collection::vec(WORD, 20)) {
            let ranks = ranks();
            for word in words {
                prop_assert_eq!(encode(&ranks, &word), encode_word_literally(&ranks, &word), "{}", word);
            }
        }
    }

    #[test]
    fn runs_of_one_letter_are_merged_from_the_left() {
        let ranks = ranks();
        for length in 1..200 {
            let word = "a".repeat(length);
            assert_eq!(encode(&ranks, &word), encode_word_literally(&ranks, &word), "{length} times a");
        }
    }
}
