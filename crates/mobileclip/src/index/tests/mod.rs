//! What the tests share: folders of toy photos, a model that hashes, a disk that dies.

mod crash;
mod damage;
mod search;
mod update;
mod walk;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::*;

pub const DIMENSION: usize = 8;

/// A unit vector that depends on every byte.
pub fn embedding_of(content: &[u8]) -> Vec<f32> {
    let numbers: Vec<f32> = (0..DIMENSION as u8)
        .map(|i| {
            let hash = crc32fast::hash(&[content, &[i]].concat());
            f32::from((hash >> 16) as i16) / 32768.0
        })
        .collect();
    let norm = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.iter().map(|x| x / norm).collect()
}

/// Embeds a file's bytes; refuses those that begin with `broken`. Remembers what it was asked.
pub struct Toy {
    pub fingerprint: &'static str,
    pub asked: Mutex<Vec<PathBuf>>,
}

impl Toy {
    pub fn new() -> Self {
        Self { fingerprint: "toy-1", asked: Mutex::default() }
    }

    pub fn take_asked(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap()).len()
    }
}

impl Embed for Toy {
    fn model(&self) -> ModelNote {
        ModelNote { name: "toy".into(), fingerprint: self.fingerprint.into(), dimension: DIMENSION }
    }

    fn embed_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>, String>> {
        self.asked.lock().unwrap().extend_from_slice(paths);
        let embed = |path: &PathBuf| match fs::read(path) {
            Ok(content) if content.starts_with(b"broken") => Err("not an image".to_owned()),
            Ok(content) => Ok(embedding_of(&content)),
            Err(error) => Err(error.to_string()),
        };
        paths.iter().map(embed).collect()
    }
}

/// A temporary place with photos and an index, and what the photos are.
pub struct Place {
    pub folder: TempDir,
    pub photos: BTreeMap<String, Vec<u8>>,
    /// Each write gets a time of its own, whatever the file system's clock can tell apart.
    clock: u64,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("photos")).unwrap();
        Self { folder, photos: BTreeMap::new(), clock: 1_700_000_000 }
    }

    /// With `n` photos.
    pub fn with_photos(n: usize) -> Self {
        let mut place = Self::new();
        (0..n).for_each(|i| place.put(&format!("{i:03}.jpg"), format!("photo {i}").as_bytes()));
        place
    }

    pub fn root(&self) -> PathBuf {
        fs::canonicalize(self.folder.path().join("photos")).unwrap()
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    pub fn put(&mut self, name: &str, content: &[u8]) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.clock += 1;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        self.photos.insert(name.to_owned(), content.to_owned());
    }

    pub fn remove(&mut self, name: &str) {
        if self.photos.remove(name).is_some() {
            fs::remove_file(self.root().join(name)).unwrap();
        }
    }

    pub fn update(&self, toy: &Toy) -> Report {
        self.update_with(toy, &UpdateOptions::default(), Box::new(RealDisk)).unwrap()
    }

    pub fn update_with(&self, toy: &Toy, options: &UpdateOptions, disk: Box<dyn Disk>) -> Result<Report> {
        let mut index = Index::open_with(self.dir(), Some(&toy.model()), disk)?;
        index.update(&[self.root()], toy, options, &mut |_| ControlFlow::Continue(()))
    }

    pub fn searcher(&self) -> Searcher {
        Searcher::load(self.dir(), &Toy::new().model()).unwrap()
    }

    /// Asserts that what can be found is what the folder holds: each photo once, with its present embedding.
    pub fn assert_index_is_folder(&self) {
        let searcher = self.searcher();
        let found: Vec<String> = sorted(searcher.paths().map(|path| name_in(&self.root(), path)));
        let whole = |content: &[u8]| !content.starts_with(b"broken");
        let expected: Vec<String> =
            self.photos.iter().filter(|(_, c)| whole(c)).map(|(name, _)| name.clone()).collect();
        assert_eq!(found, expected);
        for (name, content) in self.photos.iter().filter(|(_, c)| whole(c)) {
            let hits = searcher.search(&embedding_of(content), usize::MAX).unwrap();
            let hit = hits.iter().find(|hit| hit.path == self.root().join(name)).unwrap();
            // Rounding eight numbers to 11 bits turns a vector by less than 2^-11; the cosine of that is 1 - 1.2e-7, and
            // its length changes by as much as 2^-11.
            assert!((hit.score - 1.0).abs() < 6e-4, "{name}: {} with its own embedding", hit.score);
        }
    }
}

pub fn name_in(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

pub fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}
