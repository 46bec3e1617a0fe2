//! Against `golden/eval`: numbers that CLIP_benchmark's own functions gave.

use std::ops::ControlFlow;

use mobileclip_shards::Matrix;
use mobileclip_testing::golden;
use serde_json::Value;

use crate::classification::{self, Answers};
use crate::metric::Metric;
use crate::probe::{self, Linear, ProbeOptions, Rows};
use crate::results::{ResultLine, read_lines};
use crate::suite::Average;
use crate::{ranks, retrieval};

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        Value::Number(number) => vec![number.as_f64().unwrap()],
        other => panic!("{other}"),
    }
}

fn matrix(value: &Value) -> Matrix {
    let values: Vec<f32> = numbers(value).iter().map(|&v| v as f32).collect();
    let rows = value.as_array().unwrap().len();
    Matrix::new(rows, values.len() / rows, values).unwrap()
}

fn normalized(matrix: &Matrix) -> Matrix {
    let rows = (0..matrix.rows()).flat_map(|row| mobileclip::normalized(matrix.row(row).to_vec()));
    Matrix::new(matrix.rows(), matrix.columns(), rows.collect()).unwrap()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

/// Every metric of the golden, and no other; shares of a count are exact, so little is allowed.
fn check(metrics: &[Metric], expected: &Value, name: &str) {
    let expected = expected.as_object().unwrap();
    assert_eq!(metrics.len(), expected.len(), "{name}");
    for metric in metrics {
        match (&metric.value, &expected[&metric.name]) {
            (Value::Number(found), Value::Number(wanted)) => {
                let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
                assert!((found - wanted).abs() < 1e-7, "{name}: {}: {found} for {wanted}", metric.name);
                if let Some(interval) = metric.interval {
                    assert!(
                        interval.low <= found && found <= interval.high,
                        "{name}: {}: {interval:?}",
                        metric.name
                    );
                }
            }
            (found, wanted) => assert_eq!(found, wanted, "{name}: {}", metric.name),
        }
    }
}

/// Each class's weight from its templates' embeddings, as `evaluate` makes it.
fn class_weights(embeddings: &Value) -> Matrix {
    let classes = embeddings.as_array().unwrap();
    let rows: Vec<f32> = classes
        .iter()
        .flat_map(|templates| {
            let templates = normalized(&matrix(templates));
            let mut sum = vec![0f32; templates.columns()];
            for row in 0..templates.rows() {
                sum.iter_mut().zip(templates.row(row)).for_each(|(sum, v)| *sum += v);
            }
            mobileclip::normalized(sum)
        })
        .collect();
    Matrix::new(classes.len(), rows.len() / classes.len(), rows).unwrap()
}

#[test]
fn classification_is_the_benchmarks() {
    for case in golden::json("eval/metrics.json")["classification"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let weights = class_weights(&case["text_embeddings"]);
        for (found, expected) in weights.values().iter().zip(numbers(&case["class_weights"])) {
            assert!((f64::from(*found) - expected).abs() < 1e-6, "{name}: {found} for {expected}");
        }
        let pictures = normalized(&matrix(&case["image_embeddings"]));
        let logits = ranks::for_each_row(&pictures, &weights, 100.0, |_, logits| logits.to_vec()).concat();
        for (found, expected) in logits.iter().zip(numbers(&case["logits"])) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{name}: {found} for {expected}");
        }
        let targets = indices(&case["target"]);
        let answers = classification::answer(&pictures, &weights, &targets);
        assert_eq!(answers.top1, indices(&case["argmax"]), "{name}");
        check(&classification::metrics(&answers, &targets, weights.rows()), &case["expected"], name);
    }
}

