//! Loading one content: going on where it stopped, checking what arrived, and only then giving it its name.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::HeaderMap;

use crate::cache::{Cache, create_parent, is_whole, put_in_place};
use crate::client::{Answer, Client, Head, Meta, asked_wait, header, is_transient};
use crate::error::Error;
use crate::hub::Progress;
use crate::paths::Repo;

const BUFFER_BYTES: usize = 128 << 10;

/// One file on its way into the cache.
pub(crate) struct Download<'a> {
    pub client: &'a Client,
    pub cache: &'a Cache,
    pub repo: &'a Repo,
    pub file: &'a str,
}

/// How one request for (the rest of) the content ended.
enum End {
    /// All bytes are there.
    Whole,
    /// Something that another request may mend.
    Broken { reason: String, wait: Option<Duration>, must_ask_anew: bool },
}

impl Download<'_> {
    /// Makes sure that the blob is in the cache. Returns whether this call has loaded it.
    pub fn blob(&self, meta: &Meta, progress: &mut dyn FnMut(Progress<'_>)) -> Result<bool, Error> {
        let blob = self.cache.blob(&meta.hash);
        if is_whole(&blob, meta.size) {
            return Ok(false);
        }
        create_parent(&blob)?;
        let lock = self.cache.lock(&meta.hash, || progress(Progress::Locked { file: self.file }))?;
        // Whoever held the lock may have loaded it meanwhile.
        if is_whole(&blob, meta.size) {
            return Ok(false);
        }
        // Other clients leave files named HASH.incomplete that they wrote side by side; ours has its own name. Without
        // a lock it must be this process's alone, and then nobody could go on with it.
        let own = if lock.is_some() { String::new() } else { format!(".{}", std::process::id()) };
        let partial = blob.with_file_name(format!("{}{own}.mobileclip.incomplete", meta.hash.hex()));
        let result = self.transfer_and_check(meta, &partial, progress);
        if lock.is_none() && result.is_err() {
            let _ = fs::remove_file(&partial);
        }
        result?;
        put_in_place(&partial, &blob)?;
        Ok(true)
    }

    fn transfer_and_check(
        &self,
        meta: &Meta,
        partial: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let mut has_old_bytes = is_whole(partial, None);
        loop {
            let result = self.transfer(meta, partial, progress);
            if matches!(result, Err(Error::WrongSize { .. })) {
                remove(partial)?;
            }
            result?;
            progress(Progress::Checking { file: self.file });
            let found = meta.hash.of_file(partial).map_err(|e| Error::io("read", partial, e))?;
            if found == meta.hash.hex() {
                return Ok(());
            }
            remove(partial)?;
            // Bytes of an earlier process may have been damaged since; one more time without them.
            if !std::mem::take(&mut has_old_bytes) {
                let expected = meta.hash.hex().into();
                return Err(Error::WrongHash { file: self.file.into(), expected, found });
            }
        }
    }

    /// Requests until all bytes are in the partial file.
    fn transfer(
        &self,
        meta: &Meta,
        partial: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let mut sink = Sink::open(partial)?;
        let mut location = meta.location.clone();
        let mut fruitless = 0;
        if meta.size.is_some_and(|size| sink.length > size) {
            sink.restart()?;
        }
        loop {
            let before = sink.length;
            if meta.size == Some(before) && before > 0 {
                break;
            }
            let (reason, asked, must_ask_anew) = match self.request(&location, meta, &mut sink, progress)? {
                End::Whole => break,
                End::Broken { reason, wait, must_ask_anew } => (reason, wait, must_ask_anew),
            };
            // Every byte is a reason to hope: only breaks without one in between count.
            fruitless = if sink.length > before { 1 } else { fruitless + 1 };
            let Some(wait) = self.client.wait(fruitless, asked) else {
                let done = sink.length;
                return Err(Error::Interrupted { file: self.file.into(), done, total: meta.size, reason });
            };
            progress(Progress::Waiting { file: self.file, reason: &reason, wait });
            std::thread::sleep(wait);
            if must_ask_anew {
                location = self.ask_anew(meta, progress)?;
            }
        }
        sink.finish()
    }

    /// Signed addresses expire; the hub gives a new one for the same content.
    fn ask_anew(&self, meta: &Meta, progress: &mut dyn FnMut(Progress<'_>)) -> Result<String, Error> {
        match self.client.head(&self.repo.at(&meta.commit), self.file, progress)? {
            Head::Found(new) if new.hash == meta.hash => Ok(new.location),
            _ => Err(Error::StrangeAnswer {
                url: meta.location.clone(),
                reason: "the file of a commit has changed".into(),
            }),
        }
    }

    fn request(
        &self,
        location: &str,
        meta: &Meta,
        sink: &mut Sink,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<End, Error> {
        let broken = |reason: String| End::Broken { reason, wait: None, must_ask_anew: false };
        let Answer { url, mut response } = match self.client.get(location, sink.length) {
            Ok(answer) => answer,
            Err(no_answer) => return Ok(broken(no_answer.reason)),
        };
        let status = response.status().as_u16();
        let headers = response.headers();
        let announced = match status {
            200 => {
                // Either all was asked for, or the server does not do parts.
                sink.restart()?;
                header(headers, "content-length").and_then(|n| n.parse().ok())
            }
            206 => match content_range(headers) {
                Some((start, total)) if start == sink.length => Some(total),
                _ => {
                    sink.restart()?;
                    return Ok(broken("the server sent another part than was asked for".into()));
                }
            },
            416 => {
                sink.restart()?;
                return Ok(broken("the server has no such part".into()));
            }
            // The hub has allowed it, so the signed address is too old.
            401 | 403 if !self.client.is_hub(&url) => {
                return Ok(End::Broken {
                    reason: format!("status {status}"),
                    wait: None,
                    must_ask_anew: true,
                });
            }
            _ if is_transient(status) => {
                let wait = asked_wait(headers);
                return Ok(End::Broken { reason: format!("status {status}"), wait, must_ask_anew: false });
            }
            _ => return Err(self.client.refusal(self.repo, self.file, &url, status, headers)),
        };
        let wrong = |expected, found| Error::WrongSize { file: self.file.into(), expected, found };
        if let (Some(size), Some(announced)) = (meta.size, announced)
            && size != announced
        {
            return Err(wrong(size, announced));
        }
        let total = meta.size.or(announced);
        progress(Progress::Bytes { file: self.file, done: sink.length, total });
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(n) => buffer.get(..n).unwrap_or(&[]),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Ok(broken(e.to_string())),
            };
            if read.is_empty() {
                return match total {
                    Some(total) if sink.length < total => Ok(broken("the connection ended".into())),
                    _ => Ok(End::Whole),
                };
            }
            if let Some(total) = total
                && sink.length + read.len() as u64 > total
            {
                return Err(wrong(total, sink.length + read.len() as u64));
            }
            sink.write(read)?;
            progress(Progress::Bytes { file: self.file, done: sink.length, total });
        }
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|e| Error::io("delete", path, e))
}

/// First byte and whole size from `bytes N-M/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = header(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// The partial file; `length` is what it holds.
struct Sink {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Sink {
    fn open(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io("write", path, e);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Ok(Self { path: path.into(), file, length })
    }

    fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            self.file.set_len(0).map_err(|e| Error::io("write", &self.path, e))?;
            self.length = 0;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// On the disk before it gets the name that promises its content.
    fn finish(self) -> Result<(), Error> {
        self.file.sync_all().map_err(|e| Error::io("write", &self.path, e))
    }
}
