//! A shard read from the front.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

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
    /// The file once more, which shares the place that was read up to.
    file: Option<File>,
}

impl SampleStream {
    /// Opens a shard: a tar file, JSON lines or TFRecord as its name says (see [`Format`]), plain, gzip or zstd as its first bytes say.
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
        // Where a system has no second handle, nothing tells how far one is.
        let file = opened.file.get_ref().try_clone().ok();
        Ok(Self { file, ..Self::of(path, format, opened.unpacked(), limits) })
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
        Self { samples, file: None }
    }

    /// How many bytes of the file, packed as it is, were read so far; 0 if that cannot be told.
    pub fn position(&self) -> u64 {
        self.file.as_ref().and_then(|mut file| file.stream_position().ok()).unwrap_or_default()
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
