//! The rows of an unfinished table, and the journal of whose they are.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Input, Result, TableSpec, io_error};

const FORMAT: &str = "mobileclip journal of embeddings, version 1";

/// The first line of a journal. Each other line is an [`Input`], in the order of the rows.
#[derive(Serialize, Deserialize)]
struct Head {
    format: String,
    #[serde(flatten)]
    spec: TableSpec,
}

pub(super) struct Spool {
    partial_path: PathBuf,
    partial: BufReader<File>,
    journal_path: PathBuf,
    /// Locked while it is open.
    journal: File,
    rows: HashMap<Input, u64>,
    row_bytes: u64,
    /// How many rows `partial` holds; more than `rows` if an input came twice.
    count: u64,
}

impl Spool {
    pub fn open(out: &Path, spec: &TableSpec, is_resuming: bool) -> Result<Self> {
        let (partial_path, journal_path) = (beside(out, ".partial"), beside(out, ".journal"));
        let open = |path: &Path| {
            let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
            opened.map_err(io_error(path))
        };
        let journal = open(&journal_path)?;
        match journal.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: out.into() }),
            Err(TryLockError::Error(source)) => return Err(Error::Io { path: journal_path, source }),
        }
        let mut spool = Self {
            partial: BufReader::new(open(&partial_path)?),
            partial_path,
            journal_path,
            journal,
            rows: HashMap::new(),
            row_bytes: 4 * spec.model.dimension as u64,
            count: 0,
        };
        let journal_bytes = if is_resuming { spool.recover(spec)? } else { 0 };
        spool.journal.set_len(journal_bytes).map_err(io_error(&spool.journal_path))?;
        let partial_bytes = spool.count * spool.row_bytes;
        spool.partial.get_ref().set_len(partial_bytes).map_err(io_error(&spool.partial_path))?;
        if journal_bytes == 0 {
            let head = Head { format: FORMAT.to_owned(), spec: spec.clone() };
            spool.write_journal(std::slice::from_ref(&head))?;
        }
        Ok(spool)
    }

    /// Takes over what is whole of an earlier run: its rows. How many bytes of the journal are.
    fn recover(&mut self, spec: &TableSpec) -> Result<u64> {
        let partial_bytes = self.partial.get_ref().metadata().map_err(io_error(&self.partial_path))?.len();
        let mut lines = BufReader::new(&self.journal);
        let mut line = Vec::new();
        let mut whole = 0;
        loop {
            line.clear();
            lines.read_until(b'\n', &mut line).map_err(io_error(&self.journal_path))?;
            if line.last() != Some(&b'\n') {
                // The end, or a line that was cut by the run's death.
                return Ok(whole);
            }
            if whole == 0 {
                let head: Head =
                    serde_json::from_slice(&line).map_err(|e| self.not_a_journal(e.to_string()))?;
                if head.format != FORMAT {
                    return Err(self.not_a_journal(format!("its format is `{}`", head.format)));
                }
                if head.spec != *spec {
                    return Err(Error::OtherRun {
                        path: self.journal_path.clone(),
                        found: Box::new(head.spec),
                        given: Box::new(spec.clone()),
                    });
                }
            } else {
                // Rows are made durable before their lines. Should a file system have kept neither promise, what comes
                // after the first doubtful row is computed again.
                let Ok(input) = serde_json::from_slice(&line) else { return Ok(whole) };
                if (self.count + 1) * self.row_bytes > partial_bytes {
                    return Ok(whole);
                }
                self.rows.insert(input, self.count);
                self.count += 1;
            }
            whole += line.len() as u64;
        }
    }

    fn not_a_journal(&self, reason: String) -> Error {
        Error::Journal { path: self.journal_path.clone(), reason }
    }

    /// The number of the input's row.
    pub fn row(&self, input: &Input) -> Option<u64> {
        self.rows.get(input).copied()
    }

    /// Appends rows of the right length.
    pub fn append(&mut self, rows: &[(Input, Vec<f32>)]) -> Result<()> {
        let bytes: Vec<u8> = rows.iter().flat_map(|(_, row)| row).flat_map(|x| x.to_le_bytes()).collect();
        let file = self.partial.get_mut();
        // A row whose append failed halfway is written over.
        file.seek(SeekFrom::Start(self.count * self.row_bytes))
            .and_then(|_| file.write_all(&bytes))
            .and_then(|()| file.sync_data())
            .map_err(io_error(&self.partial_path))?;
        let inputs: Vec<&Input> = rows.iter().map(|(input, _)| input).collect();
        self.write_journal(&inputs)?;
        for input in inputs {
            self.rows.insert(input.clone(), self.count);
            self.count += 1;
        }
        Ok(())
    }

    fn write_journal<T: Serialize>(&mut self, lines: &[T]) -> Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|e| self.not_a_journal(e.to_string()))?;
            text.push(b'\n');
        }
        let journal = &mut self.journal;
        let end = journal.seek(SeekFrom::End(0)).map_err(io_error(&self.journal_path))?;
        journal.write_all(&text).and_then(|()| journal.sync_data()).map_err(|source| {
            // Half a line would spoil those that follow it.
            let _ = journal.set_len(end);
            Error::Io { path: self.journal_path.clone(), source }
        })
    }

    /// Reads the bytes of row `number`.
    pub fn read(&mut self, number: u64, row: &mut [u8]) -> Result<()> {
        let to = i64::try_from(number * self.row_bytes).unwrap_or(i64::MAX);
        let mut read = |partial: &mut BufReader<File>| {
            // Rows are mostly read in their order; moving relatively then keeps what is buffered.
            let at = i64::try_from(partial.stream_position()?).unwrap_or(i64::MAX);
            partial.seek_relative(to - at)?;
            partial.read_exact(row)
        };
        read(&mut self.partial).map_err(io_error(&self.partial_path))
    }

    /// Removes both files.
    pub fn discard(self) -> Result<()> {
        let Self { partial_path, partial, journal_path, journal, .. } = self;
        // Rows without journal are nothing; a journal without rows neither. Closed first, as Windows demands.
        drop((partial, journal));
        fs::remove_file(&journal_path).map_err(io_error(&journal_path))?;
        fs::remove_file(&partial_path).map_err(io_error(&partial_path))
    }
}

fn beside(out: &Path, suffix: &str) -> PathBuf {
    let mut name = out.file_name().unwrap_or(OsStr::new("")).to_owned();
    name.push(suffix);
    out.with_file_name(name)
}
