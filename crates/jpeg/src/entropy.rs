use crate::Error;
use crate::bits::{BitPosition, BitReader};
use crate::markers::next_marker;

/// Zeros behind a segment, so that its last bytes can be read eight at once.
const PADDING: usize = 8;

const TRUNCATED: Error = Error::Truncated { inside: "the image data" };

/// The entropy-coded data of a scan, segment by segment between restart markers.
///
/// A segment is copied without its stuffed zero bytes first, so that the bit reader has nothing to look out for.
pub(crate) struct EntropyData<'a> {
    data: &'a [u8],
    position: usize,
    /// The marker that ended the segment and was not acted on; None: the data ended.
    marker: Option<u8>,
    /// The segment's bytes; only the first `length` count.
    segment: Vec<u8>,
    length: usize,
    at: BitPosition,
    restart_interval: u32,
    mcus_to_restart: u32,
    /// Number (0 to 7) of the restart marker that is due next.
    next_restart: u8,
    /// The segment has no more bits: what is left of it keeps its zeros.
    is_exhausted: bool,
}

/// MCUs that can be decoded without looking at the segment's end again.
pub(crate) struct Run {
    pub mcus: usize,
    /// A restart marker came before: predictions start anew.
    pub is_restart: bool,
    /// There are no bits for them.
    pub is_empty: bool,
    /// The bits had run out before the restart marker, if one came.
    pub was_exhausted: bool,
}

impl<'a> EntropyData<'a> {
    /// `buffer`: memory to use again, from [`EntropyData::finish`].
    pub fn new(data: &'a [u8], position: usize, restart_interval: u32, buffer: Vec<u8>) -> Self {
        let mut entropy = Self {
            data,
            position,
            marker: None,
            segment: buffer,
            length: 0,
            at: BitPosition::default(),
            restart_interval,
            mcus_to_restart: restart_interval,
            next_restart: 0,
            is_exhausted: false,
        };
        entropy.load_segment();
        entropy
    }

    /// Position and pending marker for reading on, and the buffer.
    pub fn finish(self) -> (usize, Option<u8>, Vec<u8>) {
        (self.position, self.marker, self.segment)
    }

    /// Starts decoding up to `wanted` (at least 1) MCUs, behind a restart marker if one is due.
    ///
    /// # Errors
    /// The data ends where a restart marker is due.
    pub fn begin(&mut self, wanted: usize) -> Result<Run, Error> {
        let was_exhausted = self.is_exhausted;
        let mut is_restart = false;
        if self.restart_interval > 0 && self.mcus_to_restart == 0 {
            self.restart()?;
            is_restart = true;
        }
        let mcus = if self.restart_interval > 0 { wanted.min(self.mcus_to_restart as usize) } else { wanted };
        if self.restart_interval > 0 {
            self.mcus_to_restart -= mcus as u32;
        }
        Ok(Run { mcus, is_restart, is_empty: self.is_exhausted, was_exhausted })
    }

    /// A reader at the current position, and the number of bytes that count.
    pub fn reader(&self) -> (BitReader<'_>, usize) {
        (BitReader::new(&self.segment[..self.length + PADDING], self.at), self.length)
    }

    /// Notes where the reader of a run stopped and whether it took bits past the segment's end.
    ///
    /// # Errors
    /// The missing bits are not there because the whole data ends.
    pub fn end(&mut self, at: BitPosition, is_past: bool) -> Result<(), Error> {
        self.at = at;
        if is_past {
            if self.marker.is_none() {
                return Err(TRUNCATED);
            }
            self.is_exhausted = true;
        }
        Ok(())
    }

    /// Goes behind the restart marker that is due; if another one is there, recovers as libjpeg does.
    fn restart(&mut self) -> Result<(), Error> {
        let mut marker = self.marker.ok_or(TRUNCATED)?;
        let is_skipped = loop {
            if marker == 0xD0 + self.next_restart {
                break true;
            }
            // How far the marker is ahead of the one that is due, modulo 8.
            let ahead = marker.wrapping_sub(0xD0 + self.next_restart) & 7;
            match marker {
                0xD0..=0xD7 if matches!(ahead, 1 | 2) => break false,
                // An old restart marker or no legal marker at all: look for the next one.
                0xD0..=0xD7 if matches!(ahead, 6 | 7) => {}
                ..0xC0 => {}
                0xD0..=0xD7 => break true,
                _ => break false,
            }
            marker = next_marker(self.data, &mut self.position).ok_or(TRUNCATED)?;
            self.marker = Some(marker);
        };
        self.next_restart = (self.next_restart + 1) & 7;
        self.mcus_to_restart = self.restart_interval;
        if is_skipped {
            self.is_exhausted = false;
            self.load_segment();
        } else {
            // The marker stays for later and the segment up to it is empty.
            self.length = 0;
            self.segment[..PADDING].fill(0);
            self.at = BitPosition::default();
        }
        Ok(())
    }

