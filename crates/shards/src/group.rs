//! Members of a tar stream that follow each other and have one key: samples.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Fault;
use crate::limits::Limits;
use crate::name;
use crate::tar::{Damage, Skip, Tar, TarMember};

/// What is kept of a member: its contents, or its place.
pub(crate) type Keep<R, T> = fn(&mut Tar<R>, &TarMember) -> Result<T, Damage>;

/// Members of one key.
#[derive(Debug)]
pub(crate) struct Group<T> {
    pub key: String,
    /// Suffix and what is kept, in the order of the shard. No suffix stands twice.
    pub members: Vec<(String, T)>,
}

/// The samples of a tar stream.
///
/// A new sample begins when the key changes or the suffix is there already, as the published trainer has it. Where the stream is
/// damaged, the sample before is given with the members it has (whoever needs more of them will say so), then the damage, then
/// nothing.
pub(crate) struct Groups<R, T> {
    shard: Arc<Path>,
    tar: Tar<R>,
    keep: Keep<R, T>,
    limits: Limits,
    pending: Option<Pending<T>>,
    last: Option<String>,
    damage: Option<Fault>,
    is_done: bool,
}

struct Pending<T> {
    group: Group<T>,
    bytes: u64,
    fault: Option<Fault>,
}

impl<T> Pending<T> {
    fn finish(self) -> Result<Group<T>, Fault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.group),
        }
    }
}

impl<R: Skip, T> Groups<R, T> {
    pub(crate) fn new(shard: Arc<Path>, reader: R, limits: Limits, keep: Keep<R, T>) -> Self {
        let tar = Tar::new(reader, &limits);
        Self { shard, tar, keep, limits, pending: None, last: None, damage: None, is_done: false }
    }

    /// Takes a member into the pending sample; gives the sample before it, if it begins a new one.
    fn take(&mut self, member: &TarMember) -> Option<Result<Group<T>, Fault>> {
        let Ok(name) = &member.name else { return Some(Err(self.odd_name(member))) };
        let (key, suffix) = name::split(name)?;
        let is_same = self.pending.as_ref().is_some_and(|pending| {
            pending.group.key == key && pending.group.members.iter().all(|(known, _)| *known != suffix)
        });
        let finished = if is_same { None } else { self.pending.take().map(Pending::finish) };
        let shard = || self.shard.to_path_buf();
        let pending = self.pending.get_or_insert_with(|| Pending {
            group: Group { key: key.to_owned(), members: Vec::new() },
            bytes: 0,
            fault: None,
        });
        pending.bytes = pending.bytes.saturating_add(member.size);
        if pending.fault.is_none() {
            pending.fault = refuse(shard, pending, member, &suffix, &self.limits);
        }
        if pending.fault.is_none() {
            match (self.keep)(&mut self.tar, member) {
                Ok(kept) => pending.group.members.push((suffix, kept)),
                Err(damage) => {
                    // A sample that the damaged member would have begun does not exist.
                    self.pending.take_if(|pending| pending.group.members.is_empty());
                    self.end(damage);
                }
            }
        }
        self.last = Some(name.clone());
        finished
    }

    /// Nothing more can be read.
    fn end(&mut self, Damage { offset, reason }: Damage) {
        self.is_done = true;
        let (shard, last) = (self.shard.to_path_buf(), self.last.clone());
        self.damage = Some(Fault::Damaged { shard, last, offset, reason });
    }

    fn odd_name(&self, member: &TarMember) -> Fault {
        let name = member.name.clone().unwrap_or_else(|odd| odd);
        Fault::Member {
            shard: self.shard.to_path_buf(),
            key: name.clone(),
            member: "name".to_owned(),
            reason: "a member's name is not UTF-8; it is left out".to_owned(),
        }
    }
}

/// Why a member cannot be taken into the sample.
fn refuse<T>(
    shard: impl Fn() -> PathBuf,
    pending: &Pending<T>,
    member: &TarMember,
    suffix: &str,
    limits: &Limits,
) -> Option<Fault> {
    let key = pending.group.key.clone();
    let limit = |what: String, found: u64, limit: u64| {
        (found > limit).then(|| Fault::Limit { shard: shard(), key: key.clone(), what, found, limit })
    };
    if member.is_sparse {
        let reason = "is stored with holes (sparse), which is not read".to_owned();
        return Some(Fault::Member { shard: shard(), key, member: suffix.to_owned(), reason });
    }
    limit(format!("the size of `{suffix}`"), member.size, u64::from(limits.member_bytes))
        .or_else(|| limit("the size of all its members".to_owned(), pending.bytes, limits.sample_bytes))
        .or_else(|| {
            let members = pending.group.members.len() as u64 + 1;
            limit("the number of its members".to_owned(), members, limits.sample_members as u64)
        })
}

impl<R: Skip, T> Iterator for Groups<R, T> {
    type Item = Result<Group<T>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.tar.next() {
                Ok(Some(member)) => {
                    if let Some(finished) = self.take(&member) {
                        return Some(finished);
                    }
                }
                Ok(None) => self.is_done = true,
                Err(damage) => self.end(damage),
            }
        }
        match self.pending.take() {
            Some(pending) => Some(pending.finish()),
            None => self.damage.take().map(Err),
        }
    }
}
