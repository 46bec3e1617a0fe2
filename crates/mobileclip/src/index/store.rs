//! The index as a store: opening, the lock, commits, compaction, repair.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::disk::{Disk, RealDisk, publish, temporary};
use super::error::{Error, Result, io_error};
use super::note::{ModelNote, NOTE, Note, SegmentNote, segment_file, segment_number};
use super::segment::{Row, SEGMENT_ROWS, State, encode, read};
use super::walk::Stamp;

const LOCK: &str = "lock";
/// So many segments that are not full are merged. An index of a hundred thousand photos comes from 200 commits; one that
/// lives on gets one at each run that finds something.
const LOOSE_SEGMENTS_MAX: usize = 16;

/// What the index knows of a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub stamp: Stamp,
    /// Why the photo has no embedding, if it has none.
    pub failed: Option<String>,
    /// Which segment holds the row that counts: its number.
    segment: u64,
}

/// An index that is open for writing. It is locked against other writers until it is dropped; readers do not mind it.
pub struct Index {
    dir: PathBuf,
    note: Note,
    pub(crate) entries: BTreeMap<String, Entry>,
    disk: Box<dyn Disk>,
    /// Locked while it is open. The lock ends with the process, however that ends.
    _lock: File,
}

impl Index {
    /// Opens the index in `dir`; makes a new one if `dir` does not exist or is empty.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if the index was made with another model, [`Error::NotEmpty`] if `dir` holds something else,
    /// [`Error::Locked`] if another process writes it, and what [`Index::open`] may say.
    pub fn open_or_create(dir: impl Into<PathBuf>, model: &ModelNote) -> Result<Self> {
        Self::open_with(dir.into(), Some(model), Box::new(RealDisk))
    }

