//! `mobileclip search`.

use anyhow::Context;
use mobileclip::index::{Embed as _, Searcher, contact_sheet, thumbnail};
use serde::Serialize;

use crate::args::{Global, Search};
use crate::output::{Outcome, Results, bar, complain, note};
use crate::session;

const BAR_CELLS: usize = 16;

#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    score: f32,
}

pub fn run(global: &Global, args: &Search) -> anyhow::Result<Outcome> {
    args.html.as_deref().map_or(Ok(()), session::check_folder)?;
    // Quotes are easily forgotten: several words are one sentence.
    let text = args.text.join(" ");
    let model = session::load(global, Some(&args.decoding), &args.computing)?;
    let searcher = Searcher::load(&args.index, &model.model()).map_err(session::mend_index)?;
    let searcher = searcher.with_threads(model.threads());
    let query = match &args.photo {
        Some(photo) => model.encode_file(photo)?,
        None => match session::label_cache(&args.caching) {
            Some(cache) => cache.encode_text(&model, &text)?,
            None => model.encode_text(&text)?,
        },
    };
    let hits = searcher.search(&query, args.top)?;

    // The page first: whoever closes the pipe early still wants it.
    if let Some(html) = &args.html {
        let title = match &args.photo {
            Some(photo) => format!("Like {}", photo.display()),
            None => text,
        };
        contact_sheet(html, &title, &hits, |path| thumbnail(path, model.decode_options()))
            .with_context(|| format!("{}: writing the page", html.display()))?;
    }
    if hits.is_empty() {
        complain(&format!("{}: there are no photos in this index", args.index.display()));
    }
    let best = hits.first().map_or(1.0, |hit| hit.score.max(f32::MIN_POSITIVE));
    let mut results = Results::lock();
    for hit in &hits {
        match args.json {
            true => results.json(&Line { path: &hit.path.to_string_lossy(), score: hit.score })?,
            false => {
                let bar = bar(hit.score / best, BAR_CELLS);
                results.line(format_args!("{:7.4}  {bar}  {}", hit.score, hit.path.display()))?;
            }
        }
    }
    results.flush()?;
    if let Some(html) = &args.html {
        note(global.quiet, format!("{}: {} of {} photos", html.display(), hits.len(), searcher.len()));
    }
    Ok(Outcome::Done)
}
