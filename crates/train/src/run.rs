//! A run, from its configuration to a model: this file is the loop, read from top to bottom.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mobileclip_arch::{Form, Manifest, Tower, Variant};
use mobileclip_autodiff::{Cpu, Gradients, Parameters, Random, TrainOptions};
use mobileclip_checkpoint::{Checkpoint, FloatType, Options, write_open_clip};
use mobileclip_kernels::Isa;

use crate::config::{Augment, Config};
use crate::data::{Item, Loader, Position, Source};
use crate::ema::Ema;
use crate::error::{Error, Result};
use crate::groups;
use crate::init::{Fresh, Lengthened};
use crate::log::{self, Line, Log};
use crate::optimiser::{Optimiser, clamp_logit_scale};
use crate::save::{self, Moving, State};
use crate::step::{self, Batch, Texts};
use crate::teacher::Teacher;

/// Where a run begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// At step 0; a folder that holds checkpoints is an error.
    Never,
    /// At the newest checkpoint in the run's folder that can be read, or at step 0 if there is none.
    Latest,
    /// At this checkpoint.
    From(PathBuf),
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something that a person should know.
    Note(&'a str),
    /// A shard was opened.
    Opened(&'a Path),
    /// A sample was left out.
    Skipped(&'a str),
    /// A step was done, of so many.
    Step(&'a Line, u64),
    /// A checkpoint was written.
    Saved(&'a Path),
}

/// Measures a model: the file of its weights and its variant to names (`SET METRIC`) and values, or a reason in words.
pub type Judge<'a> = &'a mut dyn FnMut(&Path, &Variant) -> std::result::Result<BTreeMap<String, f64>, String>;

/// What a run needs of the layers above, if its configuration asks for it.
#[derive(Default)]
pub struct Helpers<'a> {
    /// Measures the student on `eval.sets`.
    pub judge: Option<Judge<'a>>,
    /// The models of `teachers.checkpoints`, in their order.
    pub teachers: Vec<Arc<dyn Teacher>>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Whether it was asked to stop before the end.
    pub is_interrupted: bool,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The model's folder in open_clip's layout, if the run is at its end and open_clip can hold the variant.
    pub model: Option<PathBuf>,
    /// Samples left out, by cause.
    pub skipped: BTreeMap<String, u64>,
}

/// What a run will need, without running it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Samples of the set; those that turn out to be broken among them.
    pub samples: usize,
    /// Steps.
    pub steps: u64,
    /// Parameters of the image tower, the text tower, and both with the scale.
    pub parameters: [u64; 3],
    /// How many of them are trained.
    pub trained: u64,
    /// Bytes of weights, gradients, the optimiser's state and the moving average.
    pub state_bytes: u64,
    /// Bytes of the activations of a micro-batch and their gradients.
    pub activation_bytes: u64,
    /// Bytes of a checkpoint.
    pub checkpoint_bytes: u64,
}

/// The variant that a configuration names: one of the family, or a TOML file.
///
/// # Errors
/// If there is none, or the file is no variant.
pub fn variant_of(config: &Config) -> Result<Variant> {
    let name = &config.model.variant;
    let mut variant = match mobileclip_arch::variant(name) {
        Some(variant) => variant.clone(),
        None => {
            let path = Path::new(name);
            if path.extension().is_none_or(|extension| extension != "toml") {
                return Err(Error::field(
                    "model.variant",
                    format!("`{name}` is no variant's name, and no .toml file"),
                ));
            }
            let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
            let refuse = |reason: String| Error::Recipe { path: path.to_path_buf(), reason };
            Variant::parse(&text).map_err(|error| refuse(error.to_string()))?
        }
    };
    variant.text.context = config.model.context.unwrap_or(variant.text.context);
    Ok(variant)
}

/// What a run would need.
///
/// # Errors
/// As [`run`], as far as it can be told without computing.
pub fn plan(config: &Config, watch: &mut dyn FnMut(Event<'_>)) -> Result<Plan> {
    config.check()?;
    let variant = variant_of(config)?;
    let source = Source::open(config, &variant, Vec::new(), &mut |path| watch(Event::Opened(path)))?;
    let objective = config.objective(variant.captioner.is_some())?;
    let manifest = Manifest::of(&variant);
    let moving = begin(config, &variant, &manifest)?;
    let count = |tower| manifest.parameters(Form::Train, tower);
    let parameters = [count(Some(Tower::Image)), count(Some(Tower::Text)), count(None)];
    let is_trained = |&index: &usize| moving.parameters.is_trained(index);
    let trained = (0..moving.parameters.len())
        .filter(is_trained)
        .map(|index| moving.parameters.values(index).len() as u64)
        .sum::<u64>();
    let averages = u64::from(moving.ema.is_some());
    // Reinforced shards give true and synthetic captions, unless those are mixed.
    let is_pair = config.data.augment == Augment::Recorded && config.data.mix_synthetic.is_none();
    let activation_bytes = step::activation_bytes(
        &variant,
        &moving.parameters,
        &objective,
        config.run.batch / config.run.accumulate,
        Texts { sets: if is_pair { 2 } else { 1 }, prompts: source.class_count() },
        TrainOptions { recomputes: config.run.recompute, ..TrainOptions::default() },
    );
    Ok(Plan {
        samples: source.dataset().len(),
        steps: config.steps(source.dataset().len())?,
        parameters,
        trained,
        state_bytes: 4 * (parameters[2] * (1 + averages) + 3 * trained),
        activation_bytes,
        checkpoint_bytes: 4 * (parameters[2] * (1 + averages) + 2 * trained),
    })
}

/// Trains. `watch` is told what happens; when it breaks, a checkpoint is written and the run ends.
///
/// # Errors
/// If the configuration contradicts itself, the data or the model; data cannot be read at all; a file cannot be written; or
/// the loss is no number any more. Checkpoints that were written stay.
pub fn run(
    config: &Config,
    resume: &Resume,
    helpers: Helpers<'_>,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report> {
    config.check()?;
    let Helpers { mut judge, teachers } = helpers;
    if judge.is_none() && !config.eval.sets.is_empty() {
        return Err(Error::field("eval.sets", "nobody was given to measure on them"));
    }
    let config = &config.with_teachers(&teachers)?;
    let out = config.run.out.as_path();
    let variant = variant_of(config)?;
    let manifest = Manifest::of(&variant);

    // Where to begin.
    let mut moving = begin(config, &variant, &manifest)?;
    let (state, mut checkpoint) = restore(out, resume, &mut moving, watch)?;

    // The data, from there on.
    let mut asked_to_stop = false;
    let source = Source::open(config, &variant, teachers, &mut |path| {
        asked_to_stop |= watch(Event::Opened(path)).is_break();
    })?;
    let source = Arc::new(source);
    for fault in source.dataset().faults() {
        let _ = watch(Event::Skipped(&fault.to_string()));
    }
    let samples = source.dataset().len();
    let cpu = Cpu::new(match config.run.threads {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        threads => threads,
    });
    if let Some(state) = &state {
        check_continuation(state, config, samples, cpu.pool().threads(), watch)?;
    }
    let (mut step, position) = state.map_or((0, Position::default()), |state| (state.step, state.data));
    let ahead = match config.data.ahead {
        0 => 2 * config.run.batch,
        ahead => ahead,
    };
    let mut loader = Loader::start(Arc::clone(&source), position, config.data.workers, ahead)?;

    // Where it is written to: what cannot be written is found out now, not after hours.
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    save::sweep(out)?;
    write_toml(&out.join("config.toml"), config)?;
    write_toml(&out.join("variant.toml"), &variant)?;
    let mut log = Log::open(out, step)?;

    let steps = config.steps(samples)?;
    let objective = config.objective(variant.captioner.is_some())?;
    let schedule = config.schedule(steps);
    let random = Random::new(config.run.seed).with_name("step");
    let mut gradients = Gradients::new(&moving.parameters);

    while step < steps && !asked_to_stop {
        let began = Instant::now();

        // The batch.
        let mut items = Vec::with_capacity(config.run.batch);
        while items.len() < config.run.batch {
            items.push(loader.next(&mut |skip| {
                let _ = watch(Event::Skipped(&skip.message));
            })?);
        }
        let keys: Vec<String> = items.iter().map(|item| item.key.clone()).collect();
        let mut batches = micro_batches(items, config.run.accumulate, source.size());
        batches[0].prompts = source.prompts(step);

        // Forward, loss, backward.
        gradients.clear();
        let options = TrainOptions {
            recomputes: config.run.recompute,
            drop_path: config.model.drop_path,
            random: random.with(step),
            ..TrainOptions::default()
        };
        let Moving { parameters, optimiser, ema } = &mut moving;
        let outcome =
            step::gradients(&cpu, &variant, parameters, &objective, &batches, options, &mut gradients)?;
        let not_finite = |what, value: f64| match value.is_finite() {
            true => Ok(()),
            false => Err(Error::NotFinite {
                step: step + 1,
                what,
                value,
                checkpoint: checkpoint.clone(),
                keys: keys.clone(),
            }),
        };
        not_finite("the loss", outcome.losses.total())?;

        // The move.
        parameters.apply(&outcome.statistics);
        let rate = schedule.rate(step);
        let clip = config.optimiser.clip;
        let norm = optimiser.step(cpu.pool(), Isa::detect(), parameters, &gradients, rate, clip);
        // Such gradients have spoilt the weights in memory; those on the disk are good.
        not_finite("the gradient's length", norm)?;
        clamp_logit_scale(parameters);
        if let Some(ema) = ema {
            ema.update(parameters);
        }
        step += 1;

        // The log.
        let seen = step * config.run.batch as u64;
        let position = loader.position();
        let mut line = Line {
            step,
            epoch: position.epoch as f64 + f64::from(position.taken) / samples as f64,
            samples: seen,
            loss: outcome.losses.total(),
            contrastive_loss: outcome.losses.contrastive,
            distill_loss: outcome.losses.distill,
            class_loss: outcome.losses.class,
            caption_loss: outcome.losses.caption,
            lr: rate,
            gradient_norm: norm,
            logit_scale: logit_scale(parameters),
            skipped: position.skipped.values().sum(),
            seconds: began.elapsed().as_secs_f64(),
            measured: BTreeMap::new(),
        };
        if let Some(judge) =
            judge.as_mut().filter(|_| step.is_multiple_of(config.eval.every) || step == steps)
        {
            let weights = moving.ema.as_ref().map_or(&moving.parameters, Ema::parameters);
            match save::lend(out, weights, |file| judge(file, &variant))? {
                Ok(measured) => line.measured = measured,
                // What cannot be measured now may be measured later, from the checkpoint.
                Err(reason) => {
                    asked_to_stop |= watch(Event::Note(&format!("not measured: {reason}"))).is_break()
                }
            }
        }
        if step.is_multiple_of(config.run.log_every) || step == steps || !line.measured.is_empty() {
            log.add(&line)?;
        }
        asked_to_stop |= watch(Event::Step(&line, steps)).is_break();

        // The checkpoint.
        if step.is_multiple_of(config.run.checkpoint_every) || step == steps || asked_to_stop {
            let state = state_of(step, &moving, &loader, samples, cpu.pool().threads(), config);
            let path = save::save(out, &state, &moving, config.run.keep)?;
            asked_to_stop |= watch(Event::Saved(&path)).is_break();
            checkpoint = Some(path);
        }
    }

    // Asked to stop before the first step.
    let checkpoint = match checkpoint {
        Some(path) => path,
        None => {
            let state = state_of(step, &moving, &loader, samples, cpu.pool().threads(), config);
            save::save(out, &state, &moving, config.run.keep)?
        }
    };
    log::draw(&log::read(out)?, out)?;
    let is_interrupted = step < steps;
    let model = match is_interrupted {
        true => None,
        false => export(&checkpoint, &variant, out, watch)?,
    };
    let skipped = loader.position().skipped.clone();
    Ok(Report { step, steps, is_interrupted, checkpoint, model, skipped })
}

/// What training moves, as it is at step 0.
fn begin(config: &Config, variant: &Variant, manifest: &Manifest) -> Result<Moving> {
    let mut parameters = match &config.model.start {
        None => {
            let fresh = Fresh::new(variant, manifest, config.run.seed, &config.model);
            Parameters::new(manifest, &fresh)
        }
        Some(path) => {
            let options = Options { any_context: true, ..Options::of(variant) };
            let start = Checkpoint::open_with(path, &options)?;
            if start.form() == Form::Deploy {
                let reason = "its branches are fused; training starts from the train form".to_owned();
                return Err(Error::Checkpoint { path: path.clone(), reason });
            }
            start.with_weights(|weights| {
                let positions = variant.text.positions_name();
                let spec = manifest.of_form(Form::Train).find(|spec| spec.name == positions);
                Parameters::new(manifest, &Lengthened { weights, spec })
            })?
        }
    };
    groups::freeze(&mut parameters, &config.model.freeze)?;
    let optimiser = Optimiser::new(config.adamw(), &parameters, groups::rules(&parameters, config));
    let ema = config.model.ema.map(|decay| Ema::new(decay, &parameters));
    Ok(Moving { parameters, optimiser, ema })
}

/// Reads the checkpoint to go on from, if there is one, into `moving`.
fn restore(
    out: &Path,
    resume: &Resume,
    moving: &mut Moving,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(Option<State>, Option<PathBuf>)> {
    let found = save::list(out)?;
    let mut candidates = match (resume, found.last()) {
        (Resume::Never, Some(last)) => {
            let reason = "is a checkpoint of an earlier run in this folder; --resume latest goes on from it, \
                          or give another run.out";
            return Err(Error::Checkpoint { path: last.clone(), reason: reason.to_owned() });
        }
        (Resume::Never, None) => Vec::new(),
        (Resume::Latest, _) => found,
        (Resume::From(path), _) => vec![path.clone()],
    };
    while let Some(path) = candidates.pop() {
        let read =
            save::read_state(&path).and_then(|state| save::load(&path, &state, moving).map(|()| state));
        match read {
            Ok(state) => return Ok((Some(state), Some(path))),
            // An older one that can be read is better than none.
            Err(error) if !candidates.is_empty() => {
                let note = format!("{error}; the checkpoint before it is taken");
                let _ = watch(Event::Note(&note));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((None, None))
}

/// Whether a run that goes on is the one that was begun.
fn check_continuation(
    state: &State,
    config: &Config,
    samples: usize,
    threads: usize,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<()> {
    if state.samples != samples {
        let found = state.samples;
        return Err(Error::field(
            "data.shards",
            format!(
                "{samples} samples, the run was begun with {found}; its place in the data would mean others"
            ),
        ));
    }
    // What may change without a difference in the numbers.
    let essential = |config: &Config| {
        let mut config = config.clone();
        let usual = Config::default();
        config.data.workers = usual.data.workers;
        config.data.ahead = usual.data.ahead;
        config.data.cache = None;
        config.data.cache_gb = usual.data.cache_gb;
        config.run = crate::config::RunConfig {
            batch: config.run.batch,
            accumulate: config.run.accumulate,
            steps: config.run.steps,
            samples: config.run.samples,
            epochs: config.run.epochs,
            seed: config.run.seed,
            ..usual.run
        };
        config
    };
    if essential(&state.config) != essential(config) {
        let _ = watch(Event::Note(
            "the configuration is not the one that the run was begun with; it goes on with the new one",
        ));
    }
    if state.threads != threads {
        let note = format!(
            "the run was begun with {} threads and goes on with {threads}; the last bits may differ",
            state.threads
        );
        let _ = watch(Event::Note(&note));
    }
    Ok(())
}

fn state_of(
    step: u64,
    moving: &Moving,
    loader: &Loader,
    samples: usize,
    threads: usize,
    config: &Config,
) -> State {
    let (data, config) = (loader.position().clone(), config.clone());
    State { step, optimiser_steps: moving.optimiser.steps(), data, samples, threads, config }
}

/// Items to micro-batches of equal size.
fn micro_batches(items: Vec<Item>, count: usize, size: (usize, usize)) -> Vec<Batch> {
    let each = items.len() / count;
    let part = |items: &[Item]| {
        let sets = items.iter().map(|item| item.captions.len()).max().unwrap_or(0);
        let of_set = |set: usize| items.iter().filter_map(move |item| item.captions.get(set));
        let teachers = |set: usize| items.iter().filter_map(move |item| item.teacher_captions.get(set));
        Batch {
            count: items.len(),
            size,
            images: items.iter().flat_map(|item| &item.image).copied().collect(),
            captions: (0..sets).map(|set| of_set(set).flatten().copied().collect()).collect(),
            classes: items.iter().map(|item| item.class.clone()).collect(),
            prompts: Vec::new(),
            labels: items.iter().map(|item| item.label).collect(),
            teacher_images: items.iter().flat_map(|item| &item.teacher_image).copied().collect(),
            teacher_captions: (0..sets).map(|set| teachers(set).flatten().copied().collect()).collect(),
        }
    };
    items.chunks(each).map(part).collect()
}

fn logit_scale(parameters: &Parameters) -> f64 {
    let stored = parameters.index("logit_scale").map(|index| f64::from(parameters.values(index)[0]));
    stored.map_or(1.0, f64::exp)
}

/// Writes the model in open_clip's layout: the moving average if there is one.
fn export(
    checkpoint: &Path,
    variant: &Variant,
    out: &Path,
    watch: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Option<PathBuf>> {
    let average = checkpoint.join(save::EMA);
    let weights = if average.exists() { average } else { checkpoint.join(save::STUDENT) };
    let trained = Checkpoint::open_with(&weights, &Options::of(variant))?;
    let folder = out.join("open_clip");
    match write_open_clip(&trained, &folder, FloatType::F32) {
        Ok(()) => Ok(Some(folder)),
        Err(error @ mobileclip_checkpoint::Error::NotRepresentable { .. }) => {
            let _ = watch(Event::Note(&format!("not written for open_clip: {error}")));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn write_toml(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let refuse =
        |error: toml::ser::Error| Error::Recipe { path: path.to_path_buf(), reason: error.to_string() };
    std::fs::write(path, toml::to_string(value).map_err(refuse)?).map_err(Error::io(path))
}
