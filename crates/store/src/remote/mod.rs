//! Objects on a store. This is the one module that names `object_store`, and the one place of the async runtime: everybody else blocks.

mod bucket;
mod read;
mod reason;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, UpdateVersion};
use tokio::runtime::{Builder, Runtime};

use self::bucket::Bucket;
use self::read::Ranges;
use self::reason::{is_final, reason};
use crate::place::{Seen, Source, Stat, Version};

/// Requests of one question that are under way at a time.
const AT_ONCE: usize = 32;
/// From so many files of one folder on, the folder is listed instead of each one asked for.
const LISTED_FROM: usize = 200;
/// How often what fails is tried again beyond the requests' own retries, where work would be lost.
const ATTEMPTS: u32 = 8;

/// An object, or what the keys of several begin with.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    bucket: Arc<Bucket>,
    key: Key,
}

/// Which contents an object had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(UpdateVersion);

/// Two threads wait for all requests of the process.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let begin = || {
        // Somebody else may have installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("store").enable_all().build();
        runtime.map_err(|error| format!("no threads for requests: {error}"))
    };
    RUNTIME.get_or_init(begin).as_ref().map_err(|reason| io::Error::other(reason.clone()))
}

fn wait<T>(work: impl Future<Output = T>) -> io::Result<T> {
    Ok(runtime()?.block_on(work))
}

/// The time before attempt `attempt`.
fn pause(attempt: u32) -> Duration {
    Duration::from_millis(250) * 2u32.saturating_pow(attempt.min(5))
}

/// Asks again where the answer was cut: requests are repeated by the client, but not for what comes after an answer's first line.
async fn again<T, F: Future<Output = object_store::Result<T>>>(
    ask: impl Fn() -> F,
) -> object_store::Result<T> {
    let mut attempt = 0;
    loop {
        match ask().await {
            Err(error) if reason::is_cut(&error) && attempt < ATTEMPTS => {
                tokio::time::sleep(pause(attempt)).await;
            }
            answer => return answer,
        }
        attempt += 1;
    }
}

impl Object {
    /// The object at `scheme://rest`.
    pub(crate) fn new(scheme: &str, rest: &str) -> io::Result<Self> {
        let odd = |reason: String| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let (name, key) = rest.split_once('/').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err(odd(format!("the name of a bucket or host is missing; expected {scheme}://NAME/…")));
        }
        let key = match scheme {
            "http" | "https" if key.contains(['?', '#']) => {
                return Err(odd(
                    "what follows ? or # cannot be sent; addresses end with the file's name".to_owned()
                ));
            }
            "http" | "https" => Key::from_url_path(key),
            _ => Key::parse(key),
        };
        let key = key.map_err(|error| odd(error.to_string()))?;
        Ok(Self { bucket: Bucket::of(scheme, name)?, key })
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        // As the whole address would be read; `Key::join` alone would write some characters in another way.
        let whole =
            Key::parse(format!("{}/{name}", self.key)).unwrap_or_else(|_| self.key.clone().join(name));
        Self { bucket: Arc::clone(&self.bucket), key: whole }
    }

    fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.bucket.store
    }

    fn fails(&self, error: &object_store::Error) -> io::Error {
        reason(error, &self.bucket)
    }

    pub(crate) fn stat(&self) -> io::Result<Option<Stat>> {
        wait(self.known())?
    }

    async fn known(&self) -> io::Result<Option<Stat>> {
        match self.store().head(&self.key).await {
            Ok(meta) => {
                self.bucket.is_there();
                Ok(Some(stat_of(&meta)))
            }
            Err(object_store::Error::NotFound { .. }) => self.is_missing().await.map(|()| None),
            Err(error) => Err(self.fails(&error)),
        }
    }

    /// An answer to HEAD has no room for what is missing, the object or its bucket. Asked once for each bucket.
    async fn is_missing(&self) -> io::Result<()> {
        if self.bucket.is_known_to_be_there() {
            return Ok(());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        match self.store().get_opts(&self.key, options).await {
            Err(error @ object_store::Error::NotFound { .. }) if reason::names_bucket(&error) => {
                Err(self.fails(&error))
            }
            _ => {
                self.bucket.is_there();
                Ok(())
            }
        }
    }

    pub(crate) fn list(&self) -> io::Result<Vec<(String, Stat)>> {
        wait(self.listed())?
    }

    async fn listed(&self) -> io::Result<Vec<(String, Stat)>> {
        if self.bucket.is_plain_http() {
            let reason = "a folder cannot be listed over HTTP; name the files, as in {00000..00019}.tar";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        let prefix = (!self.key.as_ref().is_empty()).then_some(&self.key);
        let found = again(|| self.store().list_with_delimiter(prefix)).await;
        let found = found.map_err(|error| self.fails(&error))?;
        self.bucket.is_there();
        let name = |meta: &ObjectMeta| Some((meta.location.filename()?.to_owned(), stat_of(meta)));
        Ok(found.objects.iter().filter_map(name).collect())
    }

    pub(crate) fn open(&self) -> io::Result<Source> {
        let Some(stat) = self.stat()? else { return Err(missing()) };
        let ranges = Ranges::new(self.clone(), stat.bytes)?;
        Ok(Source::new(ranges, stat.bytes))
    }

    pub(crate) fn read(&self) -> io::Result<Option<(Vec<u8>, Version)>> {
        wait(self.contents())?
    }

    async fn contents(&self) -> io::Result<Option<(Vec<u8>, Version)>> {
        let mut attempt = 0;
        loop {
            let read = async {
                let got = self.store().get(&self.key).await?;
                let version =
                    UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
                Ok((got.bytes().await?.to_vec(), Version(Seen::Object(Tag(version)))))
            };
            match read.await {
                Ok(found) => {
                    self.bucket.is_there();
                    return Ok(Some(found));
                }
                Err(error @ object_store::Error::NotFound { .. }) if !reason::names_bucket(&error) => {
                    return Ok(None);
                }
                Err(error) if is_final(&error) || attempt == ATTEMPTS => return Err(self.fails(&error)),
                Err(_) => tokio::time::sleep(pause(attempt)).await,
            }
            attempt += 1;
        }
    }

    pub(crate) fn delete(&self) -> io::Result<()> {
        match wait(again(|| self.store().delete(&self.key)))? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fails(&error)),
        }
    }
}

