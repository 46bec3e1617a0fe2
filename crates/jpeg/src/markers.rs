use crate::exif;
use crate::frame::Frame;
use crate::huffman::Code;
use crate::{Error, frame::NATURAL_ORDER};

/// Tables that segments define and later scans use.
#[derive(Default)]
pub(crate) struct Tables {
    /// Quantisation steps in natural order.
    pub quant: [Option<[u16; 64]>; 4],
    pub dc: [Option<Code>; 4],
    pub ac: [Option<Code>; 4],
}

/// Where [`Reader::next`] stopped.
pub(crate) enum Stop<'a> {
    /// Behind the frame header.
    Frame(Frame),
    /// Behind a scan header, of which this is the content; entropy-coded data follows.
    Scan(&'a [u8]),
    /// Behind the end-of-image marker.
    EndOfImage,
    /// At the end of the data, inside or between segments.
    EndOfData,
}

/// Reads segments and keeps what they define.
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    position: usize,
    /// A marker that was read but not yet acted on.
    pending: Option<u8>,
    pub tables: Tables,
    has_frame: bool,
    /// MCUs between restart markers, 0 for none.
    pub restart_interval: u32,
    pub has_jfif: bool,
    /// The colour transform of an Adobe segment.
    pub adobe_transform: Option<u8>,
    pub orientation: Option<u8>,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8]) -> Result<Self, Error> {
        if !data.starts_with(&[0xFF, 0xD8, 0xFF]) {
            return Err(Error::NotJpeg);
        }
        Ok(Self {
            data,
            position: 2,
            pending: None,
            tables: Tables::default(),
            has_frame: false,
            restart_interval: 0,
            has_jfif: false,
            adobe_transform: None,
            orientation: None,
        })
    }

    /// The data and the position in it, for reading a scan's entropy-coded data.
    pub fn position(&self) -> (&'a [u8], usize) {
        (self.data, self.position)
    }

    /// Goes on behind a scan's data, at a marker if the entropy decoder ran into one.
    pub fn resume(&mut self, position: usize, pending: Option<u8>) {
        self.position = position;
        self.pending = pending;
    }

    /// Reads segments until something has to be done about one.
    pub fn next(&mut self) -> Result<Stop<'a>, Error> {
        loop {
            let marker = match self.pending.take() {
                Some(marker) => marker,
                None => match next_marker(self.data, &mut self.position) {
                    Some(marker) => marker,
                    None => return Ok(Stop::EndOfData),
                },
            };
            match marker {
                // TEM and restart markers have no content.
                0x01 | 0xD0..=0xD7 => continue,
                0xD9 => return Ok(Stop::EndOfImage),
                0xD8 => return Err(Error::Malformed { segment: "SOI", reason: "second one in the file" }),
                ..0xC0 | 0xC8 | 0xDE | 0xDF | 0xF0..=0xFD | 0xFF => {
                    return Err(Error::Unsupported { what: "a reserved marker" });
                }
                0xC5..=0xC7 | 0xCD..=0xCF => return Err(Error::Unsupported { what: "hierarchical coding" }),
                0xC0..=0xC3 | 0xC9..=0xCB if self.has_frame => {
                    return Err(Error::Malformed { segment: "SOF", reason: "second one in the file" });
                }
                _ => {}
            }
            let Some((length, segment)) = self.segment() else {
                return Ok(Stop::EndOfData);
            };
            if length < 2 && matches!(marker, 0xC4 | 0xDB) {
                return Err(Error::Malformed { segment: "DHT or DQT", reason: "length is below 2" });
            }
            match marker {
                0xC0..=0xC2 => {
                    self.has_frame = true;
                    return Ok(Stop::Frame(Frame::parse(segment, marker == 0xC2)?));
                }
                0xC3 => return Err(Error::Unsupported { what: "lossless coding" }),
                0xC9..=0xCB => return Err(Error::Unsupported { what: "arithmetic coding" }),
                0xC4 => self.define_huffman(segment)?,
                0xDB => self.define_quantisation(segment)?,
                0xDD => {
                    let &[high, low] = segment else {
                        return Err(Error::Malformed { segment: "DRI", reason: "length is not 4" });
                    };
                    self.restart_interval = u32::from(u16::from_be_bytes([high, low]));
                }
                0xDA => return Ok(Stop::Scan(segment)),
                0xE0 if segment.len() >= 14 && segment.starts_with(b"JFIF\0") => self.has_jfif = true,
                0xE1 if self.orientation.is_none() => self.orientation = exif::orientation(segment),
                0xEE if segment.len() >= 12 && segment.starts_with(b"Adobe") => {
                    self.adobe_transform = Some(segment[11]);
                }
                // Other applications' segments, comments, arithmetic conditioning and DNL have nothing for us.
                _ => {}
            }
        }
    }

    /// The length field and the content of the segment that starts here, or None at the end of the data.
    fn segment(&mut self) -> Option<(u16, &'a [u8])> {
        let rest = self.data.get(self.position..)?;
        let (&length, rest) = rest.split_first_chunk::<2>()?;
        let length = u16::from_be_bytes(length);
        // The length counts itself; what claims to be shorter is taken as empty, as libjpeg does for most segments.
        let size = usize::from(length.saturating_sub(2));
        let segment = rest.get(..size)?;
        self.position += 2 + size;
        Some((length, segment))
    }

    fn define_quantisation(&mut self, mut segment: &[u8]) -> Result<(), Error> {
        let bad = |reason| Error::Malformed { segment: "DQT", reason };
        while let Some((&head, rest)) = segment.split_first() {
            let table =
                self.tables.quant.get_mut(usize::from(head & 15)).ok_or(bad("table number over 3"))?;
            let mut steps = [0; 64];
            let size = if head >> 4 == 0 { 64 } else { 128 };
            let (values, rest) = rest.split_at_checked(size).ok_or(bad("length does not fit its tables"))?;
            for (i, &position) in NATURAL_ORDER[..64].iter().enumerate() {
                steps[usize::from(position)] = if size == 64 {
                    u16::from(values[i])
                } else {
                    u16::from_be_bytes([values[2 * i], values[2 * i + 1]])
                };
            }
            *table = Some(steps);
            segment = rest;
        }
        Ok(())
    }

    fn define_huffman(&mut self, mut segment: &[u8]) -> Result<(), Error> {
        let bad = |reason| Error::Malformed { segment: "DHT", reason };
        while let Some((&head, rest)) = segment.split_first() {
            let (&counts, rest) =
                rest.split_first_chunk::<16>().ok_or(bad("length does not fit its tables"))?;
            let count: usize = counts.iter().map(|&c| usize::from(c)).sum();
            if count > 256 {
                return Err(bad("more than 256 codes"));
            }
            let (symbols, rest) =
                rest.split_at_checked(count).ok_or(bad("length does not fit its tables"))?;
            let class = if head & 0x10 == 0 { &mut self.tables.dc } else { &mut self.tables.ac };
            let table = class.get_mut(usize::from(head & !0x10)).ok_or(bad("table number over 3"))?;
            *table = Some(Code::new(counts, symbols));
            segment = rest;
        }
        Ok(())
    }
}

/// Finds the next marker from `position` on and moves behind it; None at the end of the data.
///
/// Everything that is no marker is skipped: stray bytes, stuffed zeros, fill bytes.
pub(crate) fn next_marker(data: &[u8], position: &mut usize) -> Option<u8> {
    loop {
        let offset = data.get(*position..)?.iter().position(|&b| b == 0xFF)?;
        let mut at = *position + offset + 1;
        while *data.get(at)? == 0xFF {
            at += 1;
        }
        *position = at + 1;
        if data[at] != 0 {
            return Some(data[at]);
        }
    }
}
