//! `mobileclip caption`.

use std::path::Path;

use anyhow::bail;
use mobileclip::{CaptionOptions, CaptionSettings, Error, Filter, Method};
use serde::Serialize;

use crate::args::{Caption, CaptionMethod, Global, Writing};
use crate::output::{Outcome, Results, complain, named};
use crate::session;

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Captions { path: &'a str, captions: &'a [String] },
    Failed { path: &'a str, error: &'a str },
}

pub fn run(global: &Global, args: &Caption) -> anyhow::Result<Outcome> {
    let options = options(&args.writing);
    let model = session::load(global, Some(&args.decoding), &args.computing)?;
    let writer = model.caption_writer()?;
    let mut results = Results::lock();
    let mut failed = 0;
    let is_table = !args.json && args.photos.len() > 1;
    for photos in args.photos.chunks(args.batch) {
        for (photo, captions) in photos.iter().zip(writer.caption_files(photos, &options)?) {
            // A model that is damaged fails for every photo alike.
            let captions = match captions {
                Err(error) if !matches!(error, Error::Image(_)) => {
                    results.flush()?;
                    bail!(error);
                }
                captions => captions,
            };
            failed += usize::from(captions.is_err());
            match args.json {
                true => print_json(&mut results, photo, &captions)?,
                false => print(&mut results, photo, &captions, is_table)?,
            }
        }
        results.flush()?;
    }
    Ok(Outcome::of(failed, args.photos.len()))
}

/// The options that were typed.
pub fn options(args: &Writing) -> CaptionOptions {
    let published = CaptionSettings::default();
    let method = match args.method {
        CaptionMethod::TopP => Method::Sample(Filter::TopP(args.top_p)),
        CaptionMethod::TopK => Method::Sample(Filter::TopK(args.top_k)),
        CaptionMethod::Greedy => Method::Greedy,
        CaptionMethod::Beam => Method::Beam { width: args.beams },
    };
    let settings = CaptionSettings {
        method,
        max_ids: args.max_ids,
        min_ids: args.min_ids,
        temperature: args.temperature,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..published
    };
    CaptionOptions { settings, samples: args.samples, beginning: args.beginning.clone(), whole: args.whole }
}

fn print_json(
    results: &mut Results,
    photo: &Path,
    captions: &Result<Vec<String>, Error>,
) -> anyhow::Result<()> {
    let path = &*photo.to_string_lossy();
    match captions {
        Ok(captions) => results.json(&Line::Captions { path, captions }),
        Err(error) => results.json(&Line::Failed { path, error: &error.to_string() }),
    }
}

/// The captions, under the photo's name where there are several photos.
fn print(
    results: &mut Results,
    photo: &Path,
    captions: &Result<Vec<String>, Error>,
    is_table: bool,
) -> anyhow::Result<()> {
    let captions = match captions {
        Ok(captions) => captions,
        Err(error) => {
            results.flush()?;
            complain(&named(photo, &error.to_string()));
            return Ok(());
        }
    };
    if is_table {
        results.line(photo.display())?;
    }
    captions.iter().try_for_each(|caption| match is_table {
        true => results.line(format_args!("  {caption}")),
        false => results.line(caption),
    })
}
