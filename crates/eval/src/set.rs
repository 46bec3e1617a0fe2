//! A set of pictures with what is asked about them.

use std::path::{Path, PathBuf};

use mobileclip::index::find_photos;
use mobileclip_shards::{Cache, Dataset, Fault, Limits, PICTURES, Sample, Tally, expand, numbered};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::prompts::{DEFAULT_TEMPLATE, Prompts};

/// What is asked about each picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Which of some classes it shows.
    Classification,
    /// Which of some classes it shows, any number of them.
    Multilabel,
    /// Which texts belong to it.
    Retrieval,
}

/// How a set is opened.
#[derive(Clone, Debug)]
pub struct SetOptions {
    /// The split: a folder in the set's folder.
    pub split: String,
    /// At most so many pictures, spread evenly over the set; 0 stands for all.
    pub limit: usize,
    /// Prompts other than the set's own.
    pub prompts: Option<Prompts>,
    /// Where indices and unpacked shards are kept.
    pub cache: Option<Cache>,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self { split: "test".to_owned(), limit: 0, prompts: None, cache: None }
    }
}

/// The answers, in the order of the pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    Classes(Vec<usize>),
    Shows(Vec<Vec<bool>>),
    Captions(Vec<Vec<String>>),
}

#[derive(Debug)]
enum Source {
    Shards(Dataset),
    Files(Vec<PathBuf>),
}

/// Pictures with their classes or captions.
///
/// A folder is understood as CLIP_benchmark's webdataset layout (`SPLIT/nshards.txt`, `SPLIT/0.tar`, …, `classnames.txt`,
/// `zeroshot_classification_templates.txt`, `dataset_type.txt`), as shards lying in it (of training sets: `cls`, or `label` in `json`), or as a
/// folder of pictures for each class (in `SPLIT`, if there is such a folder).
#[derive(Debug)]
pub struct EvalSet {
    /// The path it was opened by.
    pub path: PathBuf,
    /// What result files call it: the folder's name, with `wds/` before it in the webdataset layout.
    pub name: String,
    /// What is asked.
    pub task: Task,
    /// The classes' names; empty for retrieval.
    pub classes: Vec<String>,
    /// The sentences that stand for a class.
    pub prompts: Prompts,
    /// Samples that cannot be used, by cause.
    pub faults: Tally,
    source: Source,
    /// The numbers in the source of the samples that can be used.
    items: Vec<usize>,
    pub(crate) answers: Answers,
}

impl EvalSet {
    /// Opens a set and reads its labels or captions.
    ///
    /// # Errors
    /// If the folder has none of the layouts, a list in it is malformed, a shard is missing, or no sample can be used.
    pub fn open(path: &Path, options: &SetOptions) -> Result<Self> {
        if !path.is_dir() {
            return Err(match path.exists() {
                true => Error::Layout {
                    path: path.to_path_buf(),
                    reason: "is no folder of an evaluation set".to_owned(),
                },
                false => Error::io(path)(std::io::ErrorKind::NotFound.into()),
            });
        }
        let split = path.join(&options.split);
        let shards = match split.join("nshards.txt").exists() {
            true => Some(numbered(&split)?),
            false => shards_in(&split)?.or(shards_in(path)?),
        };
        let prompts = match (&options.prompts, path.join("zeroshot_classification_templates.txt")) {
            (Some(prompts), _) => prompts.clone(),
            (None, file) if file.exists() => Prompts::read(&file)?,
            (None, _) => Prompts::Templates(vec![DEFAULT_TEMPLATE.to_owned()]),
        };
        let set = match shards {
            Some(shards) => Self::of_shards(path, &shards, prompts, options)?,
            None if split.is_dir() => Self::of_folders(path, &split, prompts, options)?,
            None => Self::of_folders(path, path, prompts, options)?,
        };
        match (set.items.is_empty(), set.faults.first().first()) {
            (true, Some(first)) => {
                let (failed, first) = (set.faults.total(), first.to_string());
                Err(Error::NothingLeft { path: set.path, failed, first })
            }
            (true, None) => {
                Err(Error::Layout { path: set.path, reason: "there are no pictures in it".to_owned() })
            }
            (false, _) => Ok(set),
        }
    }

