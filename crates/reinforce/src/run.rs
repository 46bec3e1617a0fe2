//! A list of shards through a stage.

use std::mem::replace;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use mobileclip_shards::{Fault, Format, Limits, Sample, SampleStream, ShardWriter, remove_partial};
use mobileclip_store::Place;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::folder::{Folder, Job, MANIFEST, Naming, Note, Packing};
use crate::lease::{Lease, Leases};
use crate::pipeline::{self, Counts, Effort};
use crate::schedule::{Step, Tried, Walk};
use crate::stage::Stage;

/// How often whoever waits is asked whether to stop.
const STEP: Duration = Duration::from_millis(100);

/// Where shards come to, and how they are made.
#[derive(Clone, Debug)]
pub struct Output {
    /// The folder, or its address on a store; it may hold finished shards of the same settings.
    pub folder: PathBuf,
    /// What shards are called.
    pub naming: Naming,
    /// Which format they have: tar files or JSON lines.
    pub format: Format,
    /// How they are packed.
    pub packing: Packing,
    /// How much is done at a time.
    pub effort: Effort,
    /// Bounds on what is read.
    pub limits: Limits,
    /// After how long without a sign of life another machine's process is taken for dead.
    pub lease: Duration,
    /// Where the inputs are a part of a list: the place of the first one in it, which [`Naming::Count`] counts from.
    pub first: usize,
    /// Whether the manifest is written, which has the shards of this run's list. Not to be wanted where that is a part of a list.
    pub writes_manifest: bool,
}

impl Output {
    /// A folder of tar files that are called as their inputs, and not packed.
    pub fn new(folder: impl Into<PathBuf>, effort: Effort) -> Self {
        let (naming, format, packing) = (Naming::default(), Format::Tar, Packing::default());
        let (folder, limits, lease) = (folder.into(), Limits::default(), Duration::from_secs(120));
        Self { folder, naming, format, packing, effort, limits, lease, first: 0, writes_manifest: true }
    }
}

