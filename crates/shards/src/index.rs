//! Where the members of a shard's samples lie.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Fault;
use crate::group::Groups;
use crate::limits::Limits;
use crate::tar::{Skip, unreadable};

/// Suffixes that a shard may have; usual ones have ten.
const SUFFIXES_MAX: usize = 1024;

/// The samples of an unpacked shard. Flat arrays: sets of millions of samples keep them in memory.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// All keys, one after the other, and where each ends.
    keys: String,
    key_ends: Vec<usize>,
    /// The suffixes that occur.
    suffixes: Vec<String>,
    /// All members, sample by sample, and where each sample's end.
    members: Vec<Place>,
    member_ends: Vec<usize>,
    /// What was wrong; such samples are not in the index.
    pub faults: Vec<Fault>,
}

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    suffix: u16,
    size: u32,
    offset: u64,
}

/// A member's suffix, and the place of its contents in the unpacked shard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Located<'a> {
    pub suffix: &'a str,
    pub offset: u64,
    pub size: u32,
}

impl Index {
    /// Reads all headers of an unpacked shard.
    pub(crate) fn scan(shard: Arc<Path>, reader: impl Skip, limits: &Limits) -> Self {
        let mut index = Self::default();
        let groups = Groups::new(Arc::clone(&shard), reader, limits.clone(), |tar, member| {
            tar.pass(member.size).map(|()| (member.offset, member.size))
        });
        for group in groups {
            match group {
                Ok(group) => index.push(&shard, group.key, group.members),
                Err(fault) => index.faults.push(fault),
            }
        }
        index
    }

    /// Names the reason why the unpacked bytes end where they do, instead of what that looks like in the tar.
    pub(crate) fn set_damage(&mut self, shard: &Path, offset: u64, error: &std::io::Error) {
        self.faults.pop_if(|fault| matches!(fault, Fault::Damaged { .. }));
        let (shard, reason) = (shard.to_path_buf(), unreadable(error));
        self.faults.push(Fault::Damaged {
            shard,
            last: self.key(self.len().wrapping_sub(1)).map(str::to_owned),
            offset,
            reason,
        });
    }

    fn push(&mut self, shard: &Path, key: String, members: Vec<(String, (u64, u64))>) {
        let start = self.members.len();
        for (suffix, (offset, size)) in members {
            let place = self.suffix(suffix).zip(u32::try_from(size).ok());
            let Some((suffix, size)) = place else {
                // The limit of a member's size is below 4 GiB, so it is the suffixes.
                let what = "the number of suffixes in the shard".to_owned();
                let (found, limit) = (SUFFIXES_MAX as u64 + 1, SUFFIXES_MAX as u64);
                self.members.truncate(start);
                self.faults.push(Fault::Limit { shard: shard.to_path_buf(), key, what, found, limit });
                return;
            };
            self.members.push(Place { suffix, size, offset });
        }
        self.keys.push_str(&key);
        self.key_ends.push(self.keys.len());
        self.member_ends.push(self.members.len());
    }

    fn suffix(&mut self, suffix: String) -> Option<u16> {
        let known = self.suffixes.iter().position(|known| *known == suffix);
        let number = known.unwrap_or(self.suffixes.len());
        let number = u16::try_from(number).ok().filter(|_| number < SUFFIXES_MAX)?;
        if known.is_none() {
            self.suffixes.push(suffix);
        }
        Some(number)
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// The key of sample `i`.
    pub(crate) fn key(&self, i: usize) -> Option<&str> {
        let start = before(&self.key_ends, i)?;
        self.keys.get(start..*self.key_ends.get(i)?)
    }

    /// The members of sample `i`.
    pub(crate) fn members(&self, i: usize) -> Option<impl Iterator<Item = Located<'_>>> {
        let start = before(&self.member_ends, i)?;
        let places = self.members.get(start..*self.member_ends.get(i)?)?;
        Some(places.iter().filter_map(|place| {
            let suffix = self.suffixes.get(usize::from(place.suffix))?;
            Some(Located { suffix, offset: place.offset, size: place.size })
        }))
    }

    /// Whether what was read from a file can be the index of an unpacked shard of so many bytes.
    pub(crate) fn is_sound(&self, bytes: u64) -> bool {
        let ends_fit = |ends: &[usize], total: usize| {
            ends.is_sorted() && ends.last().copied().unwrap_or_default() == total
        };
        ends_fit(&self.key_ends, self.keys.len())
            && ends_fit(&self.member_ends, self.members.len())
            && self.key_ends.len() == self.member_ends.len()
            && self.key_ends.iter().all(|&end| self.keys.is_char_boundary(end))
            && self.members.iter().all(|place| {
                usize::from(place.suffix) < self.suffixes.len()
                    && place.offset.checked_add(u64::from(place.size)).is_some_and(|end| end <= bytes)
            })
    }
}

/// Where entry `i` begins: the end of the one before.
fn before(ends: &[usize], i: usize) -> Option<usize> {
    match i.checked_sub(1) {
        None => Some(0),
        Some(previous) => ends.get(previous).copied(),
    }
}
