//! The folder of reinforced shards, on a disk or a store: names, and notes of what was made how.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mobileclip_shards::{Format, stem};
use mobileclip_store::Place;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::lease::{LEASE, Leases};
use crate::schedule::Numbers;

/// What a folder was made with; also the configuration that the published trainer asks for.
pub const CONFIG: &str = "config.json";
/// A line a shard.
pub const MANIFEST: &str = "manifest.jsonl";
/// Notes and leases.
const WORK: &str = ".reinforce";
/// Beside them: how many shards the manifest has.
const WRITTEN: &str = "manifest";
/// How many shards are there, once it was all of a long list.
const MARK: &str = "complete";
/// So few shards are asked for one by one, rather than by listing the folder.
const FEW: usize = 16;
/// So many finished shards are held against their inputs when a run begins.
const CHECKED: usize = 1000;

/// What shards are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// As their inputs.
    #[default]
    Input,
    /// By their place in the list of inputs: `00000000`, `00000001`, ….
    Count,
}

/// How shards are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Not: embeddings hardly become smaller, and training reads such shards as they are.
    #[default]
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

impl Packing {
    fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// A shard to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub input: PathBuf,
    pub input_bytes: u64,
    /// The name of what is made.
    pub name: String,
}

/// What a folder holds of a list of shards, by their numbers.
#[derive(Debug)]
pub(crate) struct Look {
    pub finished: Numbers,
    pub leased: Numbers,
}

/// What was made of a shard: its line of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Its name.
    pub shard: String,
    /// How many samples it has; the published manifests call it so.
    pub num_uids: usize,
    /// How many bytes.
    pub bytes: u64,
    /// What it was made from.
    pub input: PathBuf,
    /// How many bytes that had.
    pub input_bytes: u64,
    /// Samples that the stage could use.
    pub made: usize,
    /// Samples that stay as they were.
    pub kept: usize,
    /// Samples that were left out because they could not be used.
    pub dropped: usize,
    /// Samples that the stage chose to leave out.
    pub rejected: usize,
    /// What was wrong with them, by cause.
    pub faults: BTreeMap<String, usize>,
    /// Seconds that it took.
    pub seconds: f64,
    /// When it was finished, in seconds since 1970.
    pub finished: u64,
    /// What the stage's output depends on.
    #[serde(flatten)]
    pub settings: Map<String, Value>,
}

/// The folder of a run, which may be that of other processes, too.
#[derive(Debug)]
pub(crate) struct Folder {
    place: Place,
}

