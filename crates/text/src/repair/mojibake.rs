//! The characters that occur in mojibake: what each may be in UTF-8 read with the wrong encoding, and how suspect it is where.

use std::array::from_fn;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::code_pages::{CODE_PAGES, CodePage, PAGES};
use crate::unicode::is_python_space;

/// A set of classes, a bit for each.
pub(super) type Classes = u32;

pub(super) const COMMON: Classes = 1 << 0;
pub(super) const C1: Classes = 1 << 1;
/// Hardly ever meant where they stand.
pub(super) const BAD: Classes = 1 << 2;
pub(super) const LAW: Classes = 1 << 3;
pub(super) const CURRENCY: Classes = 1 << 4;
pub(super) const START_PUNCTUATION: Classes = 1 << 5;
pub(super) const END_PUNCTUATION: Classes = 1 << 6;
pub(super) const NUMERIC: Classes = 1 << 7;
/// May be part of a face made of letters.
pub(super) const KAOMOJI: Classes = 1 << 8;
pub(super) const UPPER_ACCENTED: Classes = 1 << 9;
pub(super) const LOWER_ACCENTED: Classes = 1 << 10;
pub(super) const UPPER_COMMON: Classes = 1 << 11;
pub(super) const LOWER_COMMON: Classes = 1 << 12;
pub(super) const BOX: Classes = 1 << 13;
pub(super) const ASCII_LOWER: Classes = 1 << 14;
pub(super) const ASCII_UPPER: Classes = 1 << 15;
pub(super) const SPACE: Classes = 1 << 16;
/// Read from a byte that begins a UTF-8 sequence of two, three or four.
pub(super) const FIRST_OF_2: Classes = 1 << 17;
pub(super) const FIRST_OF_3: Classes = 1 << 18;
pub(super) const FIRST_OF_4: Classes = 1 << 19;
/// Read from a byte that continues a UTF-8 sequence.
pub(super) const CONTINUATION: Classes = 1 << 20;
/// The same without those that often stand for themselves.
pub(super) const STRICT_CONTINUATION: Classes = 1 << 21;

