//! Objects put whole, with preconditions.

use std::fs::File;
use std::io::{self, Read, Seek};

use object_store::{Error, MultipartUpload, ObjectStoreExt, PutMode, PutResult, UpdateVersion};
use tokio::task::JoinSet;

use super::reason::is_final;
use super::{ATTEMPTS, Object, Tag, pause, wait};
use crate::place::{Seen, Version};

/// Larger objects are sent in parts of so many bytes.
const PART: usize = 16 << 20;
/// Parts that are on their way at a time.
const PARTS_AT_ONCE: usize = 3;

impl Object {
    /// Puts an object, in place of what is there.
    pub(crate) fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.put_as(bytes.to_vec(), PutMode::Overwrite).map(|_| ())
    }

    /// Puts an object if there is none.
    pub(crate) fn put_new(&self, bytes: &[u8]) -> io::Result<Option<Version>> {
        self.put_as(bytes.to_vec(), PutMode::Create)
    }

    /// Puts an object in place of a certain one.
    pub(crate) fn replace_if(&self, bytes: &[u8], tag: &Tag) -> io::Result<Option<Version>> {
        self.put_as(bytes.to_vec(), PutMode::Update(tag.0.clone()))
    }

    fn put_as(&self, bytes: Vec<u8>, mode: PutMode) -> io::Result<Option<Version>> {
        if self.bucket.is_plain_http() {
            let reason = "files over HTTP can be read, not written";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        wait(self.put_until_sure(bytes, mode))?
    }

    /// Puts an object and makes sure what became of it: where the answer is lost, the next attempt finds the precondition broken, perhaps by
    /// ourselves, which the contents tell.
    async fn put_until_sure(&self, bytes: Vec<u8>, mode: PutMode) -> io::Result<Option<Version>> {
        let bytes = bytes::Bytes::from(bytes);
        let mut attempt = 0;
        loop {
            match self.store().put_opts(&self.key, bytes.clone().into(), mode.clone().into()).await {
                Ok(done) => return Ok(Some(version(done))),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. })
                    if mode != PutMode::Overwrite =>
                {
                    let there = self.contents().await?;
                    return Ok(there.filter(|(there, _)| *there == bytes).map(|(_, version)| version));
                }
                Err(error) if is_final(&error) || attempt == ATTEMPTS => return Err(self.fails(&error)),
                Err(_) => tokio::time::sleep(pause(attempt)).await,
            }
            attempt += 1;
        }
    }

    /// Sends a file of so many bytes; if it must be a new object, false if there is one already.
    pub(crate) fn upload(&self, file: &mut File, bytes: u64, is_new: bool) -> io::Result<bool> {
        file.rewind()?;
        if bytes <= PART as u64 {
            let mut contents = Vec::new();
            file.read_to_end(&mut contents)?;
            let mode = if is_new { PutMode::Create } else { PutMode::Overwrite };
            return Ok(self.put_as(contents, mode)?.is_some());
        }
        // An upload in parts knows no precondition. What comes between this look and its end is replaced.
        let before = self.stat()?;
        if is_new && before.is_some() {
            return Ok(false);
        }
        let mut attempt = 0;
        loop {
            file.rewind()?;
            let error = match wait(self.send_parts(file))? {
                Ok(()) => return Ok(true),
                Err(Sending::Store(error)) => error,
                Err(Sending::Io(error)) => return Err(error),
            };
            // The answer may have been lost, not the object.
            let now = self.stat()?;
            if now != before && now.as_ref().is_some_and(|now| now.bytes == bytes) {
                return Ok(true);
            }
            // Not found is the upload, which a store may have given up.
            let is_lost = matches!(error, Error::NotFound { .. }) && !super::reason::names_bucket(&error);
            if (is_final(&error) && !is_lost) || attempt == ATTEMPTS {
                return Err(self.fails(&error));
            }
            std::thread::sleep(pause(attempt));
            attempt += 1;
        }
    }

    async fn send_parts(&self, file: &mut File) -> Result<(), Sending> {
        let mut upload = self.store().put_multipart(&self.key).await?;
        let sent = parts(upload.as_mut(), file).await;
        if sent.is_err() {
            // What cannot be withdrawn is left to the bucket's own rules.
            let _ = upload.abort().await;
        }
        sent
    }
}

/// Why an upload failed: the store, or the file.
enum Sending {
    Store(Error),
    Io(io::Error),
}

impl From<Error> for Sending {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

async fn parts(upload: &mut dyn MultipartUpload, file: &mut File) -> Result<(), Sending> {
    let mut under_way = JoinSet::new();
    loop {
        let mut part = Vec::new();
        file.by_ref().take(PART as u64).read_to_end(&mut part).map_err(Sending::Io)?;
        let is_last = part.len() < PART;
        if !part.is_empty() {
            under_way.spawn(upload.put_part(part.into()));
        }
        while under_way.len() >= PARTS_AT_ONCE || is_last {
            let Some(sent) = under_way.join_next().await else { break };
            sent.map_err(Error::from)??;
        }
        if is_last {
            upload.complete().await?;
            return Ok(());
        }
    }
}

fn version(done: PutResult) -> Version {
    Version(Seen::Object(Tag(UpdateVersion::from(done))))
}
