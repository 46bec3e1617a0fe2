//! An address, and what can be done there.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::draft::Draft;
use crate::local;
#[cfg(feature = "stores")]
use crate::remote;

/// The kinds of addresses that are no paths.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "http", "https"];

/// Where a file or a folder is.
#[derive(Clone, Debug)]
pub struct Place {
    address: PathBuf,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    /// On a disk. Files are prepared in the folder, if one is named, else beside where they belong.
    Disk { drafts: Option<PathBuf> },
    #[cfg(feature = "stores")]
    Store(remote::Object),
}

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// How many bytes it has.
    pub bytes: u64,
    /// When it was written, since 1970, by the clock of the disk or store.
    pub modified: Duration,
    /// Is another when the contents are others: the time of modification, or what a store says.
    pub tag: Vec<u8>,
}

/// The contents that a file had when it was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub(crate) Seen);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Contents(Vec<u8>),
    #[cfg(feature = "stores")]
    Object(remote::Tag),
}

/// A file that is read from the front.
pub struct Source {
    reader: Box<dyn Read + Send>,
    bytes: u64,
}

impl Source {
    pub(crate) fn new(reader: impl Read + Send + 'static, bytes: u64) -> Self {
        Self { reader: Box::new(reader), bytes }
    }

    /// How many bytes the file has.
    pub fn size(&self) -> u64 {
        self.bytes
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// Whether an address is on a store, not a path on a disk.
pub fn is_remote(address: &Path) -> bool {
    scheme(address).is_some()
}

/// What stands before `://`, and what after it.
fn scheme(address: &Path) -> Option<(&str, &str)> {
    let (scheme, rest) = address.to_str()?.split_once("://")?;
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    is_scheme.then_some((scheme, rest))
}

impl Place {
    /// The place of an address.
    ///
    /// # Errors
    /// If it is on a store and this program was built without stores, of an unknown kind, or not complete, or if the environment has no
    /// credentials for it.
    pub fn new(address: impl AsRef<Path>) -> io::Result<Self> {
        let address = address.as_ref();
        let at = match scheme(address) {
            None => At::Disk { drafts: None },
            Some((scheme, rest)) if SCHEMES.contains(&scheme) => store(scheme, rest)?,
            Some((scheme, _)) => {
                let known = SCHEMES.map(|scheme| format!("{scheme}://")).join(", ");
                let reason =
                    format!("{scheme}:// is no kind of address that is read here; there are paths, {known}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
            }
        };
        Ok(Self { address: address.to_path_buf(), at })
    }

    /// The same place, where files on a disk are prepared in this folder beneath it, so that nothing half done lies beside finished files.
    pub fn with_drafts(mut self, folder: &str) -> Self {
        match &mut self.at {
            At::Disk { drafts } => *drafts = Some(self.address.join(folder)),
            #[cfg(feature = "stores")]
            At::Store(_) => {}
        }
        self
    }

    /// The address.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// Whether it is on a store.
    pub fn is_remote(&self) -> bool {
        !matches!(self.at, At::Disk { .. })
    }

    /// What is called so in this folder.
    pub fn join(&self, name: &str) -> Self {
        match &self.at {
            At::Disk { drafts } => {
                Self { address: self.address.join(name), at: At::Disk { drafts: drafts.clone() } }
            }
            #[cfg(feature = "stores")]
            At::Store(object) => {
                let address = format!("{}/{name}", self.address.display().to_string().trim_end_matches('/'));
                Self { address: address.into(), at: At::Store(object.join(name)) }
            }
        }
    }

    /// Makes the folder, where folders have to be made.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_folder(&self) -> io::Result<()> {
        match &self.at {
            At::Disk { .. } => std::fs::create_dir_all(&self.address),
            #[cfg(feature = "stores")]
            At::Store(_) => Ok(()),
        }
    }

    /// What is known of the file; nothing if there is none.
    ///
    /// # Errors
    /// If that cannot be told.
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        match &self.at {
            At::Disk { .. } => local::stat(&self.address),
            #[cfg(feature = "stores")]
            At::Store(object) => object.stat(),
        }
    }

    /// [`Place::stat`] of many files, which a store is asked at once.
    ///
    /// # Errors
    /// The first one, with the file's number.
    pub fn stat_all(places: &[Place]) -> Result<Vec<Option<Stat>>, (usize, io::Error)> {
        #[cfg(feature = "stores")]
        if let Some(objects) = objects(places) {
            return remote::stat_all(&objects);
        }
        places.iter().enumerate().map(|(i, place)| place.stat().map_err(|error| (i, error))).collect()
    }

    /// The names of the files (not the folders) that lie in this folder, sorted, and what is known of them.
    ///
    /// # Errors
    /// If it cannot be listed, as over plain HTTP.
    pub fn list(&self) -> io::Result<Vec<(String, Stat)>> {
        let mut files = match &self.at {
            At::Disk { .. } => local::list(&self.address)?,
            #[cfg(feature = "stores")]
            At::Store(object) => object.list()?,
        };
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(files)
    }

    /// Opens the file to read it from the front. On a store, a connection that is cut or slow is begun anew where it was.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(&self) -> io::Result<Source> {
        match &self.at {
            At::Disk { .. } => local::open(&self.address),
            #[cfg(feature = "stores")]
            At::Store(object) => object.open(),
        }
    }

