//! `mobileclip bench`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use mobileclip::{Input, LoadOptions, Model, Precision, Which, image};
use serde::Serialize;

use crate::args::{Bench, Global};
use crate::output::{Outcome, Results, bar};
use crate::session;

/// A retina by Mikael Häggström (CC0): 2 megapixels, as a phone's photo in a message.
const PHOTO: &[u8] = include_bytes!("../../../../golden/images/photos/retina_large.jpg");
const TEXT: &str = "a photo of a dog on a beach";
/// Runs before the clock starts: caches fill, the arena is made, the processor clocks up.
const WARM_UP: usize = 2;

#[derive(Serialize)]
struct Report {
    model: String,
    path: String,
    instruction_set: &'static str,
    precision: &'static str,
    /// Whether the processor has instructions for it.
    is_precision_native: bool,
    threads: usize,
    runs: usize,
    /// Width and height.
    photo: (usize, usize),
    /// From the path to a model that knows its tensors.
    open_ms: f64,
    /// Folding and packing the weights, once for each tower.
    pack_image_ms: f64,
    pack_text_ms: f64,
    steps: Vec<Step>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    profile: Vec<Node>,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    p50_ms: f64,
    p95_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gflop_per_s: Option<f64>,
}

#[derive(Serialize)]
struct Node {
    tower: &'static str,
    node: usize,
    operation: String,
    /// What its products are made of, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<&'static str>,
    /// The parts of the model that it was made from.
    names: Vec<String>,
    p50_ms: f64,
    gflop: f64,
    gflop_per_s: f64,
}

pub fn run(global: &Global, args: &Bench) -> anyhow::Result<Outcome> {
    let bytes = match &args.photo {
        Some(path) => std::fs::read(path).with_context(|| format!("{}: the photo", path.display()))?,
        None => PHOTO.to_vec(),
    };
    let target = args.target.as_deref().unwrap_or(&global.model);
    let options = LoadOptions {
        precision: args.computing.precision.into(),
        fast_decode: args.fast_decode,
        ..session::load_options(global, None)?
    };
    let path = session::locate(target, global)?;
    let (model, open_ms) = timed(|| Model::open(&path, &options));
    let model = model.map_err(session::mend_model)?;
    session::note_emulation(&model, global);
    let photo = image::decode(&bytes, model.decode_options()).with_context(|| {
        args.photo.as_ref().map_or("the bundled photo".into(), |path| path.display().to_string())
    })?;
    let (packed, pack_image_ms) = timed(|| model.tower(Which::Image).map(drop));
    packed?;
    let (packed, pack_text_ms) = timed(|| model.tower(Which::Text).map(drop));
    packed?;

    let mut report = Report {
        model: model.variant().name.clone(),
        path: model.path().display().to_string(),
        instruction_set: model.instruction_set(),
        precision: model.precision().name(),
        is_precision_native: model.is_precision_native(),
        threads: model.threads(),
        runs: args.runs,
        photo: (photo.width(), photo.height()),
        open_ms,
        pack_image_ms,
        pack_text_ms,
        steps: steps(&model, &bytes, &photo, args.runs)?,
        profile: Vec::new(),
    };
    if args.profile {
        report.profile = profile(&model, &photo, args.runs)?;
    }
    let mut results = Results::lock();
    match args.json {
        true => results.json(&report)?,
        false => print(&mut results, &report)?,
    }
    results.flush()?;
    Ok(Outcome::Done)
}

fn steps(model: &Model, bytes: &[u8], photo: &image::RgbImage, runs: usize) -> anyhow::Result<Vec<Step>> {
    let pixels = model.preprocess().apply(photo)?;
    let ids = model.tokenize(TEXT);
    let (height, width) = model.preprocess().size;
    let gflop = |which, height, width| -> anyhow::Result<Option<f64>> {
        Ok(model.tower(which)?.multiply_adds(height, width).map(|n| 2e-9 * n as f64))
    };
    let text_length =
        if model.variant().reads_padding() { ids.len() } else { model.tokenizer().encode(TEXT).len() };
    let whole = || -> mobileclip::Result<f32> {
        let photo = image::decode(bytes, model.decode_options())?;
        Ok(model.logit(&model.encode_image(&photo)?, &model.encode_text(TEXT)?))
    };
    Ok(vec![
        step("decode", runs, None, || Ok(image::decode(bytes, model.decode_options())?))?,
        step("preprocess", runs, None, || Ok(model.preprocess().apply(photo)?))?,
        step("tokenise", runs, None, || Ok(model.tokenize(TEXT)))?,
        step("image tower", runs, gflop(Which::Image, height, width)?, || model.pixel_features(&pixels))?,
        step("text tower", runs, gflop(Which::Text, 1, text_length)?, || model.token_features(&ids))?,
        step("whole", runs, None, whole)?,
    ])
}

fn step<R>(
    step: &'static str,
    runs: usize,
    gflop: Option<f64>,
    mut work: impl FnMut() -> mobileclip::Result<R>,
) -> anyhow::Result<Step> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let (result, ms) = timed(&mut work);
        result?;
        times.push(ms);
    }
    let (p50_ms, p95_ms) = (percentile(&mut times, 0.50), percentile(&mut times, 0.95));
    Ok(Step { step, p50_ms, p95_ms, gflop, gflop_per_s: gflop.map(|gflop| 1e3 * gflop / p50_ms) })
}

