//! Threads that decode ahead, and one order whatever their number.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use serde::{Deserialize, Serialize};

use super::order::order;
use super::source::{Item, Skip, Source};
use crate::error::{Error, Result};

/// How far a run has come in its data: what a resumed one goes on from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch.
    pub epoch: u64,
    /// How many samples of its order were taken, skipped ones among them.
    pub taken: u32,
    /// Samples that were left out since the run began, by cause.
    pub skipped: BTreeMap<String, u64>,
}

/// Gives items in the order of the epochs, one after the other without a border.
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    position: Position,
    samples: u32,
}

struct Shared {
    source: Arc<Source>,
    state: Mutex<State>,
    /// There is room for work.
    room: Condvar,
    /// A slot was filled.
    filled: Condvar,
    ahead: usize,
}

/// Work is claimed in order and delivered in order; what is between is in slots.
struct State {
    epoch: u64,
    next: usize,
    order: Vec<u32>,
    /// Number of the slot in front.
    delivered: u64,
    slots: VecDeque<Option<Result<Item, Skip>>>,
    stops: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next slot's number and what belongs there; `None` if it is time to stop.
    fn claim(&self) -> Option<(u64, u64, u32)> {
        let full = |state: &mut State| state.slots.len() >= self.ahead && !state.stops;
        let mut state = self.room.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.stops {
            return None;
        }
        if state.next == state.order.len() {
            state.epoch += 1;
            state.next = 0;
            state.order = order(self.source.random(), state.epoch, state.order.len() as u32);
        }
        let (slot, sample) = (state.delivered + state.slots.len() as u64, state.order[state.next]);
        state.next += 1;
        state.slots.push_back(None);
        Some((slot, state.epoch, sample))
    }

    fn work(&self) {
        while let Some((slot, epoch, sample)) = self.claim() {
            // A panic is a mistake of ours, but it must not leave a run waiting for ever.
            let made = catch_unwind(AssertUnwindSafe(|| self.source.item(epoch, sample)));
            let item = made.unwrap_or_else(|_| {
                let key = self.source.dataset().key(sample as usize).unwrap_or_default();
                Err(Skip {
                    cause: "panic".to_owned(),
                    message: format!("sample `{key}`: reading it panicked"),
                })
            });
            let mut state = self.lock();
            let place = (slot - state.delivered) as usize;
            if let Some(free) = state.slots.get_mut(place) {
                *free = Some(item);
            }
            self.filled.notify_all();
        }
    }
}

impl Loader {
    /// Starts `workers` threads at a position; they are at most `ahead` samples ahead.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start(source: Arc<Source>, position: Position, workers: usize, ahead: usize) -> Result<Loader> {
        let samples = source.dataset().len() as u32;
        let order = order(source.random(), position.epoch, samples);
        let state = State {
            epoch: position.epoch,
            next: (position.taken as usize).min(order.len()),
            order,
            delivered: 0,
            slots: VecDeque::new(),
            stops: false,
        };
        let shared = Arc::new(Shared {
            source,
            state: Mutex::new(state),
            room: Condvar::new(),
            filled: Condvar::new(),
            ahead: ahead.max(1),
        });
        let mut loader = Loader { shared, threads: Vec::new(), position, samples };
        for number in 0..workers.max(1) {
            let shared = Arc::clone(&loader.shared);
            let thread = Builder::new().name(format!("data {number}")).spawn(move || shared.work());
            loader.threads.push(thread.map_err(|e| Error::field("data.workers", e.to_string()))?);
        }
        Ok(loader)
    }

    /// The next item; `skipped` is called with what is left out before it.
    ///
    /// # Errors
    /// [`Error::NoSample`] if as many were left out one after the other as there are.
    pub fn next(&mut self, skipped: &mut dyn FnMut(&Skip)) -> Result<Item> {
        let mut first = None;
        for _ in 0..self.samples {
            let waits = |state: &mut State| !matches!(state.slots.front(), Some(Some(_)));
            let state = self.shared.filled.wait_while(self.shared.lock(), waits);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let item = state.slots.pop_front().flatten();
            state.delivered += 1;
            drop(state);
            self.shared.room.notify_one();
            if self.position.taken == self.samples {
                self.position.epoch += 1;
                self.position.taken = 0;
            }
            self.position.taken += 1;
            match item {
                Some(Ok(item)) => return Ok(item),
                Some(Err(skip)) => {
                    *self.position.skipped.entry(skip.cause.clone()).or_default() += 1;
                    skipped(&skip);
                    first.get_or_insert(skip.message);
                }
                None => {}
            }
        }
        Err(Error::NoSample { samples: self.samples as usize, first: first.unwrap_or_default() })
    }

    /// Where the next item stands.
    pub fn position(&self) -> &Position {
        &self.position
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.lock().stops = true;
        self.shared.room.notify_all();
        for thread in self.threads.drain(..) {
            // It has told of its panic already.
            let _ = thread.join();
        }
    }
}