/// Members of the classes as ftfy draws them (`MOJIBAKE_CATEGORIES`).
const MEMBERS: [(Classes, &[RangeInclusive<u32>]); 14] = [
    (
        COMMON,
        &[
            0x00a0..=0x00a0,
            0x00ad..=0x00ad,
            0x00b4..=0x00b4,
            0x00b7..=0x00b7,
            0x2013..=0x2015,
            0x2019..=0x2019,
            0x2026..=0x2026,
        ],
    ),
    (C1, &[0x0080..=0x009f]),
    (
        BAD,
        &[
            0x00a4..=0x00a4,
            0x00a6..=0x00a6,
            0x00a8..=0x00a8,
            0x00aa..=0x00aa,
            0x00ac..=0x00ac,
            0x00af..=0x00af,
            0x00b8..=0x00b8,
            0x00ba..=0x00ba,
            0x0192..=0x0192,
            0x02c6..=0x02c7,
            0x02d8..=0x02d8,
            0x02db..=0x02dc,
            0x2020..=0x2021,
            0x2030..=0x2030,
            0x2310..=0x2310,
            0x25ca..=0x25ca,
            0xfffd..=0xfffd,
        ],
    ),
    (LAW, &[0x00a7..=0x00a7, 0x00b6..=0x00b6]),
    (CURRENCY, &[0x00a2..=0x00a3, 0x00a5..=0x00a5, 0x20a7..=0x20a7, 0x20ac..=0x20ac]),
    (
        START_PUNCTUATION,
        &[
            0x00a1..=0x00a1,
            0x00a9..=0x00a9,
            0x00ab..=0x00ab,
            0x00bf..=0x00bf,
            0x0384..=0x0385,
            0x2018..=0x2018,
            0x201a..=0x201a,
            0x201c..=0x201c,
            0x201e..=0x201e,
            0x2022..=0x2022,
            0x2039..=0x2039,
            0xf8ff..=0xf8ff,
        ],
    ),
    (
        END_PUNCTUATION,
        &[
            0x00ae..=0x00ae,
            0x00bb..=0x00bb,
            0x02dd..=0x02dd,
            0x201d..=0x201d,
            0x203a..=0x203a,
            0x2122..=0x2122,
        ],
    ),
    (
        NUMERIC,
        &[
            0x00b1..=0x00b3,
            0x00b5..=0x00b5,
            0x00b9..=0x00b9,
            0x00bc..=0x00be,
            0x00d7..=0x00d7,
            0x00f7..=0x00f7,
            0x2044..=0x2044,
            0x2116..=0x2116,
            0x2202..=0x2202,
            0x2206..=0x2206,
            0x220f..=0x220f,
            0x2211..=0x2211,
            0x221a..=0x221a,
            0x221e..=0x221e,
            0x2229..=0x2229,
            0x222b..=0x222b,
            0x2248..=0x2248,
            0x2260..=0x2261,
            0x2264..=0x2265,
        ],
    ),
    (
        KAOMOJI,
        &[
            0x00b0..=0x00b0,
            0x00d2..=0x00d6,
            0x00d9..=0x00dc,
            0x00f2..=0x00f6,
            0x00f8..=0x00fc,
            0x014c..=0x014c,
            0x0150..=0x0150,
            0x016a..=0x016a,
            0x0172..=0x0172,
        ],
    ),
    (
        UPPER_ACCENTED,
        &[
            0x00c0..=0x00d1,
            0x00d8..=0x00d8,
            0x00dc..=0x00dd,
            0x0100..=0x0100,
            0x0102..=0x0102,
            0x0104..=0x0104,
            0x0106..=0x0106,
            0x010c..=0x010c,
            0x010e..=0x010e,
            0x0110..=0x0110,
            0x0112..=0x0112,
            0x0116..=0x0116,
            0x0118..=0x0118,
            0x011a..=0x011a,
            0x011e..=0x011e,
            0x0122..=0x0122,
            0x012a..=0x012a,
            0x0130..=0x0130,
            0x0136..=0x0136,
            0x0139..=0x0139,
            0x013b..=0x013b,
            0x013d..=0x013d,
            0x0141..=0x0141,
            0x0143..=0x0143,
            0x0145..=0x0145,
            0x0147..=0x0147,
            0x0152..=0x0152,
            0x0158..=0x0158,
            0x015a..=0x015a,
            0x015e..=0x015e,
            0x0160..=0x0160,
            0x0162..=0x0162,
            0x0164..=0x0164,
            0x016e..=0x016e,
            0x0170..=0x0170,
            0x0178..=0x0179,
            0x017b..=0x017b,
            0x017d..=0x017d,
            0x0490..=0x0490,
        ],
    ),
    (
        LOWER_ACCENTED,
        &[
            0x00df..=0x00f1,
            0x00fc..=0x00fc,
            0x0101..=0x0101,
            0x0103..=0x0103,
            0x0105..=0x0105,
            0x0107..=0x0107,
            0x010d..=0x010d,
            0x010f..=0x010f,
            0x0111..=0x0111,
            0x0113..=0x0113,
            0x0117..=0x0117,
            0x0119..=0x0119,
            0x011b..=0x011b,
            0x011f..=0x011f,
            0x0123..=0x0123,
            0x012b..=0x012b,
            0x012f..=0x012f,
            0x0137..=0x0137,
            0x013a..=0x013a,
            0x013c..=0x013c,
            0x013e..=0x013e,
            0x0142..=0x0142,
            0x0153..=0x0153,
            0x0155..=0x0155,
            0x015b..=0x015b,
            0x015f..=0x015f,
            0x0161..=0x0161,
            0x0165..=0x0165,
            0x017a..=0x017a,
            0x017c..=0x017c,
            0x017e..=0x017e,
            0x0491..=0x0491,
            0xfb01..=0xfb02,
        ],
    ),
    (
        UPPER_COMMON,
        &[
            0x00de..=0x00de,
            0x0386..=0x0386,
            0x0388..=0x038a,
            0x038c..=0x038c,
            0x038e..=0x038f,
            0x0391..=0x03ab,
            0x0401..=0x042f,
        ],
    ),
    (LOWER_COMMON, &[0x03ac..=0x03c9, 0x0430..=0x045f]),
    (
        BOX,
        &[
            0x2502..=0x2502,
            0x250c..=0x250c,
            0x2510..=0x2510,
            0x2518..=0x2518,
            0x251c..=0x251c,
            0x2524..=0x2524,
            0x252c..=0x252c,
            0x253c..=0x253c,
            0x2550..=0x256c,
            0x2580..=0x2580,
            0x2584..=0x2584,
            0x2588..=0x2588,
            0x258c..=0x258c,
            0x2590..=0x2593,
        ],
    ),
];

