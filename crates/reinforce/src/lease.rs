//! Who works on which shard, among processes that know nothing of each other but the folder.
//!
//! A lease is a file in the folder, which may be on a store. It is made by exactly one process (put only if there is none) and says who that
//! is and how often it was renewed. Whoever sees it unchanged for longer than its term, by its own clock, takes it over (puts its own in place
//! of the one it has seen): clocks are never compared. On one machine there is no need to wait, for a process that ends, however it ends,
//! loses the lock on its [`Sign`] of life.
//!
//! Two processes may still work on one shard, say when one of them slept for longer than the term. That costs time and nothing else: a shard's
//! bytes depend on its samples and the settings alone, and it appears whole.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use mobileclip_store::{Place, Version};

use crate::alive::{Life, Sign};
use crate::schedule::{Sightings, is_renewal_due};

/// What the files' names end in.
pub(crate) const LEASE: &str = ".lease";

/// The leases of a folder, as one process sees them.
pub(crate) struct Leases {
    folder: Place,
    term: Duration,
    /// What leases on one machine have in common; nothing where that cannot be told.
    machine: String,
    /// Unlike those of all others.
    sign: Sign,
    /// Leases of others.
    seen: Sightings<PathBuf, Vec<u8>>,
    /// What times are counted from.
    begin: Instant,
}

/// A lease that this process holds. It ends when it is dropped, or the process dies.
pub(crate) struct Lease {
    place: Place,
    version: Version,
    term: Duration,
    /// Machine and process, unlike all others.
    owner: String,
    renewals: u64,
    /// What times are counted from.
    begin: Instant,
    renewed: Duration,
}

impl Leases {
    pub(crate) fn new(folder: Place, term: Duration) -> Self {
        // A new one for each start of the system (Linux).
        let machine =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let sign = Sign::give(&folder);
        Self { folder, term, machine, sign, seen: Sightings::new(term), begin: Instant::now() }
    }

    /// A number that other processes do not have.
    pub(crate) fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.machine, std::process::id(), unix_nanos()).hash(&mut hasher);
        hasher.finish()
    }

    /// Takes the lease of a shard; nothing if another process works on it.
    pub(crate) fn take(&mut self, shard: &str) -> io::Result<Option<Lease>> {
        let place = self.folder.join(&format!("{shard}{LEASE}"));
        let process = std::process::id();
        let owner = format!("{} {} {process} {:x}", self.machine, self.sign.name(), unix_nanos());
        let (renewals, renewed, begin) = (0, Duration::ZERO, Instant::now());
        let line = line(&owner, renewals);
        let version = match place.read()? {
            None => place.put_new(&line)?,
            Some((held, version)) => match self.ended(&place, held) {
                // As long as the dead one's lock is ours, no other contender of this machine takes its lease over.
                Some(_lock) => place.replace_if(&line, &version)?,
                None => None,
            },
        };
        let Some(version) = version else { return Ok(None) };
        self.seen.forget(&place.address().to_path_buf());
        let lease = Lease { place, version, term: self.term, owner, renewals, begin, renewed };
        // On a disk, another machine's process may have been as fast.
        Ok((lease.place.is_remote() || lease.is_ours()).then_some(lease))
    }

    /// Whether nobody holds this lease any more; if its holder is known to be dead, with its lock.
    fn ended(&mut self, place: &Place, held: Vec<u8>) -> Option<Option<Life>> {
        let text = String::from_utf8_lossy(&held);
        let mut words = text.split(' ');
        let (machine, sign) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !self.machine.is_empty() && machine == self.machine {
            match self.sign.of_other(sign) {
                Life::Unknown => {}
                Life::Lives => return None,
                dead => return Some(Some(dead)),
            }
        }
        let has_ended = self.seen.has_ended(place.address().to_path_buf(), held, self.begin.elapsed());
        has_ended.then_some(None)
    }
}

impl Lease {
    /// Renews the lease if it is time to; false if another process has taken it over.
    pub(crate) fn renew(&mut self) -> bool {
        let now = self.begin.elapsed();
        if !is_renewal_due(self.renewed, now, self.term) {
            return true;
        }
        self.renewals += 1;
        self.renewed = now;
        match self.place.replace_if(&line(&self.owner, self.renewals), &self.version) {
            Ok(Some(version)) => self.version = version,
            // It may be an earlier renewal, whose answer was lost.
            Ok(None) => match self.place.read() {
                Ok(Some((held, version))) if self.is_owner_of(&held) => self.version = version,
                Ok(_) => return false,
                Err(_) => {}
            },
            // A renewal that fails may cost the lease, which the next one sees.
            Err(_) => {}
        }
        true
    }

    /// Whether no other process has taken it over.
    pub(crate) fn is_ours(&self) -> bool {
        self.place.read().is_ok_and(|held| held.is_some_and(|(held, _)| self.is_owner_of(&held)))
    }

    fn is_owner_of(&self, held: &[u8]) -> bool {
        held.strip_prefix(self.owner.as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_ours() {
            // What stays is taken over.
            let _ = self.place.delete();
        }
    }
}

fn unix_nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn line(owner: &str, renewals: u64) -> Vec<u8> {
    format!("{owner} {renewals}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const TERM: Duration = Duration::from_millis(200);

    fn leases(folder: &Path, machine: &str) -> Leases {
        Leases { machine: machine.to_owned(), ..Leases::new(Place::new(folder).unwrap(), TERM) }
    }

    #[test]
    fn one_of_many_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let taken: Vec<(Option<Lease>, Leases)> = std::thread::scope(|scope| {
            let contend = |i: usize| {
                let mut leases = leases(folder.path(), &format!("machine{}", i % 3));
                (leases.take("0.tar").unwrap(), leases)
            };
            let threads: Vec<_> = (0..12).map(|i| scope.spawn(move || contend(i))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|(lease, _)| lease.is_some()).count(), 1);
        drop(taken);
        // Nothing is left, and it can be had again.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(leases(folder.path(), "a").take("0.tar").unwrap().is_some());
    }

    #[test]
    fn an_ended_process_of_this_machine_is_replaced_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut slow = leases(folder.path(), "a");
        let mut lease = slow.take("0.tar").unwrap().unwrap();
        let mut others = leases(folder.path(), "a");
        std::thread::sleep(2 * TERM);
        assert!(others.take("0.tar").unwrap().is_none(), "it lives, if slowly");
        slow.sign.die();
        let taken = others.take("0.tar").unwrap().unwrap();
        std::thread::sleep(TERM);
        assert!(!lease.renew());
        drop(lease);
        assert!(taken.is_ours());
    }

    #[test]
    fn a_lease_of_another_machine_ends_when_it_is_not_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = leases(folder.path(), "a");
        let mut lease = holder.take("0.tar").unwrap().unwrap();
        let mut others = leases(folder.path(), "b");
        let begin = Instant::now();
        while begin.elapsed() < 3 * TERM {
            assert!(lease.renew());
            assert!(others.take("0.tar").unwrap().is_none());
            std::thread::sleep(TERM / 20);
        }
        let begin = Instant::now();
        let mut taken = loop {
            match others.take("0.tar").unwrap() {
                Some(taken) => break taken,
                None => std::thread::sleep(TERM / 20),
            }
        };
        assert!(begin.elapsed() > TERM / 2);
        std::thread::sleep(TERM);
        assert!(!lease.renew() && taken.renew());
    }
}
