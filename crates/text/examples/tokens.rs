//! JSON strings in, one a line; out come `[clean text, ids]`, one a line. `compat/tokens/fuzz.py` compares them with Python's.

use std::error::Error;
use std::io::{BufRead, BufWriter, Write, stdin, stdout};

use mobileclip_text::{Tokenizer, clean};

fn main() -> Result<(), Box<dyn Error>> {
    let tokenizer = Tokenizer::new();
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &(clean(&text), tokenizer.encode(&text)))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
