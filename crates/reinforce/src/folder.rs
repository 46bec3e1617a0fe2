//! The folder of reinforced shards: names, and notes of what was made how.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mobileclip_shards::{Format, stem};
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
    path: PathBuf,
}

impl Folder {
    /// Makes the folder, or goes on with one that was made with the same settings.
    pub(crate) fn open(path: &Path, settings: &Map<String, Value>) -> Result<Self> {
        let work = path.join(WORK);
        fs::create_dir_all(&work).map_err(Error::io(&work))?;
        let folder = Self { path: path.to_path_buf() };
        let config = path.join(CONFIG);
        if !config.exists() {
            let text = serde_json::to_string_pretty(settings).unwrap_or_default() + "\n";
            match folder.create(&config, text.as_bytes(), false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => created.map_err(Error::io(&config))?,
            }
        }
        folder.check(&config, settings)?;
        Ok(folder)
    }

    fn check(&self, config: &Path, settings: &Map<String, Value>) -> Result<()> {
        let text = fs::read_to_string(config).map_err(Error::io(config))?;
        let there: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::Malformed { path: config.to_path_buf(), reason: error.to_string() })?;
        // As text: what was computed with has been through it once more.
        let same = |key: &String| {
            let text = |map: &Map<String, Value>| map.get(key).map(Value::to_string);
            text(&there) == text(settings)
        };
        match settings.keys().chain(there.keys()).find(|key| !same(key)) {
            None => Ok(()),
            Some(key) => {
                let of =
                    |map: &Map<String, Value>| map.get(key).map_or("nothing".to_owned(), Value::to_string);
                let (path, key) = (config.to_path_buf(), key.clone());
                Err(Error::OtherSettings { path, found: of(&there), given: of(settings), key })
            }
        }
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
        let mut names: HashMap<String, &Path> = HashMap::new();
        let mut jobs = Vec::new();
        for (i, input) in inputs.iter().enumerate() {
            let stem = match naming {
                Naming::Input => stem(input),
                Naming::Count => format!("{:08}", first + i),
            };
            let name = stem + format.ending() + packing.ending();
            let input_bytes = fs::metadata(input).map_err(Error::io(input))?.len();
            if let Some(first) = names.insert(name.clone(), input) {
                let (first, second) = (first.to_path_buf(), input.clone());
                return Err(Error::SameName { first, second, shard: self.path.join(name) });
            }
            jobs.push(Job { input: input.clone(), input_bytes, name });
        }
        Ok(jobs)
    }

    /// Where a shard stands when it is finished.
    pub(crate) fn shard(&self, job: &Job) -> PathBuf {
        self.path.join(&job.name)
    }

    /// Who works on what.
    pub(crate) fn leases(&self, term: Duration) -> Leases {
        Leases::new(self.path.join(WORK), term)
    }

    fn note(&self, job: &Job) -> PathBuf {
        self.path.join(WORK).join(format!("{}.json", job.name))
    }

    /// Which of the shards of these numbers are finished, and which are leased.
    pub(crate) fn look(&self, jobs: &[Job], open: &[usize]) -> Result<Look> {
        let work = self.path.join(WORK);
        let lease = |job: &Job| format!("{}{LEASE}", job.name);
        let mut look = Look { finished: Numbers::none(jobs.len()), leased: Numbers::none(jobs.len()) };
        let listed = match open.len() > FEW {
            true => Some((names(&self.path)?, names(&work)?)),
            false => None,
        };
        for (i, job) in open.iter().filter_map(|&i| Some((i, jobs.get(i)?))) {
            let (is_finished, is_leased) = match &listed {
                Some((shards, leases)) => (shards.contains(&job.name), leases.contains(&lease(job))),
                None => (self.is_finished(job), work.join(lease(job)).exists()),
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
    pub(crate) fn is_finished(&self, job: &Job) -> bool {
        self.shard(job).exists()
    }

    /// Whether finished shards were made from the inputs that are there now. Of many, some are looked at, spread evenly: it takes a
    /// request for each. (All are when the manifest is written.)
    ///
    /// # Errors
    /// If one was made from another input.
    pub(crate) fn check_inputs(&self, jobs: &[&Job]) -> Result<()> {
        let count = jobs.len().min(CHECKED);
        let some = (0..count).filter_map(|i| jobs.get(i * jobs.len() / count));
        some.into_iter().try_for_each(|job| self.checked_note(job).map(drop))
    }

    fn checked_note(&self, job: &Job) -> Result<Option<Note>> {
        match self.read_note(job)? {
            Some(note) if note.input_bytes != job.input_bytes => {
                let (shard, input) = (self.shard(job), job.input.clone());
                Err(Error::OtherInput { shard, input, found: note.input_bytes, given: job.input_bytes })
            }
            note => Ok(note),
        }
    }

    /// The note of a shard, which is written before the shard appears.
    fn read_note(&self, job: &Job) -> Result<Option<Note>> {
        let path = self.note(job);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::io(&path))?,
        };
        let note = serde_json::from_str(&text);
        note.map(Some).map_err(|error| Error::Malformed { path, reason: error.to_string() })
    }

    pub(crate) fn write_note(&self, job: &Job, note: &Note) -> Result<()> {
        let path = self.note(job);
        self.create(&path, &line(note), true).map_err(Error::io(&path))
    }

    /// Where the manifest stands.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// Tells others that all of so many shards are there.
    pub(crate) fn mark(&self, shards: usize) -> Result<()> {
        let mark = self.path.join(WORK).join(MARK);
        self.create(&mark, format!("{shards}\n").as_bytes(), true).map_err(Error::io(&mark))
    }

    /// Whether another process has told that all of so many shards are there.
    pub(crate) fn is_marked(&self, shards: usize) -> Result<bool> {
        let mark = self.path.join(WORK).join(MARK);
        match fs::read_to_string(&mark) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            text => Ok(text.map_err(Error::io(&mark))?.trim() == shards.to_string()),
        }
    }

    /// Takes back what an earlier run has told.
    pub(crate) fn unmark(&self) -> Result<()> {
        let mark = self.path.join(WORK).join(MARK);
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(&mark)(error)),
            _ => Ok(()),
        }
    }

    /// Whether the manifest has so many shards, and was written since `last` appeared.
    pub(crate) fn has_manifest(&self, shards: usize, last: Option<&Path>) -> Result<bool> {
        let written = self.path.join(WORK).join(WRITTEN);
        let text = match fs::read_to_string(&written) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            text => text.map_err(Error::io(&written))?,
        };
        let time = |path: &Path| {
            fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(Error::io(path))
        };
        let is_older = last.map(|last| Ok::<_, Error>(time(&written)? <= time(last)?)).transpose()?;
        Ok(text.trim() == shards.to_string() && is_older != Some(true))
    }

    /// Writes the manifest: the notes of all shards that are finished.
    ///
    /// # Errors
    /// Also if one of them was made from another input.
    pub(crate) fn write_manifest(&self, jobs: &[Job]) -> Result<()> {
        let (mut lines, mut shards) = (Vec::new(), 0);
        for job in jobs {
            if self.shard(job).exists()
                && let Some(note) = self.checked_note(job)?
            {
                lines.extend(line(&note));
                shards += 1;
            }
        }
        let (path, written) = (self.manifest(), self.path.join(WORK).join(WRITTEN));
        self.create(&path, &lines, true).map_err(Error::io(&path))?;
        self.create(&written, format!("{shards}\n").as_bytes(), true).map_err(Error::io(&written))
    }

    /// A file that appears whole; in place of another, or only if there is none.
    fn create(&self, path: &Path, bytes: &[u8], replaces: bool) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".writing-")
            .make_in(self.path.join(WORK), |path| File::options().write(true).create_new(true).open(path))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        let persisted = if replaces { file.persist(path) } else { file.persist_noclobber(path) };
        persisted.map(|_| ()).map_err(|error| error.error)
    }
}

fn line(note: &Note) -> Vec<u8> {
    let mut line = serde_json::to_vec(note).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The names of what is in a folder.
fn names(folder: &Path) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        names.insert(entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
