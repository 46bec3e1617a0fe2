//! Segments: immutable Parquet files of rows.
//!
//! Columns: `path` (UTF-8), `size` (bytes), `modified` (ns since 1970, UTC), `embedding` (f16 little endian in a fixed-size
//! binary, null if there is none) and `error` (why a photo has no embedding). A row without embedding and without error says
//! that its photo is gone.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::basic::Encoding;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, Type};

use super::error::{Error, Result, io_error};
use super::note::{ModelNote, SegmentNote};
use super::walk::Stamp;

/// The most rows of one segment: what compaction writes, and what bounds the memory that reading one takes.
pub(crate) const SEGMENT_ROWS: usize = 16_384;

/// What a row says of its path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// The bytes of the embedding, as stored.
    Embedded(Bytes),
    /// Why the photo has no embedding. Remembered so that it is not tried again before it changes.
    Failed(String),
    /// The photo is gone.
    Removed,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub path: String,
    pub stamp: Stamp,
    pub state: State,
}

/// The stored form of an embedding.
pub(crate) fn embedding_bytes(embedding: &[f32]) -> Bytes {
    embedding.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
}

/// Appends a stored embedding's numbers.
pub(crate) fn push_embedding(numbers: &mut Vec<f16>, bytes: &[u8]) {
    numbers.extend(bytes.as_chunks::<2>().0.iter().map(|&pair| f16::from_le_bytes(pair)));
}

/// A file of these rows.
pub(crate) fn encode(rows: &[Row], model: &ModelNote) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(schema(model.dimension)?);
    let meta = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: Some(value.to_owned()) };
    let properties = WriterProperties::builder()
        // Nothing repeats but the beginnings of paths; dictionaries would only be tried and given up.
        .set_dictionary_enabled(false)
        .set_column_encoding(ColumnPath::from("path"), Encoding::DELTA_BYTE_ARRAY)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(vec![
            meta("mobileclip.model", &model.name),
            meta("mobileclip.fingerprint", &model.fingerprint),
            meta("mobileclip.embedding", "float16 little endian, L2-normalised"),
        ]))
        .build();
    let mut file = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;

    let paths: Vec<ByteArray> = rows.iter().map(|row| row.path.as_str().into()).collect();
    let sizes: Vec<i64> = rows.iter().map(|row| i64::try_from(row.stamp.size).unwrap_or(i64::MAX)).collect();
    let modified: Vec<i64> = rows.iter().map(|row| row.stamp.modified_ns).collect();
    let (mut embeddings, mut has_embedding, mut errors, mut has_error) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (embedding, error) = match &row.state {
            State::Embedded(bytes) => (Some(FixedLenByteArray::from(ByteArray::from(bytes.clone()))), None),
            State::Failed(reason) => (None, Some(ByteArray::from(reason.as_str()))),
            State::Removed => (None, None),
        };
        has_embedding.push(i16::from(embedding.is_some()));
        embeddings.extend(embedding);
        has_error.push(i16::from(error.is_some()));
        errors.extend(error);
    }
    column::<ByteArrayType, _>(&mut group, &paths, None)?;
    column::<Int64Type, _>(&mut group, &sizes, None)?;
    column::<Int64Type, _>(&mut group, &modified, None)?;
    column::<FixedLenByteArrayType, _>(&mut group, &embeddings, Some(&has_embedding))?;
    column::<ByteArrayType, _>(&mut group, &errors, Some(&has_error))?;
    group.close()?;
    writer.close()?;
    Ok(file)
}

fn schema(dimension: usize) -> Result<Type, ParquetError> {
    parse_message_type(&format!(
        "message photos {{
            required binary path (UTF8);
            required int64 size;
            required int64 modified (TIMESTAMP(NANOS, true));
            optional fixed_len_byte_array({}) embedding;
            optional binary error (UTF8);
        }}",
        2 * dimension
    ))
}

fn column<T: DataType, W: io::Write + Send>(
    group: &mut parquet::file::writer::SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    defined: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("the schema has fewer columns than are written".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, defined, None)?;
    column.close()
}

/// Reads the rows of a segment of the index in `dir`, after its length and check sum have been found to be the note's.
pub(crate) fn read(dir: &Path, note: &SegmentNote, dimension: usize) -> Result<Vec<Row>> {
    let path = dir.join(&note.file);
    let damaged = |reason: String| Error::Segment { path: path.clone(), reason };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is missing".to_owned()));
        }
        opened => opened.map_err(io_error(&path))?,
    };
    let length = file.metadata().map_err(io_error(&path))?.len();
    if length != note.bytes {
        return Err(damaged(format!("it has {length} bytes, the index says {}", note.bytes)));
    }
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(io_error(&path))?;
    let found = crc32fast::hash(&bytes);
    if found != note.crc32 {
        return Err(damaged(format!("its check sum is {found:08x}, the index says {:08x}", note.crc32)));
    }
    decode(bytes.into(), note.rows, dimension).map_err(|error| damaged(error.to_string()))
}