/// The median time of every node that does something.
fn profile(model: &Model, photo: &image::RgbImage, runs: usize) -> anyhow::Result<Vec<Node>> {
    let pixels = model.preprocess().apply(photo)?;
    let ids = model.tokenize(TEXT);
    let (height, width) = model.preprocess().size;
    let inputs = [
        ("image", Which::Image, Input::Pixels { height, width, values: &pixels }, (height, width)),
        ("text", Which::Text, Input::Ids(&ids), (1, ids.len())),
    ];
    let mut nodes = Vec::new();
    for (name, which, input, (height, width)) in inputs {
        let tower = model.tower(which)?;
        let mut times: HashMap<usize, Vec<f64>> = HashMap::new();
        for _ in 0..runs {
            for (id, time) in tower.profile(input)?.into_iter().enumerate() {
                times.entry(id).or_default().push(milliseconds(time));
            }
        }
        let graph = tower.graph();
        let work = graph.shapes(height, width).map(|shapes| graph.multiply_adds(&shapes)).unwrap_or_default();
        for (id, node) in graph.nodes.iter().enumerate() {
            let p50_ms = times.get_mut(&id).map_or(0.0, |times| percentile(times, 0.5));
            let gflop = work.get(id).map_or(0.0, |&n| 2e-9 * n as f64);
            let gflop_per_s = if p50_ms > 0.0 { 1e3 * gflop / p50_ms } else { 0.0 };
            nodes.push(Node {
                tower: name,
                node: id,
                operation: node.op.word(),
                precision: tower.precision(id).map(Precision::name),
                names: node.names.clone(),
                p50_ms,
                gflop,
                gflop_per_s,
            });
        }
    }
    Ok(nodes)
}

fn print(results: &mut Results, report: &Report) -> anyhow::Result<()> {
    let Report { model, path, instruction_set, precision, threads, runs, photo: (width, height), .. } =
        report;
    results.line(format_args!("{model}, {path}"))?;
    results.line(format_args!(
        "{instruction_set}, {precision}, {threads} threads, {runs} runs, photo of {width} x {height}\n"
    ))?;
    results.line(format_args!(
        "{:14} {:>10} {:>10} {:>9} {:>9}",
        "step", "p50 ms", "p95 ms", "GFLOP", "GFLOP/s"
    ))?;
    for step in &report.steps {
        let number = |number: Option<f64>, digits| number.map_or(String::new(), |n| format!("{n:.digits$}"));
        let line = format!(
            "{:14} {:10.3} {:10.3} {:>9} {:>9}",
            step.step,
            step.p50_ms,
            step.p95_ms,
            number(step.gflop, 2),
            number(step.gflop_per_s, 0)
        );
        results.line(line.trim_end())?;
    }
    results.line(format_args!(
        "\nonce: opening {:.0} ms, packing the image tower {:.0} ms, the text tower {:.0} ms",
        report.open_ms, report.pack_image_ms, report.pack_text_ms
    ))?;
    if report.profile.is_empty() {
        return Ok(());
    }
    let longest = report.profile.iter().map(|node| node.p50_ms).fold(f64::MIN_POSITIVE, f64::max);
    results.line(format_args!(
        "\n{:5} {:>4} {:>9} {:>8}  {:12}  {:4}  {:30}  made from",
        "tower", "node", "p50 ms", "GFLOP/s", "", "", "operation"
    ))?;
    for node in &report.profile {
        let share = bar((node.p50_ms / longest) as f32, 12);
        let names = shortened(&node.names);
        results.line(format_args!(
            "{:5} {:>4} {:9.4} {:8.0}  {share}  {:4}  {:30}  {names}",
            node.tower,
            node.node,
            node.p50_ms,
            node.gflop_per_s,
            node.precision.unwrap_or_default(),
            node.operation
        ))?;
    }
    Ok(())
}

/// The common beginning of the names, which says where in the model a node stands.
fn shortened(names: &[String]) -> String {
    let [first, rest @ ..] = names else { return String::new() };
    let parts: Vec<&str> = first.split('.').collect();
    let is_common =
        |n: usize| rest.iter().all(|name| name.split('.').take(n).eq(parts.iter().copied().take(n)));
    let common = (1..=parts.len()).rev().find(|&n| is_common(n)).unwrap_or_default();
    match (common, rest.len()) {
        (0, more) => format!("{first} and {more} more"),
        (n, _) if n == parts.len() => first.clone(),
        (n, _) => format!("{}.*", parts.iter().take(n).copied().collect::<Vec<_>>().join(".")),
    }
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, f64) {
    let start = Instant::now();
    let result = work();
    (result, milliseconds(start.elapsed()))
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

/// The smallest time that at least this share of them does not exceed. `times` has at least one.
fn percentile(times: &mut [f64], share: f64) -> f64 {
    times.sort_by(f64::total_cmp);
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::{percentile, shortened};

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(&mut times, 0.5), 2.0);
        assert_eq!(percentile(&mut times, 0.95), 4.0);
        assert_eq!(percentile(&mut [7.0], 0.5), 7.0);
    }

    #[test]
    fn names_are_shortened_to_what_they_share() {
        let names =
            |names: &[&str]| shortened(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), "");
        assert_eq!(names(&["a.b"]), "a.b");
        assert_eq!(names(&["a.b.c", "a.b.d"]), "a.b.*");
        assert_eq!(names(&["a", "b"]), "a and 1 more");
    }
}
