//! `mobileclip train`.

mod helpers;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, FromArgMatches};
use mobileclip::Variant;
use mobileclip_train::{Config, Event, Helpers, Plan, Resume, plan, variant_of};
use serde_json::json;

use crate::args::Global;
use crate::interrupt::Interrupt;
use crate::output::{Outcome, Results, complain, counted, grouped, note};
use crate::progress;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip train recipes/mobileclip2-s0-dfndr2b.toml --data-shards '/data/{00000..00999}.tar' --dry-run
  mobileclip train my.toml --run-out runs/first --optimiser-lr 5e-4
  mobileclip train my.toml --run-out runs/first --resume latest

RECIPE is a TOML file with the tables model, data, loss, teachers, eval, optimiser and run; every field can also be
given as a flag, which counts more. Exactly one of --run-steps, --run-samples and --run-epochs says how long.
Ctrl-C writes a checkpoint and ends; `--resume latest` goes on bit for bit. A killed run loses the steps since its
last checkpoint. The folder --run-out gets checkpoints, log.jsonl (a line a step), tensorboard/, loss.svg,
measured.svg if --eval-sets are given, and, at the end, the model in open_clip's layout.")]
pub struct Train {
    /// A recipe; without one, everything comes from flags
    #[arg(value_name = "RECIPE", value_hint = clap::ValueHint::FilePath)]
    pub recipe: Option<PathBuf>,

    /// Goes on: `latest`, or a checkpoint's folder
    #[arg(long, value_name = "latest|DIR")]
    pub resume: Option<PathBuf>,

    /// Prints parameters, memory and steps, and ends
    #[arg(long)]
    pub dry_run: bool,

    /// Prints the plan or the report as a JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub fields: Fields,
}

/// The fields of a configuration as flags: `--SECTION-FIELD VALUE`.
#[derive(Debug)]
pub struct Fields(Vec<(&'static str, &'static str, String)>);

/// Flags need names that live as long as the program; there are some sixty.
fn flags() -> impl Iterator<Item = (&'static mobileclip_train::config::Field, &'static str)> {
    static NAMES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let name = |field: &mobileclip_train::config::Field| {
        format!("{}-{}", field.section, field.name).replace('_', "-")
    };
    let names = NAMES.get_or_init(|| Config::FIELDS.iter().map(name).collect());
    Config::FIELDS.iter().zip(names.iter().map(String::as_str))
}

