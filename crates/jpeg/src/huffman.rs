use crate::Error;
use std::ops::Range;

/// A Huffman code as a DHT segment gives it.
#[derive(Clone)]
pub(crate) struct Code {
    /// Number of codes of 1 to 16 bits.
    counts: [u8; 16],
    /// Symbols in the order of their codes; zeros behind the last one.
    symbols: [u8; 256],
}

impl Code {
    /// `symbols`: as many as `counts` sums to, at most 256.
    pub fn new(counts: [u8; 16], symbols: &[u8]) -> Self {
        let mut all = [0; 256];
        all[..symbols.len()].copy_from_slice(symbols);
        Self { counts, symbols: all }
    }

    /// Length, code and symbol of every code, shortest first.
    fn codes(&self) -> Result<Vec<(u32, u32, u8)>, Error> {
        let bad = |reason| Error::Malformed { segment: "DHT", reason };
        let mut codes = Vec::with_capacity(256);
        let mut code = 0u32;
        for (length, &count) in (1u32..).zip(&self.counts) {
            for _ in 0..count {
                let symbol = *self.symbols.get(codes.len()).ok_or(bad("more than 256 codes"))?;
                codes.push((length, code, symbol));
                code += 1;
            }
            // The code of all ones is reserved.
            if count > 0 && code >= 1 << length {
                return Err(bad("codes do not form a prefix code"));
            }
            code <<= 1;
        }
        Ok(codes)
    }
}

/// Bits that index the table of short codes.
const SHORT_BITS: u32 = 9;

/// Finds symbols by their codes.
pub(crate) struct SymbolTable {
    /// Length and symbol by the next [`SHORT_BITS`] bits; length 0: the code is longer.
    short: [(u8, u8); 1 << SHORT_BITS],
    /// The smallest 16 bits that begin with no code of up to `length` bits; index 0 is unused.
    limit: [u32; 17],
    /// What to add to a code of `length` bits to get its symbol's index.
    offset: [i32; 17],
    symbols: [u8; 256],
}

impl SymbolTable {
    /// # Errors
    /// The code is not a prefix code, or, for DC differences, has symbols over 15.
    pub fn new(code: &Code, is_dc: bool) -> Result<Self, Error> {
        let codes = code.codes()?;
        if is_dc && codes.iter().any(|c| c.2 > 15) {
            return Err(Error::Malformed { segment: "DHT", reason: "DC symbol over 15" });
        }
        let mut table =
            Self { short: [(0, 0); 1 << SHORT_BITS], limit: [0; 17], offset: [0; 17], symbols: code.symbols };
        for (index, &(length, code, symbol)) in codes.iter().enumerate() {
            if length <= SHORT_BITS {
                let free = SHORT_BITS - length;
                let start = (code << free) as usize;
                table.short[start..start + (1 << free)].fill((length as u8, symbol));
            }
            table.limit[length as usize] = (code + 1) << (16 - length);
            table.offset[length as usize] = index as i32 - code as i32;
        }
        Ok(table)
    }

    /// Length and symbol of the code that the 16 bits `next` begin with.
    ///
    /// Bits that begin with no code count as the symbol 0 of 17 bits, as in libjpeg.
    #[inline]
    pub fn find(&self, next: u32) -> (u32, u8) {
        let (length, symbol) = self.short[(next >> (16 - SHORT_BITS)) as usize % (1 << SHORT_BITS)];
        if length != 0 { (u32::from(length), symbol) } else { self.find_long(next) }
    }

    #[cold]
    fn find_long(&self, next: u32) -> (u32, u8) {
        for length in SHORT_BITS as usize + 1..=16 {
            if next < self.limit[length] {
                let index = (next >> (16 - length)) as i32 + self.offset[length];
                return (length as u32, self.symbols[index as usize % 256]);
            }
        }
        (17, 0)
    }
}

/// The value of `size` bits: those that begin with 0 stand for negative numbers (figure F.12 of the standard).
#[inline]
pub(crate) fn extend(bits: u32, size: u32) -> i32 {
    let value = bits as i32;
    if value < (1 << size) >> 1 { value - (1 << size) + 1 } else { value }
}

/// Bits that index the tables of whole values.
pub(crate) const LOOKUP_BITS: u32 = 10;

/// Decodes a DC difference, code and bits, in one step where both fit in [`LOOKUP_BITS`] bits.
pub(crate) struct DcTable {
    /// By the next bits. Bits 0-7: bits used, 0 if it is too long for the table; bits 16-31: the difference.
    pub fast: Box<[u32; 1 << LOOKUP_BITS]>,
    pub symbols: SymbolTable,
}