fn missing() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "there is no such file (404)")
}

fn stat_of(meta: &ObjectMeta) -> Stat {
    let tag = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
    let seconds = u64::try_from(meta.last_modified.timestamp()).unwrap_or_default();
    let modified = Duration::new(seconds, meta.last_modified.timestamp_subsec_nanos().min(999_999_999));
    Stat { bytes: meta.size, modified, tag: tag.into_bytes() }
}

pub(crate) fn stat_all(objects: &[&Object]) -> Result<Vec<Option<Stat>>, (usize, io::Error)> {
    let mut folders: HashMap<(usize, String), (usize, Vec<usize>)> = HashMap::new();
    for (i, object) in objects.iter().enumerate() {
        let parts: Vec<_> = object.key.parts().collect();
        let folder: Vec<_> = parts.iter().take(parts.len().saturating_sub(1)).map(AsRef::as_ref).collect();
        let bucket = Arc::as_ptr(&object.bucket) as usize;
        folders.entry((bucket, folder.join("/"))).or_insert_with(|| (i, Vec::new())).1.push(i);
    }
    let mut found: Vec<Option<Stat>> = vec![None; objects.len()];
    let mut single: Vec<usize> = Vec::new();
    for ((_, folder), (first, members)) in folders {
        let listed = objects.get(first).filter(|_| members.len() >= LISTED_FROM).and_then(|first| {
            let key = Key::parse(&folder).ok()?;
            // Where listing is not allowed, asking may be.
            Object { bucket: Arc::clone(&first.bucket), key }.list().ok()
        });
        let Some(listed) = listed else {
            single.extend(members);
            continue;
        };
        let listed: HashMap<String, Stat> = listed.into_iter().collect();
        for i in members {
            let name = objects.get(i).and_then(|object| object.key.filename());
            if let (Some(slot), Some(name)) = (found.get_mut(i), name) {
                *slot = listed.get(name).cloned();
            }
        }
    }
    for (i, stat) in each(objects, &single, |object| object.known())? {
        if let Some(slot) = found.get_mut(i) {
            *slot = stat;
        }
    }
    Ok(found)
}

pub(crate) fn read_all(objects: &[&Object]) -> Result<Vec<Option<Vec<u8>>>, (usize, io::Error)> {
    let all: Vec<usize> = (0..objects.len()).collect();
    let found = each(objects, &all, |object| object.contents())?;
    Ok(found.into_iter().map(|(_, found)| found.map(|(bytes, _)| bytes)).collect())
}

/// Asks for some of the objects, several at a time; the answers are in their order.
fn each<'a, T, F: Future<Output = io::Result<T>>>(
    objects: &[&'a Object],
    which: &[usize],
    ask: impl Fn(&'a Object) -> F,
) -> Result<Vec<(usize, T)>, (usize, io::Error)> {
    let asked = which.iter().filter_map(|&i| Some((i, *objects.get(i)?)));
    let answers = asked.map(|(i, object)| {
        let answer = ask(object);
        async move { answer.await.map(|answer| (i, answer)).map_err(|error| (i, error)) }
    });
    let answers = futures_util::stream::iter(answers).buffered(AT_ONCE).try_collect();
    wait(answers).map_err(|error| (which.first().copied().unwrap_or_default(), error))?
}