/// The rows of a segment's bytes.
pub(crate) fn decode(bytes: Bytes, rows_expected: usize, dimension: usize) -> Result<Vec<Row>, ParquetError> {
    // The Parquet crate asserts some of what files claim (60.1: that a column's place is not negative). Only a file that was
    // forged together with its check sum comes that far.
    catch_unwind(AssertUnwindSafe(|| decode_trusting(bytes, rows_expected, dimension)))
        .unwrap_or_else(|_| Err(ParquetError::General("it claims what no Parquet file can".to_owned())))
}

fn decode_trusting(bytes: Bytes, rows_expected: usize, dimension: usize) -> Result<Vec<Row>, ParquetError> {
    let reader = SerializedFileReader::new(bytes)?;
    let (found, expected) =
        (reader.metadata().file_metadata().schema_descr().root_schema().clone(), schema(dimension)?);
    if found != expected {
        return Err(ParquetError::General(format!(
            "its columns are not those of an index with {dimension} numbers in an embedding: {found:?}"
        )));
    }
    let rows_found = reader.metadata().file_metadata().num_rows();
    if usize::try_from(rows_found).ok() != Some(rows_expected) {
        return Err(ParquetError::General(format!(
            "it has {rows_found} rows, the index says {rows_expected}"
        )));
    }
    let mut rows = Vec::new();
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number)?;
        let count = usize::try_from(group.metadata().num_rows()).unwrap_or(usize::MAX);
        // Row groups claim their rows one by one: their sum is held to the number that is known to be right.
        if count > rows_expected - rows.len() {
            return Err(ParquetError::General("its row groups have more rows than the file".to_owned()));
        }
        let paths = match group.get_column_reader(0)? {
            ColumnReader::ByteArrayColumnReader(column) => values(column, count)?,
            _ => return Err(wrong_type("path")),
        };
        let sizes = match group.get_column_reader(1)? {
            ColumnReader::Int64ColumnReader(column) => values(column, count)?,
            _ => return Err(wrong_type("size")),
        };
        let modified = match group.get_column_reader(2)? {
            ColumnReader::Int64ColumnReader(column) => values(column, count)?,
            _ => return Err(wrong_type("modified")),
        };
        let embeddings = match group.get_column_reader(3)? {
            ColumnReader::FixedLenByteArrayColumnReader(column) => optional_values(column, count)?,
            _ => return Err(wrong_type("embedding")),
        };
        let errors = match group.get_column_reader(4)? {
            ColumnReader::ByteArrayColumnReader(column) => optional_values(column, count)?,
            _ => return Err(wrong_type("error")),
        };
        for ((((path, size), modified_ns), embedding), error) in
            paths.iter().zip(sizes).zip(modified).zip(embeddings).zip(errors)
        {
            let path = path.as_utf8()?.to_owned();
            let state = match (embedding, error) {
                (Some(embedding), _) => State::Embedded(usable(embedding, dimension, &path)?),
                (None, Some(error)) => State::Failed(error.as_utf8()?.to_owned()),
                (None, None) => State::Removed,
            };
            rows.push(Row {
                path,
                stamp: Stamp { size: u64::try_from(size).unwrap_or(0), modified_ns },
                state,
            });
        }
    }
    if rows.len() != rows_expected {
        return Err(ParquetError::General(format!("it ends after {} of {rows_expected} rows", rows.len())));
    }
    Ok(rows)
}

fn wrong_type(name: &str) -> ParquetError {
    ParquetError::General(format!("column `{name}` has another type"))
}

fn usable(embedding: FixedLenByteArray, dimension: usize, path: &str) -> Result<Bytes, ParquetError> {
    let bytes = Bytes::copy_from_slice(embedding.data());
    let mut numbers = Vec::with_capacity(dimension);
    push_embedding(&mut numbers, &bytes);
    if numbers.len() != dimension || !numbers.to_f32_vec().iter().all(|x| x.is_finite()) {
        return Err(ParquetError::General(format!(
            "the embedding of `{path}` is not {dimension} finite numbers"
        )));
    }
    Ok(bytes)
}

/// The values of a required column.
fn values<T: DataType>(mut column: ColumnReaderImpl<T>, count: usize) -> Result<Vec<T::T>, ParquetError> {
    let mut values = Vec::new();
    while values.len() < count {
        let (records, _, _) = column.read_records(count - values.len(), None, None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::General("a column is shorter than its row group".to_owned()));
        }
    }
    Ok(values)
}

/// The values of an optional column, `None` where there is none.
fn optional_values<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    count: usize,
) -> Result<Vec<Option<T::T>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    while levels.len() < count {
        let (records, _, _) =
            column.read_records(count - levels.len(), Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(ParquetError::General("a column is shorter than its row group".to_owned()));
        }
    }
    let mut values = values.into_iter();
    Ok(levels.into_iter().map(|level: i16| if level == 1 { values.next() } else { None }).collect())
}
