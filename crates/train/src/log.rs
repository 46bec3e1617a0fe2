//! The log of a run: one JSON object a line, one line a step.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    /// The sum of both terms, weights applied.
    pub loss: f64,
    /// The contrastive term.
    pub contrastive_loss: f64,
    /// The distillation term.
    pub distill_loss: f64,
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
}

/// The file that lines are added to.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of a run that goes on after `step`: later lines belong to steps that will be done again.
    pub(crate) fn open(path: PathBuf, step: u64) -> Result<Log> {
        if step > 0 {
            let kept: Vec<Line> = read(&path)?.into_iter().filter(|line| line.step <= step).collect();
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
            for line in &kept {
                writeln!(file, "{}", json(line)).map_err(Error::io(&path))?;
            }
            file.persist(&path).map_err(|error| Error::io(&path)(error.error))?;
        }
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        if step == 0 && file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            file.set_len(0).map_err(Error::io(&path))?;
        }
        Ok(Log { path, file })
    }

    /// Adds a line.
    pub(crate) fn add(&mut self, line: &Line) -> Result<()> {
        self.file.write_all((json(line) + "\n").as_bytes()).map_err(Error::io(&self.path))
    }
}

fn json(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// The lines of a log; one that a killed run left unfinished is passed over.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>> {
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

/// Draws the losses over the steps into an SVG.
pub(crate) fn draw(lines: &[Line], path: &Path) -> Result<()> {
    fs::write(path, svg(lines)).map_err(Error::io(path))
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 56.0;
/// More points than a picture has columns show nothing more.
const POINTS: usize = 720;

fn svg(lines: &[Line]) -> String {
    let finite = || lines.iter().map(|line| line.loss).filter(|loss| loss.is_finite());
    let (low, high) =
        finite().fold((f64::MAX, f64::MIN), |(low, high), loss| (low.min(loss), high.max(loss)));
    let (low, high) = if low < high { (low, high) } else { (low.min(high) - 1.0, high.max(low) + 1.0) };
    let last = lines.last().map_or(1, |line| line.step).max(1);
    let x = |step: u64| MARGIN + (WIDTH - 2.0 * MARGIN) * step as f64 / last as f64;
    let y = |loss: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (loss - low) / (high - low);
    let every = lines.len().div_ceil(POINTS).max(1);
    let points: Vec<String> = lines
        .chunks(every)
        .map(|chunk| {
            let mean = chunk.iter().map(|line| line.loss).sum::<f64>() / chunk.len() as f64;
            let step = chunk.last().map_or(0, |line| line.step);
            format!("{:.1},{:.1}", x(step), y(mean))
        })
        .collect();
    let text = |x: f64, y: f64, anchor: &str, text: String| {
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>\n")
    };
    let (bottom, right) = (HEIGHT - MARGIN, WIDTH - MARGIN);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <path d=\"M{MARGIN} {MARGIN}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#1f77b4\" stroke-width=\"1.5\"/>\n{}{}{}{}{}</svg>\n",
        points.join(" "),
        text(MARGIN - 6.0, MARGIN + 4.0, "end", format!("{high:.3}")),
        text(MARGIN - 6.0, bottom + 4.0, "end", format!("{low:.3}")),
        text(MARGIN, bottom + 18.0, "middle", "0".to_owned()),
        text(right, bottom + 18.0, "middle", last.to_string()),
        text(WIDTH / 2.0, MARGIN / 2.0, "middle", "loss over steps".to_owned()),
    )
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
            lr: 1e-3,
            gradient_norm: 1.0,
            logit_scale: 14.0,
            skipped: 0,
            seconds: 0.1,
        }
    }

    #[test]
    fn a_resumed_log_has_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(path.clone(), 0).unwrap();
        (1..=5).for_each(|step| log.add(&line(step, 1.0 / 3.0)).unwrap());
        // A killed run may leave half a line.
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 6, \"lo").unwrap();
        let mut log = Log::open(path.clone(), 3).unwrap();
        log.add(&line(4, 2.0)).unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(lines.iter().map(|l| l.step).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!((lines[0].loss, lines[3].loss), (1.0 / 3.0, 2.0));
        Log::open(path.clone(), 0).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }

    #[test]
    fn curves_have_points() {
        let lines: Vec<Line> = (1..=2000).map(|step| line(step, 5.0 / step as f64)).collect();
        let drawn = svg(&lines);
        let points = drawn.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!((400..=POINTS).contains(&points.split(' ').count()));
        assert!(drawn.contains(">5.000<") && drawn.contains(">2000<"));
        assert!(svg(&[]).ends_with("</svg>\n"));
    }
}