    /// Opens the index in `dir`.
    ///
    /// # Errors
    /// [`Error::NotAnIndex`], [`Error::Locked`], [`Error::Note`], [`Error::Version`], [`Error::Segment`] or [`Error::Io`].
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(dir.into(), None, Box::new(RealDisk))
    }

    /// Opens an index and takes the damaged segments out of it, whose files are named. What they held is embedded again
    /// by the next [`Index::update`] of its folders.
    ///
    /// # Errors
    /// As [`Index::open`], without [`Error::Segment`].
    pub fn repair(dir: impl Into<PathBuf>) -> Result<(Self, Vec<PathBuf>)> {
        let dir = dir.into();
        // Before the lock, which is a file that must not be left in a folder of something else.
        Note::read(&dir)?;
        let lock = lock(&dir)?;
        let mut note = Note::read(&dir)?;
        let mut damaged = Vec::new();
        // A row that a lost one had replaced counts again. Its stamp is not the photo's, so the photo is looked at again.
        let mut kept = Vec::new();
        for segment in note.segments {
            match read(&dir, &segment, note.model.dimension) {
                Ok(_) => kept.push(segment),
                Err(Error::Segment { path, .. }) => damaged.push(path),
                Err(error) => return Err(error),
            }
        }
        note.segments = kept;
        if !damaged.is_empty() {
            note.write(&RealDisk, &dir)?;
        }
        Ok((Self::from_note(dir, note, Box::new(RealDisk), lock)?, damaged))
    }

    pub(crate) fn open_with(dir: PathBuf, create: Option<&ModelNote>, disk: Box<dyn Disk>) -> Result<Self> {
        if create.is_some() {
            let is_empty = match fs::read_dir(&dir) {
                Ok(entries) => entries
                    .map(|entry| entry.map(|e| e.file_name()))
                    .all(|name| name.is_ok_and(|n| is_ours(&n))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    fs::create_dir_all(&dir).map_err(io_error(&dir))?;
                    true
                }
                Err(source) => return Err(Error::Io { path: dir, source }),
            };
            if !is_empty && !dir.join(NOTE).exists() {
                return Err(Error::NotEmpty { dir });
            }
        } else {
            // Before the lock, which is a file that must not be left in a folder of something else.
            Note::read(&dir)?;
        }
        let lock = lock(&dir)?;
        let note = match (Note::read(&dir), create) {
            (Err(Error::NotAnIndex { .. }), Some(model)) => {
                let note = Note::new(model);
                note.write(&*disk, &dir)?;
                note
            }
            (note, _) => note?,
        };
        if let Some(given) = create {
            check_model(&dir, &note.model, given)?;
        }
        Self::from_note(dir, note, disk, lock)
    }

    fn from_note(dir: PathBuf, note: Note, disk: Box<dyn Disk>, lock: File) -> Result<Self> {
        let mut index = Self { dir, note, entries: BTreeMap::new(), disk, _lock: lock };
        for segment in &index.note.segments {
            let number = segment_number(&segment.file).unwrap_or(0);
            let rows = read(&index.dir, segment, index.note.model.dimension)?;
            apply(&mut index.entries, rows.iter(), number);
        }
        index.remove_strays();
        Ok(index)
    }

    /// Which model's embeddings the index holds.
    pub fn model(&self) -> &ModelNote {
        &self.note.model
    }

    /// The index's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many photos have an embedding in it.
    pub fn photos(&self) -> usize {
        self.entries.values().filter(|entry| entry.failed.is_none()).count()
    }

    pub(crate) fn check_model(&self, given: &ModelNote) -> Result<()> {
        check_model(&self.dir, &self.note.model, given)
    }

    /// Makes rows part of the index. Up to [`SEGMENT_ROWS`] of them are one commit: all or none are in it.
    pub(crate) fn commit(&mut self, rows: &[Row]) -> Result<()> {
        for rows in rows.chunks(SEGMENT_ROWS) {
            let mut note = self.note.clone();
            let segment = self.write_segment(&mut note, rows)?;
            let number = segment_number(&segment.file).unwrap_or(0);
            note.segments.push(segment);
            note.write(&*self.disk, &self.dir)?;
            self.note = note;
            apply(&mut self.entries, rows.iter(), number);
        }
        Ok(())
    }

    fn write_segment(&self, note: &mut Note, rows: &[Row]) -> Result<SegmentNote> {
        let file = segment_file(note.next_segment);
        note.next_segment += 1;
        let path = self.dir.join(&file);
        let bytes = encode(rows, &note.model)
            .map_err(|e| Error::Encode { path: path.clone(), reason: e.to_string() })?;
        publish(&*self.disk, &path, &bytes).map_err(io_error(&path))?;
        Ok(SegmentNote { file, rows: rows.len(), bytes: bytes.len() as u64, crc32: crc32fast::hash(&bytes) })
    }

    /// Merges what is loose or mostly dead, if there is enough of it to be worth the writing.
    ///
    /// Full segments whose rows all count stay as they are. They hold no path twice and no path that is gone, so the others
    /// can be written anew without rows that say that something is gone.
    pub(crate) fn compact(&mut self) -> Result<()> {
        let mut live_rows: BTreeMap<u64, usize> = BTreeMap::new();
        for entry in self.entries.values() {
            *live_rows.entry(entry.segment).or_default() += 1;
        }
        let live = |segment: &SegmentNote| {
            segment_number(&segment.file).and_then(|number| live_rows.get(&number)).copied().unwrap_or(0)
        };
        let is_full =
            |segment: &SegmentNote| live(segment) == segment.rows && segment.rows >= SEGMENT_ROWS / 2;
        let rows: usize = self.note.segments.iter().map(|segment| segment.rows).sum();
        let dead_rows = rows - self.entries.len();
        let (kept, loose): (Vec<_>, Vec<_>) = self.note.segments.iter().cloned().partition(is_full);
        if loose.len() <= LOOSE_SEGMENTS_MAX && 4 * dead_rows <= rows {
            return Ok(());
        }

        let mut note = self.note.clone();
        note.segments = kept;
        let mut entries = self.entries.clone();
        let mut pending: Vec<Row> = Vec::new();
        let mut flush = |note: &mut Note, pending: &[Row]| -> Result<()> {
            let segment = self.write_segment(note, pending)?;
            apply(&mut entries, pending.iter(), segment_number(&segment.file).unwrap_or(0));
            note.segments.push(segment);
            Ok(())
        };
        for segment in &loose {
            let number = segment_number(&segment.file);
            let rows = read(&self.dir, segment, self.note.model.dimension)?;
            let counts =
                |row: &Row| self.entries.get(&row.path).is_some_and(|entry| Some(entry.segment) == number);
            pending.extend(rows.into_iter().filter(|row| row.state != State::Removed && counts(row)));
            while pending.len() >= SEGMENT_ROWS {
                let rest = pending.split_off(SEGMENT_ROWS);
                flush(&mut note, &pending)?;
                pending = rest;
            }
        }
        if !pending.is_empty() {
            flush(&mut note, &pending)?;
        }
        note.write(&*self.disk, &self.dir)?;
        (self.note, self.entries) = (note, entries);
        self.remove_strays();
        Ok(())
    }

    /// Removes what a process that died, or a compaction, left behind. Only files with our names; a failure does no harm,
    /// since what the note does not name does not count.
    fn remove_strays(&self) {
        let named: HashSet<&str> = self.note.segments.iter().map(|segment| segment.file.as_str()).collect();
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let is_temporary = is_temporary(name);
            if is_temporary || (segment_number(name).is_some() && !named.contains(name)) {
                let _ = self.disk.remove(&self.dir.join(name));
            }
        }
    }
}

fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|name| name == NOTE || segment_number(name).is_some())
}

/// Whether a file may lie in the folder of an index whose first commit never happened.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    name == LOCK || name == temporary(Path::new(NOTE)).as_os_str()
}

pub(crate) fn check_model(dir: &Path, index: &ModelNote, given: &ModelNote) -> Result<()> {
    if index.is_same_space(given) {
        return Ok(());
    }
    Err(Error::OtherModel { dir: dir.into(), index: Box::new(index.clone()), given: Box::new(given.clone()) })
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { path, source }),
    }
}

/// Lets the rows of a segment replace what older ones said of their paths.
fn apply<'a>(entries: &mut BTreeMap<String, Entry>, rows: impl Iterator<Item = &'a Row>, segment: u64) {
    for row in rows {
        let failed = match &row.state {
            State::Removed => {
                entries.remove(&row.path);
                continue;
            }
            State::Failed(reason) => Some(reason.clone()),
            State::Embedded(_) => None,
        };
        entries.insert(row.path.clone(), Entry { stamp: row.stamp, failed, segment });
    }
}
