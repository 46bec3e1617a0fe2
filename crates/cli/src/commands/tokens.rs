//! `mobileclip tokens`.

use mobileclip::Tokenizer;

use crate::args::Tokens;
use crate::output::{Outcome, Results};

pub fn run(args: &Tokens) -> anyhow::Result<Outcome> {
    let tokenizer = Tokenizer::new();
    let mut results = Results::lock();
    for text in &args.texts {
        results.json(&tokenizer.tokenize(text, usize::from(args.context)))?;
    }
    results.flush()?;
    Ok(Outcome::Done)
}
