//! Shards to other shards of the same samples: joined with what belongs to them, or in another order, number and choice.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip_store::Place;

use crate::dataset::Dataset;
use crate::error::{Error, Result, Tally};
use crate::format::{Format, stem};
use crate::limits::Limits;
use crate::sample::Sample;
use crate::stream::SampleStream;
use crate::write::ShardWriter;

/// Keys that are told in full.
const KEYS_TOLD: usize = 20;

/// Keys: how many, and the first ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// How many.
    pub count: usize,
    /// The first ones.
    pub first: Vec<String>,
}

impl Keys {
    fn add(&mut self, key: &str) {
        self.count += 1;
        if self.first.len() < KEYS_TOLD {
            self.first.push(key.to_owned());
        }
    }
}

/// What a rewrite has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Samples that were written.
    pub samples: usize,
    /// Shards that were written.
    pub shards: usize,
    /// What was wrong with others.
    pub faults: Tally,
    /// Keys of the first half that the second has not; they are left out.
    pub only_first: Keys,
    /// Keys of the second half that the first has not.
    pub only_second: Keys,
    /// Whether `watch` has stopped it.
    pub is_interrupted: bool,
}

/// Joins shards with what `second` has under the same keys; where both have a member, that of `second` stays. The first half is read as
/// a stream, so its order and its shards' names are the result's. `watch` is called with the number of samples now and then.
///
/// # Errors
/// If a shard cannot be opened or written, or the folder is one of the inputs'.
pub fn join(
    first: &[PathBuf],
    second: &Dataset,
    folder: &Path,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Rewritten> {
    let mut places: HashMap<&str, (usize, bool)> = HashMap::new();
    for i in 0..second.len() {
        places.entry(second.key(i).unwrap_or_default()).or_insert((i, false));
    }
    let folder = made(folder)?;
    let mut done = Rewritten::default();
    second.faults().for_each(|fault| done.faults.add(fault));
    for path in first {
        let target = target(&folder, path)?;
        let mut writer = ShardWriter::create(&target)?;
        let mut stream = SampleStream::open(path, Limits::default())?;
        for sample in stream.by_ref() {
            let half = sample.and_then(|sample| match places.get_mut(sample.key()) {
                None => {
                    done.only_first.add(sample.key());
                    Ok(None)
                }
                Some((i, is_found)) => {
                    *is_found = true;
                    let other = second.sample(*i).transpose()?;
                    Ok(other.map(|other| sample.with(other.members().to_vec())))
                }
            });
            match half {
                Ok(None) => {}
                Ok(Some(sample)) => {
                    writer.write(&sample)?;
                    done.samples += 1;
                    if watch(done.samples).is_break() {
                        done.is_interrupted = true;
                        return Ok(done);
                    }
                }
                Err(fault) => done.faults.add(&fault),
            }
        }
        stream.check()?;
        writer.publish()?;
        done.shards += 1;
    }
    let mut left: BTreeMap<usize, &str> = BTreeMap::new();
    left.extend(places.iter().filter(|(_, (_, is_found))| !is_found).map(|(key, (i, _))| (*i, *key)));
    left.values().for_each(|key| done.only_second.add(key));
    Ok(done)
}

/// The place of a rewritten shard, which must not be that of the one it is made from.
fn target(folder: &Place, shard: &Path) -> Result<PathBuf> {
    let name = match Format::of(shard) {
        Format::TfRecord => format!("{}.tar", stem(shard)),
        _ => shard.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let target = folder.join(&name).address().to_path_buf();
    let is_same = match target.exists() && shard.exists() {
        true => {
            let canonical = |path: &Path| {
                path.canonicalize().map_err(|source| Error::Io { path: path.to_path_buf(), source })
            };
            canonical(&target)? == canonical(shard)?
        }
        false => target == shard,
    };
    match is_same {
        true => Err(Error::Unwritable {
            path: target,
            member: shard.display().to_string(),
            reason: "is read from there; take another folder",
        }),
        false => Ok(target),
    }
}

/// The folder that shards are written to.
fn made(folder: &Path) -> Result<Place> {
    let make = || {
        let place = Place::new(folder)?;
        place.make_folder()?;
        Ok(place)
    };
    make().map_err(|source| Error::Io { path: folder.to_path_buf(), source })
}

/// Which samples are written, in which order and how many to a shard.
#[derive(Clone, Debug)]
pub struct Repack {
    /// Samples of a shard.
    pub samples: usize,
    /// The seed of a shuffle over all samples; without one the order stays.
    pub shuffle: Option<u64>,
    /// Uids (sorted) of the samples that are wanted; one that stands there twice is written twice. Keys become `UID-0`, `UID-1`, ….
    pub uids: Option<Vec<u128>>,
    /// What shards' names end in: `.tar` or `.jsonl`, perhaps `.gz` or `.zst` after it.
    pub ending: String,
}

/// Writes samples anew, as `00000000.tar`, `00000001.tar`, …. `watch` is called with the number of samples now and then.
///
/// # Errors
/// If there is a shard in the folder already, or one cannot be written.
pub fn repack(
    dataset: &Dataset,
    how: &Repack,
    folder: &Path,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Rewritten> {
    let folder = made(folder)?;
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    if let Some(seed) = how.shuffle {
        // A sort by a key that each place draws for itself.
        order.sort_by_cached_key(|&i| (mix(mix(seed) ^ i as u64), i));
    }
    let mut done = Rewritten::default();
    dataset.faults().for_each(|fault| done.faults.add(fault));
    let mut open: Option<ShardWriter> = None;
    for i in order {
        let Some(sample) = dataset.sample(i) else { continue };
        let sample = match sample {
            Ok(sample) => sample,
            Err(fault) => {
                done.faults.add(&fault);
                continue;
            }
        };
        for sample in wanted(sample, how.uids.as_deref(), &mut done.faults) {
            let writer = match &mut open {
                Some(writer) => writer,
                None => {
                    let place = folder.join(&format!("{:08}{}", done.shards, how.ending));
                    let path = place.address().to_path_buf();
                    let there = place.stat().map_err(|source| Error::Io { path: path.clone(), source })?;
                    if there.is_some() {
                        let reason = "is there already; take an empty folder".to_owned();
                        return Err(Error::Pattern { pattern: path.display().to_string(), reason });
                    }
                    open.insert(ShardWriter::create(&path)?)
                }
            };
            writer.write(&sample)?;
            done.samples += 1;
            if writer.samples() >= how.samples.max(1)
                && let Some(writer) = open.take()
            {
                writer.publish()?;
                done.shards += 1;
            }
        }
        if watch(done.samples).is_break() {
            done.is_interrupted = true;
            return Ok(done);
        }
    }
    if let Some(writer) = open {
        writer.publish()?;
        done.shards += 1;
    }
    Ok(done)
}

/// The sample as often as it is wanted.
fn wanted(sample: Sample, uids: Option<&[u128]>, faults: &mut Tally) -> Vec<Sample> {
    let Some(uids) = uids else { return vec![sample] };
    let uid = match sample.uid() {
        Ok(uid) => uid,
        Err(fault) => {
            faults.add(&fault);
            return Vec::new();
        }
    };
    // A name that is no uid stands in no list.
    let Some(number) = crate::parse_uid(&uid) else { return Vec::new() };
    let count = uids.partition_point(|&u| u <= number) - uids.partition_point(|&u| u < number);
    let copy = |i| Sample::new(sample.shard().into(), format!("{uid}-{i}"), sample.members().to_vec());
    (0..count).map(copy).collect()
}

/// Splitmix64's finaliser.
const fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
