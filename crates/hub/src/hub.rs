//! From a name to a folder.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ureq::Proxy;

use crate::cache::{Cache, is_whole};
use crate::client::{Client, Head, Meta};
use crate::download::Download;
use crate::error::Error;
use crate::known::KnownModel;
use crate::names::Target;
use crate::paths::{Repo, check_file, is_commit};
use crate::settings::Settings;

/// The file that says which model it is and how images are prepared.
pub const CONFIG_FILE: &str = "open_clip_config.json";

/// The names that weights go by, the preferred first. The next one is asked for only if the hub says that the
/// repository does not have the one before.
pub const WEIGHT_FILES: [&str; 8] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
];

/// What else may hold weights, when a repository is listed.
const WEIGHT_ENDINGS: [&str; 4] = [".safetensors", ".pt", ".pth", ".bin"];

/// The pause before the first repetition of a request; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A file is going to be loaded.
    Begin {
        /// Path inside the repository.
        file: &'a str,
        /// Bytes, if the hub says.
        total: Option<u64>,
        /// `owner/name`.
        repo: &'a str,
        /// The licence's identifier, if the table has the repository and knows it.
        licence: Option<&'static str>,
        /// The page where licence and description stand.
        page: &'a str,
    },
    /// Bytes have come; the first report of a continued file starts where it had stopped.
    Bytes {
        /// Path inside the repository.
        file: &'a str,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole file, if known.
        total: Option<u64>,
    },
    /// All bytes are here, their hash is being computed.
    Checking {
        /// Path inside the repository.
        file: &'a str,
    },
    /// Something broke, or the hub asks for patience; the request is repeated after a pause.
    Waiting {
        /// Path inside the repository, or what else is asked for.
        file: &'a str,
        /// What happened.
        reason: &'a str,
        /// The pause.
        wait: Duration,
    },
    /// Another process is loading this file; this one waits for it.
    Locked {
        /// Path inside the repository.
        file: &'a str,
    },
    /// The hub did not answer, or not to us; the copy that lies in the cache is taken as it is.
    FromCache {
        /// `owner/name`.
        repo: &'a str,
        /// Why the hub could not be asked.
        reason: &'a Error,
    },
}

/// A checkpoint on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The snapshot's folder. It holds only the files that somebody asked for.
    pub dir: PathBuf,
    /// `open_clip_config.json`, where the repository has one.
    pub config: Option<PathBuf>,
    /// The weights, in `dir`.
    pub weights: PathBuf,
    /// Where it comes from.
    pub repo: Repo,
    /// The commit that the files belong to: 40 hexadecimal digits.
    pub commit: String,
    /// The row of the table for this repository: name, tag (which decides the preprocessing where there is no
    /// config), licence.
    pub known: Option<&'static KnownModel>,
}

/// The cache of this machine and the way to the hub.
pub struct Hub {
    settings: Settings,
    client: Client,
    proxy: Option<Proxy>,
}

/// One file of a commit.
enum Obtained {
    Here { path: PathBuf, commit: String },
    Missing { commit: Option<String> },
}

impl Hub {
    /// With this process's environment. The usual proxy variables (`HTTPS_PROXY`, `NO_PROXY`, …) count as well.
    ///
    /// # Errors
    /// [`Error::NoCacheFolder`], [`Error::BadVariable`].
    pub fn from_env() -> Result<Self, Error> {
        Self::new(Settings::from_vars(|name| std::env::var_os(name))?, Proxy::try_from_env(), FIRST_WAIT)
    }

