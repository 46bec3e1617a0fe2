//! What can go wrong between a name and a folder.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate; its text is one line that says what was asked, what happened, and the mend if one is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none of the table.
    #[error("no model is named `{name}`{}", did_you_mean(.suggestions))]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// Names of the table that are spelt alike, the nearest first; or the form a repository is written in.
        suggestions: Vec<String>,
    },
    /// The name stands for several checkpoints, or the tag is none of its checkpoints.
    #[error("`{name}` needs one of the tags {}; write for example `{name}:{}`", .tags.join(", "), .tags.first().map_or("", String::as_str))]
    NeedsTag {
        /// The model's name.
        name: String,
        /// The tags there are.
        tags: Vec<String>,
    },
    /// The model exists, but in no form that this program can load.
    #[error("`{name}` cannot be loaded: {reason}")]
    NotLoadable {
        /// What was asked for.
        name: String,
        /// Why not, and what to take instead.
        reason: String,
    },
    /// A repository id, revision or file name that cannot be one; nothing was asked or written.
    #[error("`{value}` is no {what} of the hub: {reason}")]
    BadName {
        /// What it should be.
        what: &'static str,
        /// What was given.
        value: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// An environment variable has a value that cannot be used.
    #[error("{variable}: {reason}")]
    BadVariable {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// There is no place for the cache.
    #[error("no home folder is known for the cache; set HF_HOME or HF_HUB_CACHE")]
    NoCacheFolder,

    /// Offline by wish, and the cache does not have it.
    #[error(
        "{what} is not in the cache {cache} and HF_HUB_OFFLINE forbids loading it; give the path of a local copy instead of a name"
    )]
    Offline {
        /// Model or file.
        what: String,
        /// Where was looked.
        cache: PathBuf,
    },
    /// The hub gave no answer.
    #[error(
        "the hub cannot be reached for {what} ({url}: {reason}); give the path of a local copy instead of a name"
    )]
    Unreachable {
        /// Model or file.
        what: String,
        /// The address that was asked.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The repository's authors give access to known people only.
    #[error("{repo} is gated: {}; accept its terms at {page}{}", .message, token_hint(*.has_token))]
    Gated {
        /// Repository.
        repo: String,
        /// The page where access is asked for.
        page: String,
        /// The hub's own words.
        message: String,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// No such repository, or a private one.
    #[error("there is no repository {repo}, or it is private (status {status}){}", token_hint(*.has_token))]
    RepositoryNotFound {
        /// Repository.
        repo: String,
        /// HTTP status.
        status: u16,
        /// Whether a token was sent.
        has_token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo} has no revision `{revision}`")]
    RevisionNotFound {
        /// Repository.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// The repository has no such file at that revision.
    #[error("{repo} has no file `{file}` at revision `{revision}`")]
    FileNotFound {
        /// Repository.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// Path inside the repository.
        file: String,
    },
    /// The repository holds no weights under a name that is looked for, and not exactly one other file of weights.
    #[error("{repo} has no weights that can be told: {}", listed(.files))]
    NoWeights {
        /// Repository.
        repo: String,
        /// Files that could hold weights.
        files: Vec<String>,
    },
    /// Any other refusal of the hub.
    #[error("{url} answered status {status}{}", if .message.is_empty() { String::new() } else { format!(": {}", .message) })]
    Status {
        /// The address that was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// The hub's own words, maybe empty.
        message: String,
    },
    /// An answer that the hub would not give: a proxy's page, another program on that port.
    #[error("{url} does not answer like the hub: {reason}")]
    StrangeAnswer {
        /// The address that was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },

    /// The transfer broke too often. What has arrived is kept; the same call goes on from there.
    #[error(
        "{file}: the transfer stopped at {done} of {} bytes ({reason}); run it again to go on from there", known_or(.total)
    )]
    Interrupted {
        /// Path inside the repository.
        file: String,
        /// Bytes that lie in the cache's partial file.
        done: u64,
        /// Bytes of the whole file, if known.
        total: Option<u64>,
        /// What happened last.
        reason: String,
    },
    /// The file that arrived is not as long as announced. It was deleted.
    #[error("{file}: {found} bytes arrived instead of {expected}; nothing was kept")]
    WrongSize {
        /// Path inside the repository.
        file: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that arrived (or would have: loading stops at the first byte too many).
        found: u64,
    },
    /// The file that arrived has other content than announced. It was deleted.
    #[error("{file}: the content's hash is {found} instead of {expected}; nothing was kept")]
    WrongHash {
        /// Path inside the repository.
        file: String,
        /// Hash announced: sha256, or git's sha1 for small files.
        expected: String,
        /// Hash of what arrived.
        found: String,
    },

    /// The disk is full. What has arrived is kept; the same call goes on from there.
    #[error(
        "no space is left for {path}; make room, or let HF_HUB_CACHE name a folder elsewhere, and run it again to go on"
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
    },
    /// The file system refused something.
    #[error("cannot {action} {path}: {source}{}", write_hint(.action))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.into() },
            _ => Self::Io { action, path: path.into(), source },
        }
    }

    /// Whether the reason is the way to the hub (none, closed, or another's answer), so that a copy in the cache may
    /// stand in. That a revision or a file does not exist is final instead.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. }
                | Self::Unreachable { .. }
                | Self::Gated { .. }
                | Self::RepositoryNotFound { .. }
                | Self::Status { .. }
                | Self::StrangeAnswer { .. }
        )
    }
}

fn did_you_mean(suggestions: &[String]) -> String {
    match suggestions {
        [] => "; `mobileclip models` lists the names, `hf-hub:owner/name` takes any repository".into(),
        some => {
            format!(
                "; did you mean {}?",
                some.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(" or ")
            )
        }
    }
}

fn token_hint(has_token: bool) -> &'static str {
    if has_token {
        "; the token that was sent (HF_TOKEN, or the login's file) does not give access"
    } else {
        "; if you have access, set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
    }
}

fn listed(files: &[String]) -> String {
    const SHOWN: usize = 10;
    if files.is_empty() {
        return "none of the usual file names, and no other .safetensors, .pt, .pth or .bin".into();
    }
    let more = files.len().saturating_sub(SHOWN);
    let shown = files.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("it could be one of {shown}{rest}; download that file and give its path")
}

fn known_or(total: &Option<u64>) -> String {
    total.map_or_else(|| "an unknown number of".into(), |n| n.to_string())
}

fn write_hint(action: &str) -> &'static str {
    if action.starts_with("read") { "" } else { " (HF_HUB_CACHE can name another folder)" }
}
