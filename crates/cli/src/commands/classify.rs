//! `mobileclip classify`.

use std::path::Path;

use anyhow::{Context, bail};
use mobileclip::{Error, Labels, Score};
use serde::Serialize;

use crate::args::{Classify, Global};
use crate::output::{Outcome, Results, bar, complain, named};
use crate::session;

const SHOWN: usize = 5;
const BAR_CELLS: usize = 24;

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Scores { path: &'a str, scores: &'a [Score] },
    Failed { path: &'a str, error: &'a str },
}

pub fn run(global: &Global, args: &Classify) -> anyhow::Result<Outcome> {
    // What can be wrong with the words is said before a model is loaded, which may take a download.
    let names = labels(args)?;
    if let Some(template) = args.template.iter().find(|template| !template.contains("{}")) {
        bail!(Error::Template { template: template.clone() });
    }
    let model = session::load(global, Some(&args.decoding), &args.computing)?;
    let labels = match session::label_cache(&args.caching) {
        Some(cache) => cache.embed(&model, &names, &args.template)?,
        None => Labels::embed(&model, &names, &args.template)?,
    };
    let top = args.top.unwrap_or(if args.json { usize::MAX } else { SHOWN });

    let mut results = Results::lock();
    let mut failed = 0;
    for photos in args.photos.chunks(4 * model.threads()) {
        for (photo, embedding) in photos.iter().zip(model.encode_files(photos)) {
            let scores = embedding.map(|embedding| {
                let mut scores = labels.scores(&model, &embedding);
                scores.truncate(top);
                scores
            });
            // A model that is damaged fails for every photo alike.
            let scores = match scores {
                Err(error) if !matches!(error, Error::Image(_)) => {
                    results.flush()?;
                    bail!(error);
                }
                scores => scores,
            };
            failed += usize::from(scores.is_err());
            match args.json {
                true => print_json(&mut results, photo, scores)?,
                false => print_table(&mut results, photo, scores)?,
            }
        }
        results.flush()?;
    }
    Ok(Outcome::of(failed, args.photos.len()))
}

fn print_json(results: &mut Results, photo: &Path, scores: Result<Vec<Score>, Error>) -> anyhow::Result<()> {
    let path = &*photo.to_string_lossy();
    match &scores {
        Ok(scores) => results.json(&Line::Scores { path, scores }),
        Err(error) => results.json(&Line::Failed { path, error: &error.to_string() }),
    }
}

fn print_table(results: &mut Results, photo: &Path, scores: Result<Vec<Score>, Error>) -> anyhow::Result<()> {
    let scores = match scores {
        Ok(scores) => scores,
        Err(error) => {
            results.flush()?;
            complain(&named(photo, &error.to_string()));
            return Ok(());
        }
    };
    results.line(photo.display())?;
    for Score { label, probability, .. } in scores {
        // The label stands last: however wide its letters are, the columns stay straight.
        results.line(format_args!(
            "{:6.1} %  {}  {label}",
            100.0 * probability,
            bar(probability, BAR_CELLS)
        ))?;
    }
    Ok(())
}

/// The labels that were typed or written in a file.
fn labels(args: &Classify) -> anyhow::Result<Vec<String>> {
    let (text, place) = match (&args.labels, &args.labels_file) {
        (Some(text), _) => (text.clone(), None),
        (None, Some(file)) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("{}: the labels", file.display()))?;
            (text, Some(file))
        }
        (None, None) => bail!(Error::NoLabels),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let labels: Vec<String> = match place {
        None => text.split(',').map(|label| label.trim().to_owned()).collect(),
        Some(_) => text.lines().map(|label| label.trim().to_owned()).collect(),
    };
    if let Some(empty) = labels.iter().position(String::is_empty) {
        match place {
            None => bail!("--labels {text:?}: label {} of {} is empty", empty + 1, labels.len()),
            Some(file) => bail!("{}: line {} is empty, where a label must stand", file.display(), empty + 1),
        }
    }
    if let (true, Some(file)) = (labels.is_empty(), place) {
        bail!("{}: there are no labels in it", file.display());
    }
    Ok(labels)
}