    /// How many pictures it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none; `open` refuses such sets.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn of_shards(path: &Path, shards: &[PathBuf], prompts: Prompts, options: &SetOptions) -> Result<Self> {
        let task = match read_trimmed(&path.join("dataset_type.txt"))?.as_deref() {
            Some("retrieval") => Task::Retrieval,
            Some("multilabel") => Task::Multilabel,
            Some("classification") | None => Task::Classification,
            Some(other) => {
                let expected = "retrieval, multilabel or classification".to_owned();
                return Err(Error::Content {
                    path: path.join("dataset_type.txt"),
                    expected,
                    found: other.to_owned(),
                });
            }
        };
        let classes = match task {
            Task::Retrieval => Vec::new(),
            _ => read_lines(&path.join("classnames.txt"))?.ok_or_else(|| {
                let reason = "the classes' names are missing: `classnames.txt`, one in each line".to_owned();
                Error::Layout { path: path.to_path_buf(), reason }
            })?,
        };
        let dataset = Dataset::open(shards, options.cache.as_ref(), &Limits::default(), &mut |_| {})?;
        let mut faults = Tally::default();
        dataset.faults().for_each(|fault| faults.add(fault));
        let mut items = Vec::new();
        let mut answers = match task {
            Task::Classification => Answers::Classes(Vec::new()),
            Task::Multilabel => Answers::Shows(Vec::new()),
            Task::Retrieval => Answers::Captions(Vec::new()),
        };
        for item in spread(dataset.len(), options.limit) {
            let is_label = |suffix: &str| ["cls", "txt", "npy", "json"].contains(&suffix);
            let (shard, number) = dataset.locate(item).unwrap_or_default();
            let Some(sample) = dataset.shards().get(shard).and_then(|shard| shard.select(number, is_label))
            else {
                continue;
            };
            match sample.and_then(|sample| push_answer(&mut answers, &sample, classes.len())) {
                Ok(()) => items.push(item),
                Err(fault) => faults.add(&fault),
            }
        }
        let name = format!("wds/{}", folder_name(path));
        let path = path.to_path_buf();
        Ok(Self {
            path,
            name,
            task,
            classes,
            prompts,
            faults,
            source: Source::Shards(dataset),
            items,
            answers,
        })
    }

    fn of_folders(path: &Path, root: &Path, prompts: Prompts, options: &SetOptions) -> Result<Self> {
        let mut folders = Vec::new();
        for entry in std::fs::read_dir(root).map_err(Error::io(root))? {
            let entry = entry.map_err(Error::io(root))?.path();
            let name = folder_name(&entry);
            if entry.is_dir() && !name.starts_with('.') {
                folders.push((name, entry));
            }
        }
        folders.sort();
        let names = read_lines(&path.join("classnames.txt"))?;
        let classes = match names {
            Some(names) if names.len() == folders.len() => names,
            Some(names) => {
                let expected =
                    format!("a name for each of the {} folders of {}", folders.len(), root.display());
                let found = format!("{} names", names.len());
                return Err(Error::Content { path: path.join("classnames.txt"), expected, found });
            }
            None => folders.iter().map(|(name, _)| name.replace('_', " ")).collect(),
        };
        let mut files = Vec::new();
        let mut targets = Vec::new();
        let mut faults = Tally::default();
        for (class, (_, folder)) in folders.into_iter().enumerate() {
            let walk = find_photos(&[folder]).map_err(|(path, source)| Error::Io { path, source })?;
            for (path, reason) in walk.failed {
                faults.add(&file_fault(&path, reason));
            }
            targets.resize(files.len() + walk.photos.len(), class);
            files.extend(walk.photos.into_iter().map(|found| found.path));
        }
        let items: Vec<usize> = spread(files.len(), options.limit).collect();
        let targets = items.iter().filter_map(|&item| targets.get(item).copied()).collect();
        Ok(Self {
            path: path.to_path_buf(),
            name: folder_name(path),
            task: Task::Classification,
            classes,
            prompts,
            faults,
            source: Source::Files(files),
            items,
            answers: Answers::Classes(targets),
        })
    }

    /// The file of picture `i`, as it is stored.
    pub(crate) fn picture(&self, i: usize) -> std::result::Result<Vec<u8>, Fault> {
        let item = self.items.get(i).copied().unwrap_or(usize::MAX);
        match &self.source {
            Source::Shards(dataset) => {
                let (shard, number) = dataset.locate(item).unwrap_or_default();
                let shard = dataset.shards().get(shard);
                let sample =
                    shard.and_then(|shard| shard.select(number, |suffix| PICTURES.contains(&suffix)));
                sample.unwrap_or_else(|| Err(file_fault(&self.path, "no such sample")))?.into_picture()
            }
            Source::Files(files) => {
                let path = files.get(item).ok_or_else(|| file_fault(&self.path, "no such picture"))?;
                std::fs::read(path).map_err(|error| file_fault(path, error.to_string()))
            }
        }
    }

    /// The fault that picture `i` cannot be used.
    pub(crate) fn picture_fault(&self, i: usize, reason: String) -> Fault {
        let item = self.items.get(i).copied().unwrap_or(usize::MAX);
        match &self.source {
            Source::Files(files) => file_fault(files.get(item).unwrap_or(&self.path), reason),
            Source::Shards(dataset) => {
                let shard = dataset.locate(item).and_then(|(shard, _)| dataset.shards().get(shard));
                Fault::Member {
                    shard: shard.map_or(self.path.clone(), |shard| shard.path().to_path_buf()),
                    key: dataset.key(item).unwrap_or_default().to_owned(),
                    member: "picture".to_owned(),
                    reason,
                }
            }
        }
    }

    /// Feeds a digest with what pictures `range` depend on: places, lengths and times of their files.
    pub(crate) fn fingerprint(&self, range: std::ops::Range<usize>, hash: &mut Sha256) {
        let mut last = usize::MAX;
        for &item in self.items.get(range).unwrap_or_default() {
            match &self.source {
                Source::Files(files) => files.get(item).into_iter().for_each(|path| stamp(path, hash)),
                Source::Shards(dataset) => {
                    let (shard, number) = dataset.locate(item).unwrap_or_default();
                    if shard != last {
                        dataset.shards().get(shard).into_iter().for_each(|shard| stamp(shard.path(), hash));
                        last = shard;
                    }
                    hash.update((number as u64).to_le_bytes());
                }
            }
        }
    }
}

