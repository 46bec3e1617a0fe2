//! The characters that occur in mojibake: what each may be in UTF-8 read with the wrong encoding, and how
//! suspect it is where.

use std::array::from_fn;
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

/// Members of the classes as ftfy draws them (`MOJIBAKE_CATEGORIES`); a hyphen stands between the ends of a
/// range.
const MEMBERS: [(Classes, &str); 14] = [
    (COMMON, "\u{a0}\u{ad}´·–-―’…"),
    (C1, "\u{80}-\u{9f}"),
    (BAD, "¤¦¨ª¬¯¸ºƒ\u{2c6}\u{2c7}\u{2d8}\u{2db}\u{2dc}†‡‰⌐◊\u{fffd}"),
    (LAW, "§¶"),
    (CURRENCY, "¢£¥₧€"),
    (START_PUNCTUATION, "¡©«¿΄΅‘‚“„•‹\u{f8ff}"),
    (END_PUNCTUATION, "®»\u{2dd}”›™"),
    (NUMERIC, "±-³µ¹¼-¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥"),
    (KAOMOJI, "°Ò-ÖÙ-Üò-öø-üŌŐŪŲ"),
    (UPPER_ACCENTED, "À-ÑØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    (LOWER_ACCENTED, "ß-ñüāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ"),
    (UPPER_COMMON, "ÞΆΈ-ΊΌΎΏΑ-ΫЁ-Я"),
    (LOWER_COMMON, "ά-ωа-џ"),
    (BOX, "│┌┐┘├┤┬┼═-╬▀▄█▌▐-▓"),
];

/// The code points that an entry of [`MEMBERS`] lists.
fn members(list: &str) -> impl Iterator<Item = u32> {
    let mut chars = list.chars().peekable();
    std::iter::from_fn(move || {
        let first = u32::from(chars.next()?);
        let is_range = chars.next_if_eq(&'-').is_some();
        let last = if is_range { u32::from(chars.next()?) } else { first };
        Some(first..=last)
    })
    .flatten()
}

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

static UNKNOWN: Mojibake = Mojibake { classes: 0, pages: 0, bytes: [0; PAGES] };

/// The characters up to U+FFFF in blocks of 256; most blocks are the first, which is empty.
struct Table {
    block_of: [u8; 256],
    blocks: Vec<[Mojibake; 256]>,
}

impl Table {
    fn get(&self, c: char) -> &Mojibake {
        let code = u32::from(c);
        let block = self.block_of.get((code >> 8) as usize).copied().unwrap_or(0);
        match self.blocks.get(usize::from(block)) {
            Some(block) => &block[(code & 0xff) as usize],
            None => &UNKNOWN,
        }
    }

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
    for (class, list) in MEMBERS {
        for code in members(list) {
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
pub(super) fn lookup(c: char) -> &'static Mojibake {
    TABLE.get(c)
}

/// The code pages from which all of `text` could have been decoded.
pub(super) fn possible_pages(text: &str) -> [bool; PAGES] {
    let table = &*TABLE;
    let mut pages = u16::MAX;
    for c in text.chars() {
        pages &= table.get(c).pages;
        if pages == 0 {
            break;
        }
    }
    from_fn(|page| pages & (1 << page) != 0)
}

/// `text` in a code page that has all its characters.
pub(super) fn encode(text: &str, page: usize) -> Vec<u8> {
    let table = &*TABLE;
    text.chars().map(|c| table.get(c).bytes.get(page).copied().unwrap_or(b'?')).collect()
}
