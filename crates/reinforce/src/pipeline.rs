//! One shard through a stage, by several threads, in its order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mobileclip_shards::{Sample, SampleStream, Tally};

use crate::error::{Error, Result};
use crate::stage::{Done, Stage};

/// How often whoever waits is told how far it is.
const TICK: Duration = Duration::from_millis(200);
/// Chunks for each thread that may be done before the one that is to be written next.
const AHEAD: usize = 4;

/// Where samples go.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(&Sample) -> Result<()> + Send);

/// How much is done at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Threads.
    pub threads: usize,
    /// Samples that a thread takes at a time.
    pub chunk: usize,
}

/// What became of a shard's samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples that were read.
    pub read: usize,
    /// Of them, those that the stage could use.
    pub made: usize,
    /// Those that stay as they are.
    pub kept: usize,
    /// Those that are left out because they cannot be used.
    pub dropped: usize,
    /// Those that the stage chose to leave out.
    pub rejected: usize,
    /// What was wrong, by cause.
    pub faults: Tally,
}

impl Counts {
    /// Adds what another counted.
    pub fn extend(&mut self, other: &Counts) {
        self.read += other.read;
        self.made += other.made;
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.rejected += other.rejected;
        self.faults.extend(&other.faults);
    }
}

/// Sends all samples of `input` through the stage to `sink`, in their order. `watch` is called now and then with the samples written and the
/// bytes read so far; if it breaks, there is no result.
///
/// # Errors
/// The stage's, or the sink's.
pub(crate) fn run(
    stage: &dyn Stage,
    shard: &Path,
    input: SampleStream,
    sink: Sink<'_>,
    effort: Effort,
    watch: &mut dyn FnMut(usize, u64) -> ControlFlow<()>,
) -> Result<Option<Counts>> {
    let threads = effort.threads.max(1);
    let line = Line {
        stage,
        shard,
        chunk: effort.chunk.max(1),
        ahead: AHEAD * threads,
        input: Mutex::new(Input { stream: input, next: 0 }),
        output: Mutex::new(Output {
            sink,
            next: 0,
            waiting: BTreeMap::new(),
            counts: Counts::default(),
            position: 0,
            running: threads,
            stop: None,
        }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| line.work());
        }
        let mut output = lock(&line.output);
        while output.running > 0 {
            let waited = line.changed.wait_timeout(output, TICK).unwrap_or_else(PoisonError::into_inner);
            output = waited.0;
            let (written, position) = (output.counts.read, output.position);
            // Whoever watches may take its time.
            drop(output);
            let flow = watch(written, position);
            output = lock(&line.output);
            if flow.is_break() {
                output.stop.get_or_insert(Ok(()));
            }
        }
    });
    let output = line.output.into_inner().unwrap_or_else(PoisonError::into_inner);
    match output.stop {
        None => Ok(Some(output.counts)),
        Some(Ok(())) => Ok(None),
        Some(Err(error)) => Err(error),
    }
}

struct Line<'a> {
    stage: &'a dyn Stage,
    shard: &'a Path,
    chunk: usize,
    ahead: usize,
    input: Mutex<Input>,
    output: Mutex<Output<'a>>,
    /// A chunk was written, or a thread has ended.
    changed: Condvar,
}

struct Input {
    stream: SampleStream,
    /// Number of the next chunk.
    next: usize,
}

struct Output<'a> {
    sink: Sink<'a>,
    /// Number of the chunk that is to be written next.
    next: usize,
    /// Chunks that are done before their turn.
    waiting: BTreeMap<usize, (usize, Vec<Done>)>,
    counts: Counts,
    position: u64,
    running: usize,
    /// Why nobody should go on.
    stop: Option<Result<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line<'_> {
    fn work(&self) {
        // A panic is a mistake of ours, but it must not leave the others waiting for ever.
        let worked = catch_unwind(AssertUnwindSafe(|| self.chunks()));
        let mut output = lock(&self.output);
        match worked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => _ = output.stop.get_or_insert(Err(error)),
            Err(_) => _ = output.stop.get_or_insert(Err(Error::Panic { path: self.shard.to_path_buf() })),
        }
        output.running -= 1;
        self.changed.notify_all();
    }

    fn chunks(&self) -> Result<()> {
        while let Some((number, read, samples)) = self.take() {
            let done = self.stage.chunk(samples)?;
            let mut output = lock(&self.output);
            output.waiting.insert(number, (read, done));
            output.write()?;
            self.changed.notify_all();
            let is_ahead = |output: &mut Output| output.stop.is_none() && number >= output.next + self.ahead;
            let waited = self.changed.wait_while(output, is_ahead).unwrap_or_else(PoisonError::into_inner);
            if waited.stop.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// The next samples, and how many places of the shard they are out of; nothing at its end.
    fn take(&self) -> Option<(usize, usize, Vec<Sample>)> {
        let mut input = lock(&self.input);
        let mut samples = Vec::with_capacity(self.chunk);
        let mut faults = Tally::default();
        let mut read = 0;
        while samples.len() < self.chunk {
            let Some(sample) = input.stream.next() else { break };
            read += 1;
            match sample {
                Ok(sample) => samples.push(sample),
                Err(fault) => faults.add(&fault),
            }
        }
        let (number, position) = (input.next, input.stream.position());
        let check = input.stream.check();
        input.next += usize::from(read > 0);
        drop(input);
        let mut output = lock(&self.output);
        if let Err(error) = check {
            // What a shard would lack because of a store that is away, it would lack for ever.
            output.stop.get_or_insert(Err(error.into()));
            self.changed.notify_all();
            return None;
        }
        output.counts.dropped += faults.total();
        output.counts.faults.extend(&faults);
        output.position = output.position.max(position);
        (read > 0 && output.stop.is_none()).then_some((number, read, samples))
    }
}

impl Output<'_> {
    /// Writes the chunks whose turn it is.
    fn write(&mut self) -> Result<()> {
        while let Some((read, samples)) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.counts.read += read;
            for done in samples {
                let counts = &mut self.counts;
                let (count, sample, fault) = match done {
                    Done::Made(sample) => (&mut counts.made, Some(sample), None),
                    Done::Kept(sample, fault) => (&mut counts.kept, Some(sample), Some(fault)),
                    Done::Dropped(fault) => (&mut counts.dropped, None, Some(fault)),
                    Done::Rejected => (&mut counts.rejected, None, None),
                };
                *count += 1;
                fault.iter().for_each(|fault| counts.faults.add(fault));
                sample.iter().try_for_each(|sample| (self.sink)(sample))?;
            }
        }
        Ok(())
    }
}
