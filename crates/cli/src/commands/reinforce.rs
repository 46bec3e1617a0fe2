//! `mobileclip reinforce`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mobileclip_reinforce::{
    Augmentations, Captioning, Captions, Effort, Embeddings, Event, Filtering, Naming, Output, Packing,
    Progress, Report, Stage, Teachers, contact_sheet, recorded_augmentations, run as run_stage, write_sheet,
};
use mobileclip_shards::{ArrayType, Format, Limits, SampleStream, expand, parse_uid};

use super::caption;
use crate::args::{
    Compress, Global, Names, OnBad, Pillow, Reinforce, ReinforceCaptions, ReinforceEmbeddings,
    ReinforceFilter, ReinforceStage, ReinforceVerify, Shards, StoredType, Teaching,
};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, Results, complain, counted, grouped, note};
use crate::{progress, session};

pub fn run(global: &Global, args: &Reinforce) -> anyhow::Result<Outcome> {
    match &args.stage {
        ReinforceStage::Embeddings(args) => embeddings(global, args),
        ReinforceStage::Captions(args) => captions(global, args),
        ReinforceStage::Filter(args) => filter(global, args),
        ReinforceStage::Verify(args) => verify(global, args),
    }
}

fn embeddings(global: &Global, args: &ReinforceEmbeddings) -> anyhow::Result<Outcome> {
    let inputs = inputs(&args.shards)?;
    let teachers = teachers(global, &args.teaching)?;
    let (json, path) = match &args.augment {
        Some(path) => (Augmentations::read(path)?, path.as_path()),
        None => (Augmentations::published(teachers.side()), Path::new("default augmentation")),
    };
    let augmentations = Augmentations::new(json, path, args.augmentations, args.seed, args.pillow.into())?;
    let stage = Embeddings {
        teachers,
        augmentations,
        captions: args.teaching.reading.captions.clone(),
        synthetic: args.synthetic.clone(),
        dtype: args.dtype.into(),
        on_bad: args.shards.on_bad.into(),
    };
    stage.rehearse()?;
    note(global.quiet, format!("widths of the teachers' embeddings: {:?}", stage.teachers.widths()));
    let unit = (args.augmentations as usize, "augmented picture");
    let report = through(global, &args.shards, &stage, &inputs, unit)?;
    tell(global, &args.shards, &stage.captions, &report, unit)
}

fn captions(global: &Global, args: &ReinforceCaptions) -> anyhow::Result<Outcome> {
    let inputs = inputs(&args.shards)?;
    let model = session::load_teacher(global, &args.captioner, args.computing.precision)?;
    let options = caption::options(&args.writing);
    let unit = (options.samples, "caption");
    let stage = Captioning::new(&model, &args.set, options, args.shards.on_bad.into())?;
    let report = through(global, &args.shards, &stage, &inputs, unit)?;
    tell(global, &args.shards, &Captions::Text, &report, unit)
}

fn filter(global: &Global, args: &ReinforceFilter) -> anyhow::Result<Outcome> {
    let inputs = inputs(&args.shards)?;
    if let Some(uids) = &args.uids {
        session::check_folder(uids)?;
    }
    let model = session::load_teacher(global, &args.judge, args.reading.computing.precision)?;
    let threshold = args.threshold.unwrap_or(f32::NEG_INFINITY);
    let on_bad = args.shards.on_bad.into();
    let mut stage = Filtering { model: &model, captions: args.reading.captions.clone(), threshold, on_bad };
    if let Some(share) = args.share {
        let interrupt = Interrupt::watch()?;
        let bar = progress::bytes(global.quiet, 0);
        let is_done = stage.keep_best(share, &inputs, effort(global, &args.shards), &mut |samples| {
            bar.set_message(format!("  {} compared", counted(samples, "sample")));
            flow(&interrupt)
        })?;
        bar.finish_and_clear();
        if !is_done {
            bail!("stopped before the threshold was found; nothing was written");
        }
        note(
            global.quiet,
            format!("the best {share} of the samples have a cosine of {} and more", stage.threshold),
        );
    }
    let unit = (1, "sample");
    let report = through(global, &args.shards, &stage, &inputs, unit)?;
    if let (Some(path), false) = (&args.uids, report.is_interrupted) {
        write_uids(path, &expand(&[args.shards.output.to_string_lossy()])?)?;
    }
    tell(global, &args.shards, &stage.captions, &report, unit)
}