    /// Reads a small file; nothing if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self) -> io::Result<Option<(Vec<u8>, Version)>> {
        match &self.at {
            At::Disk { .. } => local::read(&self.address),
            #[cfg(feature = "stores")]
            At::Store(object) => object.read(),
        }
    }

    /// The contents of many small files, which a store is asked at once.
    ///
    /// # Errors
    /// The first one, with the file's number.
    pub fn read_all(places: &[Place]) -> Result<Vec<Option<Vec<u8>>>, (usize, io::Error)> {
        #[cfg(feature = "stores")]
        if let Some(objects) = objects(places) {
            return remote::read_all(&objects);
        }
        let read = |(i, place): (usize, &Place)| match place.read() {
            Ok(found) => Ok(found.map(|(bytes, _)| bytes)),
            Err(error) => Err((i, error)),
        };
        places.iter().enumerate().map(read).collect()
    }

    /// Puts a small file, in place of what is there.
    ///
    /// # Errors
    /// If it cannot be written; what was there is still there then.
    pub fn put(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.at {
            At::Disk { .. } => {
                let mut draft = self.draft()?;
                draft.write_all(bytes)?;
                draft.finish()?.publish()
            }
            #[cfg(feature = "stores")]
            At::Store(object) => object.put(bytes),
        }
    }

    /// Puts a small file if there is none; nothing if there is one. (A disk that loses power may lose the file.)
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_new(&self, bytes: &[u8]) -> io::Result<Option<Version>> {
        match &self.at {
            At::Disk { drafts } => {
                let is_new = local::put_new(&self.address, drafts.as_deref(), bytes)?;
                Ok(is_new.then(|| Version(Seen::Contents(bytes.to_vec()))))
            }
            #[cfg(feature = "stores")]
            At::Store(object) => object.put_new(bytes),
        }
    }

    /// Puts a small file in place of the one that was seen; nothing if there is another, or none. (Files on a disk are compared before they
    /// are replaced, which another process may use to come between; and a disk that loses power may lose the file.)
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn replace_if(&self, bytes: &[u8], seen: &Version) -> io::Result<Option<Version>> {
        match (&self.at, &seen.0) {
            (At::Disk { drafts }, Seen::Contents(contents)) => match local::read(&self.address)? {
                Some((there, _)) if there == *contents => {
                    local::replace(&self.address, drafts.as_deref(), bytes)?;
                    Ok(Some(Version(Seen::Contents(bytes.to_vec()))))
                }
                _ => Ok(None),
            },
            #[cfg(feature = "stores")]
            (At::Store(object), Seen::Object(tag)) => object.replace_if(bytes, tag),
            // A version of another kind of place is not the one that is here.
            #[cfg(feature = "stores")]
            _ => Ok(None),
        }
    }

    /// Deletes the file, if there is one.
    ///
    /// # Errors
    /// If it cannot be deleted.
    pub fn delete(&self) -> io::Result<()> {
        match &self.at {
            At::Disk { .. } => local::delete(&self.address),
            #[cfg(feature = "stores")]
            At::Store(object) => object.delete(),
        }
    }

    /// Begins a file of any size, which appears when it is published.
    ///
    /// # Errors
    /// If no file can be made to prepare it in: beside its place, or in the folder of temporary files if it goes to a store.
    pub fn draft(&self) -> io::Result<Draft> {
        match &self.at {
            At::Disk { drafts } => Draft::local(&self.address, drafts.as_deref()),
            #[cfg(feature = "stores")]
            At::Store(object) => Draft::remote(object.clone()),
        }
    }

    /// Removes what drafts that were killed have left of this file. Nobody may be writing it.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not removed.
    pub fn remove_drafts(&self) -> io::Result<()> {
        match &self.at {
            At::Disk { drafts } => local::remove_drafts(&self.address, drafts.as_deref()),
            // What is prepared for a store has no name, so it is gone with the process.
            #[cfg(feature = "stores")]
            At::Store(_) => Ok(()),
        }
    }
}

