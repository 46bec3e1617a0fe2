//! A shard read from the front.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::compression;
use crate::error::{Fault, Result};
use crate::group::Groups;
use crate::limits::Limits;
use crate::sample::{Member, Sample};

/// The samples of a shard in their order, one in memory at a time.
///
/// A sample that is too large is a [`Fault`] in its place, and the stream goes on. Where the shard is damaged, the stream gives the
/// sample before with the members it has, then the fault, and ends.
pub struct SampleStream {
    shard: Arc<Path>,
    groups: Groups<Box<dyn Read + Send>, Vec<u8>>,
    /// The file once more, which shares the place that was read up to.
    file: Option<File>,
}

impl SampleStream {
    /// Opens a tar file, plain, gzip or zstd (told by its first bytes).
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        let opened = compression::open(path)?;
        // Where a system has no second handle, nothing tells how far one is.
        let file = opened.file.get_ref().try_clone().ok();
        Ok(Self { file, ..Self::new(path, opened.unpacked(), limits) })
    }

    /// The samples of a tar stream that is unpacked already; `name` stands in messages.
    pub fn new(name: &Path, reader: impl Read + Send + 'static, limits: Limits) -> Self {
        let shard: Arc<Path> = name.into();
        let reader: Box<dyn Read + Send> = Box::new(reader);
        let groups = Groups::new(Arc::clone(&shard), reader, limits, |tar, member| tar.read(member.size));
        Self { shard, groups, file: None }
    }

    /// How many bytes of the file, packed as it is, were read so far; 0 if that cannot be told.
    pub fn position(&self) -> u64 {
        self.file.as_ref().and_then(|mut file| file.stream_position().ok()).unwrap_or_default()
    }
}

impl Iterator for SampleStream {
    type Item = Result<Sample, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.groups.next()?;
        Some(group.map(|group| {
            let members = group.members.into_iter().map(|(suffix, bytes)| Member { suffix, bytes });
            Sample::new(Arc::clone(&self.shard), group.key, members.collect())
        }))
    }
}
