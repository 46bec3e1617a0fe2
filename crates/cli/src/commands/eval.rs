//! `mobileclip eval`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use mobileclip::cache_folder;
use mobileclip_eval::{
    Average, EmbeddingStore, Encoder, Error, EvalSet, Interval, Outcome as Found, ProbeOptions, Progress,
    Prompts, ResultLine, SetOptions, Suite, SuiteSet, append_line, benchmark_json, benchmark_name, compare,
    linear_probe, zero_shot,
};
use mobileclip_shards::{Cache, Tally};
use serde::Serialize;

use crate::args::{Eval, EvalTask, Global};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, Results, complain, counted, note};
use crate::{progress, session};

/// Embeddings of a million pictures.
const EMBEDDINGS_BYTES: u64 = 4 << 30;

/// What a set's JSON line says besides the benchmark's file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    file: serde_json::Value,
    precision: &'a str,
    /// The share of first answers that are those of the first precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    pictures: usize,
    failed: BTreeMap<&'a str, usize>,
    confidence: BTreeMap<&'a str, Interval>,
}

pub fn run(global: &Global, args: &Eval) -> anyhow::Result<Outcome> {
    if let [a, b] = args.compare.as_slice() {
        return print_comparison(a, b, args.json);
    }
    let sets = sets(args)?;
    check(args, &sets)?;
    let options = set_options(args)?;
    let store = cache_folder().filter(|_| !args.no_cache);
    let store = store.map(|folder| EmbeddingStore::new(folder.join("embeddings"), EMBEDDINGS_BYTES));
    let interrupt = Interrupt::watch()?;

    let mut results = Results::lock();
    let mut rounds: Vec<Round> = Vec::new();
    let mut incomplete = 0;
    for &precision in &args.precision {
        let model = session::load_as_trained(global, precision)?;
        let encoder = Encoder::new(&model, store.as_ref());
        let mut round = Round { precision: model.precision().name(), found: Vec::new() };
        for set in &sets {
            let found = match measure(&encoder, set, args, &options, global.quiet, &interrupt) {
                Ok(found) => found,
                // A model that is damaged fails for every set alike.
                Err(error @ Error::Model(_)) => return Err(error.into()),
                Err(Error::Interrupted) => {
                    let kept =
                        if store.is_some() { "; the same command goes on where it stopped" } else { "" };
                    complain(&format!("interrupted{kept}"));
                    return Ok(Outcome::SomeFailed);
                }
                Err(error) => {
                    complain(&crate::output::chain(&error.into()));
                    round.found.push(None);
                    continue;
                }
            };
            complain_of(&found.faults, global.quiet);
            incomplete += usize::from(found.faults.total() > 0);
            let result = Measured::new(found, set, &round, &rounds);
            match args.json {
                true => print_json(&mut results, &result, global)?,
                false => print_table(&mut results, &result)?,
            }
            results.flush()?;
            write_files(args, set, &result, global)?;
            if result.main_value().is_none() {
                complain(&format!("{}: has no `{}` to count", set.path.display(), result.main));
            }
            round.found.push(Some(result));
        }
        rounds.push(round);
    }
    if !args.json {
        print_summary(&mut results, &sets, &rounds)?;
    }
    results.flush()?;
    let all = rounds.iter().flat_map(|round| &round.found);
    let failed = all.filter(|found| found.as_ref().is_none_or(|found| found.main_value().is_none())).count();
    Ok(match incomplete {
        0 => Outcome::of(failed, sets.len() * rounds.len()),
        _ => Outcome::SomeFailed,
    })
}

/// What one precision gave, set by set; `None` where a set failed.
struct Round {
    precision: &'static str,
    found: Vec<Option<Measured>>,
}

/// What one precision gave for one set.
struct Measured {
    found: Found,
    precision: &'static str,
    /// The metric that counts.
    main: String,
    /// The share of first answers that are those of the first precision.
    agreement: Option<f64>,
}

impl Measured {
    fn new(found: Found, set: &SuiteSet, round: &Round, earlier: &[Round]) -> Self {
        let first = earlier.first().and_then(|first| first.found.get(round.found.len()));
        let agreement = first.and_then(Option::as_ref).and_then(|first| found.agreement(&first.found));
        let main = set.metric.clone().unwrap_or_else(|| found.main_metric().to_owned());
        Self { found, precision: round.precision, main, agreement }
    }

    fn main_value(&self) -> Option<f64> {
        self.found.metric(&self.main)
    }
}

