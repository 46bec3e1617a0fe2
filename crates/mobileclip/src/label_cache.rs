//! Embeddings of labels kept on disk, so that the next run with the same words need not run, nor even load, the text tower.
//!
//! One file for each model, named by its fingerprint. Whatever is wrong with a file, or with the folder, costs time and
//! never an answer: it is as if the labels were not in it. Two processes may write one file; the later one wins, and what
//! it did not know is computed again.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::model::Model;
use crate::zero_shot::{Labels, check};

/// The first bytes of a file; another version has others.
const MAGIC: &[u8; 16] = b"mobileclip-lab1\n";
const KEY_BYTES: usize = 32;
/// 8,000 labels of 512 numbers; reading that many takes some 10 ms.
const FILE_BYTES_MAX: usize = 16 << 20;
/// Files of models that were used last; with the limit above, the cache never takes more than 128 MiB.
const FILES_MAX: usize = 8;
const EXTENSION: &str = "labels";

type Key = [u8; KEY_BYTES];

/// Where this user's caches are: `MOBILECLIP_CACHE`, else `mobileclip` in `XDG_CACHE_HOME`, `LOCALAPPDATA` or `~/.cache`; `None` if there is no
/// such place.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("MOBILECLIP_CACHE").or_else(|| {
        let caches = variable("XDG_CACHE_HOME").or_else(|| variable("LOCALAPPDATA"));
        let caches = caches.or_else(|| variable("HOME").map(|home| home.join(".cache")))?;
        Some(caches.join("mobileclip"))
    })
}

/// A folder of label embeddings.
///
/// ```no_run
/// use mobileclip::{LabelCache, Model};
///
/// let model = Model::load("s0.safetensors")?;
/// let cache = LabelCache::of_user().unwrap_or_else(|| LabelCache::new("labels"));
/// let labels = cache.embed(&model, &["cat".into(), "dog".into()], &["a photo of a {}".into()])?;
/// # Ok::<(), mobileclip::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LabelCache {
    folder: PathBuf,
}

impl LabelCache {
    /// The cache in a folder, which is made when something is stored.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The cache in the user's own [`cache_folder`]; `None` if there is no such place.
    pub fn of_user() -> Option<Self> {
        cache_folder().map(Self::new)
    }

    /// As [`Labels::embed`], with the same numbers, but only what is not in the cache is computed, and then stored.
    ///
    /// # Errors
    /// Those of [`Labels::embed`]. What is wrong with the cache is no error.
    pub fn embed(&self, model: &Model, names: &[String], templates: &[String]) -> Result<Labels> {
        check(names, templates)?;
        // Instruction sets differ in the last bits, and the same run shall give the same bits.
        let owner = format!("{}-{}", model.fingerprint(), model.instruction_set());
        let compute = |missing: &[String]| -> Result<Vec<Vec<f32>>> {
            Ok(Labels::embed(model, missing, templates)?.embeddings().to_vec())
        };
        let embeddings = self.through(&owner, model.embed_dim(), names, templates, compute)?;
        Ok(Labels::from_parts(names.to_vec(), embeddings))
    }

    /// As [`Model::encode_text`], through the cache.
    ///
    /// # Errors
    /// Those of [`Model::encode_text`].
    pub fn encode_text(&self, model: &Model, text: &str) -> Result<Vec<f32>> {
        let labels = self.embed(model, &[text.to_owned()], &["{}".to_owned()])?;
        Ok(labels.embeddings().concat())
    }

    fn through(
        &self,
        owner: &str,
        dimension: usize,
        names: &[String],
        templates: &[String],
        compute: impl FnOnce(&[String]) -> Result<Vec<Vec<f32>>>,
    ) -> Result<Vec<Vec<f32>>> {
        let path = self.folder.join(format!("{owner}.{EXTENSION}"));
        let stored = read(&path, dimension);
        let mut known: HashMap<Key, Vec<f32>> = stored.iter().cloned().collect();
        let keys: Vec<Key> = names.iter().map(|name| key(owner, templates, name)).collect();
        let mut seen = HashSet::new();
        let (new, missing): (Vec<Key>, Vec<String>) = (keys.iter().zip(names))
            .filter(|(key, _)| !known.contains_key(*key) && seen.insert(**key))
            .map(|(key, name)| (*key, name.clone()))
            .unzip();
        if !missing.is_empty() {
            let added: Vec<(Key, Vec<f32>)> = new.into_iter().zip(compute(&missing)?).collect();
            // The newest stand last, and the oldest give way.
            let kept = (FILE_BYTES_MAX / entry_bytes(dimension)).saturating_sub(added.len());
            if kept > 0 {
                let stored = stored.iter().skip(stored.len().saturating_sub(kept));
                // A full disk or a folder that may not be written makes the next run slower, no more.
                let _ = self.write(&path, stored.chain(&added));
            }
            known.extend(added);
        }
        Ok(keys.iter().map(|key| known.get(key).cloned().unwrap_or_default()).collect())
    }

    fn write<'a>(&self, path: &Path, entries: impl Iterator<Item = &'a (Key, Vec<f32>)>) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut bytes = MAGIC.to_vec();
        for (key, embedding) in entries {
            bytes.extend_from_slice(key);
            embedding.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut file = tempfile::Builder::new().prefix(".labels-").tempfile_in(&self.folder)?;
        file.write_all(&bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        self.prune()
    }

    /// Removes the files that were written longest ago.
    fn prune(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.folder)?
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == EXTENSION))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES_MAX);
        files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