/// Continuations that often stand for themselves: dashes, quotation marks, bullet, ellipsis.
const LENIENT: [char; 11] = ['–', '—', '―', '‘', '’', '‚', '“', '”', '„', '•', '…'];

/// What is known of one character.
#[derive(Clone, Copy, Default)]
pub(super) struct Mojibake {
    pub(super) classes: Classes,
    /// The code pages that have it, a bit for each.
    pub(super) pages: u16,
    /// Its byte in each of them.
    pub(super) bytes: [u8; PAGES],
}

impl Mojibake {
    fn set_byte(&mut self, page: usize, byte: u8) {
        self.pages |= 1 << page;
        if let Some(slot) = self.bytes.get_mut(page) {
            *slot = byte;
        }
    }
}

/// The characters up to U+FFFF in blocks of 256; most blocks are the first, which is empty.
struct Table {
    block_of: [u8; 256],
    blocks: Vec<[Mojibake; 256]>,
}

impl Table {
    fn entry(&mut self, code: u32) -> Option<&mut Mojibake> {
        let block = self.block_of.get_mut((code >> 8) as usize)?;
        if *block == 0 {
            *block = u8::try_from(self.blocks.len()).ok()?;
            self.blocks.push([Mojibake::default(); 256]);
        }
        self.blocks.get_mut(usize::from(*block))?.get_mut((code & 0xff) as usize)
    }

    fn add_classes(&mut self, code: u32, classes: Classes) {
        if let Some(entry) = self.entry(code) {
            entry.classes |= classes;
        }
    }

    fn add_page(&mut self, index: usize, page: &CodePage) {
        for byte in 0..=u8::MAX {
            let c = page.decode(byte);
            if let Some(entry) = self.entry(c.into()) {
                entry.set_byte(index, byte);
            }
            if page.is_latin_1_like {
                self.add_classes(c.into(), role_in_utf8(byte, c));
            }
        }
    }
}

fn role_in_utf8(byte: u8, c: char) -> Classes {
    match byte {
        0x80..=0xbf if LENIENT.contains(&c) => CONTINUATION,
        0x80..=0xbf => CONTINUATION | STRICT_CONTINUATION,
        0xc2..=0xdf => FIRST_OF_2,
        0xe0..=0xef => FIRST_OF_3,
        // The other bytes up to F4 begin sequences of characters that are not assigned.
        0xf0 | 0xf3 => FIRST_OF_4,
        // Stands for a no-break space.
        b' ' => CONTINUATION,
        _ => 0,
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { block_of: [0; 256], blocks: vec![[Mojibake::default(); 256]] };
    for (index, page) in CODE_PAGES.iter().enumerate() {
        table.add_page(index, page);
    }
    for (class, ranges) in MEMBERS {
        for code in ranges.iter().cloned().flatten() {
            table.add_classes(code, class);
        }
    }
    for code in 0..0x80u8 {
        let class = match code {
            b'a'..=b'z' => ASCII_LOWER,
            b'A'..=b'Z' => ASCII_UPPER,
            _ => 0,
        };
        table.add_classes(code.into(), class);
    }
    for c in ('\0'..='\u{3000}').filter(|&c| is_python_space(c)) {
        table.add_classes(c.into(), SPACE);
    }
    table
});

/// What is known of `c`; nothing of most characters.
pub(super) fn lookup(c: char) -> Mojibake {
    let code = u32::from(c);
    let table = &*TABLE;
    let block = table.block_of.get((code >> 8) as usize).copied().unwrap_or(0);
    table.blocks.get(usize::from(block)).map_or(Mojibake::default(), |block| block[(code & 0xff) as usize])
}

/// The code pages from which all of `text` could have been decoded.
pub(super) fn possible_pages(text: &str) -> [bool; PAGES] {
    let mut pages = u16::MAX;
    for c in text.chars() {
        pages &= lookup(c).pages;
        if pages == 0 {
            break;
        }
    }
    from_fn(|page| pages & (1 << page) != 0)
}

/// `text` in a code page that has all its characters.
pub(super) fn encode(text: &str, page: usize) -> Vec<u8> {
    text.chars().map(|c| lookup(c).bytes.get(page).copied().unwrap_or(b'?')).collect()
}