/// The sets of the arguments; suites are read.
fn sets(args: &Eval) -> anyhow::Result<Vec<SuiteSet>> {
    let mut sets = Vec::new();
    for path in &args.data {
        match path.extension().is_some_and(|extension| extension == "toml") {
            true => sets.extend(Suite::read(path)?.sets),
            false => sets.push(SuiteSet::of(path)),
        }
    }
    Ok(sets)
}

/// What can be wrong with the arguments is said before a model is loaded, which may take a download.
fn check(args: &Eval, sets: &[SuiteSet]) -> anyhow::Result<()> {
    if let Some(missing) = sets.iter().find(|set| !set.path.exists()) {
        bail!("{}: there is no such folder", missing.path.display());
    }
    if let Some(out) = args.out.as_ref().filter(|out| sets.len() > 1 && !out.contains("{dataset}")) {
        bail!("--out {out}: there are {} sets, so the name must hold {{dataset}}", sets.len());
    }
    if args.precision.len() > 1 {
        if let Some(out) = args.out.as_ref().filter(|out| !out.contains("{precision}")) {
            bail!("--out {out}: there are several precisions, so the name must hold {{precision}}");
        }
        if let Some(path) = &args.datacomp {
            bail!("--datacomp {}: its lines do not say the precision; give one", path.display());
        }
    }
    if args.task == EvalTask::ZeroShot
        && (args.train.is_some() || args.shots.is_some() || args.validation.is_some())
    {
        bail!("--train, --shots and --validation are the probe's: --task probe");
    }
    args.datacomp.as_deref().map_or(Ok(()), session::check_folder)?;
    args.out.as_ref().map_or(Ok(()), |out| session::check_folder(out.as_ref()))
}

fn set_options(args: &Eval) -> anyhow::Result<SetOptions> {
    let cache =
        cache_folder().map(|folder| Cache::new(folder.join("shards"), u64::from(args.shard_cache) << 30));
    Ok(SetOptions {
        split: args.split.clone(),
        limit: args.limit.unwrap_or_default(),
        prompts: args.templates.as_deref().map(Prompts::read).transpose()?,
        cache,
    })
}

