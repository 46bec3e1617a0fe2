//! The cache folder: what is there, and how something gets its place.
//!
//! Layout of one repository, as `huggingface_hub` keeps it:
//!
//! ```text
//! models--owner--name/refs/REVISION               the commit's name
//!                     blobs/HASH                  the content
//!                     snapshots/COMMIT/a/file     a link to the blob, or the content itself
//!                     .no_exist/COMMIT/a/file     empty: the commit has no such file
//! .locks/models--owner--name/HASH.lock
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::paths::{Repo, is_commit};

/// The name of a content: the hub's ETag without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// Large files: the sha256 of the content.
    Sha256(String),
    /// Files in git: the sha1 of `blob SIZE\0` and the content.
    Git(String),
}

impl Hash {
    /// `None` for an ETag that is no hash: such a content could not be checked.
    pub fn from_etag(etag: &str) -> Option<Self> {
        let hex = etag.trim().trim_start_matches("W/").trim_matches('"');
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (is_hex, hex.len()) {
            (true, 40) => Some(Self::Git(hex.into())),
            (true, 64) => Some(Self::Sha256(hex.into())),
            _ => None,
        }
    }

    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }

    /// The hash of the same kind of a file's content.
    pub fn of_file(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        match self {
            Self::Sha256(_) => digest(Sha256::new(), &mut file),
            Self::Git(_) => {
                let size = file.metadata()?.len();
                digest(Sha1::new_with_prefix(format!("blob {size}\0")), &mut file)
            }
        }
    }
}

fn digest<D: Digest>(mut digest: D, file: &mut File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        digest.update(read);
    }
    Ok(digest.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// One repository's part of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    repo_folder: PathBuf,
    lock_folder: PathBuf,
    uses_symlinks: bool,
}

impl Cache {
    pub fn new(root: &Path, repo: &Repo, uses_symlinks: bool) -> Self {
        let folder = repo.folder();
        Self { repo_folder: root.join(&folder), lock_folder: root.join(".locks").join(folder), uses_symlinks }
    }

    /// The commit that a revision meant when it was last asked for.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.into());
        }
        let mut text = String::new();
        let file = File::open(self.repo_folder.join("refs").join(revision)).ok()?;
        file.take(100).read_to_string(&mut text).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo_folder.join("snapshots").join(commit)
    }

    /// The file's path in the commit's snapshot, if there is a content behind it.
    pub fn file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(file)).filter(|path| is_whole(path, None))
    }

    pub fn is_known_missing(&self, commit: &str, file: &str) -> bool {
        self.missing_mark(commit, file).is_file()
    }

    fn missing_mark(&self, commit: &str, file: &str) -> PathBuf {
        self.repo_folder.join(".no_exist").join(commit).join(file)
    }

    /// Remembers that a commit has no such file.
    pub fn mark_missing(&self, commit: &str, file: &str) -> Result<(), Error> {
        let mark = self.missing_mark(commit, file);
        create_parent(&mark)?;
        File::create(&mark).map(drop).map_err(|e| Error::io("create", &mark, e))
    }

    pub fn write_ref(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if is_commit(revision) || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.repo_folder.join("refs").join(revision);
        create_parent(&path)?;
        let temporary = beside(&path);
        fs::write(&temporary, commit).map_err(|e| Error::io("write", &temporary, e))?;
        put_in_place(&temporary, &path)
    }

    pub fn blob(&self, hash: &Hash) -> PathBuf {
        self.repo_folder.join("blobs").join(hash.hex())
    }

    /// Waits until no other process loads this blob, and keeps others waiting until the file is closed, which the
    /// system does however the process ends. `None` where the file system has no locks.
    pub fn lock(&self, hash: &Hash, mut on_wait: impl FnMut()) -> Result<Option<File>, Error> {
        let path = self.lock_folder.join(format!("{}.lock", hash.hex()));
        create_parent(&path)?;
        let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(&path) else {
            return Ok(None);
        };
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) => on_wait(),
        }
        Ok(file.lock().is_ok().then_some(file))
    }

    /// Gives a blob its name in a snapshot. `is_fresh`: this process has just loaded it, and nothing else refers to it.
    pub fn link(&self, hash: &Hash, commit: &str, file: &str, is_fresh: bool) -> Result<PathBuf, Error> {
        let blob = self.blob(hash);
        let path = self.snapshot(commit).join(file);
        create_parent(&path)?;
        let temporary = beside(&path);
        if self.uses_symlinks {
            let levels = file.split('/').count() + 1;
            let target: PathBuf = std::iter::repeat_n("..", levels).chain(["blobs", hash.hex()]).collect();
            if symlink(&target, &temporary).is_ok() {
                put_in_place(&temporary, &path)?;
                return Ok(path);
            }
        }
        if is_fresh {
            put_in_place(&blob, &path)?;
        } else {
            fs::copy(&blob, &temporary).map_err(|e| {
                let _ = fs::remove_file(&temporary);
                Error::io("write", &temporary, e)
            })?;
            put_in_place(&temporary, &path)?;
        }
        Ok(path)
    }

    /// Files at the top of a snapshot, sorted.
    pub fn top_files(&self, commit: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.snapshot(commit)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|e| is_whole(&e.path(), None))
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Whether a file stands there, through any number of links, with that size if one is known.
pub(crate) fn is_whole(path: &Path, size: Option<u64>) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && size.is_none_or(|size| m.len() == size))
}

