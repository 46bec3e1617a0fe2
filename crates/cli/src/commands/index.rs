//! `mobileclip index`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use mobileclip::Which;
use mobileclip::index::{Embed as _, Index as PhotoIndex, UpdateOptions};

use crate::args::{Global, Index};
use crate::interrupt::Interrupt;
use crate::output::{Outcome, complain, complain_about, counted, note};
use crate::{progress, session};

pub fn run(global: &Global, args: &Index) -> anyhow::Result<Outcome> {
    let model = session::load(global, Some(&args.decoding), &args.computing)?;
    // A model that is damaged is no reason to note every photo as failed.
    model.tower(Which::Image)?;
    if args.repair {
        let (_, damaged) = PhotoIndex::repair(&args.out).map_err(session::mend_index)?;
        for segment in &damaged {
            note(global.quiet, format!("{}: damaged, taken out", segment.display()));
        }
    }
    let interrupt = Interrupt::watch()?;
    let mut index = PhotoIndex::open_or_create(&args.out, &model.model()).map_err(session::mend_index)?;
    let mut options = UpdateOptions::default();
    options.batch = 8 * model.threads();
    options.is_retrying_failed = args.retry_failed;

    let bar = progress::work(global.quiet, 0, "photos");
    let report = index.update(&args.dirs, &model, &options, &mut |now| {
        bar.set_length(now.total as u64);
        bar.set_position(now.done as u64);
        if now.failed > 0 {
            bar.set_message(format!("  {} failed", now.failed));
        }
        if interrupt.is_asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    let report = report.map_err(session::mend_index)?;

    let failed: &[(PathBuf, String)] = &report.failed;
    complain_about(failed);
    if report.failed_before > 0 {
        let before = counted(report.failed_before, "photo");
        note(
            global.quiet,
            format!("{before} failed before and did not change, so not tried again (--retry-failed tries)"),
        );
    }
    let present = report.embedded + report.unchanged;
    note(
        global.quiet,
        format!(
            "{}: {}; {} new or changed, {} unchanged, {} removed, {} failed",
            args.out.display(),
            counted(present, "photo"),
            report.embedded,
            report.unchanged,
            report.removed,
            failed.len()
        ),
    );
    if report.is_interrupted {
        complain("interrupted; the same command goes on");
        return Ok(Outcome::SomeFailed);
    }
    Ok(Outcome::of(failed.len(), failed.len() + present))
}