#[cfg(feature = "stores")]
fn store(scheme: &str, rest: &str) -> io::Result<At> {
    remote::Object::new(scheme, rest).map(At::Store)
}

#[cfg(not(feature = "stores"))]
fn store(scheme: &str, _: &str) -> io::Result<At> {
    let reason =
        format!("this program was built without {scheme}:// addresses; build it with `--features stores`");
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

/// The objects, if all are some.
#[cfg(feature = "stores")]
fn objects(places: &[Place]) -> Option<Vec<&remote::Object>> {
    places
        .iter()
        .map(|place| match &place.at {
            At::Store(object) => Some(object),
            At::Disk { .. } => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn names(folder: &Place) -> Vec<String> {
        folder.list().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_is_half_done_lies_where_it_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Place::new(folder.path()).unwrap();
        let shard = folder.join("0.tar");
        let mut draft = shard.draft().unwrap();
        draft.write_all(b"half").unwrap();
        assert_eq!((names(&folder).len(), shard.stat().unwrap()), (1, None));
        // As a process leaves it that is killed.
        std::mem::forget(draft);
        folder.join("0.tar.gz").put(b"another").unwrap();
        shard.remove_drafts().unwrap();
        assert_eq!(names(&folder), ["0.tar.gz"]);

        let hidden = folder.clone().with_drafts(".work");
        hidden.join(".work").make_folder().unwrap();
        let mut draft = hidden.join("1.tar").draft().unwrap();
        draft.write_all(b"whole").unwrap();
        assert_eq!(names(&hidden.join(".work")).len(), 1);
        let finished = draft.finish().unwrap();
        assert_eq!(finished.bytes(), 5);
        assert!(finished.publish_new().unwrap());
        let draft = hidden.join("1.tar").draft().unwrap();
        assert!(!draft.finish().unwrap().publish_new().unwrap());
        assert_eq!(hidden.join("1.tar").read().unwrap().map(|(bytes, _)| bytes), Some(b"whole".to_vec()));
        assert_eq!(names(&hidden), ["0.tar.gz", "1.tar"]);
        assert!(names(&hidden.join(".work")).is_empty());
    }

    #[test]
    fn many_are_asked_and_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "one").unwrap();
        let folder = Place::new(folder.path()).unwrap();
        let places = [folder.join("a"), folder.join("b")];
        let sizes: Vec<_> =
            Place::stat_all(&places).unwrap().iter().map(|s| s.as_ref().map(|s| s.bytes)).collect();
        assert_eq!(sizes, [Some(3), None]);
        assert_eq!(Place::read_all(&places).unwrap(), [Some(b"one".to_vec()), None]);
        assert!(folder.open().is_err());
        places[1].delete().unwrap();
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for address in ["s3://bucket/0.tar", "https://host/0.tar", "ftp://host/0.tar"] {
            assert!(is_remote(Path::new(address)));
        }
        for path in ["0.tar", "/data/s3:/0.tar", "C://data", "://0.tar"] {
            assert!(!is_remote(Path::new(path)), "{path}");
        }
        assert!(Place::new("ftp://host/0.tar").unwrap_err().to_string().contains("there are paths, s3://"));
        #[cfg(not(feature = "stores"))]
        for address in ["s3://bucket/0.tar", "http://host/0.tar"] {
            let error = Place::new(address).unwrap_err().to_string();
            assert!(error.contains("build it with `--features stores`"), "{error}");
        }
    }
}
