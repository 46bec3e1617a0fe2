//! `mobileclip reinforce`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mobileclip_reinforce::{
    Augmentations, Effort, Embeddings, Event, Naming, Output, Packing, Progress, Report, Stage, Teachers,
    run as run_stage,
};
use mobileclip_shards::{ArrayType, expand};

use crate::args::{
    Compress, Global, Names, OnBad, Pillow, Reinforce, ReinforceEmbeddings, ReinforceStage, Shards,
    StoredType,
};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, Results, complain, counted, grouped, note};
use crate::{progress, session};

pub fn run(global: &Global, args: &Reinforce) -> anyhow::Result<Outcome> {
    match &args.stage {
        ReinforceStage::Embeddings(args) => embeddings(global, args),
    }
}

fn embeddings(global: &Global, args: &ReinforceEmbeddings) -> anyhow::Result<Outcome> {
    let inputs = expand(&args.shards.input)?;
    let models = args.teacher.iter().map(|teacher| session::load_teacher(global, teacher, args.precision));
    let teachers = Teachers::new(models.collect::<anyhow::Result<_>>()?)?;
    let (json, path) = match &args.augment {
        Some(path) => (Augmentations::read(path)?, path.as_path()),
        None => (Augmentations::published(teachers.side()), Path::new("default augmentation")),
    };
    let augmentations = Augmentations::new(json, path, args.augmentations, args.seed, args.pillow.into())?;
    let stage = Embeddings {
        teachers,
        augmentations,
        captions: args.captions.clone(),
        dtype: args.dtype.into(),
        on_bad: args.shards.on_bad.into(),
    };
    stage.rehearse()?;
    note(global.quiet, format!("widths of the teachers' embeddings: {:?}", stage.teachers.widths()));
    let pictures = args.augmentations as usize;
    through(global, &args.shards, &stage, &inputs, (pictures, "augmented picture"))
}

/// Sends shards through a stage, with a bar. `unit` says how many of what a sample makes, for the rate.
fn through(
    global: &Global,
    args: &Shards,
    stage: &dyn Stage,
    inputs: &[PathBuf],
    (of_sample, unit): (usize, &str),
) -> anyhow::Result<Outcome> {
    let threads = match global.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, |n| n.get()),
    };
    let effort = Effort { threads, chunk: args.batch };
    let output = Output {
        naming: args.names.into(),
        packing: args.compress.into(),
        ..Output::new(&args.output, effort)
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
            Event::Made(made) => {
                let rate = (made.made + made.kept + made.dropped) as f64 / made.seconds.max(1e-9);
                let line = format!("{}: {}, {rate:.1}/s", made.shard, counted(made.num_uids, "sample"));
                bar.suspend(|| note(global.quiet, line));
            }
        }
        match interrupt.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    tell(global, args, &report?, unit, of_sample)
}

fn tell(
    global: &Global,
    args: &Shards,
    report: &Report,
    unit: &str,
    of_sample: usize,
) -> anyhow::Result<Outcome> {
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
    let rate = counts.read as f64 / report.seconds.max(1e-9);
    note(
        global.quiet,
        format!(
            "{made} made, {} there already; {} in {:.1} s: {rate:.1}/s, {:.0} {unit}s/s; {} kept as they were, {} dropped",
            report.found,
            counted(counts.read, "sample"),
            report.seconds,
            rate * of_sample as f64,
            counts.kept,
            counts.dropped
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
