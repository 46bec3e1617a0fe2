//! A shard's bytes, unpacked; what a file is, its first bytes say, not its name.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use mobileclip_store::Place;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{Error, Result};
use crate::reading::{Reading, Watched};

const BUFFER: usize = 1 << 17;

/// How a shard is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, which some tools put in front.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A file that was opened, at its first byte.
pub(crate) struct Opened {
    file: BufReader<Watched>,
    pub compression: Compression,
    /// Bytes of the file as it lies there.
    pub bytes: u64,
    /// How far it was read.
    pub reading: Reading,
}

/// Opens a shard and looks how it is packed.
pub(crate) fn open(path: &Path) -> Result<Opened> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let source = Place::new(path).and_then(|place| place.open()).map_err(io)?;
    let (bytes, reading) = (source.size(), Reading::default());
    let mut file = BufReader::with_capacity(BUFFER, reading.watch(source));
    let compression = Compression::of(file.fill_buf().map_err(io)?);
    Ok(Opened { file, compression, bytes, reading })
}

impl Opened {
    /// The bytes unpacked, from the front.
    pub(crate) fn unpacked(self) -> Box<dyn Read + Send> {
        match self.compression {
            Compression::None => Box::new(self.file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(self.file)),
            Compression::Zstd => Box::new(Frames::new(self.file)),
        }
    }
}

/// All frames of a zstd file, one after the other.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    is_inside: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), is_inside: false }
    }

    /// Begins the next frame; false at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(false)
    }

    fn check(&self) -> io::Result<()> {
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(stored), Some(found)) if stored != found => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a zstd frame's check sum disagrees with its contents",
            )),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_inside && !self.begin()? {
                return Ok(0);
            }
            self.is_inside = true;
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() && self.decoder.can_collect() == 0 {
                self.check()?;
                self.is_inside = false;
                continue;
            }
            self.decoder
                .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn read_all(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        File::create(&path).unwrap().write_all(bytes).unwrap();
        let mut out = Vec::new();
        open(&path).unwrap().unpacked().read_to_end(&mut out)?;
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..300_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn every_packing_gives_the_same_bytes() {
        let zstd = compress_to_vec(&text()[..], CompressionLevel::Fastest);
        for packed in [text(), gzip(&text()), zstd] {
            assert!(read_all(&packed).unwrap() == text());
        }
        assert_eq!(read_all(b"").unwrap(), b"");
        assert_eq!(read_all(b"ab").unwrap(), b"ab");
    }

    #[test]
    fn several_members_and_frames_follow_each_other() {
        let twice = [text(), text()].concat();
        let one = compress_to_vec(&text()[..], CompressionLevel::Fastest);
        let note = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert!(read_all(&[gzip(&text()), gzip(&text())].concat()).unwrap() == twice);
        assert!(read_all(&[one.clone(), note.clone(), one.clone()].concat()).unwrap() == twice);
        assert!(read_all(&[note.clone(), one.clone()].concat()).unwrap() == text());
        assert!(read_all(&[one, note[..9].to_vec()].concat()).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        for packed in [gzip(&text()), compress_to_vec(&text()[..], CompressionLevel::Fastest)] {
            assert!(read_all(&packed[..packed.len() / 2]).is_err());
            let mut flipped = packed.clone();
            *flipped.last_mut().unwrap() ^= 1;
            assert!(read_all(&flipped).is_err());
        }
    }
}