    /// With variables from elsewhere: `var` gives the value of `HF_HOME`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`,
    /// `XDG_CACHE_HOME`, `HOME`, `USERPROFILE`, `HF_ENDPOINT`, `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH`,
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`, `HF_HUB_DISABLE_SYMLINKS`,
    /// `HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT`, `SSL_CERT_FILE` and `REQUESTS_CA_BUNDLE`. There is no proxy.
    ///
    /// # Errors
    /// [`Error::NoCacheFolder`], [`Error::BadVariable`].
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        Self::new(Settings::from_vars(var)?, None, FIRST_WAIT)
    }

    fn new(settings: Settings, proxy: Option<Proxy>, first_wait: Duration) -> Result<Self, Error> {
        let client = Client::new(&settings, proxy.clone(), first_wait)?;
        Ok(Self { settings, client, proxy })
    }

    /// With another pause before the first repetition of a request (1 s; it doubles with each).
    ///
    /// # Errors
    /// [`Error::BadVariable`].
    pub fn with_first_wait(self, wait: Duration) -> Result<Self, Error> {
        Self::new(self.settings, self.proxy, wait)
    }

    /// The folder that holds the repositories.
    #[must_use]
    pub fn cache_folder(&self) -> &std::path::Path {
        &self.settings.cache
    }

    /// Whether the environment forbids to ask the hub.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.settings.is_offline
    }

    /// Asks the hub what the name's newest files are and loads those that are not here. Offline, or if the hub cannot
    /// be asked, what the cache has is taken.
    ///
    /// Whoever only wants to use a model asks [`Hub::cached`] first, which costs no request.
    ///
    /// # Errors
    /// Those of [`Target::parse`]; [`Error::Offline`] and the other errors of the network if there is no copy in the
    /// cache either; [`Error::WrongHash`], [`Error::WrongSize`] and [`Error::Interrupted`] of the download;
    /// [`Error::NoWeights`]; [`Error::DiskFull`] and [`Error::Io`] of the cache.
    pub fn resolve(&self, name: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Resolved, Error> {
        let target = Target::parse(name)?;
        // People asked for a model: an error should name it, and not only the file that was tried first.
        let id = target.repo().id();
        let what = if name.contains(id) { format!("`{name}`") } else { format!("`{name}` ({id})") };
        if self.settings.is_offline {
            let cache = self.settings.cache.clone();
            return self.look_up(&target, true).ok_or(Error::Offline { what, cache });
        }
        let error = match self.fetch(&target, progress) {
            Err(Error::Unreachable { url, reason, .. }) => Error::Unreachable { what, url, reason },
            Err(error) if error.is_out_of_reach() => error,
            other => return other,
        };
        match self.look_up(&target, true) {
            Some(resolved) => {
                progress(Progress::FromCache { repo: id, reason: &error });
                Ok(resolved)
            }
            None => Err(error),
        }
    }

    /// What the cache has under that name, without any request. Nothing, if it could be that the repository has weights
    /// under a name that is preferred to those that are here: other programs load other files into the same folders.
    ///
    /// # Errors
    /// Those of [`Target::parse`].
    pub fn cached(&self, name: &str) -> Result<Option<Resolved>, Error> {
        Ok(self.look_up(&Target::parse(name)?, self.settings.is_offline))
    }

    /// One file of a repository, loaded if it is not here or has changed.
    ///
    /// # Errors
    /// As [`Hub::resolve`], and [`Error::FileNotFound`].
    pub fn file(
        &self,
        repo: &Repo,
        file: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, Error> {
        check_file(file)?;
        let cache = self.cache(repo);
        let here = || cache.commit_of(repo.revision()).and_then(|commit| cache.file(&commit, file));
        if self.settings.is_offline {
            let what = format!("{file} of {}", repo.id());
            return here().ok_or_else(|| Error::Offline { what, cache: self.settings.cache.clone() });
        }
        match self.obtain(repo, file, None, progress) {
            Ok(Obtained::Here { path, commit }) => {
                cache.write_ref(repo.revision(), &commit)?;
                Ok(path)
            }
            Ok(Obtained::Missing { .. }) => Err(Error::FileNotFound {
                repo: repo.id().into(),
                revision: repo.revision().into(),
                file: file.into(),
            }),
            Err(error) if error.is_out_of_reach() => match here() {
                Some(path) => {
                    progress(Progress::FromCache { repo: repo.id(), reason: &error });
                    Ok(path)
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn cache(&self, repo: &Repo) -> Cache {
        Cache::new(&self.settings.cache, repo, self.settings.uses_symlinks)
    }

    fn fetch(&self, target: &Target, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Resolved, Error> {
        let repo = target.repo();
        let known = target.known();
        // The first answer says which commit the revision is; all else is asked of that commit, so that the files
        // belong together even if somebody pushes meanwhile.
        let (config, commit) = match self.obtain(repo, CONFIG_FILE, known, progress)? {
            Obtained::Here { path, commit } => (Some(path), Some(commit)),
            Obtained::Missing { commit } => (None, commit),
        };
        let at = commit.map_or_else(|| repo.clone(), |commit| repo.at(&commit));
        let mut weights = None;
        for file in candidates(known) {
            if let Obtained::Here { path, commit } = self.obtain(&at, file, known, progress)? {
                weights = Some((path, commit));
                break;
            }
        }
        let (weights, commit) = match weights {
            Some(found) => found,
            None => self.obtain_listed(&at, known, progress)?,
        };
        let cache = self.cache(repo);
        // Only now, when all files are here: a download that breaks leaves the older commit usable.
        cache.write_ref(repo.revision(), &commit)?;
        let dir = cache.snapshot(&commit);
        Ok(Resolved { dir, config, weights, repo: repo.clone(), commit, known })
    }

    /// The only file of weights in a repository that uses none of the usual names.
    fn obtain_listed(
        &self,
        repo: &Repo,
        known: Option<&'static KnownModel>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(PathBuf, String), Error> {
        let mut files = self.client.list(repo, progress)?;
        files.retain(|f| is_weights(f));
        files.sort();
        let no_weights = |files| Error::NoWeights { repo: repo.id().into(), files };
        let [file] = files.as_slice() else { return Err(no_weights(files)) };
        check_file(file)?;
        match self.obtain(repo, file, known, progress)? {
            Obtained::Here { path, commit } => Ok((path, commit)),
            Obtained::Missing { .. } => Err(no_weights(Vec::new())),
        }
    }

    fn obtain(
        &self,
        repo: &Repo,
        file: &str,
        known: Option<&'static KnownModel>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Obtained, Error> {
        let cache = self.cache(repo);
        // What a commit has never changes.
        if is_commit(repo.revision()) {
            let commit = repo.revision().to_owned();
            if let Some(path) = cache.file(&commit, file) {
                return Ok(Obtained::Here { path, commit });
            }
            if cache.is_known_missing(&commit, file) {
                return Ok(Obtained::Missing { commit: Some(commit) });
            }
        }
        match self.client.head(repo, file, progress)? {
            Head::Missing { commit } => {
                if let Some(commit) = &commit {
                    cache.mark_missing(commit, file)?;
                }
                Ok(Obtained::Missing { commit })
            }
            Head::Found(meta) => {
                let path = self.place(&cache, repo, file, &meta, known, progress)?;
                Ok(Obtained::Here { path, commit: meta.commit })
            }
        }
    }

    fn place(
        &self,
        cache: &Cache,
        repo: &Repo,
        file: &str,
        meta: &Meta,
        known: Option<&'static KnownModel>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, Error> {
        if let Some(path) = cache.file(&meta.commit, file).filter(|path| is_whole(path, meta.size)) {
            return Ok(path);
        }
        if !is_whole(&cache.blob(&meta.hash), meta.size) {
            let page = repo.page(&self.settings.endpoint);
            let licence = known.and_then(|k| k.licence);
            progress(Progress::Begin { file, total: meta.size, repo: repo.id(), licence, page: &page });
        }
        let is_fresh = Download { client: &self.client, cache, repo, file }.blob(meta, progress)?;
        cache.link(&meta.hash, &meta.commit, file, is_fresh)
    }

    /// The cache's copy. `takes_any`: also weights that may not be the preferred ones.
    fn look_up(&self, target: &Target, takes_any: bool) -> Option<Resolved> {
        let (repo, known) = (target.repo(), target.known());
        let cache = self.cache(repo);
        let commit = cache.commit_of(repo.revision())?;
        let is_settled = |file: &str| takes_any || cache.is_known_missing(&commit, file);
        let config = cache.file(&commit, CONFIG_FILE);
        if config.is_none() && !is_settled(CONFIG_FILE) {
            return None;
        }
        let mut weights = None;
        for file in candidates(known) {
            weights = cache.file(&commit, file);
            if weights.is_some() {
                break;
            }
            if !is_settled(file) {
                return None;
            }
        }
        let weights = weights.or_else(|| {
            let mut files = cache.top_files(&commit);
            files.retain(|f| is_weights(f));
            let [file] = files.as_slice() else { return None };
            cache.file(&commit, file)
        })?;
        let dir = cache.snapshot(&commit);
        Some(Resolved { dir, config, weights, repo: repo.clone(), commit, known })
    }
}

impl std::fmt::Debug for Hub {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("cache", &self.settings.cache)
            .field("endpoint", &self.settings.endpoint)
            .field("is_offline", &self.settings.is_offline)
            .finish_non_exhaustive()
    }
}

fn candidates(known: Option<&'static KnownModel>) -> Vec<&'static str> {
    known.and_then(|k| k.file).map_or_else(|| WEIGHT_FILES.to_vec(), |file| vec![file])
}

/// A file at the top of a repository that may hold weights.
fn is_weights(file: &str) -> bool {
    !file.contains('/') && WEIGHT_ENDINGS.iter().any(|ending| file.ends_with(ending))
}
