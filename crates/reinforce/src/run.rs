//! A list of shards through a stage.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use mobileclip_shards::{Fault, Limits, SampleStream, ShardWriter, remove_partial};
use serde::Serialize;

use crate::error::Result;
use crate::folder::{Folder, Job, Naming, Note, Packing};
use crate::pipeline::{self, Counts, Effort};
use crate::stage::Stage;

/// Where shards come to, and how they are made.
#[derive(Clone, Debug)]
pub struct Output {
    /// The folder; it may hold finished shards of the same settings.
    pub folder: PathBuf,
    /// What shards are called.
    pub naming: Naming,
    /// How they are packed.
    pub packing: Packing,
    /// How much is done at a time.
    pub effort: Effort,
    /// Bounds on what is read.
    pub limits: Limits,
}

impl Output {
    /// A folder of shards that are called as their inputs, and not packed.
    pub fn new(folder: impl Into<PathBuf>, effort: Effort) -> Self {
        let (naming, packing) = (Naming::default(), Packing::default());
        Self { folder: folder.into(), naming, packing, effort, limits: Limits::default() }
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
    let jobs = folder.jobs(inputs, output.naming, output.packing)?;
    let mut report = Report { shards: jobs.len(), ..Report::default() };
    let mut progress =
        Progress { total_bytes: jobs.iter().map(|job| job.input_bytes).sum(), ..Progress::default() };
    for job in &jobs {
        if folder.is_finished(job)? {
            report.found += 1;
            progress.bytes += job.input_bytes;
            report.is_interrupted |= watch(Event::Found(&folder.shard(job))).is_break();
        } else {
            match shard(stage, &folder, job, output, progress, watch)? {
                None => report.is_interrupted = true,
                Some((counts, note)) => {
                    report.made += 1;
                    progress.samples += counts.read;
                    progress.bytes += job.input_bytes;
                    for fault in counts.faults.first() {
                        report.is_interrupted |= watch(Event::Fault(fault)).is_break();
                    }
                    report.counts.extend(&counts);
                    report.is_interrupted |= watch(Event::Made(&note)).is_break();
                }
            }
        }
        if report.is_interrupted {
            break;
        }
    }
    folder.write_manifest(&jobs)?;
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// Makes one shard; nothing if it was interrupted.
fn shard(
    stage: &dyn Stage,
    folder: &Folder,
    job: &Job,
    output: &Output,
    before: Progress,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<(Counts, Note)>> {
    let start = Instant::now();
    let path = folder.shard(job);
    remove_partial(&path).map_err(crate::Error::io(&path))?;
    let input = SampleStream::open(&job.input, output.limits.clone())?;
    let mut writer = ShardWriter::create(&path)?;
    let counts =
        pipeline::run(stage, &job.input, input, &mut writer, output.effort, &mut |samples, bytes| {
            let (samples, bytes) = (before.samples + samples, before.bytes + bytes.min(job.input_bytes));
            watch(Event::Progress(Progress { samples, bytes, ..before }))
        })?;
    let Some(counts) = counts else { return Ok(None) };
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
        faults: counts.faults.counts().map(|(cause, count)| (cause.to_owned(), count)).collect(),
        seconds: start.elapsed().as_secs_f64(),
        finished: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        settings: stage.settings(),
    };
    folder.write_note(job, &note)?;
    finished.publish()?;
    Ok(Some((counts, note)))
}