/// What happens during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// This shard is there already.
    Found(&'a Path),
    /// How far it is.
    Progress(Progress),
    /// What was wrong with a sample; the first ones of each shard are told.
    Fault(&'a Fault),
    /// This shard was made.
    Made(&'a Note),
    /// Other processes work on all shards that are left, so many; or on the manifest, where none is.
    Waiting(usize),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Samples that this process has written.
    pub samples: usize,
    /// Bytes of the inputs that were read, or belong to finished shards.
    pub bytes: u64,
    /// Bytes of all inputs.
    pub total_bytes: u64,
}

/// What a run has done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Shards of the list.
    pub shards: usize,
    /// Those that this run made.
    pub made: usize,
    /// Those that were there already.
    pub found: usize,
    /// Samples of the shards that were made.
    pub counts: Counts,
    /// Seconds.
    pub seconds: f64,
    /// Whether it was asked to stop before all was done.
    pub is_interrupted: bool,
}

impl Report {
    /// As a program would read it.
    pub fn json(&self) -> impl Serialize {
        let counts = &self.counts;
        serde_json::json!({
            "shards": self.shards,
            "shards_made": self.made,
            "shards_found": self.found,
            "samples": counts.read,
            "made": counts.made,
            "kept": counts.kept,
            "dropped": counts.dropped,
            "rejected": counts.rejected,
            "faults": counts.faults.counts().collect::<std::collections::BTreeMap<_, _>>(),
            "seconds": self.seconds,
            "samples_per_s": counts.read as f64 / self.seconds.max(1e-9),
            "interrupted": self.is_interrupted,
        })
    }
}

/// Sends shards through a stage. Shards that are there already are left as they are; one that is half done never appears. `watch` may
/// break: then the shard at hand is left, to be made by the next run.
///
/// Several processes may do this at once, with the same list and folder: each shard is made by one of them, and each process returns when all
/// shards are there. Should one of them die, the others make what it had begun.
///
/// # Errors
/// If the folder was made with other settings or from other shards, a shard cannot be opened or written, or the stage fails.
pub fn run(
    stage: &dyn Stage,
    inputs: &[PathBuf],
    output: &Output,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    let start = Instant::now();
    let settings = stage.settings();
    let folder = Folder::open(&output.folder, &settings)?;
    let run = Run { stage, settings, folder: &folder, output };
    let jobs = folder.jobs(inputs, output.first, output.naming, output.format, output.packing)?;
    let mut leases = folder.leases(output.lease);
    let mut report = Report { shards: jobs.len(), ..Report::default() };
    let total_bytes = jobs.iter().map(|job| job.input_bytes).sum();
    let mut progress = Progress { total_bytes, ..Progress::default() };
    let mut walk = Walk::new(jobs.len(), leases.seed(), output.lease);
    let (mut is_first_look, mut last) = (true, None);
    while !report.is_interrupted {
        let flow = match walk.step() {
            Step::Done => break,
            Step::Look => {
                let open: Vec<usize> = (0..jobs.len()).filter(|&shard| walk.is_open(shard)).collect();
                let seen = folder.look(&jobs, &open)?;
                walk.looked(&seen.finished, &seen.leased);
                let found: Vec<&Job> =
                    seen.finished.iter_from(0).filter_map(|shard| jobs.get(shard)).collect();
                if replace(&mut is_first_look, false) {
                    folder.check_inputs(&found)?;
                    if walk.open() > 0 {
                        folder.unmark()?;
                    }
                }
                found.into_iter().try_for_each(|job| run.found(job, &mut report, &mut progress, watch))
            }
            Step::Wait(pause) => {
                let flow = wait(pause, walk.open(), watch);
                if walk.is_long() && folder.is_marked(jobs.len())? {
                    report.found += walk.open();
                    walk.finish();
                }
                flow
            }
            Step::Try(shard) => {
                let job = &jobs[shard];
                match run.shard(job, &mut leases, progress, watch)? {
                    Made::Found => {
                        walk.tried(shard, Tried::Finished);
                        run.found(job, &mut report, &mut progress, watch)
                    }
                    Made::Now(counts, note) => {
                        walk.tried(shard, Tried::Made);
                        report.made += 1;
                        progress.samples += counts.read;
                        progress.bytes += job.input_bytes;
                        report.counts.extend(&counts);
                        last = Some(folder.shard(job));
                        let faults = counts.faults.first().iter().map(Event::Fault);
                        faults.chain([Event::Made(&note)]).try_for_each(&mut *watch)
                    }
                    Made::ByOther => {
                        walk.tried(shard, Tried::Taken);
                        ControlFlow::Continue(())
                    }
                    Made::Interrupted => ControlFlow::Break(()),
                }
            }
        };
        report.is_interrupted |= flow.is_break();
    }
    if walk.is_long() && !report.is_interrupted {
        folder.mark(jobs.len())?;
    }
    if output.writes_manifest {
        write_manifest(&folder, &jobs, &report, last.as_ref(), &mut leases, watch)?;
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Writes the manifest, unless another process has: it takes a request for each shard. Who made a shard sees to it that the manifest is
/// newer; so does everybody that it has all shards that are there.
fn write_manifest(
    folder: &Folder,
    jobs: &[Job],
    report: &Report,
    last: Option<&Place>,
    leases: &mut Leases,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<()> {
    let mut pause = STEP;
    while !folder.has_manifest(report.made + report.found, last)? {
        if let Some(_lease) = leases.take(MANIFEST).map_err(crate::Error::io(folder.manifest().address()))? {
            return folder.write_manifest(jobs);
        }
        if wait(pause, 0, watch).is_break() {
            break;
        }
        pause = (2 * pause).min(STEP * 512);
    }
    Ok(())
}

/// Waits: others have all that is left.
fn wait(
    pause: Duration,
    shards: usize,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let begin = Instant::now();
    while begin.elapsed() < pause {
        watch(Event::Waiting(shards))?;
        std::thread::sleep(STEP.min(pause));
    }
    ControlFlow::Continue(())
}

/// What became of a shard.
enum Made {
    /// It is there.
    Found,
    /// It was made.
    Now(Counts, Box<Note>),
    /// Another process works on it.
    ByOther,
    /// The run is asked to stop.
    Interrupted,
}

/// What all shards of a run have in common.
struct Run<'a> {
    stage: &'a dyn Stage,
    settings: Map<String, Value>,
    folder: &'a Folder,
    output: &'a Output,
}

impl Run<'_> {
    /// Counts a shard that is there.
    fn found(
        &self,
        job: &Job,
        report: &mut Report,
        progress: &mut Progress,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        report.found += 1;
        progress.bytes += job.input_bytes;
        watch(Event::Found(self.folder.shard(job).address()))
    }

    fn shard(
        &self,
        job: &Job,
        leases: &mut Leases,
        before: Progress,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Made> {
        if self.folder.is_finished(job)? {
            return Ok(Made::Found);
        }
        let lease = leases.take(&job.name).map_err(crate::Error::io(self.folder.shard(job).address()))?;
        let Some(mut lease) = lease else { return Ok(Made::ByOther) };
        // It may have appeared before the lease was ours.
        if self.folder.is_finished(job)? {
            return Ok(Made::Found);
        }
        match self.make(job, &mut lease, before, watch) {
            // Whoever took the lease over has removed what this process was writing.
            Err(_) if !lease.is_ours() => Ok(Made::ByOther),
            made => made,
        }
    }

    /// Makes a shard, as long as the lease holds.
    fn make(
        &self,
        job: &Job,
        lease: &mut Lease,
        before: Progress,
        watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Made> {
        let start = Instant::now();
        let shard = self.folder.shard(job);
        let path = shard.address();
        remove_partial(path).map_err(crate::Error::io(path))?;
        let input = SampleStream::open(&job.input, self.output.limits.clone())?;
        let mut writer = ShardWriter::create(path)?;
        let mut is_lost = false;
        let sink = &mut |sample: &Sample| Ok(writer.write(sample)?);
        let counts =
            pipeline::run(self.stage, &job.input, input, sink, self.output.effort, &mut |samples, bytes| {
                is_lost = !lease.renew();
                if is_lost {
                    return ControlFlow::Break(());
                }
                let (samples, bytes) = (before.samples + samples, before.bytes + bytes.min(job.input_bytes));
                watch(Event::Progress(Progress { samples, bytes, ..before }))
            })?;
        let counts = match counts {
            Some(counts) => counts,
            None if is_lost => return Ok(Made::ByOther),
            None => return Ok(Made::Interrupted),
        };
        let num_uids = writer.samples();
        let finished = writer.finish()?;
        let note = Note {
            shard: job.name.clone(),
            num_uids,
            bytes: finished.bytes(),
            input: job.input.clone(),
            input_bytes: job.input_bytes,
            made: counts.made,
            kept: counts.kept,
            dropped: counts.dropped,
            rejected: counts.rejected,
            faults: counts.faults.counts().map(|(cause, count)| (cause.to_owned(), count)).collect(),
            seconds: start.elapsed().as_secs_f64(),
            finished: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            settings: self.settings.clone(),
        };
        self.folder.write_note(job, &note)?;
        // Whoever was faster has published equal bytes; they stay.
        finished.publish_new()?;
        Ok(Made::Now(counts, Box::new(note)))
    }
}
