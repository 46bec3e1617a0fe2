//! The formats of finished tables.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde::Serialize;

use super::spool::Spool;
use super::{Error, Result, TableSpec, io_error};
use crate::index::{Disk, RealDisk};

/// 16 MiB in a row group at 512 numbers.
const GROUP_ROWS: usize = 8192;

/// A file format for embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// NumPy: f32, little endian, [rows, dimension]. Without the inputs.
    Npy,
    /// One JSON object a line: `{"path": …, "embedding": […]}`, or `text` for `path`.
    Jsonl,
    /// Columns `path` or `text` (string) and `embedding` (list of f32).
    Parquet,
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`Error::UnknownFormat`].
    pub fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => Ok(Self::Npy),
            Some("jsonl") => Ok(Self::Jsonl),
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::UnknownFormat { path: path.into() }),
        }
    }
}

/// Writes the rows (name, number in the spool) to `out`, which appears under its name when it is whole.
pub(super) fn write(
    out: &Path,
    format: Format,
    spec: &TableSpec,
    rows: &[(&str, u64)],
    spool: &mut Spool,
) -> Result<()> {
    let temporary = {
        let mut name = out.as_os_str().to_owned();
        name.push(".tmp");
        PathBuf::from(name)
    };
    let written = write_to(&temporary, format, spec, rows, spool).and_then(|()| {
        RealDisk.sync(&temporary).map_err(io_error(&temporary))?;
        RealDisk.rename(&temporary, out).map_err(io_error(out))?;
        let dir = out.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        RealDisk.sync_dir(dir).map_err(io_error(dir))
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_to(
    path: &Path,
    format: Format,
    spec: &TableSpec,
    rows: &[(&str, u64)],
    spool: &mut Spool,
) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).map_err(io_error(path))?);
    match format {
        Format::Npy => {
            file.write_all(&npy_header(rows.len(), spec.model.dimension)).map_err(io_error(path))?;
            for_each_row(rows, spec, spool, |_, bytes| file.write_all(bytes).map_err(io_error(path)))?;
        }
        Format::Jsonl => for_each_row(rows, spec, spool, |name, bytes| {
            let line = serde_json::to_vec(&line(spec, name, numbers(bytes)))
                .map_err(|e| io_error(path)(e.into()))?;
            file.write_all(&line).and_then(|()| file.write_all(b"\n")).map_err(io_error(path))
        })?,
        Format::Parquet => write_parquet(&mut file, path, spec, rows, spool)?,
    }
    file.flush().map_err(io_error(path))
}

fn for_each_row(
    rows: &[(&str, u64)],
    spec: &TableSpec,
    spool: &mut Spool,
    mut f: impl FnMut(&str, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut bytes = vec![0; 4 * spec.model.dimension];
    for (name, number) in rows {
        spool.read(*number, &mut bytes)?;
        f(name, &bytes)?;
    }
    Ok(())
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|&number| f32::from_le_bytes(number))
}

/// Format 1.0 of <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>: the numbers begin at a multiple
/// of 64.
fn npy_header(rows: usize, dimension: usize) -> Vec<u8> {
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    // 10 bytes before the dictionary, a line's end after it. Two numbers of at most 20 digits keep it at 128.
    let padding = 128 - 10 - 1 - dictionary.len();
    let mut header = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    header.extend_from_slice(dictionary.as_bytes());
    header.resize(header.len() + padding, b' ');
    header.push(b'\n');
    header
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    embedding: Vec<f32>,
}

fn line<'a>(spec: &TableSpec, name: &'a str, embedding: impl Iterator<Item = f32>) -> Line<'a> {
    let (path, text) = match spec.column {
        super::Column::Path => (Some(name), None),
        super::Column::Text => (None, Some(name)),
    };
    Line { path, text, embedding: embedding.collect() }
}

fn write_parquet(
    file: &mut BufWriter<File>,
    path: &Path,
    spec: &TableSpec,
    rows: &[(&str, u64)],
    spool: &mut Spool,
) -> Result<()> {
    let refuse = |source: ParquetError| Error::Parquet { path: path.into(), source };
    // The three levels that the format's specification asks of lists.
    let schema = parse_message_type(&format!(
        "message embeddings {{
            required binary {} (UTF8);
            required group embedding (LIST) {{ repeated group list {{ required float element; }} }}
        }}",
        spec.column.name()
    ))
    .map_err(refuse)?;
    let meta = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(value.to_owned()) };
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![
            meta("mobileclip.model", &spec.model.name),
            meta("mobileclip.fingerprint", &spec.model.fingerprint),
            meta("mobileclip.normalised", if spec.is_normalised { "true" } else { "false" }),
        ]))
        .build();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(refuse)?;
    let dimension = spec.model.dimension;
    for rows in rows.chunks(GROUP_ROWS) {
        let names: Vec<ByteArray> = rows.iter().map(|(name, _)| ByteArray::from(*name)).collect();
        let mut values = Vec::with_capacity(rows.len() * dimension);
        for_each_row(rows, spec, spool, |_, bytes| {
            values.extend(numbers(bytes));
            Ok(())
        })?;
        // Every number is there; the first of each list begins a record.
        let defined = vec![1; values.len()];
        let repeated: Vec<i16> = (0..values.len()).map(|i| i16::from(i % dimension != 0)).collect();
        let write = |group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, _>| {
            let missing =
                || ParquetError::General("the schema has fewer columns than are written".to_owned());
            let mut column = group.next_column()?.ok_or_else(missing)?;
            column.typed::<ByteArrayType>().write_batch(&names, None, None)?;
            column.close()?;
            let mut column = group.next_column()?.ok_or_else(missing)?;
            column.typed::<FloatType>().write_batch(&values, Some(&defined), Some(&repeated))?;
            column.close()
        };
        let mut group = writer.next_row_group().map_err(refuse)?;
        write(&mut group).and_then(|()| group.close()).map_err(refuse)?;
    }
    writer.close().map_err(refuse)?;
    Ok(())
}
