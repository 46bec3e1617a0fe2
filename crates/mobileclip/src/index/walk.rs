//! Finding photos in folders.
//!
//! A photo is a regular file with one of [`PHOTO_EXTENSIONS`]: looking at the name costs nothing, while looking into each
//! file would read every file of a disk at each run. What the file really is, the decoder finds out by its content.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What photos are called, in any case.
pub const PHOTO_EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "dib", "tif", "tiff"];

/// What a file's content is known by without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The file's size in bytes.
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970 (UTC); negative before.
    pub modified_ns: i64,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(metadata: &Metadata) -> Self {
        let clamp = |ns: u128| i64::try_from(ns).unwrap_or(i64::MAX);
        let modified_ns = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
            Ok(Ok(since)) => clamp(since.as_nanos()),
            Ok(Err(before)) => -clamp(before.duration().as_nanos()),
            // A platform without modification times is left with the size.
            Err(_) => 0,
        };
        Self { size: metadata.len(), modified_ns }
    }
}

/// A photo that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The root as it was given, joined with the way from there.
    pub path: PathBuf,
    /// Its stamp when it was found.
    pub stamp: Stamp,
}

/// What [`find_photos`] found.
#[derive(Debug, Clone, Default)]
pub struct Walk {
    /// The photos: in the order of the roots, sorted by path within each.
    pub photos: Vec<Found>,
    /// Folders and photos that could not be looked at, and why.
    pub failed: Vec<(PathBuf, String)>,
    /// Where nothing is known of: the paths of `failed`, and links that lead nowhere. Whatever was known at or below them
    /// is not gone, only out of reach.
    pub unknown: Vec<PathBuf>,
}

/// Finds the photos at and below some roots: folders (walked recursively) or single files.
///
/// Hidden files and folders (a name with a dot in front) are skipped, as are other kinds of files. Links are followed; what
/// can be reached in several ways is listed once, by its own path rather than a link's, so links cannot make a loop.
///
/// # Errors
/// A root that does not exist or cannot be read: the root, and why. Trouble below a root is in [`Walk::failed`].
pub fn find_photos(roots: &[PathBuf]) -> Result<Walk, (PathBuf, io::Error)> {
    let mut finder = Finder::default();
    for (number, root) in roots.iter().enumerate() {
        let failed = |error| (root.clone(), error);
        let metadata = fs::metadata(root).map_err(failed)?;
        let real = fs::canonicalize(root).map_err(failed)?;
        if metadata.is_dir() {
            fs::read_dir(root).map_err(failed)?;
            finder.folder(number, root.clone(), real);
        } else if metadata.is_file() {
            finder.photo(number, root.clone(), real, &metadata);
        } else {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "neither a folder nor a file")));
        }
    }
    // Links come last, so that a photo's own path wins whichever is met first.
    while let Some((number, link)) = finder.links.pop_front() {
        finder.link(number, link);
    }
    let Finder { mut photos, failed, unknown, .. } = finder;
    photos.sort_by(|(n, a), (m, b)| n.cmp(m).then_with(|| a.path.cmp(&b.path)));
    Ok(Walk { photos: photos.into_iter().map(|(_, found)| found).collect(), failed, unknown })
}

fn is_photo_name(path: &Path) -> bool {
    path.extension()
        .and_then(OsStr::to_str)
        .is_some_and(|extension| PHOTO_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

#[derive(Default)]
struct Finder {
    /// With the number of the root that led there.
    photos: Vec<(usize, Found)>,
    failed: Vec<(PathBuf, String)>,
    unknown: Vec<PathBuf>,
    links: VecDeque<(usize, PathBuf)>,
    /// Real paths of the folders and photos that are dealt with.
    seen: HashSet<PathBuf>,
}

impl Finder {
    /// `real` is the path without links.
    fn photo(&mut self, root: usize, path: PathBuf, real: PathBuf, metadata: &Metadata) {
        if self.seen.insert(real) {
            self.photos.push((root, Found { path, stamp: Stamp::of(metadata) }));
        }
    }

    fn folder(&mut self, root: usize, path: PathBuf, real: PathBuf) {
        // A stack of our own: folders may nest deeper than the thread's stack allows.
        let mut folders = vec![(path, real)];
        while let Some((path, real)) = folders.pop() {
            if !self.seen.insert(real.clone()) {
                continue;
            }
            let entries = match fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(entries) => entries,
                Err(error) => {
                    self.fail(path, &error);
                    continue;
                }
            };
            for entry in entries {
                let name = entry.file_name();
                if is_hidden(&name) {
                    continue;
                }
                let (path, real) = (entry.path(), real.join(&name));
                match entry.file_type() {
                    Ok(kind) if kind.is_symlink() => self.links.push_back((root, path)),
                    Ok(kind) if kind.is_dir() => folders.push((path, real)),
                    Ok(kind) if kind.is_file() && is_photo_name(&path) => match entry.metadata() {
                        Ok(metadata) => self.photo(root, path, real, &metadata),
                        Err(error) => self.fail(path, &error),
                    },
                    Ok(_) => {}
                    Err(error) => self.fail(path, &error),
                }
            }
        }
        // Whichever way the operating system lists them, the same link must win.
        self.links.make_contiguous().sort();
    }

    fn link(&mut self, root: usize, path: PathBuf) {
        let target = fs::metadata(&path).and_then(|metadata| Ok((metadata, fs::canonicalize(&path)?)));
        match target {
            Ok((metadata, real)) if metadata.is_dir() => self.folder(root, path, real),
            Ok((metadata, real)) if metadata.is_file() && is_photo_name(&path) => {
                self.photo(root, path, real, &metadata)
            }
            Ok(_) => {}
            Err(error) if is_photo_name(&path) => self.fail(path, &error),
            Err(_) => self.unknown.push(path),
        }
    }

    fn fail(&mut self, path: PathBuf, error: &io::Error) {
        self.failed.push((path.clone(), error.to_string()));
        self.unknown.push(path);
    }
}
