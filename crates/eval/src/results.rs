//! Result files: CLIP_benchmark's JSON, and the lines of DataComp's `eval_results.jsonl`. Strict JSON; what is read may hold the bare words
//! `NaN` and `Infinity`, as published files do.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::evaluate::Outcome;
use crate::metric::Metric;

/// CLIP_benchmark's result file for one set.
#[derive(Serialize)]
struct BenchmarkFile<'a> {
    dataset: &'a str,
    model: &'a str,
    pretrained: &'a str,
    task: &'a str,
    #[serde(serialize_with = "in_order")]
    metrics: &'a [Metric],
    language: &'a str,
}

fn in_order<S: Serializer>(metrics: &&[Metric], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(metrics.len()))?;
    for metric in *metrics {
        map.serialize_entry(&metric.name, &metric.value)?;
    }
    map.end()
}

/// The text of CLIP_benchmark's result file: one object, no newline. `pretrained` says where the weights are from.
pub fn benchmark_json(outcome: &Outcome, pretrained: &str) -> String {
    let Outcome { dataset, model, task, metrics, .. } = outcome;
    let file = BenchmarkFile { dataset, model, pretrained, task, metrics, language: "en" };
    serde_json::to_string(&file).unwrap_or_default()
}

/// The name that CLIP_benchmark gives a result file, from a pattern with `{dataset}`, `{pretrained}`, `{model}`, `{language}`, `{task}`.
pub fn benchmark_name(pattern: &str, outcome: &Outcome, pretrained: &str) -> String {
    let dataset = outcome.dataset.strip_prefix("wds/").unwrap_or(&outcome.dataset).replace('/', "_");
    let pretrained = Path::new(pretrained).file_name().unwrap_or_default().to_string_lossy();
    let model = outcome.model.replace('/', "_");
    [
        ("dataset", &*dataset),
        ("pretrained", &pretrained),
        ("model", &model),
        ("language", "en"),
        ("task", outcome.task),
    ]
    .iter()
    .fold(pattern.to_owned(), |name, (key, value)| name.replace(&format!("{{{key}}}"), value))
}

/// One line of DataComp's `eval_results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultLine {
    /// The task: `imagenet1k`, `vtab/pets`, ….
    pub key: String,
    /// The set's name for people.
    pub dataset: String,
    /// Metrics; the one that counts is repeated as `main_metric`.
    pub metrics: Map<String, Value>,
}

impl ResultLine {
    /// The line of an outcome; `main` is the metric that counts.
    pub fn new(key: &str, dataset: &str, outcome: &Outcome, main: &str) -> Self {
        let entry = |metric: &Metric| (metric.name.clone(), metric.value.clone());
        let mut metrics: Map<String, Value> = outcome.metrics.iter().map(entry).collect();
        metrics.insert(main.to_owned(), outcome.metric(main).into());
        metrics.insert("main_metric".to_owned(), outcome.metric(main).into());
        Self { key: key.to_owned(), dataset: dataset.to_owned(), metrics }
    }

    /// The metric that counts, unless it is null.
    pub fn main_metric(&self) -> Option<f64> {
        self.metrics.get("main_metric")?.as_f64()
    }
}

/// Appends a line to a file.
///
/// # Errors
/// If it cannot be written.
pub fn append_line(path: &Path, line: &ResultLine) -> Result<()> {
    let mut text = serde_json::to_string(line).map_err(std::io::Error::from).map_err(Error::io(path))?;
    text.push('\n');
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io(path))
}

/// Reads such a file. A later line of a set replaces an earlier one.
///
/// # Errors
/// If it cannot be read, or a line is no result.
pub fn read_lines(path: &Path) -> Result<Vec<ResultLine>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let mut lines: Vec<ResultLine> = Vec::new();
    for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let line: ResultLine = serde_json::from_str(&without_nan(text)).map_err(|error| Error::Line {
            path: path.to_path_buf(),
            line: number + 1,
            reason: error.to_string(),
        })?;
        match lines.iter_mut().find(|known| known.dataset == line.dataset) {
            Some(known) => *known = line,
            None => lines.push(line),
        }
    }
    Ok(lines)
}

/// Results by set and metric, from a file of either kind; what is no number is left out.
///
/// # Errors
/// If it cannot be read or is neither.
pub fn read_results(path: &Path) -> Result<BTreeMap<(String, String), f64>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    #[derive(Deserialize)]
    struct Benchmark {
        dataset: String,
        metrics: Map<String, Value>,
    }
    let flat = |set: &str, metrics: &Map<String, Value>| -> Vec<((String, String), f64)> {
        let number =
            |(name, value): (&String, &Value)| Some(((set.to_owned(), name.clone()), value.as_f64()?));
        metrics.iter().filter_map(number).collect()
    };
    let lines = match serde_json::from_str::<Benchmark>(&without_nan(&text)) {
        Ok(one) => return Ok(flat(&one.dataset, &one.metrics).into_iter().collect()),
        Err(_) => read_lines(path)?,
    };
    Ok(lines.iter().flat_map(|line| flat(&line.dataset, &line.metrics)).collect())
}

/// Python's bare words for numbers that JSON does not have, as null. Words within strings stay.
fn without_nan(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_in_string = false;
    while let Some(c) = rest.chars().next() {
        let word =
            ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| !is_in_string && rest.starts_with(word));
        let taken = match (word, c) {
            (Some(word), _) => {
                out.push_str("null");
                word.len()
            }
            (None, '\\') if is_in_string => {
                // The character behind it ends no string.
                let taken = rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at);
                out.push_str(rest.get(..taken).unwrap_or_default());
                taken
            }
            (None, c) => {
                is_in_string ^= c == '"';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_become_null_outside_strings() {
        let text = r#"{"a": NaN, "NaN": -Infinity, "b\"": [Infinity, "x NaN \\"], "c": 1e5}"#;
        let value: Value = serde_json::from_str(&without_nan(text)).unwrap();
        assert_eq!(value, serde_json::json!({"a": null, "NaN": null, "b\"": [null, "x NaN \\"], "c": 1e5}));
        assert_eq!(without_nan("\"\\"), "\"\\");
    }

    #[test]
    fn lines_are_appended_and_the_last_of_a_set_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval_results.jsonl");
        let line = |dataset: &str, value: f64| ResultLine {
            key: dataset.to_lowercase(),
            dataset: dataset.to_owned(),
            metrics: Map::from_iter([
                ("main_metric".to_owned(), value.into()),
                ("acc5".to_owned(), Value::Null),
            ]),
        };
        for (dataset, value) in [("A", 0.1), ("B", 0.2), ("A", 0.3)] {
            append_line(&path, &line(dataset, value)).unwrap();
        }
        assert_eq!(read_lines(&path).unwrap(), [line("A", 0.3), line("B", 0.2)]);
        let results = read_results(&path).unwrap();
        assert_eq!(results[&("A".to_owned(), "main_metric".to_owned())], 0.3);
        assert_eq!(results.len(), 2);
        std::fs::write(&path, "{}\n").unwrap();
        assert!(read_lines(&path).unwrap_err().to_string().contains("line 1"));
    }
}
