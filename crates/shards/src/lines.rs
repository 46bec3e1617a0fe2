//! JSON lines: an object in each line.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Fault, Result};
use crate::fields::Fields;
use crate::limits::Limits;
use crate::sample::Sample;
use crate::tar::unreadable;

/// The samples of a stream of lines. A broken line is a fault in its place, and the next one is read; blank ones are nothing.
pub(crate) struct Lines<R> {
    shard: Arc<Path>,
    reader: BufReader<R>,
    limits: Limits,
    /// Lines that were read, and their bytes.
    lines: usize,
    bytes: u64,
    is_done: bool,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(shard: Arc<Path>, reader: R, limits: Limits) -> Self {
        Self {
            shard,
            reader: BufReader::with_capacity(1 << 16, reader),
            limits,
            lines: 0,
            bytes: 0,
            is_done: false,
        }
    }

    /// The next line, with its end; `None` at the end of the stream.
    fn line(&mut self) -> Option<Result<Vec<u8>, Fault>> {
        let limit = self.limits.sample_bytes;
        let mut line = Vec::new();
        let read = (&mut self.reader).take(limit.saturating_add(1)).read_until(b'\n', &mut line);
        self.bytes += line.len() as u64;
        self.lines += 1;
        match read {
            Err(error) => Some(Err(self.end(&error))),
            Ok(0) => None,
            Ok(_) if line.len() as u64 > limit => {
                let passed = if line.ends_with(b"\n") { Ok(0) } else { self.reader.skip_until(b'\n') };
                if let Err(error) = passed {
                    return Some(Err(self.end(&error)));
                }
                let (key, what) = (self.key(), "the size of the line, more than".to_owned());
                Some(Err(Fault::Limit { shard: self.shard.to_path_buf(), key, what, found: limit, limit }))
            }
            Ok(_) => Some(Ok(line)),
        }
    }

    /// What a line is called that has no key.
    fn key(&self) -> String {
        format!("line {}", self.lines)
    }

    fn end(&mut self, error: &std::io::Error) -> Fault {
        self.is_done = true;
        let last = self.lines.checked_sub(2).map(|before| format!("line {}", before + 1));
        Fault::Damaged {
            shard: self.shard.to_path_buf(),
            last,
            offset: self.bytes,
            reason: unreadable(error),
        }
    }

    fn sample(&self, line: &[u8]) -> Result<Sample, Fault> {
        let bad = |reason: String| {
            let (shard, key) = (self.shard.to_path_buf(), self.key());
            Fault::Member { shard, key, member: "line".to_owned(), reason }
        };
        match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => {
                Fields { object, image: None, number: self.lines - 1 }.sample(&self.shard, &self.limits)
            }
            Ok(_) => Err(bad("is no object".to_owned())),
            Err(error) => Err(bad(error.to_string())),
        }
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<Sample, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.line() {
                None => self.is_done = true,
                Some(Err(fault)) => return Some(Err(fault)),
                Some(Ok(line)) if line.trim_ascii().is_empty() => {}
                Some(Ok(line)) => return Some(self.sample(&line)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], limits: Limits) -> Vec<Result<String, String>> {
        let lines = Lines::new(Path::new("0.jsonl").into(), text, limits);
        lines.map(|sample| sample.map(|s| s.key().to_owned()).map_err(|fault| fault.to_string())).collect()
    }

    #[test]
    fn broken_lines_cost_only_themselves() {
        let text = b"{\"uid\": \"a\"}\n\n[1]\n{\"uid\": \r\n{\"text\": \"b\"}\r\n\xff\n{\"uid\": \"z\"}";
        let found = read(text, Limits::default());
        let keys: Vec<&str> = found.iter().flatten().map(String::as_str).collect();
        assert_eq!(keys, ["a", "00000004", "z"]);
        let faults: Vec<&String> = found.iter().filter_map(|found| found.as_ref().err()).collect();
        assert_eq!(faults.len(), 3);
        assert_eq!(faults[0], "0.jsonl: sample `line 3`: `line`: is no object");
        assert!(faults[1].contains("`line 4`") && faults[2].contains("`line 6`"), "{faults:?}");
    }

    #[test]
    fn long_lines_are_passed_over() {
        let limits = Limits { sample_bytes: 12, ..Limits::default() };
        let text =
            format!("{{\"uid\":\"a\"}}\n{}\n{}\n{{\"uid\":\"b\"}}\n", "x".repeat(12), "x".repeat(5000));
        let found = read(text.as_bytes(), limits);
        assert_eq!((found.len(), &found[0], &found[3]), (4, &Ok("a".to_owned()), &Ok("b".to_owned())));
        assert!(found[2].as_ref().unwrap_err().contains("line 3"), "{found:?}");
    }
}
