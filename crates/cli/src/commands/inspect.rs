//! `mobileclip inspect`.

use mobileclip::Inspection;

use crate::args::{Global, Inspect};
use crate::output::{Outcome, Results, grouped};
use crate::session;

pub fn run(global: &Global, args: &Inspect) -> anyhow::Result<Outcome> {
    let target = args.target.as_deref().unwrap_or(&global.model);
    let options = session::load_options(global, None)?;
    let path = session::locate(target, global)?;
    let facts = Inspection::of(&path, &options).map_err(session::mend_model)?;
    let mut results = Results::lock();
    if args.json {
        results.json(&facts)?;
    } else {
        print(&mut results, &facts)?;
    }
    results.flush()?;
    Ok(Outcome::Done)
}

fn print(results: &mut Results, facts: &Inspection) -> anyhow::Result<()> {
    let mut row = |key: &str, value: String| results.line(format_args!("{key:14}{value}"));
    let preprocess = &facts.preprocess;
    let (height, width) = preprocess.size;
    row("variant", format!("{} ({})", facts.variant, facts.summary))?;
    row("file", facts.path.display().to_string())?;
    row("dialect", facts.dialect.to_owned())?;
    row("form", facts.form.to_owned())?;
    row(
        "image tower",
        tower(facts.image_parameters, facts.image_gflop, &format!("{height} x {width} pixels")),
    )?;
    row("text tower", tower(facts.text_parameters, facts.text_gflop, &format!("{} tokens", facts.context)))?;
    if facts.decoder_parameters > 0 {
        row("captions", format!("{} parameters of the decoder", grouped(facts.decoder_parameters)))?;
    }
    row("embedding", format!("{} numbers, logit scale {:.2}", facts.embed_dim, facts.logit_scale))?;
    row(
        "photos",
        format!(
            "{} to {height} x {width}, {}, mean {:?}, std {:?} (from {})",
            if preprocess.resize_mode == "squash" { "squashed" } else { "shortest side and centre crop" },
            preprocess.interpolation,
            preprocess.mean,
            preprocess.std,
            preprocess.from
        ),
    )?;
    row("tokens", facts.token_rule.to_owned())?;
    row(
        "processor",
        format!("{}, instructions for {}", facts.instruction_set, facts.native_precisions.join(", ")),
    )?;
    match facts.problems.as_slice() {
        [] => row("problems", "none".to_owned()),
        problems => problems.iter().try_for_each(|problem| row("problem", problem.clone())),
    }
}

fn tower(parameters: u64, gflop: f64, input: &str) -> String {
    format!("{} parameters, {gflop:.2} GFLOP for {input}", grouped(parameters))
}