/// What a file is known by.
fn stamp(path: &Path, hash: &mut Sha256) {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    hash.update((path.as_os_str().len() as u64).to_le_bytes());
    hash.update(path.as_os_str().as_encoded_bytes());
    if let Ok(metadata) = path.metadata() {
        hash.update(metadata.len().to_le_bytes());
        let modified =
            metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        hash.update(modified.unwrap_or_default().as_nanos().to_le_bytes());
    }
}

fn file_fault(path: &Path, reason: impl Into<String>) -> Fault {
    Fault::Member {
        shard: path.parent().unwrap_or(path).to_path_buf(),
        key: folder_name(path),
        member: "picture".to_owned(),
        reason: reason.into(),
    }
}

fn push_answer(answers: &mut Answers, sample: &Sample, classes: usize) -> std::result::Result<(), Fault> {
    match answers {
        Answers::Classes(list) => {
            let (member, class) = class(sample)?;
            if class >= classes {
                return Err(sample.bad(member, format!("class {class}, of {classes} classes")));
            }
            list.push(class);
        }
        Answers::Shows(list) => {
            let row = sample.numbers("npy")?;
            if row.len() != classes {
                return Err(sample.bad("npy", format!("{} numbers for {classes} classes", row.len())));
            }
            list.push(row.iter().map(|&v| v > 0.0).collect());
        }
        Answers::Captions(list) => list.push(sample.captions()?.into_iter().map(str::to_owned).collect()),
    }
    Ok(())
}

/// The class's number: `cls`, or `label` in `json`, as training sets have it.
fn class(sample: &Sample) -> std::result::Result<(&'static str, usize), Fault> {
    #[derive(serde::Deserialize)]
    struct Labelled {
        label: usize,
    }
    match (sample.get("cls"), sample.get("json")) {
        (None, Some(_)) => Ok(("json", sample.json::<Labelled>("json")?.label)),
        _ => Ok(("cls", sample.class()?)),
    }
}

/// So many of `0..total`, spread evenly.
fn spread(total: usize, limit: usize) -> impl Iterator<Item = usize> {
    let count = if limit == 0 { total } else { limit.min(total) };
    (0..count).map(move |i| (i as u128 * total as u128 / count as u128) as usize)
}

/// The shards that lie in a folder, if there are any.
fn shards_in(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(name) = folder.to_str().filter(|_| folder.is_dir()) else { return Ok(None) };
    match expand(&[name]) {
        Ok(shards) => Ok(Some(shards)),
        Err(mobileclip_shards::Error::Pattern { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn folder_name(path: &Path) -> String {
    let resolved = path.canonicalize();
    let path = resolved.as_deref().unwrap_or(path);
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read_trimmed(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path)(error)),
    }
}

/// The lines of a file, stripped; `None` if there is no such file.
fn read_lines(path: &Path) -> Result<Option<Vec<String>>> {
    let text = read_trimmed(path)?;
    Ok(text.map(|text| text.lines().map(|line| line.trim().to_owned()).collect()))
}
