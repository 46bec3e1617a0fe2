//! The vocabulary: bytes, the same at the end of a word, the merges in order of their rank, two marks.
//!
//! An entry is known by its number alone. What it spells follows from the merges, so only they are stored:
//! for each merge the ids of its two parts, little-endian `u16`s, in `data/merges.bin`
//! (`tests/vocabulary.rs` derives the file from the published list of merges and compares).

/// Number of entries in the vocabulary; ids are smaller.
pub const VOCABULARY_SIZE: usize = 49_408;
/// Id of `<start_of_text>` in the whole vocabulary, the first of every encoded text.
pub const START_OF_TEXT: u32 = 49_406;
/// Id of `<end_of_text>` in the whole vocabulary, the largest id: the text tower reads its features at the first place
/// where it stands.
pub const END_OF_TEXT: u32 = 49_407;

/// What the end of a word looks like in the entries' spelling.
pub(crate) const WORD_END: &str = "</w>";
pub(crate) const START_OF_TEXT_NAME: &str = "<start_of_text>";
pub(crate) const END_OF_TEXT_NAME: &str = "<end_of_text>";

const BYTES: u16 = 256;
/// Ids below this are bytes: first those inside a word, then those at its end.
const FIRST_MERGE: u16 = 2 * BYTES;
const MARKS: usize = 2;
/// Number of entries that a vocabulary without merges has.
pub const SMALLEST_VOCABULARY: usize = FIRST_MERGE as usize + MARKS;
const MERGES: usize = VOCABULARY_SIZE - SMALLEST_VOCABULARY;

static MERGES_LE: &[u8; 4 * MERGES] = include_bytes!("../data/merges.bin");

/// The bytes in the order of their ids: the printable ones of Latin-1 first, then the others.
const BYTE_OF_ID: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut filled = 0;
    let mut printable = true;
    loop {
        let mut byte = 0usize;
        while byte < 256 {
            if matches!(byte, 33..=126 | 161..=172 | 174..=255) == printable {
                bytes[filled] = byte as u8;
                filled += 1;
            }
            byte += 1;
        }
        if !printable {
            break bytes;
        }
        printable = false;
    }
};

const ID_OF_BYTE: [u16; 256] = {
    let mut ids = [0; 256];
    let mut id = 0;
    while id < 256 {
        ids[BYTE_OF_ID[id] as usize] = id as u16;
        id += 1;
    }
    ids
};

/// Id of a byte inside a word.
pub(crate) fn byte_id(byte: u8) -> u16 {
    ID_OF_BYTE[byte as usize]
}

/// Id of a byte that ends a word.
pub(crate) fn last_byte_id(byte: u8) -> u16 {
    byte_id(byte) + BYTES
}

/// The two parts that the merge of this rank joins.
pub(crate) fn parts(rank: u16) -> Option<(u16, u16)> {
    let at = 4 * usize::from(rank);
    match MERGES_LE.get(at..at + 4) {
        Some(&[a, b, c, d]) => Some((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]))),
        _ => None,
    }
}

/// Id of what the merge of this rank gives.
pub(crate) fn merged_id(rank: u16) -> u16 {
    FIRST_MERGE + rank
}

/// The bytes, the merges that come first, and the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    merges: u16,
}

impl Vocabulary {
    /// Of so many entries, as near as there are.
    #[allow(clippy::cast_possible_truncation)] // At most MERGES.
    pub(crate) fn of_size(size: usize) -> Self {
        Vocabulary { merges: size.saturating_sub(SMALLEST_VOCABULARY).min(MERGES) as u16 }
    }

    pub(crate) fn size(self) -> usize {
        SMALLEST_VOCABULARY + usize::from(self.merges)
    }

    pub(crate) fn start_of_text(self) -> u32 {
        u32::from(FIRST_MERGE + self.merges)
    }

    pub(crate) fn end_of_text(self) -> u32 {
        self.start_of_text() + 1
    }

    /// Append what `id` spells; an id outside the vocabulary spells U+FFFD.
    pub(crate) fn spell(self, id: u32, out: &mut Vec<u8>) {
        if id == self.start_of_text() {
            return out.extend_from_slice(START_OF_TEXT_NAME.as_bytes());
        }
        if id == self.end_of_text() {
            return out.extend_from_slice(END_OF_TEXT_NAME.as_bytes());
        }
        // No chain of merges is deeper than the longest entry is long, so the stack stays small.
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let Some(id) = u16::try_from(id).ok().filter(|&id| u32::from(id) < self.start_of_text()) else {
                out.extend_from_slice("\u{fffd}".as_bytes());
                continue;
            };
            if id < BYTES {
                out.push(BYTE_OF_ID[usize::from(id)]);
            } else if id < FIRST_MERGE {
                out.push(BYTE_OF_ID[usize::from(id - BYTES)]);
                out.extend_from_slice(WORD_END.as_bytes());
            } else if let Some((left, right)) = parts(id - FIRST_MERGE) {
                pending.push(right.into());
                pending.push(left.into());
            }
        }
    }
}

/// Which rank has the merge of a pair: a hash table with open addressing, since building a `HashMap` of this
/// size would be the larger part of a program's start.
pub(crate) struct Ranks {
    slots: Vec<Slot>,
}

#[derive(Clone, Copy)]
struct Slot {
    pair: u32,
    rank: u16,
}

const SLOT_BITS: u32 = 17;
const EMPTY: Slot = Slot { pair: u32::MAX, rank: 0 };

fn pair_key(left: u16, right: u16) -> u32 {
    u32::from(left) << 16 | u32::from(right)
}

/// Fibonacci hashing: the top bits of the product depend on all bits of the key.
fn home(pair: u32) -> usize {
    (pair.wrapping_mul(0x9e37_79b1) >> (32 - SLOT_BITS)) as usize
}

impl Ranks {
    pub(crate) fn new(vocabulary: Vocabulary) -> Self {
        let mut slots = vec![EMPTY; 1 << SLOT_BITS];
        for rank in 0..vocabulary.merges {
            let Some((left, right)) = parts(rank) else { break };
            let pair = pair_key(left, right);
            let mut at = home(pair);
            while slots[at].pair != EMPTY.pair {
                at = (at + 1) & ((1 << SLOT_BITS) - 1);
            }
            slots[at] = Slot { pair, rank };
        }
        Ranks { slots }
    }

    pub(crate) fn get(&self, left: u16, right: u16) -> Option<u16> {
        let pair = pair_key(left, right);
        let mut at = home(pair);
        // Ends because less than half of the slots are taken.
        loop {
            let slot = self.slots[at];
            if slot.pair == pair {
                return Some(slot.rank);
            }
            if slot.pair == EMPTY.pair {
                return None;
            }
            at = (at + 1) & ((1 << SLOT_BITS) - 1);
        }
    }
}