impl DcTable {
    pub fn new(code: &Code) -> Result<Self, Error> {
        let symbols = SymbolTable::new(code, true)?;
        let mut fast = Box::new([0; 1 << LOOKUP_BITS]);
        for_short_values(code, |range, used, symbol, value| {
            if symbol < 16 {
                fast[range].fill(used | u32::from(value as u16) << 16);
            }
        })?;
        Ok(Self { fast, symbols })
    }
}

/// What [`AcTable`] adds for the end of the block: leads past its 64 coefficients from anywhere.
const END_OF_BLOCK: u32 = 97;

/// Decodes one or two AC coefficients, or one and the end of the block, in one step where they fit in
/// [`LOOKUP_BITS`] bits.
pub(crate) struct AcTable {
    /// By the next bits:
    /// - bits 0-3: bits used; 0 if the coefficient is too long for the table, or a run of 16 zeros;
    /// - bits 4-7: zeros before the first coefficient;
    /// - bits 8-14: from its place to the place behind the second one, or behind itself (1), or
    ///   [`END_OF_BLOCK`]; the place before that one takes the second value;
    /// - bits 16-23: its value, or 0 for the end of the block alone;
    /// - bits 24-31: the second value, or the first again if there is none.
    pub fast: Box<[u32; 1 << LOOKUP_BITS]>,
    pub symbols: SymbolTable,
}

impl AcTable {
    pub fn new(code: &Code) -> Result<Self, Error> {
        let symbols = SymbolTable::new(code, false)?;
        // First one symbol for each entry: bits used, zeros before it, value.
        let mut single = [(0u8, 0u8, 0i8); 1 << LOOKUP_BITS];
        for_short_values(code, |range, used, symbol, value| {
            let Ok(value) = i8::try_from(value) else { return };
            if value != 0 || symbol >> 4 != 15 {
                single[range].fill((used as u8, symbol >> 4, value));
            }
        })?;
        let mut fast = Box::new([0; 1 << LOOKUP_BITS]);
        for (index, entry) in fast.iter_mut().enumerate() {
            let (used, run, value) = single[index];
            let pack = |used: u8, advance: u32, second: i8| {
                u32::from(used)
                    | u32::from(run & 15) << 4
                    | advance << 8
                    | u32::from(value as u8) << 16
                    | u32::from(second as u8) << 24
            };
            let (used2, run2, value2) = single[index << used & ((1 << LOOKUP_BITS) - 1)];
            *entry = if value == 0 {
                u32::from(used)
            } else if used2 == 0 || u32::from(used + used2) > LOOKUP_BITS {
                pack(used, 1, value)
            } else if value2 == 0 {
                pack(used + used2, END_OF_BLOCK, value)
            } else {
                pack(used + used2, 2 + u32::from(run2), value2)
            };
        }
        Ok(Self { fast, symbols })
    }
}

/// Calls `set` for the symbols and values that together have up to [`LOOKUP_BITS`] bits, with the table entries that
/// begin with them, the number of bits, the symbol and the value.
fn for_short_values(code: &Code, mut set: impl FnMut(Range<usize>, u32, u8, i32)) -> Result<(), Error> {
    for (length, code, symbol) in code.codes()? {
        let size = u32::from(symbol & 15);
        let used = length + size;
        if used > LOOKUP_BITS {
            continue;
        }
        for bits in 0..1 << size {
            let start = ((code << size | bits) << (LOOKUP_BITS - used)) as usize;
            set(start..start + (1 << (LOOKUP_BITS - used)), used, symbol, extend(bits, size));
        }
    }
    Ok(())
}

/// The typical tables of the standard's annex K.3: (DC, AC) for luminance and chrominance.
///
/// Motion JPEG frames leave them out, and sequential decoders supply them.
pub(crate) fn typical_codes() -> [(Code, Code); 2] {
    let dc_symbols: [u8; 12] = std::array::from_fn(|i| i as u8);
    let dc = |counts| Code::new(counts, &dc_symbols);
    [
        (
            dc([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]),
            Code::new([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], &LUMINANCE_AC),
        ),
        (
            dc([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]),
            Code::new([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &CHROMINANCE_AC),
        ),
    ]
}

#[rustfmt::skip]
static LUMINANCE_AC: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
    0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0,
    0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28,
    0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
    0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
    0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
    0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
    0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5,
    0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];

#[rustfmt::skip]
static CHROMINANCE_AC: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
    0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0,
    0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26,
    0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
    0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
    0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5,
    0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
    0xF9, 0xFA,
];
