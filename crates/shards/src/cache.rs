//! What is made of a shard once and kept: its index, and its bytes unpacked if it is compressed or lies on a store.
//!
//! Files are named after the shard and a digest of its address, length and time of modification (or what a store has in its place), so a
//! shard that changes is read anew. They
//! appear by rename, so processes may share the folder; whatever is wrong with one, it is made again.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mobileclip_store::Place;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::index::Index;
use crate::reading::Reading;

/// Changes when what is stored changes, or what it is made by.
const VERSION: &str = "mobileclip shards 1";
const INDEX: &str = "index";
const UNPACKED: &str = "tar";

/// A folder of indices and unpacked shards.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    max_bytes: u64,
}

impl Cache {
    /// The cache in a folder, which is made when something is stored. Unpacked shards take at most `max_bytes` of it: those used
    /// longest ago give way.
    pub fn new(folder: impl Into<PathBuf>, max_bytes: u64) -> Self {
        Self { folder: folder.into(), max_bytes }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How much unpacked shards may take.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The name, without extension, of what belongs to a shard.
    pub(crate) fn entry(&self, shard: &Path) -> Result<Entry> {
        let io = |source| Error::Io { path: shard.to_path_buf(), source };
        let place = Place::new(shard).map_err(io)?;
        let address = match place.is_remote() {
            true => shard.to_path_buf(),
            false => shard.canonicalize().map_err(io)?,
        };
        let stat = place.stat().map_err(io)?.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
        let mut hash = Sha256::new();
        hash.update(VERSION);
        hash.update(stat.bytes.to_le_bytes());
        hash.update(&stat.tag);
        hash.update(address.as_os_str().as_encoded_bytes());
        let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let stem = shard.file_name().unwrap_or_default().to_string_lossy();
        let stem: String = stem.chars().take_while(|&c| c != '.').take(60).collect();
        Ok(Entry { base: self.folder.join(format!("{stem}-{digest}")) })
    }

    /// The unpacked shard's file, if it is there.
    pub(crate) fn find_unpacked(&self, entry: &Entry) -> Option<File> {
        File::open(entry.file(UNPACKED)).ok()
    }

    /// Keeps the bytes of a shard's tar file; gives the copy, from its first byte, and what was wrong with them, where what came before is kept.
    pub(crate) fn unpack(
        &self,
        entry: &Entry,
        shard: &Path,
        mut reader: Box<dyn Read + Send>,
        reading: &Reading,
    ) -> Result<(File, Option<io::Error>)> {
        let path = entry.file(UNPACKED);
        let io = |source| Error::Io { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(io)?;
        let mut file =
            tempfile::Builder::new().prefix(".unpacking-").tempfile_in(&self.folder).map_err(io)?;
        let mut buffer = vec![0; 1 << 17];
        let mut bytes = 0;
        let fault = loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break None,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(error),
            };
            bytes += read as u64;
            if bytes > self.max_bytes {
                return Err(Error::CacheTooSmall { path: shard.to_path_buf(), limit: self.max_bytes });
            }
            file.write_all(buffer.get(..read).unwrap_or_default()).map_err(io)?;
        };
        // What could not be read today is no damage, and must not be kept as such.
        reading.check(shard)?;
        make_room(&self.folder, UNPACKED, self.max_bytes.saturating_sub(bytes)).map_err(io)?;
        let mut file = file.persist(&path).map_err(|error| io(error.error))?;
        file.rewind().map_err(io)?;
        Ok((file, fault))
    }

    /// A stored index that fits an unpacked shard of so many bytes.
    pub(crate) fn find_index(&self, entry: &Entry, unpacked_bytes: u64) -> Option<Index> {
        let bytes = fs::read(entry.file(INDEX)).ok()?;
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let is_whole = crc32fast::hash(content) == u32::from_le_bytes(*crc);
        let index: Index = serde_json::from_slice(content).ok().filter(|_| is_whole)?;
        index.is_sound(unpacked_bytes).then_some(index)
    }

    /// Keeps an index. A full disk or a folder that may not be written makes the next run slower, no more.
    pub(crate) fn store_index(&self, entry: &Entry, index: &Index) {
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.folder)?;
            let mut bytes = serde_json::to_vec(index)?;
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            let mut file = tempfile::Builder::new().prefix(".index-").tempfile_in(&self.folder)?;
            file.write_all(&bytes)?;
            file.persist(entry.file(INDEX)).map_err(|error| error.error)?;
            Ok(())
        };
        let _ = write();
    }
}

/// What belongs to one shard.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    base: PathBuf,
}

impl Entry {
    fn file(&self, extension: &str) -> PathBuf {
        // Not `with_extension`: the stem may be anything.
        let mut name = self.base.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}
/// Removes the files of an extension that were used longest ago, until all that are left take no more bytes than `allowed`.
///
/// # Errors
/// If the folder cannot be read, or a file not removed.
pub fn make_room(folder: &Path, extension: &str, allowed: u64) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().extension().is_some_and(|found| found == extension))
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= allowed {
            break;
        }
        match fs::remove_file(path) {
            // Another process was faster.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => total -= bytes,
        }
    }
    Ok(())
}