impl Args for Fields {
    fn augment_args(command: clap::Command) -> clap::Command {
        flags().fold(command, |command, (field, name)| {
            let value = if field.is_list { "VALUE,…" } else { "VALUE" };
            let help = field.help.trim();
            command.arg(Arg::new(name).long(name).value_name(value).help(help).help_heading(
                match field.section {
                    "model" => "The student",
                    "data" => "The samples",
                    "loss" => "What is minimised",
                    "teachers" => "Teachers that run while training",
                    "eval" => "What is measured in between",
                    "optimiser" => "How parameters move",
                    _ => "The run",
                },
            ))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Fields {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |(field, name): (&'static mobileclip_train::config::Field, &str)| {
            matches.get_one::<String>(name).map(|value| (field.section, field.name, value.clone()))
        };
        Ok(Self(flags().filter_map(value).collect()))
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Err(clap::Error::new(ErrorKind::UnknownArgument))
    }
}

pub fn run(global: &Global, args: &Train) -> anyhow::Result<Outcome> {
    let mut set: Vec<(&str, &str, &str)> =
        args.fields.0.iter().map(|(s, n, v)| (*s, *n, v.as_str())).collect();
    let threads = global.threads.map(|threads| threads.to_string());
    if let Some(threads) = &threads {
        set.push(("run", "threads", threads));
    }
    let config = Config::read(args.recipe.as_deref(), &set)?;
    if args.dry_run {
        return dry_run(&config, args.json);
    }
    let resume = match &args.resume {
        None => Resume::Never,
        Some(name) if name.as_os_str() == "latest" => Resume::Latest,
        Some(folder) => Resume::From(folder.clone()),
    };
    let interrupt = Interrupt::watch()?;
    let batch = config.run.batch as u64;
    let bar = progress::work(global.quiet, 0, "samples");
    let (mut skipped, mut first) = (0, None);
    let measure = helpers::Measure::open(&config)?;
    let mut judge = measure.as_ref().map(|measure| {
        |weights: &Path, variant: &Variant| {
            bar.set_message("  measuring");
            measure.run(weights, variant, || !interrupt.is_asked())
        }
    });
    let helpers = Helpers {
        judge: judge.as_mut().map(|judge| judge as _),
        teachers: helpers::teachers(&config, global)?,
    };
    let report = mobileclip_train::run(&config, &resume, helpers, &mut |event| {
        match event {
            Event::Note(text) => bar.suspend(|| note(global.quiet, text)),
            Event::Skipped(text) => {
                skipped += 1;
                // The first ones are told, all are counted.
                if skipped <= SKIPS_TOLD {
                    bar.suspend(|| note(global.quiet, format!("left out: {text}")));
                }
            }
            Event::Opened(path) => bar.set_message(format!("  opening {}", path.display())),
            Event::Step(line, steps) => {
                // The rate is that of this run, not of the one that it goes on from.
                if first.is_none() {
                    first = Some(line.samples);
                    bar.set_length(steps * batch);
                    bar.set_position(line.samples);
                    bar.reset_eta();
                }
                for (name, value) in &line.measured {
                    let text = format!("step {}: {name} {:.2} %", line.step, 100.0 * value);
                    bar.suspend(|| note(global.quiet, text));
                }
                bar.set_position(line.samples);
                bar.set_message(format!("  step {}  loss {:.4}  lr {:.2e}", line.step, line.loss, line.lr));
            }
            Event::Saved(_) => {}
        }
        match interrupt.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        let mut results = Results::lock();
        results.json(&json!({
            "step": report.step, "steps": report.steps, "interrupted": report.is_interrupted,
            "checkpoint": report.checkpoint, "model": report.model, "skipped": report.skipped,
        }))?;
        results.flush()?;
    }
    for (cause, count) in &report.skipped {
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        note(global.quiet, format!("left out for `{cause}`: {}", counted(count, "sample")));
    }
    if report.is_interrupted {
        let (step, steps) = (report.step, report.steps);
        let checkpoint = report.checkpoint.display();
        complain(&format!(
            "stopped after step {step} of {steps}; {checkpoint} was written; the same command with --resume latest goes on"
        ));
        return Ok(Outcome::SomeFailed);
    }
    let model = report.model.as_ref().unwrap_or(&report.checkpoint);
    note(global.quiet, format!("{} steps done; the model is in {}", report.steps, model.display()));
    Ok(Outcome::Done)
}

const SKIPS_TOLD: usize = 20;

fn dry_run(config: &Config, as_json: bool) -> anyhow::Result<Outcome> {
    let name = variant_of(config)?.name;
    let Plan { samples, steps, parameters, trained, state_bytes, activation_bytes, checkpoint_bytes } =
        plan(config, &mut |_| {})?;
    let [image, text, all] = parameters;
    let mut results = Results::lock();
    if as_json {
        results.json(&json!({
            "variant": name, "samples": samples, "steps": steps, "batch": config.run.batch,
            "parameters": {"image": image, "text": text, "all": all, "trained": trained},
            "state_bytes": state_bytes, "activation_bytes": activation_bytes, "checkpoint_bytes": checkpoint_bytes,
        }))?;
    } else {
        let seen = steps * config.run.batch as u64;
        let mega = |bytes: u64| format!("{} MB", grouped(bytes / 1_000_000));
        results.line(format!("student      {name}"))?;
        results.line(format!(
            "parameters   {}: image tower {}, text tower {}; {} are trained",
            grouped(all),
            grouped(image),
            grouped(text),
            grouped(trained)
        ))?;
        results.line(format!(
            "memory       {} for weights, gradients and optimiser, {} for activations of {} images{}",
            mega(state_bytes),
            mega(activation_bytes),
            config.run.batch / config.run.accumulate,
            if config.run.recompute { ", recomputed" } else { "" }
        ))?;
        results.line(format!(
            "checkpoints  {} each, {} kept, one every {} steps",
            mega(checkpoint_bytes),
            config.run.keep,
            grouped(config.run.checkpoint_every)
        ))?;
        results.line(format!("data         {} samples", grouped(samples as u64)))?;
        results.line(format!(
            "steps        {} of {} samples: {} seen, {:.2} epochs",
            grouped(steps),
            config.run.batch,
            grouped(seen),
            seen as f64 / samples as f64
        ))?;
    }
    results.flush()?;
    Ok(Outcome::Done)
}