/// In ties the lowest index stands first, in the argmax and in the five best alike.
#[test]
fn ties_are_broken_by_index() {
    for case in golden::json("eval/metrics.json")["from_logits"].as_array().unwrap() {
        let targets = indices(&case["target"]);
        let rows: Vec<Vec<f32>> = case["logits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| numbers(row).iter().map(|&v| v as f32).collect())
            .collect();
        let answers = Answers {
            top1: rows.iter().map(|row| ranks::best(row)).collect(),
            ranks: rows.iter().zip(&targets).map(|(row, &target)| ranks::rank(row, target)).collect(),
        };
        assert_eq!(answers.top1, indices(&case["argmax"]));
        let metrics = classification::metrics(&answers, &targets, rows[0].len());
        check(&metrics, &case["expected_lowest_index"], case["name"].as_str().unwrap());
    }
}

#[test]
fn mean_average_precision_is_the_benchmarks() {
    let case = &golden::json("eval/metrics.json")["multilabel"];
    let classes = normalized(&matrix(&case["text_embeddings"]));
    let pictures = normalized(&matrix(&case["image_embeddings"]));
    let row = |row: &Value| indices(row).iter().map(|&v| v == 1).collect();
    let shows: Vec<Vec<bool>> = case["target"].as_array().unwrap().iter().map(row).collect();
    let metrics = classification::multilabel(&pictures, &classes, &shows);
    check(&metrics, &case["expected"], "multilabel");
}

#[test]
fn retrieval_is_the_benchmarks() {
    for case in golden::json("eval/metrics.json")["retrieval"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let pictures = normalized(&matrix(&case["image_embeddings"]));
        let texts = normalized(&matrix(&case["text_embeddings"]));
        let picture_of = indices(&case["image_of_each_text"]);
        let ranks = retrieval::rank_all(&pictures, &texts, &picture_of);
        check(&retrieval::metrics(&ranks, &picture_of, &[1, 5, 10]), &case["expected"], name);
        // More than there are to choose from: an error there, null here.
        let too_many = retrieval::metrics(&ranks, &picture_of, &[pictures.rows() + 1]);
        assert_eq!(too_many[0].value, Value::Null, "{name}");
    }
}

#[test]
fn probes_are_trained_step_by_step_as_the_benchmark_trains_them() {
    for case in golden::json("eval/linear_probe.json")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let rows = |split: &str| Rows {
            features: matrix(&case[split]["features"]),
            targets: indices(&case[split]["target"]),
        };
        let (train, test) = (rows("train"), rows("test"));
        let start =
            Linear { weight: numbers(&case["start"]["weight"]), bias: numbers(&case["start"]["bias"]) };
        let options = ProbeOptions {
            rate: case["lr"].as_f64().unwrap(),
            epochs: case["epochs"].as_u64().unwrap() as usize,
            batch: usize::MAX,
            ..ProbeOptions::default()
        };
        let validation = case.get("val").map(|_| rows("val"));
        let watch = &mut |_| ControlFlow::Continue(());
        if let Some(validation) = &validation {
            let (_, trials) =
                probe::search_decay(&train, validation, &start, &options, &mut || Ok(())).unwrap();
            let expected = case["trials"].as_array().unwrap();
            assert_eq!(trials.len(), expected.len());
            for (trial, expected) in trials.iter().zip(expected) {
                let decay = expected["weight_decay"].as_f64().unwrap();
                assert!((trial.decay / decay - 1.0).abs() < 1e-8, "{name}: {trial:?} for {expected}");
                assert!(
                    (trial.acc1 - expected["valid_acc1"].as_f64().unwrap()).abs() < 1e-9,
                    "{name}: {trial:?}"
                );
            }
        }
        let (layer, metrics, _) =
            probe::probe(&train, validation.as_ref(), &test, &start, &options, watch).unwrap();
        let found = layer.weight.iter().chain(&layer.bias);
        let expected = [numbers(&case["final"]["weight"]), numbers(&case["final"]["bias"])].concat();
        assert_eq!(layer.weight.len() + layer.bias.len(), expected.len(), "{name}");
        for (found, expected) in found.zip(expected) {
            // The goldens have nine digits.
            assert!((found - expected).abs() < 1e-7, "{name}: {found} for {expected}");
        }
        check(&metrics, &case["expected"], name);
    }
}

#[test]
fn published_lines_come_back_as_they_are() {
    let path = golden::path("eval/datacomp_example.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = read_lines(&path).unwrap();
    assert_eq!(lines.len(), 3);
    for (line, text) in lines.iter().zip(text.lines()) {
        let (found, expected): (Value, Value) =
            (serde_json::to_value(line).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(found, expected);
    }
}

#[test]
fn the_average_is_that_of_the_papers() {
    let lines = read_lines(&golden::path("eval/datacomp_made_up.jsonl")).unwrap();
    assert_eq!(lines.len(), 50);
    let average = |lines: &[ResultLine]| {
        Average::of(lines.iter().map(|line| (line.key.as_str(), line.dataset.as_str(), line.main_metric())))
    };
    let expected = &golden::json("eval/datacomp_average.json")["made_up"];
    let all = average(&lines);
    assert_eq!(all.counted, expected["counted"]);
    assert!((all.value.unwrap() - expected["average"].as_f64().unwrap()).abs() < 1e-11);
    assert_eq!(all.missing_of_38, Some(Vec::new()));
    let without: Vec<ResultLine> = lines.into_iter().filter(|line| line.key != "stl10").collect();
    let without = average(&without);
    assert_eq!((without.counted, without.missing_of_38), (37, Some(vec!["STL-10"])));
}
