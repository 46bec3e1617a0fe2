//! Who works on which shard, among processes that know nothing of each other but the folder.
//!
//! A lease is a file beside the shards. It is made by exactly one process (it appears by a rename that replaces nothing) and says who that is
//! and how often it was renewed. Whoever sees it unchanged for longer than its term, by its own clock, takes it over: clocks are never
//! compared. On one machine there is no need to wait, for a process that ends, however it ends, loses the lock on its file.
//!
//! Two processes may still work on one shard, say when one of them slept for longer than the term. That costs time and nothing else: a shard's
//! bytes depend on its samples and the settings alone, and it appears by rename.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::schedule::{Sightings, is_renewal_due};

/// What the files' names end in.
pub(crate) const LEASE: &str = ".lease";

/// The leases of a folder, as one process sees them.
pub(crate) struct Leases {
    folder: PathBuf,
    term: Duration,
    /// What leases on one machine have in common; nothing where that cannot be told.
    machine: String,
    /// Leases of others.
    seen: Sightings<PathBuf, Vec<u8>>,
    /// What times are counted from.
    begin: Instant,
}

/// A lease that this process holds. It ends when it is dropped, or the process dies.
pub(crate) struct Lease {
    path: PathBuf,
    /// Locked.
    file: File,
    term: Duration,
    /// Machine and process, unlike all others.
    owner: String,
    renewals: u64,
    /// What times are counted from.
    begin: Instant,
    renewed: Duration,
}

/// A lease that nobody holds, with its lock: as long as that is ours, no other contender of this machine takes it over.
struct Ended {
    _lock: Option<File>,
}

impl Leases {
    pub(crate) fn new(folder: PathBuf, term: Duration) -> Self {
        // A new one for each start of the system (Linux).
        let machine =
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        Self { folder, term, machine, seen: Sightings::new(term), begin: Instant::now() }
    }

    /// A number that other processes do not have.
    pub(crate) fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.machine, std::process::id(), unix_nanos()).hash(&mut hasher);
        hasher.finish()
    }

    /// Takes the lease of a shard; nothing if another process works on it.
    pub(crate) fn take(&mut self, shard: &str) -> io::Result<Option<Lease>> {
        let path = self.folder.join(format!("{shard}{LEASE}"));
        let held = match fs::read(&path) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.begin(path, false),
            Err(error) => return Err(error),
        };
        let Some(_ended) = self.ended(&path, &held)? else { return Ok(None) };
        self.seen.forget(&path);
        self.begin(path, true)
    }

    /// Whether nobody holds this lease any more.
    fn ended(&mut self, path: &Path, held: &[u8]) -> io::Result<Option<Ended>> {
        if !self.machine.is_empty() && held.starts_with(self.machine.as_bytes()) {
            let file = match File::options().write(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            // The lock tells; where there is none, time does.
            match file.try_lock() {
                Ok(()) => {
                    return Ok(fs::read(path)
                        .is_ok_and(|now| now == held)
                        .then_some(Ended { _lock: Some(file) }));
                }
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(_)) => {}
            }
        }
        let has_ended = self.seen.has_ended(path.to_path_buf(), held.to_vec(), self.begin.elapsed());
        Ok(has_ended.then_some(Ended { _lock: None }))
    }

    /// Puts a lease of this process in its place, in place of an ended one or of none.
    fn begin(&self, path: PathBuf, replaces: bool) -> io::Result<Option<Lease>> {
        let file = tempfile::Builder::new()
            .prefix(".lease-")
            .make_in(&self.folder, |path| File::options().write(true).create_new(true).open(path))?;
        // The name of the temporary file is drawn anew for each.
        let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = format!("{} {} {:x} {name}", self.machine, std::process::id(), unix_nanos());
        // Where there are no locks, other processes wait for the term.
        let _ = file.as_file().try_lock();
        let (renewals, renewed, begin) = (0, Duration::ZERO, Instant::now());
        write(file.as_file(), &owner, renewals)?;
        let persisted = if replaces { file.persist(&path) } else { file.persist_noclobber(&path) };
        let file = match persisted {
            Ok(file) => file,
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error.error),
        };
        let lease = Lease { path, file, term: self.term, owner, renewals, begin, renewed };
        // Another machine's process may have been as fast.
        Ok(lease.is_ours().then_some(lease))
    }
}

impl Lease {
    /// Renews the lease if it is time to; false if another process has taken it over.
    pub(crate) fn renew(&mut self) -> bool {
        let now = self.begin.elapsed();
        if !is_renewal_due(self.renewed, now, self.term) {
            return true;
        }
        if !self.is_ours() {
            return false;
        }
        self.renewals += 1;
        self.renewed = now;
        // A renewal that fails may cost the lease, which the next one sees.
        let _ = write(&self.file, &self.owner, self.renewals);
        true
    }

    /// Whether no other process has taken it over.
    pub(crate) fn is_ours(&self) -> bool {
        fs::read(&self.path).is_ok_and(|held| held.starts_with(self.owner.as_bytes()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_ours() {
            // What stays is taken over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn unix_nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// A line of always the same length, so that it can be written over.
fn write(mut file: &File, owner: &str, renewals: u64) -> io::Result<()> {
    file.rewind()?;
    file.write_all(format!("{owner} {renewals:020}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_millis(200);

    fn leases(folder: &Path, machine: &str) -> Leases {
        Leases { machine: machine.to_owned(), ..Leases::new(folder.to_path_buf(), TERM) }
    }

    #[test]
    fn one_of_many_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let taken: Vec<Option<Lease>> = std::thread::scope(|scope| {
            let contend =
                |i: usize| leases(folder.path(), &format!("machine {}", i % 3)).take("0.tar").unwrap();
            let threads: Vec<_> = (0..12).map(|i| scope.spawn(move || contend(i))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().flatten().count(), 1);
        drop(taken);
        // Nothing is left, and it can be had again.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(leases(folder.path(), "a").take("0.tar").unwrap().is_some());
    }

    #[test]
    fn an_ended_process_of_this_machine_is_replaced_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut lease = leases(folder.path(), "a").take("0.tar").unwrap().unwrap();
        let mut others = leases(folder.path(), "a");
        std::thread::sleep(2 * TERM);
        assert!(others.take("0.tar").unwrap().is_none(), "it lives, if slowly");
        // As the system does it when a process is killed: the lock goes, the file stays.
        lease.file = tempfile::tempfile().unwrap();
        let taken = others.take("0.tar").unwrap().unwrap();
        std::thread::sleep(TERM);
        assert!(!lease.renew());
        drop(lease);
        assert!(taken.is_ours());
    }

    #[test]
    fn a_lease_of_another_machine_ends_when_it_is_not_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let mut lease = leases(folder.path(), "a").take("0.tar").unwrap().unwrap();
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