fn entry_bytes(dimension: usize) -> usize {
    KEY_BYTES + 4 * dimension
}

/// Depends on every word that the embedding depends on.
fn key(owner: &str, templates: &[String], name: &str) -> Key {
    let mut hash = Sha256::new();
    for text in [owner, name].into_iter().chain(templates.iter().map(String::as_str)) {
        // With their lengths, so that no two lists of texts give the same bytes.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// What a file holds: nothing, unless every byte is as it was written.
fn read(path: &Path, dimension: usize) -> Vec<(Key, Vec<f32>)> {
    let mut bytes = Vec::new();
    let limit = (FILE_BYTES_MAX + MAGIC.len() + 4) as u64;
    let is_read = fs::File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).is_ok();
    let Some((content, crc)) = bytes.split_last_chunk::<4>().filter(|_| is_read) else { return Vec::new() };
    let entries =
        content.strip_prefix(MAGIC).filter(|_| crc32fast::hash(content) == u32::from_le_bytes(*crc));
    let Some(entries) = entries.filter(|entries| entries.len() % entry_bytes(dimension) == 0) else {
        return Vec::new();
    };
    (entries.chunks_exact(entry_bytes(dimension)))
        .filter_map(|entry| {
            let (key, numbers) = entry.split_first_chunk::<KEY_BYTES>()?;
            Some((*key, numbers.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// Asks for labels; gives the embeddings and which of them were computed.
    fn ask(
        cache: &LabelCache,
        owner: &str,
        names: &[&str],
        templates: &[&str],
    ) -> (Vec<Vec<f32>>, Vec<String>) {
        let mut asked = Vec::new();
        let compute = |missing: &[String]| {
            asked = missing.to_vec();
            Ok(missing.iter().map(|name| vec![name.len() as f32, 1.0]).collect())
        };
        let embeddings = cache.through(owner, 2, &texts(names), &texts(templates), compute).unwrap();
        assert_eq!(embeddings, names.iter().map(|name| vec![name.len() as f32, 1.0]).collect::<Vec<_>>());
        (embeddings, asked)
    }

    #[test]
    fn only_what_is_new_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LabelCache::new(folder.path().join("new"));
        assert_eq!(ask(&cache, "a", &["cat", "horse", "cat"], &["{}"]).1, ["cat", "horse"]);
        assert_eq!(ask(&cache, "a", &["horse", "cat"], &["{}"]).1, [""; 0]);
        assert_eq!(ask(&cache, "a", &["ox", "cat"], &["{}"]).1, ["ox"]);
        // Another template, other templates together, another model.
        assert_eq!(ask(&cache, "a", &["cat"], &["a {}"]).1, ["cat"]);
        assert_eq!(ask(&cache, "a", &["cat"], &["{}", "a {}"]).1, ["cat"]);
        assert_eq!(ask(&cache, "b", &["cat"], &["{}"]).1, ["cat"]);
        assert_eq!(ask(&cache, "a", &["cat", "ox", "horse"], &["{}"]).1, [""; 0]);
    }

    #[test]
    fn damage_is_as_if_nothing_were_stored() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LabelCache::new(folder.path());
        ask(&cache, "a", &["cat", "horse"], &["{}"]);
        let path = folder.path().join("a.labels");
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(ask(&cache, "a", &["cat"], &["{}"]).1, ["cat"], "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            assert_eq!(ask(&cache, "a", &["cat"], &["{}"]).1, ["cat"], "changed at {at}");
        }
        // A model of another width, under the same name.
        fs::write(&path, &whole).unwrap();
        assert_eq!(read(&path, 2).len(), 2);
        assert_eq!(read(&path, 3).len(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let cache = LabelCache::new(folder.path().join("file/below"));
        assert_eq!(ask(&cache, "a", &["cat"], &["{}"]).1, ["cat"]);
        assert_eq!(ask(&cache, "a", &["cat"], &["{}"]).1, ["cat"]);
    }

    #[test]
    fn the_size_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LabelCache::new(folder.path());
        for model in 0..FILES_MAX + 3 {
            ask(&cache, &format!("model {model}"), &["cat"], &["{}"]);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), FILES_MAX);

        // Wide embeddings: 16 of them fill a file.
        let dimension = FILE_BYTES_MAX / 64 - 8;
        let fill = |from: usize, to: usize| {
            let names: Vec<String> = (from..to).map(|n| n.to_string()).collect();
            let mut computed = 0;
            let compute = |missing: &[String]| {
                computed = missing.len();
                Ok(vec![vec![1.0; dimension]; missing.len()])
            };
            cache.through("wide", dimension, &names, &texts(&["{}"]), compute).unwrap();
            computed
        };
        assert_eq!(fill(0, 12), 12);
        assert_eq!(fill(12, 20), 8);
        let size = fs::metadata(folder.path().join("wide.labels")).unwrap().len();
        assert!(size <= FILE_BYTES_MAX as u64 + 20, "{size}");
        // The oldest four have given way.
        assert_eq!(fill(4, 20), 0);
        assert_eq!(fill(0, 4), 4);
    }
}
