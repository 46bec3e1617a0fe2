//! What can be wrong: with the list of shards, the cache or a shard to write ([`Error`]), and inside a shard ([`Fault`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why there is nothing to read, or a shard cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("`{pattern}`: {reason}")]
    Pattern { pattern: String, reason: String },

    #[error("`{pattern}`: {reason}", reason = missing(first, *count))]
    NoShard { pattern: String, first: PathBuf, count: usize },

    #[error("{}: expected {expected}, found {found:?}", path.display())]
    Content { path: PathBuf, expected: &'static str, found: String },

    #[error("{}: {}; sample by sample it can only be read from a cache folder that it is unpacked to", path.display(), far(path))]
    NoCache { path: PathBuf },

    #[error(
        "{}: unpacked, the shards need more than the {limit} bytes that the cache may hold; allow it more, or unpack them yourself",
        path.display()
    )]
    CacheTooSmall { path: PathBuf, limit: u64 },

    #[error("{}: `{member}` {reason}", path.display())]
    Unwritable { path: PathBuf, member: String, reason: &'static str },

    #[error(transparent)]
    Fault(#[from] Fault),
}

fn far(path: &std::path::Path) -> &'static str {
    match mobileclip_store::is_remote(path) {
        true => "is on a store",
        false => "is packed, or no tar file",
    }
}

fn missing(first: &std::path::Path, count: usize) -> String {
    match count {
        1 => format!("there is no {}", first.display()),
        _ => format!("{count} of the shards are not there, the first is {}", first.display()),
    }
}

/// What is wrong inside a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Fault {
    /// The shard cannot be read beyond a point; what stands before it was read.
    #[error("{}: damaged at byte {offset}{}: {reason}", shard.display(), after(last))]
    Damaged { shard: PathBuf, last: Option<String>, offset: u64, reason: String },

    /// A member's contents are not what they must be.
    #[error("{}: sample `{key}`: `{member}`: {reason}", shard.display())]
    Member { shard: PathBuf, key: String, member: String, reason: String },

    /// A member that is needed is not there.
    #[error("{}: sample `{key}`: has no `{member}`", shard.display())]
    Missing { shard: PathBuf, key: String, member: String },

    /// Larger than the [`Limits`](crate::Limits) allow.
    #[error("{}: sample `{key}`: {what} is {found}, the limit is {limit}", shard.display())]
    Limit { shard: PathBuf, key: String, what: String, found: u64, limit: u64 },
}

fn after(last: &Option<String>) -> String {
    last.as_ref().map_or(String::new(), |last| format!(" (after `{last}`)"))
}

impl Fault {
    /// The sample's key, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Fault::Damaged { .. } => None,
            Fault::Member { key, .. } | Fault::Missing { key, .. } | Fault::Limit { key, .. } => Some(key),
        }
    }

    /// What faults are counted by: `damaged shard`, `bad npz`, `no txt`, `too large`.
    pub fn cause(&self) -> String {
        match self {
            Fault::Damaged { .. } => "damaged shard".to_owned(),
            Fault::Member { member, .. } => format!("bad {member}"),
            Fault::Missing { member, .. } => format!("no {member}"),
            Fault::Limit { .. } => "too large".to_owned(),
        }
    }
}

/// Faults counted by cause, and the first ones in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<String, usize>,
    first: Vec<Fault>,
}

impl Tally {
    /// How many faults are kept in full.
    pub const KEPT: usize = 20;

    /// Counts a fault.
    pub fn add(&mut self, fault: &Fault) {
        *self.counts.entry(fault.cause()).or_default() += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(fault.clone());
        }
    }

    /// Counts what another counted.
    pub fn extend(&mut self, other: &Tally) {
        other
            .counts
            .iter()
            .for_each(|(cause, count)| *self.counts.entry(cause.clone()).or_default() += count);
        let room = Self::KEPT.saturating_sub(self.first.len());
        self.first.extend(other.first.iter().take(room).cloned());
    }

    /// How many there were.
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many of each cause.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.counts.iter().map(|(cause, &count)| (cause.as_str(), count))
    }

    /// The first ones.
    pub fn first(&self) -> &[Fault] {
        &self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_by_cause_and_the_first_are_kept() {
        let mut tally = Tally::default();
        let missing = |key: usize| Fault::Missing {
            shard: "0.tar".into(),
            key: key.to_string(),
            member: "txt".to_owned(),
        };
        (0..30).for_each(|key| tally.add(&missing(key)));
        let member = "npz".to_owned();
        tally.add(&Fault::Member { shard: "0.tar".into(), key: "a".into(), member, reason: "no zip".into() });
        assert_eq!(tally.total(), 31);
        assert_eq!(tally.counts().collect::<Vec<_>>(), [("bad npz", 1), ("no txt", 30)]);
        assert_eq!(tally.first().len(), Tally::KEPT);
        let mut twice = tally.clone();
        twice.extend(&tally);
        assert_eq!((twice.total(), twice.first()), (62, tally.first()));
        assert_eq!(tally.first()[1].to_string(), "0.tar: sample `1`: has no `txt`");
    }
}
