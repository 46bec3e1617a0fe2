//! A shard read from the front.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compression::{self, Compression};
use crate::error::{Fault, Result};
use crate::format::{self, Format};
use crate::group::Groups;
use crate::limits::Limits;
use crate::lines::Lines;
use crate::records::Records;
use crate::sample::{Member, Sample};

/// The samples of a shard in their order, one in memory at a time.
///
/// A sample that is too large is a [`Fault`] in its place, and the stream goes on. Where the shard is damaged, the stream gives the
/// sample before with the members it has, then the fault, and ends.
pub struct SampleStream {
    samples: Box<dyn Iterator<Item = Result<Sample, Fault>> + Send>,
    /// How many bytes of the file were read.
    position: Arc<AtomicU64>,
    /// How many it has.
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
        let (position, bytes) = (Arc::clone(&opened.position), opened.bytes);
        Ok(Self { position, bytes, ..Self::of(path, format, opened.unpacked(), limits) })
    }

    /// The samples of a stream that is unpacked already; `name` stands in messages, and tells the format.
    pub fn new(name: &Path, reader: impl Read + Send + 'static, limits: Limits) -> Self {
        Self::of(name, Format::of(name), Box::new(reader), limits)
    }

    fn of(name: &Path, format: Format, reader: Box<dyn Read + Send>, limits: Limits) -> Self {
        let shard: Arc<Path> = name.into();
        let samples: Box<dyn Iterator<Item = Result<Sample, Fault>> + Send> = match format {
            Format::Tar => Box::new(TarSamples {
                shard: Arc::clone(&shard),
                groups: Groups::new(shard, reader, limits, |tar, member| tar.read(member.size)),
            }),
            Format::JsonLines => Box::new(Lines::new(shard, reader, limits)),
            Format::TfRecord => Box::new(Records::new(shard, reader, limits)),
        };
        Self { samples, position: Arc::default(), bytes: 0 }
    }

    /// How many bytes of the file, packed as it is, were read so far; 0 if that cannot be told.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
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