/// The uids of all samples of shards, to a file.
fn write_uids(path: &Path, shards: &[PathBuf]) -> anyhow::Result<()> {
    let mut uids = Vec::new();
    for shard in shards {
        for sample in SampleStream::open(shard, Limits::default())? {
            let sample = sample?;
            // What was kept although it could not be judged need not have one.
            let uid = sample.uid().unwrap_or_else(|_| sample.key().to_owned());
            let Some(uid) = parse_uid(&uid) else {
                bail!(
                    "{}: not written: `{uid}` in {} is no uid of up to 32 hexadecimal digits",
                    path.display(),
                    shard.display()
                );
            };
            uids.push(uid);
        }
    }
    std::fs::write(path, mobileclip_shards::write_uids(&uids)).with_context(|| path.display().to_string())
}

fn verify(global: &Global, args: &ReinforceVerify) -> anyhow::Result<Outcome> {
    let shards = expand(&args.input)?;
    let teachers = teachers(global, &args.teaching)?;
    let recorded = shards.first().map(|shard| recorded_augmentations(shard)).transpose()?.flatten();
    let augmentations = match recorded {
        Some(recorded) => recorded,
        None => {
            let published = Augmentations::published(teachers.side());
            Augmentations::new(published, Path::new("published augmentation"), 1, 0, Default::default())?
        }
    };
    let captions = &args.teaching.reading.captions;
    let found = mobileclip_reinforce::verify(&shards, &teachers, &augmentations, captions, args.samples)?;
    let mut results = Results::lock();
    if args.json {
        results.json(&found.json())?;
    } else {
        results.line(format!("samples  {}", grouped(found.samples as u64)))?;
        for (name, cosines) in [("images ", &found.images), ("texts  ", &found.texts)] {
            let (count, min, mean) = (grouped(cosines.count as u64), cosines.min, cosines.mean());
            results.line(format!(
                "{name}  {count} compared; cosine {mean:.7} on average, {min:.7} at the least"
            ))?;
        }
    }
    results.flush()?;
    found.faults.first().iter().for_each(|fault| complain(&fault.to_string()));
    Ok(if found.is_within(args.least)? { Outcome::Done } else { Outcome::SomeFailed })
}

fn teachers(global: &Global, args: &Teaching) -> anyhow::Result<Teachers> {
    let models = args
        .teacher
        .iter()
        .map(|teacher| session::load_teacher(global, teacher, args.reading.computing.precision));
    Ok(Teachers::new(models.collect::<anyhow::Result<_>>()?)?)
}

/// The shards; also looks whether a preview can be written, before hours of work.
fn inputs(args: &Shards) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(preview) = &args.preview {
        session::check_folder(preview)?;
    }
    Ok(expand(&args.input)?)
}

fn effort(global: &Global, args: &Shards) -> Effort {
    let threads = match global.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, |n| n.get()),
    };
    Effort { threads, chunk: args.batch }
}

