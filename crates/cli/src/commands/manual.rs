//! `mobileclip completions` and `mobileclip man`, both made from the definitions of the arguments.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::{Outcome, Results};

pub fn completions(shell: Shell) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "mobileclip", &mut script);
    print(&script)
}

pub fn man(out: Option<&Path>) -> anyhow::Result<Outcome> {
    let Some(out) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return print(&page);
    };
    let writing = || format!("{}: writing the manual pages", out.display());
    std::fs::create_dir_all(out).with_context(writing)?;
    clap_mangen::generate_to(Cli::command(), out).with_context(writing)?;
    Ok(Outcome::Done)
}

fn print(bytes: &[u8]) -> anyhow::Result<Outcome> {
    let mut results = Results::lock();
    results.bytes(bytes)?;
    results.flush()?;
    Ok(Outcome::Done)
}
