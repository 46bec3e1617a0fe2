//! Scalars in TensorBoard's event files: records of protocol buffers (`tensorflow.Event`), each framed by its length and by masked
//! CRC-32C checksums of length and content.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mobileclip_shards::masked_crc32c;

use crate::error::{Error, Result};

/// An event file that scalars are added to.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a file for a run that goes on after `step`: what earlier files of the folder say of later steps does not count any
    /// more.
    pub(crate) fn begin(folder: &Path, step: u64) -> Result<Events> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
        // Files are read in the order of their names.
        let path =
            folder.join(format!("events.out.tfevents.{:010}.mobileclip.{step:012}", now().max(0.0) as u64));
        let file = File::create(&path).map_err(Error::io(&path))?;
        let mut events = Events { path, file };
        events.add(&string(FILE_VERSION, b"brain.Event:2"), 0)?;
        events.add(&string(SESSION_LOG, &varint_field(STATUS, SESSION_START)), step + 1)?;
        Ok(events)
    }

    /// Adds the scalars of a step.
    pub(crate) fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl Iterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let value = |(tag, value): (&str, f64)| {
            let content = [string(TAG, tag.as_bytes()), float(SIMPLE_VALUE, value as f32)].concat();
            string(VALUE, &content)
        };
        let summary: Vec<u8> = scalars.flat_map(value).collect();
        self.add(&string(SUMMARY, &summary), step)
    }

    /// Adds an event with this content.
    fn add(&mut self, content: &[u8], step: u64) -> Result<()> {
        let event = [&double(WALL_TIME, now())[..], &varint_field(STEP, step), content].concat();
        self.file.write_all(&record(&event)).map_err(Error::io(&self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

// Field numbers of `Event`, `Summary`, `Summary.Value` and `SessionLog`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
const VALUE: u64 = 1;
const TAG: u64 = 1;
const SIMPLE_VALUE: u64 = 2;
const STATUS: u64 = 1;

/// `SessionLog.START`.
const SESSION_START: u64 = 1;

/// A number in groups of seven bits, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn varint_field(field: u64, number: u64) -> Vec<u8> {
    [varint(field << 3), varint(number)].concat()
}

fn double(field: u64, number: f64) -> Vec<u8> {
    [&varint(field << 3 | 1)[..], &number.to_le_bytes()].concat()
}

fn float(field: u64, number: f32) -> Vec<u8> {
    [&varint(field << 3 | 5)[..], &number.to_le_bytes()].concat()
}

/// A text or a message.
fn string(field: u64, bytes: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
}

/// The frame of TFRecord files.
fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length[..], &masked_crc32c(&length).to_le_bytes(), content, &masked_crc32c(content).to_le_bytes()]
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The contents of a file's records.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some((header, rest)) = bytes.split_at_checked(12) {
            let length = u64::from_le_bytes(header[..8].try_into().unwrap()) as usize;
            assert_eq!(header[8..], masked_crc32c(&header[..8]).to_le_bytes());
            let (content, rest) = rest.split_at(length);
            assert_eq!(rest[..4], masked_crc32c(content).to_le_bytes());
            found.push(content.to_vec());
            bytes = &rest[4..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn files_hold_events() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::begin(folder.path(), 300).unwrap();
        events.scalars(301, [("loss", 0.5), ("lr", 1e-3)].into_iter()).unwrap();
        let found = records(&std::fs::read(&events.path).unwrap());
        // Behind the time (9 bytes): step 0 and the version; step 301 and the start of a session; step 301 and two values.
        assert_eq!(found[0][9..], *b"\x10\x00\x1a\x0dbrain.Event:2");
        assert_eq!(found[1][9..], *b"\x10\xad\x02\x3a\x02\x08\x01");
        let [loss, lr] = [0.5f32, 1e-3].map(f32::to_le_bytes);
        let values = [b"\x0a\x0b\x0a\x04loss\x15", &loss[..], b"\x0a\x09\x0a\x02lr\x15", &lr[..]].concat();
        assert_eq!(found[2][9..14], *b"\x10\xad\x02\x2a\x18");
        assert_eq!(found[2][14..], values);
    }
}