fn flow(interrupt: &Interrupt) -> ControlFlow<()> {
    match interrupt.is_asked() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// Sends shards through a stage, with a bar. `unit` says how many of what a sample makes, for the rate.
fn through(
    global: &Global,
    args: &Shards,
    stage: &dyn Stage,
    inputs: &[PathBuf],
    (of_sample, unit): (usize, &str),
) -> anyhow::Result<Report> {
    let output = Output {
        naming: args.names.into(),
        format: args.format.into(),
        packing: args.compress.into(),
        lease: Duration::from_secs(args.lease.into()),
        ..Output::new(&args.output, effort(global, args))
    };
    let interrupt = Interrupt::watch()?;
    let bar = progress::bytes(global.quiet, 0);
    let start = Instant::now();
    let report = run_stage(stage, inputs, &output, &mut |event| {
        match event {
            Event::Found(path) => bar.set_message(format!("  {} is there", path.display())),
            Event::Progress(Progress { samples, bytes, total_bytes }) => {
                if bar.length() != Some(total_bytes) {
                    // The rate is that of this run, not of what it found.
                    bar.set_length(total_bytes);
                    bar.set_position(bytes);
                    bar.reset_eta();
                }
                bar.set_position(bytes);
                let rate = samples as f64 / start.elapsed().as_secs_f64();
                let (samples, many) = (grouped(samples as u64), rate * of_sample as f64);
                bar.set_message(format!("  {samples} samples, {rate:.1}/s; {many:.0} {unit}s/s"));
            }
            Event::Fault(fault) => bar.suspend(|| note(global.quiet, fault)),
            Event::Waiting(0) => bar.set_message("  waiting: another process writes the manifest"),
            Event::Waiting(shards) => {
                bar.set_message(format!("  waiting: other processes work on {}", counted(shards, "shard")));
            }
            Event::Made(made) => {
                let rate = (made.made + made.kept + made.dropped) as f64 / made.seconds.max(1e-9);
                let line = format!("{}: {}, {rate:.1}/s", made.shard, counted(made.num_uids, "sample"));
                bar.suspend(|| note(global.quiet, line));
            }
        }
        flow(&interrupt)
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn tell(
    global: &Global,
    args: &Shards,
    captions: &Captions,
    report: &Report,
    (of_sample, unit): (usize, &str),
) -> anyhow::Result<Outcome> {
    if let Some(path) = args.preview.as_ref().filter(|_| report.made + report.found > 0) {
        let shards = expand(&[args.output.to_string_lossy()])?;
        write_sheet(path, &contact_sheet(&shards, args.preview_count, captions, &[])?)?;
    }
    if args.json {
        let mut results = Results::lock();
        results.json(&report.json())?;
        results.flush()?;
    }
    let counts = &report.counts;
    for (cause, count) in counts.faults.counts() {
        note(global.quiet, format!("{cause}: {}", counted(count, "sample")));
    }
    let made = counted(report.made, "shard");
    let samples = counted(counts.read, "sample");
    let (rate, seconds) = (counts.read as f64 / report.seconds.max(1e-9), report.seconds);
    let many = rate * of_sample as f64;
    note(
        global.quiet,
        format!(
            "{made} made, {} there already; {samples} in {seconds:.1} s: {rate:.1}/s, {many:.0} {unit}s/s; \
             {} unusable ones kept, {} dropped, {} rejected",
            report.found, counts.kept, counts.dropped, counts.rejected
        ),
    );
    if report.is_interrupted {
        complain("stopped before all shards were made; the same command goes on");
        return Ok(Outcome::SomeFailed);
    }
    Ok(Outcome::of(counts.kept + counts.dropped, counts.read.max(1)))
}

impl From<OnBad> for mobileclip_reinforce::OnBad {
    fn from(on_bad: OnBad) -> Self {
        match on_bad {
            OnBad::Keep => Self::Keep,
            OnBad::Drop => Self::Drop,
        }
    }
}

impl From<Names> for Naming {
    fn from(names: Names) -> Self {
        match names {
            Names::Input => Self::Input,
            Names::Count => Self::Count,
        }
    }
}

impl From<Compress> for Packing {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::None => Self::None,
            Compress::Gz => Self::Gzip,
            Compress::Zst => Self::Zstd,
        }
    }
}

impl From<crate::args::Format> for Format {
    fn from(format: crate::args::Format) -> Self {
        match format {
            crate::args::Format::Tar => Self::Tar,
            crate::args::Format::Jsonl => Self::JsonLines,
        }
    }
}

impl From<StoredType> for ArrayType {
    fn from(dtype: StoredType) -> Self {
        match dtype {
            StoredType::F32 => Self::F32,
            StoredType::Bf16 => Self::Bf16,
        }
    }
}

impl From<Pillow> for mobileclip::image::PassOrder {
    fn from(pillow: Pillow) -> Self {
        match pillow {
            Pillow::Pillow13 => Self::Pillow13,
            Pillow::Pillow12_2 => Self::Pillow12_2,
            Pillow::Older => Self::HorizontalFirst,
        }
    }
}
