//! `mobileclip embed`.

use std::collections::HashSet;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use mobileclip::Model;
use mobileclip::index::{Embed as _, Stamp, find_photos};
use mobileclip::table::{Column, EmbeddingTable, Format, Input, TableSpec};

use crate::args::{Embed, Global};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, complain, counted, named, note};
use crate::{progress, session};

/// A batch should take about this long: rows become durable and the bar moves after each.
const BATCH_TIME: Duration = Duration::from_secs(1);
const BATCH_MAX: usize = 512;

pub fn run(global: &Global, args: &Embed) -> anyhow::Result<Outcome> {
    Format::of(&args.out)?;
    session::check_folder(&args.out)?;
    args.list.as_deref().map_or(Ok(()), session::check_folder)?;
    let mut failed = 0;
    let (column, sources) = match texts(args)? {
        Some(texts) => (Column::Text, texts.into_iter().map(Source::text).collect()),
        None => (Column::Path, photos(&args.inputs, &mut failed)?),
    };
    let noun = if column == Column::Text { "text" } else { "photo" };
    if sources.is_empty() && failed > 0 {
        return Ok(Outcome::NothingWorked);
    }
    if sources.is_empty() {
        bail!("there is no {noun} to embed");
    }

    let model = session::load(global, Some(&args.decoding), &args.computing)?;
    let spec = TableSpec { column, model: model.model(), is_normalised: !args.raw };
    let mut table = match args.resume {
        true => EmbeddingTable::resume(&args.out, &spec)?,
        false => EmbeddingTable::create(&args.out, &spec)?,
    };

    let mut seen = HashSet::new();
    let to_do: Vec<&Source> =
        sources.iter().filter(|source| !table.is_done(&source.input) && seen.insert(&source.input)).collect();
    let resumed = sources.iter().filter(|source| table.is_done(&source.input)).count();
    if resumed > 0 {
        note(global.quiet, format!("{} done already", counted(resumed, noun)));
    }
    let bar = progress::work(global.quiet, to_do.len(), &format!("{noun}s"));
    let interrupt = Interrupt::watch()?;
    failed += embed(&model, &mut table, &to_do, args.raw, &bar, &interrupt)?;
    bar.finish_and_clear();
    if interrupt.is_asked() {
        complain(&format!("{}: interrupted; the same command with --resume goes on", args.out.display()));
        return Ok(Outcome::SomeFailed);
    }

    if let Some(list) = &args.list {
        write_list(list, &table, &sources)?;
    }
    let inputs: Vec<Input> = sources.into_iter().map(|source| source.input).collect();
    let rows = table.finish(&inputs)?;
    let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
    note(
        global.quiet,
        format!(
            "{}: {} of {} numbers{failures}",
            args.out.display(),
            counted(rows, "row"),
            model.embed_dim()
        ),
    );
    Ok(Outcome::of(failed, failed + rows))
}

/// Something to embed.
struct Source {
    input: Input,
    /// The photo, if it is one: the input has its path as text, which loses what is no UTF-8.
    path: PathBuf,
}

impl Source {
    fn text(text: String) -> Self {
        Self { input: Input::text(text), path: PathBuf::new() }
    }

    fn photo(path: PathBuf, stamp: Stamp) -> Self {
        Self { input: Input::photo(&path, stamp), path }
    }
}

