//! A shard read from the front.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::compression::{self, Compression};
use crate::error::{Fault, Result};
use crate::format::{self, Format};
use crate::group::Groups;
use crate::limits::Limits;
use crate::lines::Lines;
use crate::reading::Reading;
use crate::records::Records;
use crate::sample::{Member, Sample};

/// The samples of a shard in their order, one in memory at a time.
///
/// A sample that is too large is a [`Fault`] in its place, and the stream goes on. Where the shard is damaged, the stream gives the
/// sample before with the members it has, then the fault, and ends.
pub struct SampleStream {
    samples: Box<dyn Iterator<Item = Result<Sample, Fault>> + Send>,
    name: Arc<Path>,
    /// How far the file was read.
    reading: Reading,
    /// How many bytes it has.
    bytes: u64,
}

impl SampleStream {
    /// Opens a shard: a tar file, JSON lines or TFRecord as its name says (see [`Format`]), plain, gzip or zstd as its first
    /// bytes say; on a disk or a store.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let mut opened = compression::open(path)?;
        let format = Format::of(path);
        // A record begins with its length, whose bytes may be any.
        if format == Format::TfRecord && !format::is_packed(path) {
            opened.compression = Compression::None;
        }
        let (reading, bytes) = (opened.reading.clone(), opened.bytes);
        Ok(Self { bytes, ..Self::of(path, format, opened.unpacked(), reading, limits) })
    }

    /// The samples of a stream that is unpacked already; `name` stands in messages, and tells the format.
    pub fn new(name: &Path, reader: impl Read + Send + 'static, limits: Limits) -> Self {
        let reading = Reading::default();
        Self::of(name, Format::of(name), Box::new(reading.watch(reader)), reading, limits)
    }

    fn of(
        name: &Path,
        format: Format,
        reader: Box<dyn Read + Send>,
        reading: Reading,
        limits: Limits,
    ) -> Self {
        let shard: Arc<Path> = name.into();
        let name = Arc::clone(&shard);
        let samples: Box<dyn Iterator<Item = Result<Sample, Fault>> + Send> = match format {
            Format::Tar => Box::new(TarSamples {
                shard: Arc::clone(&shard),
                groups: Groups::new(shard, reader, limits, |tar, member| tar.read(member.size)),
            }),
            Format::JsonLines => Box::new(Lines::new(shard, reader, limits)),
            Format::TfRecord => Box::new(Records::new(shard, reader, limits)),
        };
        Self { samples, name, reading, bytes: 0 }
    }

    /// How many bytes of the file, packed as it is, were read so far; 0 if that cannot be told.
    pub fn position(&self) -> u64 {
        self.reading.position()
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading.clone()
    }

    /// Whether the shard's bytes could be read as far as was wanted. A disk or a store that fails looks like the shard's damage to the
    /// stream, which ends with a fault: whoever makes something of the samples that came before has to ask.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file failed.
    pub fn check(&self) -> Result<()> {
        self.reading.check(&self.name)
    }

    /// How many bytes the file has, packed as it is; 0 if that cannot be told.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Iterator for SampleStream {
    type Item = Result<Sample, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.samples.next()
    }
}

/// The samples of a tar stream.
struct TarSamples {
    shard: Arc<Path>,
    groups: Groups<Box<dyn Read + Send>, Vec<u8>>,
}

impl Iterator for TarSamples {
    type Item = Result<Sample, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.groups.next()?;
        Some(group.map(|group| {
            let members = group.members.into_iter().map(|(suffix, bytes)| Member { suffix, bytes });
            Sample::new(Arc::clone(&self.shard), group.key, members.collect())
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A shard whose file cannot be read any further.
    struct Failing(io::Cursor<Vec<u8>>);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the connection is cut again and again")),
                read => Ok(read),
            }
        }
    }

    #[test]
    fn a_file_that_fails_is_told_from_a_shard_that_is_damaged() {
        let golden = mobileclip_testing::golden::path("shards/npz-list/00000000.tar");
        let whole = std::fs::read(golden).unwrap();
        let half = whole[..whole.len() / 2].to_vec();
        let read = |reader: Box<dyn Read + Send>| {
            let mut stream = SampleStream::new(Path::new("0.tar"), reader, Limits::default());
            let last = stream.by_ref().last().unwrap();
            (last.unwrap_err().cause(), stream.check().map_err(|error| error.to_string()))
        };
        let (cause, check) = read(Box::new(Failing(io::Cursor::new(half.clone()))));
        assert_eq!(cause, "damaged shard");
        assert_eq!(check.unwrap_err(), "0.tar: the connection is cut again and again");
        assert_eq!(read(Box::new(io::Cursor::new(half))), ("damaged shard".to_owned(), Ok(())));
    }
}