pub(crate) fn create_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))
}

/// Renames within the cache; nobody sees half a file.
pub(crate) fn put_in_place(temporary: &Path, path: &Path) -> Result<(), Error> {
    fs::rename(temporary, path).map_err(|e| {
        let _ = fs::remove_file(temporary);
        Error::io("write", path, e)
    })
}

/// A name in the same folder that nobody else takes.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".tmp-{}-{n}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, b"{\"model_cfg\": {}}\n").unwrap();
        let git = Hash::from_etag("W/\"611293c0e105b9cddb3376daf5c154dd6a461550\"").unwrap();
        assert_eq!(git, Hash::Git("611293c0e105b9cddb3376daf5c154dd6a461550".into()));
        assert_eq!(git.of_file(&path).unwrap(), git.hex());
        let sha256 = Hash::from_etag(&format!("\"{}\"", "0".repeat(64))).unwrap();
        let hex = sha256.of_file(&path).unwrap();
        assert_eq!(hex, "ad0727ffc32d0fb1797a0bc74472c3b59daade5d7e68e68d83bcecbb0d5f107e");
        for bad in ["", "\"\"", "abc", "../../etc/passwd", &"A".repeat(40), &"g".repeat(64)] {
            assert_eq!(Hash::from_etag(bad), None, "{bad}");
        }
    }

    #[test]
    fn damaged_refs_are_no_refs() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), &Repo::main("a/b").unwrap(), true);
        let commit = "1".repeat(40);
        assert_eq!(cache.commit_of("main"), None);
        assert_eq!(cache.commit_of(&commit), Some(commit.clone()));
        cache.write_ref("refs/pr/1", &commit).unwrap();
        assert_eq!(cache.commit_of("refs/pr/1"), Some(commit.clone()));
        let path = folder.path().join("models--a--b/refs/main");
        for bad in ["", "../../../etc", &"x".repeat(1 << 20), &commit[1..]] {
            fs::write(&path, bad).unwrap();
            assert_eq!(cache.commit_of("main"), None);
        }
        fs::write(&path, format!("{commit}\n")).unwrap();
        assert_eq!(cache.commit_of("main"), Some(commit));
    }

    #[test]
    fn a_blob_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), &Repo::main("a/b").unwrap(), true);
        let hash = Hash::Git("0".repeat(40));
        let first = cache.lock(&hash, || panic!("nobody holds it")).unwrap().unwrap();
        let other = cache.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let hash = hash.clone();
            move || other.lock(&hash, || sender.send(()).unwrap()).unwrap().is_some()
        });
        receiver.recv().unwrap();
        drop(first);
        assert!(thread.join().unwrap());
        let lock_file = folder.path().join(format!(".locks/models--a--b/{}.lock", "1".repeat(40)));
        fs::create_dir(lock_file).unwrap();
        assert!(cache.lock(&Hash::Git("1".repeat(40)), || ()).unwrap().is_none(), "no lock to be had");
    }
}
