//! Many shards as one list of samples.

use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::error::{Error, Fault, Result};
use crate::limits::Limits;
use crate::sample::Sample;
use crate::shard::Shard;

/// The samples of several shards, numbered through.
#[derive(Debug, Default)]
pub struct Dataset {
    shards: Vec<Shard>,
    /// The number of the first sample of each shard.
    starts: Vec<usize>,
    len: usize,
}

impl Dataset {
    /// Opens shards in this order, as [`Shard::open`] does it; `progress` is called with each that was opened.
    ///
    /// # Errors
    /// The first shard's that cannot be opened; or if the cache cannot hold all compressed shards at once, with which random
    /// access would unpack them again and again.
    pub fn open(
        paths: &[PathBuf],
        cache: Option<&Cache>,
        limits: &Limits,
        progress: &mut dyn FnMut(&Path),
    ) -> Result<Self> {
        let mut dataset = Self::default();
        let mut cached = 0;
        for path in paths {
            let shard = Shard::open(path, cache, limits)?;
            cached += shard.cached_bytes();
            if let Some(cache) = cache.filter(|cache| cached > cache.max_bytes()) {
                return Err(Error::CacheTooSmall { path: path.clone(), limit: cache.max_bytes() });
            }
            dataset.starts.push(dataset.len);
            dataset.len += shard.len();
            dataset.shards.push(shard);
            progress(path);
        }
        Ok(dataset)
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its shards.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Which shard sample `i` is in, and its number there.
    pub fn locate(&self, i: usize) -> Option<(usize, usize)> {
        if i >= self.len {
            return None;
        }
        // The last shard that begins at or before it; empty shards begin where the next one does.
        let shard = self.starts.partition_point(|&start| start <= i).checked_sub(1)?;
        Some((shard, i - self.starts.get(shard)?))
    }

    /// The key of sample `i`.
    pub fn key(&self, i: usize) -> Option<&str> {
        let (shard, i) = self.locate(i)?;
        self.shards.get(shard)?.key(i)
    }

    /// Sample `i`.
    ///
    /// # Errors
    /// As [`Shard::sample`].
    pub fn sample(&self, i: usize) -> Option<Result<Sample, Fault>> {
        let (shard, i) = self.locate(i)?;
        self.shards.get(shard)?.sample(i)
    }

    /// What was wrong while the indices were made.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.shards.iter().flat_map(Shard::faults)
    }
}