fn measure(
    encoder: &Encoder<'_>,
    set: &SuiteSet,
    args: &Eval,
    options: &SetOptions,
    is_quiet: bool,
    interrupt: &Interrupt,
) -> mobileclip_eval::Result<Found> {
    let test = EvalSet::open(&set.path, options)?;
    let mut bars = Bars { is_quiet, name: set.name.clone(), what: "", bar: ProgressBar::hidden() };
    let watch = &mut |now: Progress| {
        bars.show(now);
        if interrupt.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if args.task == EvalTask::ZeroShot {
        return zero_shot(encoder, &test, &args.recall_k, watch);
    }
    let train_options = SetOptions { split: args.train_split.clone(), limit: 0, ..options.clone() };
    let train = EvalSet::open(args.train.as_ref().unwrap_or(&set.path), &train_options)?;
    let probe = ProbeOptions {
        rate: args.rate,
        epochs: args.epochs,
        seed: args.seed,
        shots: args.shots.unwrap_or_default(),
        validation: args.validation.unwrap_or_default(),
        ..ProbeOptions::default()
    };
    linear_probe(encoder, &train, &test, &probe, watch)
}

/// A bar for each kind of work on a set.
struct Bars {
    is_quiet: bool,
    name: String,
    what: &'static str,
    bar: ProgressBar,
}

impl Bars {
    fn show(&mut self, now: Progress) {
        if self.what != now.what || self.bar.length() != Some(now.total as u64) {
            self.bar.finish_and_clear();
            self.what = now.what;
            self.bar = progress::work(self.is_quiet, now.total, &format!("{} of {}", now.what, self.name));
        }
        self.bar.set_position(now.done as u64);
        if now.failed > 0 {
            self.bar.set_message(format!("  {} failed", now.failed));
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What could not be used, by cause, and the first of them in full.
fn complain_of(faults: &Tally, is_quiet: bool) {
    const SHOWN: usize = 5;
    faults.first().iter().take(SHOWN).for_each(|fault| complain(&fault.to_string()));
    if faults.total() > SHOWN {
        let counts: Vec<String> = faults.counts().map(|(cause, count)| format!("{count} {cause}")).collect();
        note(is_quiet, format!("left out: {}", counts.join(", ")));
    }
}

fn print_json(results: &mut Results, result: &Measured, global: &Global) -> anyhow::Result<()> {
    let Measured { found, precision, agreement, .. } = result;
    results.json(&Line {
        file: serde_json::from_str(&benchmark_json(found, &global.model))?,
        precision,
        agreement: *agreement,
        pictures: found.pictures,
        failed: found.faults.counts().collect(),
        confidence: found.intervals(),
    })
}

fn print_table(results: &mut Results, result: &Measured) -> anyhow::Result<()> {
    let Measured { found, precision, .. } = result;
    let pictures = counted(found.pictures, "picture");
    results
        .line(format_args!("{}: {}, {pictures}, {}, {precision}", found.dataset, found.task, found.model))?;
    for metric in &found.metrics {
        let Some(number) = metric.number() else { continue };
        let name = &metric.name;
        match metric.interval {
            Some(Interval { low, high }) => results.line(format_args!(
                "  {name:26} {:6.2} %  ({:.2} to {:.2})",
                100.0 * number,
                100.0 * low,
                100.0 * high
            ))?,
            None => results.line(format_args!("  {name:26} {number}"))?,
        }
    }
    Ok(())
}

/// The numbers that count side by side, and their average; nothing if there is but one.
fn print_summary(results: &mut Results, sets: &[SuiteSet], rounds: &[Round]) -> anyhow::Result<()> {
    if sets.len() * rounds.len() < 2 {
        return Ok(());
    }
    let percent =
        |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{:.2} %", 100.0 * value));
    let reference = rounds.first().map_or("", |round| round.precision);
    let width = sets.iter().map(|set| set.name.chars().count()).max().unwrap_or_default();
    results.line("")?;
    for (i, set) in sets.iter().enumerate() {
        for round in rounds {
            let Some(Some(result)) = round.found.get(i) else { continue };
            let agreement = result
                .agreement
                .map(|share| format!("  same first answer as {reference}: {}", percent(Some(share))));
            results.line(format_args!(
                "{:width$}  {:4}  {:22} {:>8}{}",
                set.name,
                round.precision,
                result.main,
                percent(result.main_value()),
                agreement.unwrap_or_default()
            ))?;
        }
    }
    if sets.len() < 2 {
        return Ok(());
    }
    for round in rounds {
        let value = |found: &Option<Measured>| found.as_ref().and_then(Measured::main_value);
        let keys = sets.iter().map(|set| (set.key.as_str(), set.name.as_str()));
        let average =
            Average::of(keys.zip(&round.found).map(|((key, name), found)| (key, name, value(found))));
        let of = match average.missing_of_38 {
            Some(_) => format!("{} of the 38", average.counted),
            None => counted(average.counted, "set"),
        };
        results.line(format_args!("average of {of}, {}: {}", round.precision, percent(average.value)))?;
        if !average.without_number.is_empty() {
            results.line(format_args!("  without a number: {}", average.without_number.join(", ")))?;
        }
        if let Some(missing) = average.missing_of_38.filter(|missing| !missing.is_empty()) {
            results.line(format_args!("  missing: {}", missing.join(", ")))?;
        }
    }
    Ok(())
}

fn write_files(args: &Eval, set: &SuiteSet, result: &Measured, global: &Global) -> anyhow::Result<()> {
    if let Some(pattern) = &args.out {
        let name =
            benchmark_name(pattern, &result.found, &global.model).replace("{precision}", result.precision);
        let text = benchmark_json(&result.found, &global.model);
        std::fs::write(&name, text).with_context(|| format!("{name}: writing the results"))?;
    }
    if let Some(path) = &args.datacomp {
        append_line(path, &ResultLine::new(&set.key, &set.name, &result.found, &result.main))?;
    }
    Ok(())
}

/// Both files' numbers side by side.
fn print_comparison(a: &Path, b: &Path, is_json: bool) -> anyhow::Result<Outcome> {
    #[derive(Serialize)]
    struct Line<'a> {
        dataset: &'a str,
        metric: &'a str,
        a: Option<f64>,
        b: Option<f64>,
    }
    let mut results = Results::lock();
    let mut last = String::new();
    for difference in compare(a, b)? {
        let mobileclip_eval::Difference { dataset, metric, a, b } = &difference;
        if is_json {
            results.json(&Line { dataset, metric, a: *a, b: *b })?;
            continue;
        }
        if *dataset != last {
            results.line(dataset)?;
            last.clone_from(dataset);
        }
        let cell =
            |value: &Option<f64>| value.map_or(format!("{:>10}", "–"), |value| format!("{value:10.4}"));
        let change = a.zip(*b).map_or(String::new(), |(a, b)| format!("{:+10.4}", b - a));
        results.line(format!("  {metric:26} {} {} {change}", cell(a), cell(b)).trim_end())?;
    }
    results.flush()?;
    Ok(Outcome::Done)
}
