//! Progress bars; they hide themselves where the standard error is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use mobileclip::hub::Progress;

use crate::output::note;

/// A bar for work on so many inputs, with the rate and the time left.
pub fn work(is_quiet: bool, total: usize, noun: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {{pos}}/{{len}} {noun}  {{rate}}  {{eta}} left{{msg}}");
    let bar = bar(is_quiet, &template);
    bar.set_length(total as u64);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A bar for work on files of so many bytes altogether, with the time left.
pub fn bytes(is_quiet: bool, total: u64) -> ProgressBar {
    let bar = bar(is_quiet, "{wide_bar} {bytes}/{total_bytes} of input  {eta} left{msg}");
    bar.set_length(total);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

fn bar(is_quiet: bool, template: &str) -> ProgressBar {
    let target = match is_quiet {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(text, "{:.1}/s", state.per_sec());
    };
    ProgressBar::with_draw_target(None, target).with_style(style.with_key("rate", rate))
}

/// What a download tells a person.
pub struct Downloads {
    is_quiet: bool,
    bar: Option<ProgressBar>,
}

impl Downloads {
    pub fn new(is_quiet: bool) -> Self {
        Self { is_quiet, bar: None }
    }

    /// Shows one report.
    pub fn report(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Begin { file, total, repo, licence, page } => {
                self.finish();
                let terms = match licence {
                    Some(licence) => format!("licence {licence}, see {page}"),
                    None => format!("licence: see {page}"),
                };
                note(self.is_quiet, format!("loading {file} of {repo} ({terms})"));
                let bar = bar(self.is_quiet, "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
                if let Some(total) = total {
                    bar.set_length(total);
                }
                self.bar = Some(bar);
            }
            Progress::Bytes { done, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(done);
                }
            }
            Progress::Waiting { file, reason, wait } => {
                self.say(format!("{file}: {reason}; trying again in {} s", wait.as_secs_f32()));
            }
            Progress::Locked { file } => self.say(format!("{file}: another process is loading it, waiting")),
            Progress::FromCache { repo, reason } => {
                self.say(format!("{repo}: the copy in the cache is taken ({reason})"));
            }
            _ => {}
        }
    }

    fn say(&self, message: String) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(self.is_quiet, message)),
            None => note(self.is_quiet, message),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Downloads {
    fn drop(&mut self) {
        self.finish();
    }
}