    /// Copies the data up to the next marker without its stuffed zeros.
    fn load_segment(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        self.at = BitPosition::default();
        self.marker = None;
        let rest = self.data.get(self.position..).unwrap_or_default();
        let mut read = 0;
        let mut written = 0;
        loop {
            // Eight bytes at a time: all of them are copied, and those before the first FF count.
            while let Some(chunk) = rest.get(read..).and_then(|r| r.first_chunk::<8>()) {
                if self.segment.len() < written + 8 + PADDING {
                    // Grows with the segment and not with the file, of which it may be a small part.
                    self.segment.resize(
                        (2 * written + 4096).min(rest.len() + 8 + PADDING).max(written + 8 + PADDING),
                        0,
                    );
                }
                self.segment[written..written + 8].copy_from_slice(chunk);
                let inverted = !u64::from_le_bytes(*chunk);
                let zeros = inverted.wrapping_sub(ONES) & !inverted & (ONES << 7);
                let plain = (zeros.trailing_zeros() / 8) as usize;
                read += plain;
                written += plain;
                if plain < 8 {
                    break;
                }
            }
            if self.segment.len() < written + 8 + PADDING {
                self.segment.resize(written + 8 + PADDING, 0);
            }
            let Some(&byte) = rest.get(read) else { break };
            if byte != 0xFF {
                self.segment[written] = byte;
                read += 1;
                written += 1;
                continue;
            }
            // Several FF before a zero stand for one FF byte, before anything else they are fill bytes.
            let Some(offset) = rest[read..].iter().position(|&b| b != 0xFF) else {
                read = rest.len();
                break;
            };
            let code = rest[read + offset];
            read += offset + 1;
            if code != 0 {
                self.marker = Some(code);
                break;
            }
            self.segment[written] = 0xFF;
            written += 1;
        }
        self.position += read;
        self.length = written;
        self.segment[written..written + PADDING].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entropy: &EntropyData) -> Vec<u8> {
        entropy.segment[..entropy.length].to_vec()
    }

    #[test]
    fn stuffing_is_removed_up_to_the_marker() {
        let data = [1, 0xFF, 0, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 0xFF, 0, 10, 0xFF, 0xFF, 0xD9, 11];
        let entropy = EntropyData::new(&data, 0, 0, Vec::new());
        assert_eq!(bytes(&entropy), [1, 0xFF, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 10]);
        let (position, marker, _) = entropy.finish();
        assert_eq!((position, marker), (18, Some(0xD9)));
    }

    #[test]
    fn data_may_end_anywhere() {
        let data = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xFF, 0, 0xFF];
        for n in 0..=data.len() {
            let mut entropy = EntropyData::new(&data[..n], 0, 0, vec![0xAA; 3]);
            assert_eq!(entropy.length, [n, 9, 10, 10][n.saturating_sub(9)], "{n} bytes");
            assert!(entropy.end(BitPosition::default(), false).is_ok());
            assert_eq!(entropy.end(BitPosition::default(), true), Err(TRUNCATED));
        }
    }

    /// The segments that are read when markers `found` follow the bytes 1, 2, 3, ... in order; 0: an empty one.
    fn segments(found: &[u8]) -> Vec<u8> {
        let mut data = vec![1];
        for (i, &marker) in found.iter().enumerate() {
            data.extend([0xFF, marker, i as u8 + 2]);
        }
        data.extend([0xFF, 0xD9]);
        let mut entropy = EntropyData::new(&data, 0, 1, Vec::new());
        (0..found.len() + 1)
            .map(|_| {
                entropy.begin(1).unwrap();
                bytes(&entropy).first().copied().unwrap_or(0)
            })
            .collect()
    }

    #[test]
    fn restart_markers_are_followed_and_recovered() {
        assert_eq!(segments(&[0xD0, 0xD1, 0xD2]), [1, 2, 3, 4]);
        // One lost: its segment is empty, the next ones are in place.
        assert_eq!(segments(&[0xD1, 0xD2]), [1, 0, 2]);
        // One doubled: the copy is passed over.
        assert_eq!(segments(&[0xD0, 0xD0, 0xD1]), [1, 2, 4, 0]);
        // Too far away to be meant: taken for the one that is due.
        assert_eq!(segments(&[0xD4, 0xD1]), [1, 2, 3]);
        // No legal marker: passed over.
        assert_eq!(segments(&[0x02, 0xD0]), [1, 3, 0]);
        // Another segment: all that is left is empty.
        assert_eq!(segments(&[0xE0, 0xD1]), [1, 0, 0]);
    }
}
