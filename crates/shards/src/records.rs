//! TFRecord: framed and check-summed records of `tf.train.Example`.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::crc32c::masked_crc32c;
use crate::error::{Fault, Result};
use crate::example::{self, Feature};
use crate::fields::Fields;
use crate::limits::Limits;
use crate::sample::Sample;
use crate::tar::unreadable;

/// Features that hold the picture's file: the published name, then TensorFlow's usual one.
const PICTURES: [&str; 2] = ["image", "image/encoded"];

/// The samples of a stream of records. A record whose contents are damaged is a fault in its place; where the framing is, the stream ends, for
/// nothing tells where the next record begins.
pub(crate) struct Records<R> {
    shard: Arc<Path>,
    reader: R,
    limits: Limits,
    records: usize,
    bytes: u64,
    is_done: bool,
}

impl<R: Read> Records<R> {
    pub(crate) fn new(shard: Arc<Path>, reader: R, limits: Limits) -> Self {
        Self { shard, reader, limits, records: 0, bytes: 0, is_done: false }
    }

    /// The contents of the next record; `None` at the end of the stream.
    fn record(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let head = self.read(12)?;
        let Ok(head) = <[u8; 12]>::try_from(head.as_slice()) else {
            return match head.is_empty() {
                true => Ok(None),
                false => Err(self.end("the file ends inside a record's length")),
            };
        };
        let [a, b, c, d, e, f, g, h, sum @ ..] = head;
        let length = [a, b, c, d, e, f, g, h];
        if masked_crc32c(&length) != u32::from_le_bytes(sum) {
            return Err(self.end("a record's length disagrees with its check sum"));
        }
        let (length, limit) = (u64::from_le_bytes(length), self.limits.sample_bytes);
        self.records += 1;
        if length > limit {
            let wanted = length.saturating_add(4);
            let passed = io::copy(&mut (&mut self.reader).take(wanted), &mut io::sink());
            match passed.map_err(|error| self.end(&unreadable(&error)))? {
                passed if passed < wanted => return Err(self.end("the file ends inside a record")),
                passed => self.bytes += passed,
            }
            let (key, what) = (self.key(), "the size of the record".to_owned());
            return Err(Fault::Limit { shard: self.shard.to_path_buf(), key, what, found: length, limit });
        }
        let contents = self.read(length)?;
        let sum = self.read(4)?;
        let Ok(sum) = <[u8; 4]>::try_from(sum.as_slice()) else {
            return Err(self.end("the file ends inside a record"));
        };
        match masked_crc32c(&contents) == u32::from_le_bytes(sum) {
            true => Ok(Some(contents)),
            false => Err(self.bad("its contents disagree with their check sum".to_owned())),
        }
    }

    /// So many bytes, or fewer at the end. Nothing is reserved on the word of a length alone.
    fn read(&mut self, bytes: u64) -> Result<Vec<u8>, Fault> {
        let mut read = Vec::new();
        let result = (&mut self.reader).take(bytes).read_to_end(&mut read);
        self.bytes += read.len() as u64;
        match result {
            Ok(_) => Ok(read),
            Err(error) => Err(self.end(&unreadable(&error))),
        }
    }

    /// What a record is called whose key is not known.
    fn key(&self) -> String {
        format!("record {}", self.records)
    }

    fn bad(&self, reason: String) -> Fault {
        let (shard, key) = (self.shard.to_path_buf(), self.key());
        Fault::Member { shard, key, member: "record".to_owned(), reason }
    }

    fn end(&mut self, reason: &str) -> Fault {
        self.is_done = true;
        let last = self.records.checked_sub(1).map(|_| self.key());
        Fault::Damaged {
            shard: self.shard.to_path_buf(),
            last,
            offset: self.bytes,
            reason: reason.to_owned(),
        }
    }

    fn sample(&self, contents: &[u8]) -> Result<Sample, Fault> {
        let features = example::read(contents).map_err(|reason| self.bad(reason))?;
        let (mut object, mut image) = (Map::new(), None);
        for (name, feature) in features {
            match feature {
                Feature::Bytes(files) if PICTURES.contains(&name) => {
                    // The published name counts, which comes first in the alphabet.
                    image = image.or_else(|| files.first().map(|file| file.to_vec()));
                }
                feature => _ = object.insert(name.to_owned(), value(feature)),
            }
        }
        Fields { object, image, number: self.records - 1 }.sample(&self.shard, &self.limits)
    }
}

/// One value is itself, several or none are a list. Bytes are text, or base64 where they are not UTF-8.
fn value(feature: Feature<'_>) -> Value {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => STANDARD.encode(bytes),
    };
    let mut values: Vec<Value> = match feature {
        Feature::Bytes(list) => list.into_iter().map(text).map(Value::from).collect(),
        Feature::Floats(list) => list.into_iter().map(Value::from).collect(),
        Feature::Integers(list) => list.into_iter().map(Value::from).collect(),
    };
    match values.len() {
        1 => values.pop().unwrap_or_default(),
        _ => values.into(),
    }
}

impl<R: Read> Iterator for Records<R> {
    type Item = Result<Sample, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        match self.record() {
            Err(fault) => Some(Err(fault)),
            Ok(Some(contents)) => Some(self.sample(&contents)),
            Ok(None) => {
                self.is_done = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(contents: &[u8]) -> Vec<u8> {
        let length = (contents.len() as u64).to_le_bytes();
        let sum = |bytes: &[u8]| masked_crc32c(bytes).to_le_bytes();
        [&length[..], &sum(&length), contents, &sum(contents)].concat()
    }

    fn read(bytes: &[u8]) -> Vec<Result<String, String>> {
        let limits = Limits { sample_bytes: 1000, ..Limits::default() };
        let records = Records::new(Path::new("0.tfrecord").into(), bytes, limits);
        records.map(|sample| sample.map(|s| s.key().to_owned()).map_err(|fault| fault.cause())).collect()
    }

    #[test]
    fn damaged_contents_cost_one_record_and_damaged_framing_the_rest() {
        // An example without features: its key is its place.
        let whole = [record(b""), record(b""), record(b"\x0a\x7f"), record(&[0; 1001]), record(b"")].concat();
        let ok = |i: usize| Ok(format!("{i:08}"));
        let bad = |cause: &str| Err(cause.to_owned());
        let expected = [ok(0), ok(1), bad("bad record"), bad("too large"), ok(4)];
        assert_eq!(read(&whole), expected);
        let mut flipped = [record(b"\x0a\x00"), whole.clone()].concat();
        flipped[12] ^= 1;
        assert_eq!(read(&flipped)[..2], [bad("bad record"), ok(1)]);
        let mut flipped = whole.clone();
        flipped[16] ^= 1;
        assert_eq!(read(&flipped), [ok(0), bad("damaged shard")]);
        for cut in 1..whole.len() {
            let found = read(&whole[..cut]);
            assert!(found.len() <= expected.len());
            let is_whole = found.iter().zip(&expected).all(|(found, expected)| found == expected);
            assert!(is_whole || found.last() == Some(&bad("damaged shard")), "{cut}: {found:?}");
        }
    }
}
