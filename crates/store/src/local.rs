//! Files on a disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use tempfile::NamedTempFile;

use crate::place::{Seen, Source, Stat, Version};

/// What a file is called before it is whole, between a dot and its name, and random letters.
const PARTIAL: &str = ".partial-";

/// What there is, or nothing where there is none.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn known(metadata: &fs::Metadata) -> io::Result<Stat> {
    let age = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Stat { bytes: metadata.len(), modified: age, tag: age.as_nanos().to_le_bytes().to_vec() })
}

pub(crate) fn stat(path: &Path) -> io::Result<Option<Stat>> {
    found(fs::metadata(path))?.map(|metadata| known(&metadata)).transpose()
}

pub(crate) fn list(folder: &Path) -> io::Result<Vec<(String, Stat)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Through links; what has gone since, or leads nowhere, is not there.
        let metadata = found(fs::metadata(entry.path()))?.filter(|metadata| !metadata.is_dir());
        // Names that are no text can be given as paths only.
        if let (Some(metadata), Ok(name)) = (metadata, entry.file_name().into_string()) {
            files.push((name, known(&metadata)?));
        }
    }
    Ok(files)
}

pub(crate) fn open(path: &Path) -> io::Result<Source> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(Source::new(file, metadata.len())),
    }
}

pub(crate) fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Version)>> {
    Ok(found(fs::read(path))?.map(|bytes| (bytes.clone(), Version(Seen::Contents(bytes)))))
}

pub(crate) fn delete(path: &Path) -> io::Result<()> {
    found(fs::remove_file(path)).map(|_| ())
}

/// A file in which another is prepared. It has the usual permissions, not those for the owner alone.
pub(crate) fn draft(target: &Path, drafts: Option<&Path>) -> io::Result<NamedTempFile<File>> {
    tempfile::Builder::new().prefix(&prefix(target)).make_in(drafts.unwrap_or(folder_of(target)), |path| {
        File::options().write(true).create_new(true).open(path)
    })
}

/// Puts a small file that need not outlive a loss of power, if there is none.
pub(crate) fn put_new(target: &Path, drafts: Option<&Path>, bytes: &[u8]) -> io::Result<bool> {
    let mut file = draft(target, drafts)?;
    file.write_all(bytes)?;
    match file.persist_noclobber(target) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}

/// The same in place of what is there.
pub(crate) fn replace(target: &Path, drafts: Option<&Path>, bytes: &[u8]) -> io::Result<()> {
    let mut file = draft(target, drafts)?;
    file.write_all(bytes)?;
    file.persist(target).map(|_| ()).map_err(|error| error.error)
}

/// A file that is gone when it is closed.
#[cfg(feature = "stores")]
pub(crate) fn nameless() -> io::Result<File> {
    tempfile::tempfile().map_err(|error| {
        let folder = std::env::temp_dir();
        io::Error::new(
            error.kind(),
            format!("no temporary file in {} (TMPDIR names another folder): {error}", folder.display()),
        )
    })
}

pub(crate) fn remove_drafts(target: &Path, drafts: Option<&Path>) -> io::Result<()> {
    let prefix = prefix(target);
    for entry in fs::read_dir(drafts.unwrap_or(folder_of(target)))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found(fs::remove_file(entry.path()))?;
        }
    }
    Ok(())
}

/// Brings a name to the disk.
pub(crate) fn sync_folder(file: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file.
    match cfg!(unix) {
        true => File::open(folder_of(file))?.sync_all(),
        false => Ok(()),
    }
}

fn prefix(target: &Path) -> String {
    format!(".{}{PARTIAL}", target.file_name().unwrap_or_default().to_string_lossy())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
