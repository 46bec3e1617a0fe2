//! Results on the standard output, complaints on the standard error, and the exit status.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::process::ExitCode;

use serde::Serialize;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything worked.
    Done,
    /// Some inputs failed.
    SomeFailed,
    /// All inputs failed, or the command could not begin.
    NothingWorked,
}

impl Outcome {
    /// Of so many inputs, so many failed.
    pub fn of(failed: usize, total: usize) -> Self {
        match failed {
            0 => Self::Done,
            failed if failed < total => Self::SomeFailed,
            _ => Self::NothingWorked,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        ExitCode::from(match outcome {
            Outcome::Done => 0,
            Outcome::SomeFailed => 1,
            Outcome::NothingWorked => 2,
        })
    }
}

/// Whoever read the standard output no longer does.
#[derive(Debug)]
pub struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the standard output is closed")
    }
}

impl std::error::Error for Closed {}

/// The standard output, locked and buffered.
pub struct Results(BufWriter<StdoutLock<'static>>);

impl Results {
    pub fn lock() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Prints a line.
    pub fn line(&mut self, line: impl Display) -> anyhow::Result<()> {
        check(writeln!(self.0, "{line}"))
    }

    /// Prints a line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(value)?;
        self.line(line)
    }

    /// Prints bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        check(self.0.write_all(bytes))
    }

    /// Makes what was printed visible; what a command prints last must be flushed by it, for a drop cannot report.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        check(self.0.flush())
    }
}

fn check(result: io::Result<()>) -> anyhow::Result<()> {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::from(error).context("writing to the standard output"),
    })
}

/// One line on the standard error.
pub fn complain(message: &str) {
    // If nobody listens there, there is nobody to tell.
    let _ = writeln!(io::stderr(), "mobileclip: {}", one_line(message));
}

/// A note on the standard error.
pub fn note(is_quiet: bool, message: impl Display) {
    if !is_quiet {
        let _ = writeln!(io::stderr(), "{}", one_line(&message.to_string()));
    }
}

/// An error and its causes in one line. Some errors repeat their cause in their own words; then it is not said twice.
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// File names and messages of other programs may hold line breaks and codes that move the cursor.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Names of inputs that failed, told as they come, or in short if there are many.
pub fn complain_about(failed: &[(impl AsRef<std::path::Path>, String)]) {
    const SHOWN: usize = 20;
    for (path, reason) in failed.iter().take(SHOWN) {
        complain(&named(path.as_ref(), reason));
    }
    if let Some(more) = failed.len().checked_sub(SHOWN + 1) {
        complain(&format!("and {} more", more + 1));
    }
}

/// `path: reason`, unless the reason names the path itself.
pub fn named(path: &std::path::Path, reason: &str) -> String {
    let path = path.display().to_string();
    match reason.starts_with(&path) {
        true => reason.to_owned(),
        false => format!("{path}: {reason}"),
    }
}

/// A bar for a share of 0 to 1, in eighths of a cell.
pub fn bar(share: f32, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * cells as f32 * 8.0).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    let empty = cells - bar.chars().count();
    bar.push_str(&" ".repeat(empty));
    bar
}

/// A number with an underscore-free separator for people: 74 835 073.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 photo`, `2 photos`.
pub fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_their_width_and_grow() {
        let bars: Vec<String> = (0..=64).map(|i| bar(i as f32 / 64.0, 8)).collect();
        assert!(bars.iter().all(|bar| bar.chars().count() == 8));
        assert_eq!(bars[0], "        ");
        assert_eq!(bars[3], "▍       ");
        assert_eq!(bars[64], "████████");
        assert_eq!(bar(f32::NAN, 3), "   ");
    }

    #[test]
    fn causes_are_told_once_and_in_one_line() {
        let cause = io::Error::other("no space");
        let error = anyhow::Error::from(cause).context("a.npy: no space").context("writing");
        assert_eq!(chain(&error), "writing: a.npy: no space");
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a b\\u{1b}[2J");
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            ["0", "999", "1 000", "74 835 073"],
            [0, 999, 1000, 74_835_073].map(grouped).each_ref().map(|s| s.as_str())
        );
        assert_eq!(counted(1, "photo"), "1 photo");
        assert_eq!(counted(2000, "photo"), "2 000 photos");
    }

    #[test]
    fn outcomes() {
        assert_eq!(Outcome::of(0, 0), Outcome::Done);
        assert_eq!(Outcome::of(1, 2), Outcome::SomeFailed);
        assert_eq!(Outcome::of(2, 2), Outcome::NothingWorked);
    }
}
