//! Threads that run one closure together: they spin for some microseconds between two closures, then sleep.
//!
//! The short spin makes a step of a tenth of a millisecond worth sharing. Longer spinning gains nothing on a free machine
//! and is ruinous on a busy one, because a spinning thread keeps its core from the partner it waits for (measured with
//! one other busy process on two cores: 45 ms a run with 1000 pauses, 76 ms with 20 000, 200 ms without an end).

use crate::tiles::MAX_TILES;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

const SPINS: usize = 1000;

type Job = *const (dyn Fn(usize) + Sync);

/// The job of the moment. Null pointers cannot be fat, hence the option.
struct JobCell(Cell<Option<Job>>);

// SAFETY: written only by the thread inside `run` (which holds `Pool::busy`) while no worker has work, and read by workers
// only between the rise of `generation` and their decrement of `remaining`.
unsafe impl Sync for JobCell {}
// SAFETY: the pointer is to a `Sync` closure, and used as said above.
unsafe impl Send for JobCell {}

struct Shared {
    job: JobCell,
    generation: AtomicUsize,
    remaining: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    sleepers: AtomicUsize,
    gate: Mutex<()>,
    changed: Condvar,
}

impl Shared {
    /// Returns once `done` is true: spins first, then sleeps until somebody calls [`Shared::wake`].
    fn wait(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        self.sleepers.fetch_add(1, SeqCst);
        let mut guard = lock(&self.gate);
        while !done() {
            guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, SeqCst);
    }

    /// To be called after the change that somebody may be waiting for.
    fn wake(&self) {
        // A sleeper counts itself before it looks a last time, and looks under the lock: none is missed.
        if self.sleepers.load(SeqCst) > 0 {
            drop(lock(&self.gate));
            self.changed.notify_all();
        }
    }

    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            self.wait(|| self.generation.load(SeqCst) != seen || self.stop.load(SeqCst));
            if self.stop.load(SeqCst) {
                return;
            }
            seen = self.generation.load(SeqCst);
            if let Some(job) = self.job.0.get() {
                // SAFETY: `run` keeps the closure alive until `remaining` is zero.
                let job = unsafe { &*job };
                if catch_unwind(AssertUnwindSafe(|| job(worker))).is_err() {
                    self.panicked.store(true, SeqCst);
                }
            }
            if self.remaining.fetch_sub(1, SeqCst) == 1 {
                self.wake();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fixed number of threads, the caller's own included.
///
/// ```
/// use mobileclip_kernels::Pool;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let (pool, sum) = (Pool::new(2), AtomicUsize::new(0));
/// pool.for_each(100, |_thread, i| { sum.fetch_add(i, Ordering::Relaxed); });
/// assert_eq!(sum.into_inner(), 4950);
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, at least 1 and at most [`MAX_TILES`]. Where the system refuses a thread there are fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            job: JobCell(Cell::new(None)),
            generation: AtomicUsize::new(0),
            remaining: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            gate: Mutex::new(()),
            changed: Condvar::new(),
        });
        let start = |worker: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("mobileclip-{worker}");
            std::thread::Builder::new().name(name).spawn(move || shared.work(worker)).ok()
        };
        let workers = (1..threads.min(MAX_TILES)).map_while(start).collect();
        Pool { shared, workers, busy: Mutex::new(()) }
    }

    /// Threads, the caller's own included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `f(0)` on this thread and `f(1)`, …, `f(threads - 1)` on the others, and returns when all are done.
    ///
    /// While the pool is busy with another caller (or `f` itself calls it), only `f(0)` is called: `f` must do all of the
    /// work however many threads come, say by taking tasks from a counter.
    ///
    /// # Panics
    /// If one of the calls does.
    pub fn run(&self, f: impl Fn(usize) + Sync) {
        if self.workers.is_empty() {
            return f(0);
        }
        let _busy = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return f(0),
        };
        let mine = self.run_all(&f);
        let others_panicked = self.shared.panicked.swap(false, SeqCst);
        if let Err(payload) = mine {
            resume_unwind(payload);
        }
        assert!(!others_panicked, "a thread of the pool panicked");
    }

    fn run_all(&self, f: &(dyn Fn(usize) + Sync)) -> Result<(), Box<dyn Any + Send>> {
        let shared = &self.shared;
        // SAFETY: only the lifetime changes. The workers use the closure until they decrement `remaining`, and this
        // function waits for all of them, also when its own call panics.
        let job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(f) };
        shared.job.0.set(Some(job));
        shared.remaining.store(self.workers.len(), SeqCst);
        shared.generation.fetch_add(1, SeqCst);
        shared.wake();
        let mine = catch_unwind(AssertUnwindSafe(|| f(0)));
        shared.wait(|| shared.remaining.load(SeqCst) == 0);
        shared.job.0.set(None);
        mine
    }

    /// Calls `f(thread, i)` once for each i < n, on whatever threads are free: in rising order, but overlapping.
    ///
    /// # Panics
    /// If one of the calls does.
    pub fn for_each(&self, n: usize, f: impl Fn(usize, usize) + Sync) {
        let next = AtomicUsize::new(0);
        self.run(|thread| {
            loop {
                let i = next.fetch_add(1, SeqCst);
                if i >= n {
                    return;
                }
                f(thread, i);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its jobs, so it has none to report.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_index_once_also_after_sleep() {
        let pool = Pool::new(3);
        for round in 0..50 {
            let seen: Vec<AtomicUsize> = (0..97).map(|_| AtomicUsize::new(0)).collect();
            pool.for_each(97, |thread, i| {
                assert!(thread < 3);
                seen[i].fetch_add(1, SeqCst);
            });
            assert!(seen.iter().all(|s| s.load(SeqCst) == 1));
            if round % 10 == 0 {
                std::thread::sleep(Duration::from_millis(2)); // long enough for the workers to fall asleep
            }
        }
    }

    #[test]
    fn nested_and_concurrent_calls_do_all_work() {
        let (pool, sum) = (Pool::new(2), AtomicUsize::new(0));
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| {
                    pool.for_each(10, |_, _| {
                        pool.for_each(10, |_, _| {
                            sum.fetch_add(1, SeqCst);
                        });
                    });
                });
            }
        });
        assert_eq!(sum.into_inner(), 300);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives() {
        let pool = Pool::new(2);
        for guilty in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(|thread| {
                    assert!(thread != guilty, "guilty");
                    std::thread::sleep(Duration::from_millis(1));
                });
            }));
            assert!(result.is_err());
        }
        let n = AtomicUsize::new(0);
        pool.run(|_| {
            n.fetch_add(1, SeqCst);
        });
        assert_eq!(n.into_inner(), 2);
    }
}
