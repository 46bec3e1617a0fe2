//! The log of a run: one JSON object a line, one line a step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::curves::{self, Curve};
use crate::error::{Error, Result};
use crate::tensorboard::Events;

/// The log in a run's folder.
const LOG: &str = "log.jsonl";

/// A step as the log has it. All numbers but the times are functions of the configuration, so that a resumed run's are those
/// of one that was never interrupted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Steps done.
    pub step: u64,
    /// Passes over the data, with the part of the one that is going on.
    pub epoch: f64,
    /// Samples seen.
    pub samples: u64,
    /// The sum of all terms, weights applied.
    pub loss: f64,
    /// The contrastive term.
    pub contrastive_loss: f64,
    /// The distillation term.
    pub distill_loss: f64,
    /// The class term, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_loss: Option<f64>,
    /// The caption term, of captioners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption_loss: Option<f64>,
    /// The learning rate.
    pub lr: f64,
    /// Length of all gradients before they were clipped.
    pub gradient_norm: f64,
    /// What cosines are multiplied by, after the step.
    pub logit_scale: f64,
    /// Samples left out since the run began.
    pub skipped: u64,
    /// Seconds that the step took, loading included.
    pub seconds: f64,
    /// What was measured after the step ([`Config::eval`](crate::config::EvalConfig)): `SET METRIC` and its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, f64>,
}

impl Line {
    /// Names and values as TensorBoard shows them.
    fn scalars(&self) -> impl Iterator<Item = (&str, f64)> {
        let own = [
            ("loss", self.loss),
            ("loss/contrastive", self.contrastive_loss),
            ("loss/distill", self.distill_loss),
            ("lr", self.lr),
            ("gradient norm", self.gradient_norm),
            ("logit scale", self.logit_scale),
            ("skipped", self.skipped as f64),
            ("seconds", self.seconds),
        ];
        let others = [("loss/class", self.class_loss), ("loss/caption", self.caption_loss)];
        let others = others.into_iter().filter_map(|(name, loss)| Some((name, loss?)));
        let measured = self.measured.iter().map(|(name, value)| (name.as_str(), *value));
        own.into_iter().chain(others).chain(measured)
    }
}

/// The files that lines are added to: `log.jsonl`, and TensorBoard's.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    events: Events,
}

impl Log {
    /// Opens the log of a run that goes on after `step`: later lines belong to steps that will be done again.
    pub(crate) fn open(out: &Path, step: u64) -> Result<Log> {
        let path = out.join(LOG);
        if step > 0 {
            let kept = read(out)?.into_iter().filter(|line| line.step <= step);
            let mut file = tempfile::NamedTempFile::new_in(out).map_err(Error::io(out))?;
            for line in kept {
                writeln!(file, "{}", json(&line)).map_err(Error::io(&path))?;
            }
            file.persist(&path).map_err(|error| Error::io(&path)(error.error))?;
        }
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        if step == 0 && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            file.set_len(0).map_err(Error::io(&path))?;
        }
        Ok(Log { path, file, events: Events::begin(&out.join("tensorboard"), step)? })
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &Line) -> Result<()> {
        self.file.write_all((json(line) + "\n").as_bytes()).map_err(Error::io(&self.path))?;
        self.events.scalars(line.step, line.scalars())
    }
}

fn json(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// The lines of a run's log; one that a killed run left unfinished is passed over.
pub(crate) fn read(out: &Path) -> Result<Vec<Line>> {
    let path = &out.join(LOG);
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(Error::io(path))?,
    };
    let mut lines = Vec::new();
    for text in BufReader::new(file).lines() {
        let text = text.map_err(Error::io(path))?;
        lines.extend(serde_json::from_str::<Line>(&text));
    }
    Ok(lines)
}

/// Draws the losses over the steps, and what was measured in between if anything was, into SVGs of a run's folder.
pub(crate) fn draw(lines: &[Line], out: &Path) -> Result<()> {
    let loss = lines.iter().map(|line| (line.step, line.loss)).collect();
    curves::draw("loss over steps", &[Curve { name: "loss", points: loss }], &out.join("loss.svg"))?;
    let mut measured: BTreeMap<&str, Vec<(u64, f64)>> = BTreeMap::new();
    for line in lines {
        for (name, value) in &line.measured {
            measured.entry(name).or_default().push((line.step, *value));
        }
    }
    if measured.is_empty() {
        return Ok(());
    }
    let measured: Vec<Curve<'_>> =
        measured.into_iter().map(|(name, points)| Curve { name, points }).collect();
    curves::draw("measured over steps", &measured, &out.join("measured.svg"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, loss: f64) -> Line {
        Line {
            step,
            epoch: 0.0,
            samples: step,
            loss,
            contrastive_loss: loss,
            distill_loss: 0.0,
            class_loss: None,
            caption_loss: None,
            lr: 1e-3,
            gradient_norm: 1.0,
            logit_scale: 14.0,
            skipped: 0,
            seconds: 0.1,
            measured: BTreeMap::new(),
        }
    }

    #[test]
    fn a_resumed_log_has_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let (out, path) = (folder.path(), folder.path().join(LOG));
        let mut log = Log::open(out, 0).unwrap();
        (1..=5).for_each(|step| log.add(&line(step, 1.0 / 3.0)).unwrap());
        // A killed run may leave half a line.
        let half = std::fs::read_to_string(&path).unwrap() + "{\"step\": 6, \"lo";
        std::fs::write(&path, half).unwrap();
        let mut log = Log::open(out, 3).unwrap();
        log.add(&line(4, 2.0)).unwrap();
        let lines = read(out).unwrap();
        assert_eq!(lines.iter().map(|l| l.step).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((lines[0].loss, lines[3].loss), (1.0 / 3.0, 2.0));
        Log::open(out, 0).unwrap();
        assert_eq!(read(out).unwrap(), []);
    }
}
