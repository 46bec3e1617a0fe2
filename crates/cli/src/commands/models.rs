//! `mobileclip models`.

use mobileclip::hub::{Hub, KnownModel, known_models};
use serde::Serialize;

use crate::args::Models;
use crate::output::{Outcome, Results};

#[derive(Serialize)]
struct Line<'a> {
    name: String,
    variant: &'a str,
    parameters: u64,
    licence: Option<&'a str>,
    repo: &'a str,
    page: String,
    is_cached: bool,
    note: &'a str,
}

pub fn run(args: &Models) -> anyhow::Result<Outcome> {
    // Without a cache nothing is in it; the names are worth printing all the same.
    let hub = Hub::from_env().ok();
    let is_cached = |model: &KnownModel| {
        hub.as_ref().is_some_and(|hub| matches!(hub.cached(&model.reference()), Ok(Some(_))))
    };
    let mut results = Results::lock();
    if args.json {
        for model in known_models() {
            let KnownModel { name: variant, parameters, licence, repo, note, .. } = *model;
            let (name, page, is_cached) = (model.reference(), model.page(), is_cached(model));
            results.json(&Line { name, variant, parameters, licence, repo, page, is_cached, note })?;
        }
        results.flush()?;
        return Ok(Outcome::Done);
    }
    let width = known_models().iter().map(|model| model.reference().len()).max().unwrap_or_default();
    let repo_width = known_models().iter().map(|model| model.repo.len()).max().unwrap_or_default();
    results.line(format_args!(
        "{:width$}  {:>10}  here  {:11}  {:repo_width$}  note",
        "name", "parameters", "licence", "repository"
    ))?;
    for model in known_models() {
        let line = format!(
            "{:width$}  {:>8.1} M  {:4}  {:11}  {:repo_width$}  {}",
            model.reference(),
            model.parameters as f64 / 1e6,
            if is_cached(model) { "yes" } else { "" },
            model.licence.unwrap_or("see page"),
            model.repo,
            model.note,
        );
        results.line(line.trim_end())?;
    }
    results.line("\nA name loads the model from the cache (here: yes) or from https://huggingface.co/REPOSITORY, where its")?;
    results
        .line("licence stands; apple-amlr is for research only. Any other repository: hf-hub:OWNER/NAME.")?;
    results.flush()?;
    Ok(Outcome::Done)
}
