//! An object read from the front, range by range.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{Error, GetOptions, GetRange, ObjectStoreExt};
use tokio::task::JoinHandle;

use super::reason::is_final;
use super::{ATTEMPTS, Object, missing, pause, runtime, wait};
use crate::local;

/// Bytes of the first range: who looks at a few samples should not wait for more.
const FIRST: u64 = 1 << 20;
/// Ranges double up to so many bytes. Two are in memory: the one that is read and the one that is on its way.
const LARGEST: u64 = 16 << 20;

/// Why a range did not come.
enum Failed {
    /// The server only gives whole files.
    Whole,
    Io(io::Error),
}

/// Reads ranges, one ahead of the reader. Each is a request of its own, so a reader may be as slow as it likes.
pub(super) struct Ranges {
    object: Object,
    bytes: u64,
    /// Where the range after the one on its way begins.
    next: u64,
    length: u64,
    /// The object is the one that the first range came from.
    tag: Option<String>,
    ahead: Option<JoinHandle<Result<Part, Failed>>>,
    current: Bytes,
    /// The whole file, from a server that has no ranges.
    whole: Option<File>,
}

struct Part {
    bytes: Bytes,
    tag: Option<String>,
}

impl Ranges {
    pub(super) fn new(object: Object, bytes: u64) -> io::Result<Self> {
        let mut ranges = Self {
            object,
            bytes,
            next: 0,
            length: FIRST,
            tag: None,
            ahead: None,
            current: Bytes::new(),
            whole: None,
        };
        ranges.begin()?;
        Ok(ranges)
    }

    /// Asks for the next range, if there is one.
    fn begin(&mut self) -> io::Result<()> {
        let end = self.bytes.min(self.next.saturating_add(self.length));
        if self.next < end {
            let (object, range, tag) = (self.object.clone(), self.next..end, self.tag.clone());
            self.ahead = Some(runtime()?.spawn(async move { range_of(&object, range, tag).await }));
            self.next = end;
            self.length = (2 * self.length).min(LARGEST);
        }
        Ok(())
    }

    /// Takes the range that is on its way, and asks for the one after it.
    fn advance(&mut self) -> io::Result<()> {
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        match wait(ahead)?.map_err(io::Error::other)? {
            Ok(part) => {
                self.current = part.bytes;
                self.tag = self.tag.take().or(part.tag);
                self.begin()
            }
            Err(Failed::Whole) => {
                self.whole = Some(wait(whole(&self.object, self.bytes))??);
                Ok(())
            }
            Err(Failed::Io(error)) => Err(error),
        }
    }
}

impl Read for Ranges {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && self.whole.is_none() {
            self.advance()?;
        }
        if let Some(whole) = &mut self.whole {
            return whole.read(buffer);
        }
        let read = self.current.len().min(buffer.len());
        let taken = self.current.split_to(read);
        buffer.iter_mut().zip(taken.iter()).for_each(|(to, from)| *to = *from);
        Ok(read)
    }
}

impl Drop for Ranges {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.abort();
        }
    }
}

/// A range of an object. A connection that is cut is begun anew behind what has come, as long as something comes.
async fn range_of(object: &Object, range: Range<u64>, tag: Option<String>) -> Result<Part, Failed> {
    let length =
        usize::try_from(range.end - range.start).map_err(|error| Failed::Io(io::Error::other(error)))?;
    let mut part = Part { bytes: Bytes::new(), tag };
    let mut got: Vec<u8> = Vec::with_capacity(length);
    let mut attempt = 0;
    loop {
        let before = got.len();
        let error = match more(object, range.start + before as u64..range.end, &mut part.tag, &mut got).await
        {
            Ok(()) if got.len() == length => {
                part.bytes = got.into();
                return Ok(part);
            }
            Ok(()) if got.len() > length => {
                return Err(Failed::Io(io::Error::other("the server sends more than it was asked for")));
            }
            Ok(()) => None,
            Err(Error::NotSupported { .. }) if object.bucket.is_plain_http() => return Err(Failed::Whole),
            Err(error) if is_final(&error) => return Err(Failed::Io(object.fails(&error))),
            Err(error) => Some(error),
        };
        attempt = if got.len() > before { 0 } else { attempt + 1 };
        if attempt > ATTEMPTS {
            return Err(Failed::Io(error.map_or_else(cut, |error| object.fails(&error))));
        }
        tokio::time::sleep(pause(attempt)).await;
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection is cut again and again")
}

async fn more(
    object: &Object,
    range: Range<u64>,
    tag: &mut Option<String>,
    got: &mut Vec<u8>,
) -> object_store::Result<()> {
    let options =
        GetOptions { range: Some(GetRange::Bounded(range)), if_match: tag.clone(), ..GetOptions::default() };
    let answer = object.store().get_opts(&object.key, options).await?;
    if tag.is_none() {
        *tag = answer.meta.e_tag.clone();
    }
    let mut stream = answer.into_stream();
    while let Some(bytes) = stream.next().await {
        got.extend_from_slice(&bytes?);
    }
    Ok(())
}

/// The whole file, to a temporary one: who reads it slowly must not hold the connection.
async fn whole(object: &Object, bytes: u64) -> io::Result<File> {
    let mut attempt = 0;
    loop {
        let mut file = local::nameless()?;
        let copied = async {
            let mut stream = object.store().get(&object.key).await?.into_stream();
            let mut copied = 0;
            while let Some(part) = stream.next().await {
                let part = part?;
                copied += part.len() as u64;
                // A disk that is full will be at the next attempt, too, and is told then.
                file.write_all(&part)
                    .map_err(|error| Error::Generic { store: "temporary file", source: error.into() })?;
            }
            Ok(copied)
        };
        let failed = match copied.await {
            Ok(copied) if copied == bytes => {
                file.rewind()?;
                return Ok(file);
            }
            Ok(_) => cut(),
            Err(Error::NotFound { .. }) => return Err(missing()),
            Err(error) if is_final(&error) => return Err(object.fails(&error)),
            Err(error) => object.fails(&error),
        };
        if attempt == ATTEMPTS {
            return Err(failed);
        }
        tokio::time::sleep(pause(attempt)).await;
        attempt += 1;
    }
}
