//! `index.json`: the model of an index and the segments that count, replaced as a whole by each commit.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, publish};
use super::error::{Error, Result, io_error};
use super::segment::SEGMENT_ROWS;

/// The note's file name.
pub(crate) const NOTE: &str = "index.json";
const FORMAT: &str = "mobileclip index";
const VERSION: u64 = 1;
/// A segment's line is some 110 bytes, so this is far above any index; a hostile file must not fill the memory.
const NOTE_BYTES_MAX: u64 = 64 << 20;
/// Above any model's width; bounds what a forged note can make us allocate.
const DIMENSION_MAX: usize = 1 << 16;

/// Which model made some embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNote {
    /// For people: `MobileCLIP2-S0`.
    pub name: String,
    /// Changes whenever an embedding could: weights, preprocessing, orientation of photos. Compared, never read.
    pub fingerprint: String,
    /// How many numbers an embedding has.
    pub dimension: usize,
}

impl ModelNote {
    /// Whether embeddings of both may be compared. Names may differ: a model may be known by its path or by its name.
    pub fn is_same_space(&self, other: &ModelNote) -> bool {
        self.fingerprint == other.fingerprint && self.dimension == other.dimension
    }
}

impl fmt::Display for ModelNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.fingerprint.chars().take(16).collect();
        write!(f, "{} (fingerprint {short}, {} numbers)", self.name, self.dimension)
    }
}

/// A segment as the note knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentNote {
    pub file: String,
    pub rows: usize,
    pub bytes: u64,
    pub crc32: u32,
}

/// The note. Segments are in the order of their commits: of two rows of one path, that of the later segment counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    format: String,
    version: u64,
    pub model: ModelNote,
    /// Numbers are never used twice, so a reader with an older note cannot meet another segment under a name it knows.
    pub next_segment: u64,
    pub segments: Vec<SegmentNote>,
}

impl Note {
    /// The note of an empty index.
    pub fn new(model: &ModelNote) -> Self {
        let (format, model) = (FORMAT.to_owned(), model.clone());
        Self { format, version: VERSION, model, next_segment: 1, segments: Vec::new() }
    }

    /// Reads the note of the index in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(NOTE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NotAnIndex { dir: dir.into() });
            }
            opened => opened.map_err(io_error(&path))?,
        };
        let mut text = Vec::new();
        file.take(NOTE_BYTES_MAX + 1).read_to_end(&mut text).map_err(io_error(&path))?;
        let refuse = |reason: String| Error::Note { path: path.clone(), reason };
        if text.len() as u64 > NOTE_BYTES_MAX {
            return Err(refuse(format!("it has more than {NOTE_BYTES_MAX} bytes")));
        }
        // The version first: a newer note may have other fields, and then that is what to say.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
        }
        let head: Head = serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
        if head.format != FORMAT {
            return Err(refuse(format!("its format is `{}`, not `{FORMAT}`", head.format)));
        }
        if head.version != VERSION {
            return Err(Error::Version { path, found: head.version, known: VERSION });
        }
        let note: Note = serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
        if note.model.dimension == 0 || note.model.dimension > DIMENSION_MAX {
            return Err(refuse(format!("its embeddings have {} numbers", note.model.dimension)));
        }
        for segment in &note.segments {
            let is_ours = segment_number(&segment.file).is_some_and(|number| number < note.next_segment);
            if !is_ours || segment.rows > SEGMENT_ROWS {
                return Err(refuse(format!(
                    "`{}` with {} rows cannot be a segment of it",
                    segment.file, segment.rows
                )));
            }
        }
        Ok(note)
    }

    /// Replaces the note: the instant at which a commit happens.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        let path = dir.join(NOTE);
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Encode { path: path.clone(), reason: e.to_string() })?;
        text.push(b'\n');
        publish(disk, &path, &text).map_err(io_error(&path))
    }
}

/// The file of segment `number`.
pub(crate) fn segment_file(number: u64) -> String {
    format!("segment-{number:06}.parquet")
}

/// The number of a segment's file; `None` for any other name, such as one that leads out of the folder.
pub(crate) fn segment_number(file: &str) -> Option<u64> {
    let number = file.strip_prefix("segment-")?.strip_suffix(".parquet")?.parse().ok()?;
    (segment_file(number) == file).then_some(number)
}
