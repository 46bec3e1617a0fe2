//! Embeddings kept on disk. What a chunk of them depends on is in its key; whatever is wrong with a file, it is as if it were not there.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mobileclip_shards::{Fault, make_room};
use serde::{Deserialize, Serialize};

const EXTENSION: &str = "embeddings";

/// A folder of embeddings.
#[derive(Clone, Debug)]
pub struct EmbeddingStore {
    folder: PathBuf,
    max_bytes: u64,
}

/// Some rows, or why a row is missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    pub rows: Vec<std::result::Result<Vec<f32>, Fault>>,
}

/// The head of a file; the rows that exist follow as f32, then a CRC-32 of all before.
#[derive(Serialize, Deserialize)]
struct Head {
    width: usize,
    rows: usize,
    faults: Vec<(usize, Fault)>,
}

impl EmbeddingStore {
    /// The store in a folder, which is made when something is stored. It takes at most `max_bytes`: what was used longest ago gives way.
    pub fn new(folder: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self { folder: folder.into(), max_bytes }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    /// A chunk of so many rows of this width.
    pub(crate) fn get(&self, key: &str, rows: usize, width: usize) -> Option<Chunk> {
        let path = self.path(key);
        let bytes = fs::read(&path).ok()?;
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (length, content_after) = content.split_first_chunk::<4>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (head, data) = content_after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        let is_whole = data.len() == head.rows.checked_sub(head.faults.len())?.checked_mul(4 * width)?;
        if head.rows != rows || head.width != width || !is_whole {
            return None;
        }
        let mut faults = head.faults.into_iter().peekable();
        let mut stored = data.chunks_exact(4 * width);
        let row = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let rows = (0..rows)
            .map(|i| match faults.next_if(|(at, _)| *at == i) {
                Some((_, fault)) => Some(Err(fault)),
                None => stored.next().map(|bytes| Ok(row(bytes))),
            })
            .collect::<Option<_>>()?;
        // Used now; if the time cannot be set, the file gives way earlier.
        let _ =
            fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(Chunk { rows })
    }

    /// Stores a chunk. A full disk or a folder that may not be written makes the next run slower, no more.
    pub(crate) fn put(&self, key: &str, width: usize, chunk: &Chunk) {
        let _ = self.write(&self.path(key), width, chunk);
    }

    fn write(&self, path: &Path, width: usize, chunk: &Chunk) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let faults = chunk.rows.iter().enumerate();
        let faults = faults.filter_map(|(i, row)| Some((i, row.as_ref().err()?.clone()))).collect();
        let head = serde_json::to_vec(&Head { width, rows: chunk.rows.len(), faults })?;
        let mut bytes = (u32::try_from(head.len()).map_err(io::Error::other)?).to_le_bytes().to_vec();
        bytes.extend_from_slice(&head);
        for value in chunk.rows.iter().flatten().flatten() {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        make_room(&self.folder, EXTENSION, self.max_bytes.saturating_sub(bytes.len() as u64))?;
        let mut file = tempfile::Builder::new().prefix(".embeddings-").tempfile_in(&self.folder)?;
        file.write_all(&bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> Chunk {
        let fault = Fault::Missing { shard: "0.tar".into(), key: "b".into(), member: "jpg".into() };
        Chunk { rows: vec![Ok(vec![1.0, -0.5]), Err(fault), Ok(vec![0.0, 2.0])] }
    }

    #[test]
    fn what_is_stored_comes_back_and_damage_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddingStore::new(folder.path().join("new"), 1 << 20);
        assert_eq!(store.get("k", 3, 2), None);
        store.put("k", 2, &chunk());
        assert_eq!(store.get("k", 3, 2), Some(chunk()));
        assert_eq!(store.get("k", 2, 2), None);
        assert_eq!(store.get("k", 3, 3), None);
        let path = store.path("k");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&path, bytes).unwrap();
            assert_eq!(store.get("k", 3, 2), None, "changed at {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(store.get("k", 3, 2), None, "cut at {at}");
        }
    }

    #[test]
    fn the_store_keeps_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddingStore::new(folder.path(), 1000);
        (0..20).for_each(|i| store.put(&i.to_string(), 2, &chunk()));
        let sizes =
            || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        assert!(sizes().sum::<u64>() <= 1000 && sizes().count() > 2);
        assert!(store.get("19", 3, 2).is_some());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        EmbeddingStore::new(folder.path().join("file/below"), 1000).put("k", 2, &chunk());
    }
}
