//! The list of tags that describes a page.

/// Tags of TIFF 6.0.
pub(super) mod tag {
    pub const IMAGE_WIDTH: u16 = 256;
    pub const IMAGE_LENGTH: u16 = 257;
    pub const BITS_PER_SAMPLE: u16 = 258;
    pub const COMPRESSION: u16 = 259;
    pub const PHOTOMETRIC: u16 = 262;
    pub const FILL_ORDER: u16 = 266;
    pub const STRIP_OFFSETS: u16 = 273;
    pub const ORIENTATION: u16 = 274;
    pub const SAMPLES_PER_PIXEL: u16 = 277;
    pub const ROWS_PER_STRIP: u16 = 278;
    pub const STRIP_BYTE_COUNTS: u16 = 279;
    pub const PLANAR_CONFIGURATION: u16 = 284;
    pub const PREDICTOR: u16 = 317;
    pub const COLOR_MAP: u16 = 320;
    pub const TILE_WIDTH: u16 = 322;
    pub const TILE_LENGTH: u16 = 323;
    pub const TILE_OFFSETS: u16 = 324;
    pub const TILE_BYTE_COUNTS: u16 = 325;
    pub const EXTRA_SAMPLES: u16 = 338;
    pub const SAMPLE_FORMAT: u16 = 339;
    pub const JPEG_TABLES: u16 = 347;
}

/// The first page's tags; their values are read from the file when asked for, so a tag never costs more than the file is long.
pub(super) struct Directory<'a> {
    file: &'a [u8],
    is_little_endian: bool,
    entries: Vec<Entry>,
}

struct Entry {
    tag: u16,
    value_len: usize,
    count: usize,
    /// Where the values stand.
    at: usize,
}

impl<'a> Directory<'a> {
    pub(super) fn first(file: &'a [u8]) -> Option<Directory<'a>> {
        let is_little_endian = file.starts_with(b"II");
        let mut directory = Directory { file, is_little_endian, entries: Vec::new() };
        // BigTIFF has 43 where TIFF has 42, and wider numbers.
        let is_big = directory.read(2, 2)? == 43;
        let (wide, entry_len) = if is_big { (8, 20) } else { (4, 12) };
        let start = directory.index(if is_big { 8 } else { 4 }, wide)?;
        let count_len = if is_big { 8 } else { 2 };
        let count = directory.index(start, count_len)?;
        let first = start.checked_add(count_len)?;
        if count > file.len().checked_sub(first)? / entry_len {
            return None;
        }
        for at in (0..count).map(|i| first + i * entry_len) {
            let value_len = match directory.read(at + 2, 2)? {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16 | 17 | 18 => 8,
                // Unknown types are skipped, as the specification asks.
                _ => continue,
            };
            let count = directory.index(at + 4, wide)?;
            let inside = at + 4 + wide;
            let is_inside = count.checked_mul(value_len)? <= wide;
            let values_at = if is_inside { inside } else { directory.index(inside, wide)? };
            let tag = u16::try_from(directory.read(at, 2)?).ok()?;
            directory.entries.push(Entry { tag, value_len, count, at: values_at });
        }
        Some(directory)
    }

    pub(super) fn is_little_endian(&self) -> bool {
        self.is_little_endian
    }

    pub(super) fn file(&self) -> &'a [u8] {
        self.file
    }

    /// The values of a tag as they stand in the file.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        self.file.get(entry.at..entry.at.checked_add(entry.count.checked_mul(entry.value_len)?)?)
    }

    /// The values of a tag of whole numbers.
    pub(super) fn numbers(&self, tag: u16) -> Option<Vec<u64>> {
        let bytes = self.bytes(tag)?;
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        Some(bytes.chunks_exact(entry.value_len).map(|v| self.value(v)).collect())
    }

    /// The first value of a tag of whole numbers.
    pub(super) fn number(&self, tag: u16) -> Option<u64> {
        let entry = self.entries.iter().find(|entry| entry.tag == tag)?;
        self.bytes(tag)?.get(..entry.value_len).map(|v| self.value(v))
    }

    fn value(&self, bytes: &[u8]) -> u64 {
        let step = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        if self.is_little_endian { bytes.iter().rev().fold(0, step) } else { bytes.iter().fold(0, step) }
    }

    fn read(&self, at: usize, len: usize) -> Option<u64> {
        self.file.get(at..at.checked_add(len)?).map(|bytes| self.value(bytes))
    }

    fn index(&self, at: usize, len: usize) -> Option<usize> {
        usize::try_from(self.read(at, len)?).ok()
    }
}
