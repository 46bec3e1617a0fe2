//! A shard whose samples can be had in any order.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mobileclip_store::is_remote;

use crate::as_tar::AsTar;
use crate::cache::{Cache, Entry};
use crate::compression::{self, Compression};
use crate::error::{Error, Fault, Result};
use crate::format::Format;
use crate::index::Index;
use crate::limits::Limits;
use crate::sample::{Member, Sample};
use crate::tar::TarFile;

/// A shard with its index. Sample `i` is the `i`-th that a [`SampleStream`](crate::SampleStream) of it gives, faults left out.
///
/// Its samples may be read by several threads at once.
#[derive(Debug)]
pub struct Shard {
    path: Arc<Path>,
    /// The copy in a cache, if it needs one.
    copy: Option<Copy>,
    index: Index,
}

/// An unpacked copy, which another process may remove at any time.
#[derive(Debug)]
struct Copy {
    cache: Cache,
    entry: Entry,
    bytes: u64,
    limits: Limits,
}

/// What was wrong while a shard was unpacked.
#[derive(Default)]
struct Unpacking {
    /// With the packing, where what came before is kept.
    damage: Option<io::Error>,
    /// With samples, if the shard is no tar file.
    faults: Vec<Fault>,
}

/// Unpacks a shard to a tar file in the cache.
fn unpack(cache: &Cache, entry: &Entry, path: &Path, limits: &Limits) -> Result<(File, Unpacking)> {
    match Format::of(path) {
        Format::Tar => {
            let opened = compression::open(path)?;
            let reading = opened.reading.clone();
            let (file, damage) = cache.unpack(entry, path, opened.unpacked(), &reading)?;
            Ok((file, Unpacking { damage, faults: Vec::new() }))
        }
        Format::JsonLines | Format::TfRecord => {
            let (tar, faults, reading) = AsTar::open(path, limits)?;
            let (file, damage) = cache.unpack(entry, path, Box::new(tar), &reading)?;
            Ok((file, Unpacking { damage, faults: faults.take() }))
        }
    }
}

impl Shard {
    /// Opens a shard, and makes its index if the cache does not have it; one that is packed, no tar file, or on a store is unpacked to
    /// a tar file in the cache.
    ///
    /// What is wrong inside is told by [`Shard::faults`]; the samples that are whole can be had.
    ///
    /// # Errors
    /// If it cannot be opened, or must be unpacked and there is no cache, or not enough room in it.
    pub fn open(path: &Path, cache: Option<&Cache>, limits: &Limits) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let is_plain = !is_remote(path)
            && Format::of(path) == Format::Tar
            && compression::open(path)?.compression == Compression::None;
        let entry = cache.map(|cache| cache.entry(path)).transpose()?;
        let stored = cache.zip(entry);
        let (file, bytes, copy, unpacking) = match (is_plain, &stored) {
            (true, _) => {
                let file = File::open(path).map_err(io)?;
                let bytes = file.metadata().map_err(io)?.len();
                (BufReader::new(file), bytes, None, Unpacking::default())
            }
            (false, None) => return Err(Error::NoCache { path: path.to_path_buf() }),
            (false, Some((cache, entry))) => {
                let (file, unpacking) = match cache.find_unpacked(entry) {
                    Some(file) => (file, Unpacking::default()),
                    None => unpack(cache, entry, path, limits)?,
                };
                // What is used now gives way last; a time that cannot be set is no reason to stop.
                let _ = file.set_modified(SystemTime::now());
                let bytes = file.metadata().map_err(io)?.len();
                let copy =
                    Copy { cache: (*cache).clone(), entry: entry.clone(), bytes, limits: limits.clone() };
                (BufReader::new(file), bytes, Some(copy), unpacking)
            }
        };
        let name: Arc<Path> = path.into();
        let known = stored.as_ref().and_then(|(cache, entry)| cache.find_index(entry, bytes));
        let index = known.unwrap_or_else(|| {
            let mut index = Index::scan(Arc::clone(&name), TarFile::new(file, bytes), limits);
            if let Some(error) = unpacking.damage {
                index.set_damage(path, bytes, &error);
            }
            index.faults.extend(unpacking.faults);
            if let Some((cache, entry)) = &stored {
                cache.store_index(entry, &index);
            }
            index
        });
        Ok(Self { path: name, copy, index })
    }

    /// The shard's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many samples it has.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was wrong while the index was made; such samples are not in it.
    pub fn faults(&self) -> &[Fault] {
        &self.index.faults
    }

    /// The key of sample `i`.
    pub fn key(&self, i: usize) -> Option<&str> {
        self.index.key(i)
    }

    /// The suffixes of sample `i`'s members.
    pub fn suffixes(&self, i: usize) -> impl Iterator<Item = &str> {
        self.index.members(i).into_iter().flatten().map(|member| member.suffix)
    }

    /// Sample `i`; `None` if there are not so many.
    ///
    /// # Errors
    /// If the shard cannot be read (any more).
    pub fn sample(&self, i: usize) -> Option<Result<Sample, Fault>> {
        self.select(i, |_| true)
    }

    /// Sample `i` with only those members whose suffix is wanted.
    ///
    /// # Errors
    /// As [`Shard::sample`].
    pub fn select(&self, i: usize, is_wanted: impl Fn(&str) -> bool) -> Option<Result<Sample, Fault>> {
        let key = self.index.key(i)?;
        let mut members = Vec::new();
        let mut read = |file: &mut File| {
            for member in
                self.index.members(i).into_iter().flatten().filter(|member| is_wanted(member.suffix))
            {
                let mut bytes = vec![0; member.size as usize];
                file.seek(SeekFrom::Start(member.offset))?;
                file.read_exact(&mut bytes)?;
                members.push(Member { suffix: member.suffix.to_owned(), bytes });
            }
            Ok(())
        };
        let result = self
            .unpacked()
            .and_then(|mut file| read(&mut file).map_err(|error: io::Error| error.to_string()));
        Some(match result {
            Ok(()) => Ok(Sample::new(Arc::clone(&self.path), key.to_owned(), members)),
            Err(reason) => {
                Err(Fault::Damaged { shard: self.path.to_path_buf(), last: None, offset: 0, reason })
            }
        })
    }

    /// The unpacked file. A set may have more shards than a process may have files open, so none is kept open.
    fn unpacked(&self) -> Result<File, String> {
        let Some(copy) = &self.copy else { return File::open(&self.path).map_err(|error| error.to_string()) };
        let found = copy.cache.find_unpacked(&copy.entry);
        found.map_or_else(|| self.unpack_again(copy), Ok)
    }

    fn unpack_again(&self, copy: &Copy) -> Result<File, String> {
        let unpacked = unpack(&copy.cache, &copy.entry, &self.path, &copy.limits);
        let (file, _) = unpacked.map_err(|error| error.to_string())?;
        match file.metadata() {
            Ok(metadata) if metadata.len() == copy.bytes => Ok(file),
            Ok(_) => Err("the shard has changed since it was opened".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Bytes that its copy takes in the cache.
    pub(crate) fn cached_bytes(&self) -> u64 {
        self.copy.as_ref().map_or(0, |copy| copy.bytes)
    }
}
