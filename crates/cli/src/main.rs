//! The command `mobileclip`. Arguments, tables and progress; what is computed, the library computes.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod interrupt;
mod output;
mod progress;
mod session;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use output::{Closed, Outcome};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let result = match command {
        Command::Classify(args) => commands::classify::run(&global, &args),
        Command::Caption(args) => commands::caption::run(&global, &args),
        Command::Embed(args) => commands::embed::run(&global, &args),
        Command::Index(args) => commands::index::run(&global, &args),
        Command::Search(args) => commands::search::run(&global, &args),
        Command::Eval(args) => commands::eval::run(&global, &args),
        Command::Inspect(args) => commands::inspect::run(&global, &args),
        Command::Tokens(args) => commands::tokens::run(&args),
        Command::Convert(args) => commands::convert::run(&global, &args),
        Command::Export(args) => commands::export::run(&global, &args),
        Command::Bench(args) => commands::bench::run(&global, &args),
        Command::Reinforce(args) => commands::reinforce::run(&global, &args),
        Command::Shards(args) => commands::shards::run(&global, &args),
        #[cfg(feature = "train")]
        Command::Train(args) => commands::train::run(&global, &args),
        Command::Models(args) => commands::models::run(&args),
        Command::Download(args) => commands::download::run(&global, &args),
        Command::Completions { shell } => commands::manual::completions(shell),
        Command::Man { out } => commands::manual::man(out.as_deref()),
    };
    match result {
        Ok(outcome) => outcome.into(),
        // Whoever reads us has read enough.
        Err(error) if error.is::<Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&output::chain(&error));
            Outcome::NothingWorked.into()
        }
    }
}