/// Embeds the sources into the table, and says how many failed.
fn embed(
    model: &Model,
    table: &mut EmbeddingTable,
    to_do: &[&Source],
    is_raw: bool,
    bar: &ProgressBar,
    interrupt: &Interrupt,
) -> anyhow::Result<usize> {
    let mut failed = 0;
    let mut left = to_do;
    let mut batch = model.threads();
    while !left.is_empty() && !interrupt.is_asked() {
        let (now, rest) = left.split_at(batch.min(left.len()));
        left = rest;
        let start = Instant::now();
        let mut rows = Vec::with_capacity(now.len());
        for (source, features) in now.iter().zip(features(model, now, is_raw)) {
            match features {
                Ok(features) => rows.push((source.input.clone(), features)),
                // A model that is damaged fails for everything, and nobody wants to hear that of each photo.
                Err(error) if !matches!(error, mobileclip::Error::Image(_)) => return Err(error.into()),
                Err(error) => {
                    failed += 1;
                    bar.suspend(|| complain(&named(&source.path, &error.to_string())));
                }
            }
        }
        table.append(&rows)?;
        bar.inc(now.len() as u64);
        if failed > 0 {
            bar.set_message(format!("  {failed} failed"));
        }
        // Whole rounds of the threads, longer or shorter as the last one took.
        let took = start.elapsed();
        if took < BATCH_TIME / 2 {
            batch = (2 * batch).min(BATCH_MAX.next_multiple_of(model.threads()));
        } else if took > 2 * BATCH_TIME && batch >= 2 * model.threads() {
            batch = (batch / 2).next_multiple_of(model.threads());
        }
    }
    Ok(failed)
}

fn features(model: &Model, sources: &[&Source], is_raw: bool) -> Vec<mobileclip::Result<Vec<f32>>> {
    let is_text = sources.first().is_some_and(|source| source.path.as_os_str().is_empty());
    let features = if is_text {
        let texts: Vec<&str> = sources.iter().map(|source| source.input.name()).collect();
        model.features_of_texts(&texts)
    } else {
        let paths: Vec<&Path> = sources.iter().map(|source| source.path.as_path()).collect();
        model.features_of_files(&paths)
    };
    let finish = |features| if is_raw { features } else { mobileclip::normalized(features) };
    features.into_iter().map(|features| features.map(finish)).collect()
}

/// The texts that were typed or written in a file; `None` if it is about photos.
fn texts(args: &Embed) -> anyhow::Result<Option<Vec<String>>> {
    let Some(file) = &args.text_file else {
        return Ok((!args.text.is_empty()).then(|| args.text.clone()));
    };
    let text = match file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()).context("reading texts from the standard input")?,
        false => std::fs::read_to_string(file).with_context(|| format!("{}: the texts", file.display()))?,
    };
    Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::to_owned).collect()))
}

/// The photos of the arguments, in their order; folders are walked through. What cannot be read is reported and counted.
fn photos(arguments: &[PathBuf], failed: &mut usize) -> anyhow::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for argument in arguments {
        if argument.as_os_str() == "-" {
            for line in io::stdin().lock().lines() {
                let line = line.context("reading paths from the standard input")?;
                let line = line.strip_suffix('\r').unwrap_or(&line);
                if !line.is_empty() {
                    add(Path::new(line), &mut sources, failed);
                }
            }
        } else {
            add(argument, &mut sources, failed);
        }
    }
    Ok(sources)
}

fn add(path: &Path, sources: &mut Vec<Source>, failed: &mut usize) {
    let mut fail = |path: &Path, reason: &str| {
        complain(&named(path, reason));
        *failed += 1;
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => match find_photos(&[path.to_path_buf()]) {
            Ok(walk) => {
                walk.failed.iter().for_each(|(path, reason)| fail(path, reason));
                sources.extend(walk.photos.into_iter().map(|found| Source::photo(found.path, found.stamp)));
            }
            Err((path, error)) => fail(&path, &error.to_string()),
        },
        // Whoever names a file means it, whatever its name ends in.
        Ok(metadata) => sources.push(Source::photo(path.to_path_buf(), Stamp::of(&metadata))),
        Err(error) => fail(path, &error.to_string()),
    }
}

fn write_list(list: &Path, table: &EmbeddingTable, sources: &[Source]) -> anyhow::Result<()> {
    let rows = sources.iter().filter(|source| table.is_done(&source.input));
    let text: String = rows.flat_map(|source| [source.input.name(), "\n"]).collect();
    std::fs::write(list, text).with_context(|| format!("{}: writing the list", list.display()))
}