impl Folder {
    /// Makes the folder, or goes on with one that was made with the same settings.
    pub(crate) fn open(path: &Path, settings: &Map<String, Value>) -> Result<Self> {
        let place = Place::new(path).map_err(Error::io(path))?.with_drafts(WORK);
        let work = place.join(WORK);
        work.make_folder().map_err(Error::io(work.address()))?;
        let config = place.join(CONFIG);
        let make = || {
            let mut draft = config.draft()?;
            serde_json::to_writer_pretty(&mut draft, settings)?;
            writeln!(draft)?;
            draft.finish()?.publish_new()
        };
        let made = match config.read() {
            Ok(None) => make().and_then(|_| config.read()),
            read => read,
        };
        let (there, _) = made
            .and_then(|made| made.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(Error::io(config.address()))?;
        check(config.address(), &there, settings)?;
        Ok(Self { place })
    }

    /// The shards to make of these, the first of which is number `first` of the whole list.
    pub(crate) fn jobs(
        &self,
        inputs: &[PathBuf],
        first: usize,
        naming: Naming,
        format: Format,
        packing: Packing,
    ) -> Result<Vec<Job>> {
        let place = |input: &PathBuf| Place::new(input).map_err(Error::io(input));
        let places: Vec<Place> = inputs.iter().map(place).collect::<Result<_>>()?;
        let stats = all(&places, Place::stat_all(&places))?;
        let mut names: HashMap<String, &Path> = HashMap::new();
        let mut jobs = Vec::new();
        for (i, (input, stat)) in inputs.iter().zip(stats).enumerate() {
            let stem = match naming {
                Naming::Input => stem(input),
                Naming::Count => format!("{:08}", first + i),
            };
            let name = stem + format.ending() + packing.ending();
            let stat = stat.ok_or_else(|| Error::io(input)(io::ErrorKind::NotFound.into()))?;
            let input_bytes = stat.bytes;
            if let Some(first) = names.insert(name.clone(), input) {
                let (first, second) = (first.to_path_buf(), input.clone());
                let shard = self.place.join(&name).address().to_path_buf();
                return Err(Error::SameName { first, second, shard });
            }
            jobs.push(Job { input: input.clone(), input_bytes, name });
        }
        Ok(jobs)
    }

    /// Where a shard stands when it is finished.
    pub(crate) fn shard(&self, job: &Job) -> Place {
        self.place.join(&job.name)
    }

    /// Who works on what.
    pub(crate) fn leases(&self, term: Duration) -> Leases {
        Leases::new(self.place.join(WORK), term)
    }

    fn note(&self, job: &Job) -> Place {
        self.place.join(WORK).join(&format!("{}.json", job.name))
    }

    /// Which of the shards of these numbers are finished, and which are leased.
    pub(crate) fn look(&self, jobs: &[Job], open: &[usize]) -> Result<Look> {
        let work = self.place.join(WORK);
        let lease = |job: &Job| format!("{}{LEASE}", job.name);
        let mut look = Look { finished: Numbers::none(jobs.len()), leased: Numbers::none(jobs.len()) };
        let listed = match open.len() > FEW {
            true => Some((names(&self.place)?, names(&work)?)),
            false => None,
        };
        for (i, job) in open.iter().filter_map(|&i| Some((i, jobs.get(i)?))) {
            let (is_finished, is_leased) = match &listed {
                Some((shards, leases)) => (shards.contains(&job.name), leases.contains(&lease(job))),
                None => (self.is_finished(job)?, is_there(&work.join(&lease(job)))?),
            };
            if is_finished {
                look.finished.insert(i);
            }
            if is_leased {
                look.leased.insert(i);
            }
        }
        Ok(look)
    }

    /// Whether a shard is finished.
    pub(crate) fn is_finished(&self, job: &Job) -> Result<bool> {
        is_there(&self.shard(job))
    }

    /// Whether finished shards were made from the inputs that are there now. Of many, some are looked at, spread evenly: it takes a
    /// request for each. (All are when the manifest is written.)
    ///
    /// # Errors
    /// If one was made from another input.
    pub(crate) fn check_inputs(&self, jobs: &[&Job]) -> Result<()> {
        let count = jobs.len().min(CHECKED);
        let some: Vec<&Job> = (0..count).filter_map(|i| jobs.get(i * jobs.len() / count).copied()).collect();
        self.checked_notes(&some).map(drop)
    }

    /// The notes of shards, each of which is written before the shard appears.
    fn checked_notes(&self, jobs: &[&Job]) -> Result<Vec<Option<Note>>> {
        let places: Vec<Place> = jobs.iter().map(|job| self.note(job)).collect();
        let texts = all(&places, Place::read_all(&places))?;
        let mut notes = Vec::with_capacity(texts.len());
        for ((job, place), text) in jobs.iter().zip(&places).zip(texts) {
            let malformed = |error: serde_json::Error| {
                let path = place.address().to_path_buf();
                Error::Malformed { path, reason: error.to_string() }
            };
            let note: Option<Note> =
                text.map(|text| serde_json::from_slice(&text)).transpose().map_err(malformed)?;
            if let Some(note) = note.as_ref().filter(|note| note.input_bytes != job.input_bytes) {
                let (shard, input) = (self.shard(job).address().to_path_buf(), job.input.clone());
                return Err(Error::OtherInput {
                    shard,
                    input,
                    found: note.input_bytes,
                    given: job.input_bytes,
                });
            }
            notes.push(note);
        }
        Ok(notes)
    }

    pub(crate) fn write_note(&self, job: &Job, note: &Note) -> Result<()> {
        put(&self.note(job), &line(note))
    }

    /// Where the manifest stands.
    pub(crate) fn manifest(&self) -> Place {
        self.place.join(MANIFEST)
    }

    /// Tells others that all of so many shards are there.
    pub(crate) fn mark(&self, shards: usize) -> Result<()> {
        put(&self.place.join(WORK).join(MARK), format!("{shards}\n").as_bytes())
    }

    /// Whether another process has told that all of so many shards are there.
    pub(crate) fn is_marked(&self, shards: usize) -> Result<bool> {
        self.says(MARK, shards)
    }

    /// Takes back what an earlier run has told.
    pub(crate) fn unmark(&self) -> Result<()> {
        let mark = self.place.join(WORK).join(MARK);
        mark.delete().map_err(Error::io(mark.address()))
    }

    /// Whether the manifest has so many shards, and was written since `last` appeared.
    pub(crate) fn has_manifest(&self, shards: usize, last: Option<&Place>) -> Result<bool> {
        if !self.says(WRITTEN, shards)? {
            return Ok(false);
        }
        let time = |place: &Place| {
            let stat = place.stat().map_err(Error::io(place.address()))?;
            Ok::<_, Error>(stat.map(|stat| stat.modified))
        };
        let written = time(&self.place.join(WORK).join(WRITTEN))?;
        let is_older = last.map(|last| Ok::<_, Error>(written <= time(last)?)).transpose()?;
        Ok(is_older != Some(true))
    }

    /// Whether a file beside the leases has this number.
    fn says(&self, name: &str, number: usize) -> Result<bool> {
        let place = self.place.join(WORK).join(name);
        let read = place.read().map_err(Error::io(place.address()))?;
        Ok(read.is_some_and(|(text, _)| text.trim_ascii() == number.to_string().as_bytes()))
    }

    /// Writes the manifest, the notes of all shards that are finished; and removes leases of those, which processes have left that were killed
    /// just before they could do it.
    ///
    /// # Errors
    /// Also if one of them was made from another input.
    pub(crate) fn write_manifest(&self, jobs: &[Job]) -> Result<()> {
        let places: Vec<Place> = jobs.iter().map(|job| self.shard(job)).collect();
        let there = all(&places, Place::stat_all(&places))?;
        let finished: Vec<&Job> =
            jobs.iter().zip(there).filter(|(_, there)| there.is_some()).map(|(job, _)| job).collect();
        let notes: Vec<Note> = self.checked_notes(&finished)?.into_iter().flatten().collect();
        let lines: Vec<u8> = notes.iter().flat_map(line).collect();
        put(&self.manifest(), &lines)?;
        let work = self.place.join(WORK);
        put(&work.join(WRITTEN), format!("{}\n", notes.len()).as_bytes())?;
        let leases = names(&work)?;
        for lease in finished.iter().map(|job| format!("{}{LEASE}", job.name)) {
            if leases.contains(&lease) {
                let lease = work.join(&lease);
                lease.delete().map_err(Error::io(lease.address()))?;
            }
        }
        Ok(())
    }
}

/// Whether a folder was made with these settings.
fn check(config: &Path, there: &[u8], settings: &Map<String, Value>) -> Result<()> {
    let there: Map<String, Value> = serde_json::from_slice(there)
        .map_err(|error| Error::Malformed { path: config.to_path_buf(), reason: error.to_string() })?;
    // As text: what was computed with has been through it once more.
    let same = |key: &String| {
        let text = |map: &Map<String, Value>| map.get(key).map(Value::to_string);
        text(&there) == text(settings)
    };
    match settings.keys().chain(there.keys()).find(|key| !same(key)) {
        None => Ok(()),
        Some(key) => {
            let of = |map: &Map<String, Value>| map.get(key).map_or("nothing".to_owned(), Value::to_string);
            let (path, key) = (config.to_path_buf(), key.clone());
            Err(Error::OtherSettings { path, found: of(&there), given: of(settings), key })
        }
    }
}

/// The answer about many places, or the error with the place that it is about.
fn all<T>(places: &[Place], answer: Result<Vec<T>, (usize, io::Error)>) -> Result<Vec<T>> {
    answer.map_err(|(i, source)| {
        let path = places.get(i).map_or_else(PathBuf::new, |place| place.address().to_path_buf());
        Error::Io { path, source }
    })
}

fn is_there(place: &Place) -> Result<bool> {
    place.stat().map(|stat| stat.is_some()).map_err(Error::io(place.address()))
}

fn put(place: &Place, bytes: &[u8]) -> Result<()> {
    place.put(bytes).map_err(Error::io(place.address()))
}

fn line(note: &Note) -> Vec<u8> {
    let mut line = serde_json::to_vec(note).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The names of the files in a folder.
fn names(folder: &Place) -> Result<HashSet<String>> {
    let files = folder.list().map_err(Error::io(folder.address()))?;
    Ok(files.into_iter().map(|(name, _)| name).collect())
}
