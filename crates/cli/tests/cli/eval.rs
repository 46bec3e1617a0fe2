//! `mobileclip eval`.

use mobileclip_testing::golden;
use serde_json::Value;

use crate::common::Place;

/// The first 100 pictures of CIFAR-10's test set, half of it.
fn cifar() -> String {
    golden::path("eval/cifar10-100").canonicalize().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_set_is_measured_and_the_second_run_says_the_same() {
    let place = Place::new();
    let first = place.run(&["eval", &cifar(), "--limit", "20", "--json"]).ends(0);
    let [line] = first.lines().try_into().unwrap();
    assert_eq!(
        (&line["dataset"], &line["task"]),
        (&"wds/cifar10-100".into(), &"zeroshot_classification".into())
    );
    assert_eq!((&line["pictures"], &line["language"]), (&20.into(), &"en".into()));
    let acc1 = line["metrics"]["acc1"].as_f64().unwrap();
    let interval = &line["confidence"]["acc1"];
    assert!(
        interval["low"].as_f64().unwrap() <= acc1 && acc1 <= interval["high"].as_f64().unwrap(),
        "{line}"
    );
    let second = place.run(&["eval", &cifar(), "--limit", "20", "--json"]).ends(0);
    assert_eq!(second.out, first.out);
    let fresh = place.run(&["eval", &cifar(), "--limit", "20", "--json", "--no-cache"]).ends(0);
    assert_eq!(fresh.out, first.out);
    let table = place.run(&["eval", &cifar(), "--limit", "20"]).ends(0);
    assert!(
        table.out.contains("20 pictures") && table.out.contains("mean_per_class_recall"),
        "{}",
        table.out
    );
}

#[test]
fn result_files_are_written_and_compared() {
    let place = Place::new();
    let data = cifar();
    place
        .run(&[
            "eval",
            &data,
            "--limit",
            "20",
            "-q",
            "--out",
            "{dataset}_{task}.json",
            "--datacomp",
            "all.jsonl",
        ])
        .ends(0);
    let file = place.path("cifar10-100_zeroshot_classification.json");
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(file.as_object().unwrap().len(), 6);
    let line: Value = serde_json::from_slice(&std::fs::read(place.path("all.jsonl")).unwrap()).unwrap();
    assert_eq!(line["metrics"]["main_metric"], file["metrics"]["acc1"]);
    assert_eq!(line["dataset"], "cifar10-100");
    place.write("b.json", r#"{"dataset": "wds/cifar10-100", "metrics": {"acc1": 1.0, "acc5": NaN}}"#);
    let compared =
        place.run(&["eval", "--compare", "cifar10-100_zeroshot_classification.json", "b.json"]).ends(0);
    assert!(
        compared.out.starts_with("wds/cifar10-100\n") && compared.out.contains("1.0000"),
        "{}",
        compared.out
    );
    let compared = place.run(&["eval", "--json", "--compare", "all.jsonl", "b.json"]).ends(0);
    let lines = compared.lines();
    let acc1 =
        lines.iter().find(|line| line["metric"] == "acc1" && line["dataset"] == "wds/cifar10-100").unwrap();
    assert_eq!((&acc1["a"], &acc1["b"]), (&Value::Null, &1.0.into()));
}

#[test]
fn a_suite_has_an_average_and_says_what_is_missing() {
    let place = Place::new();
    let data = cifar();
    let suite = format!(
        "name = \"two\"\n[[set]]\npath = \"{data}\"\nkey = \"cifar10\"\nname = \"CIFAR-10\"\n\
         [[set]]\npath = \"folders\"\nname = \"mine\"\n"
    );
    place.write("suite.toml", suite);
    place.photo("coffee_444.jpg", "folders/coffee/a.jpg");
    place.photo("coffee_444.jpg", "folders/tea/b.jpg");
    let ran = place.run(&["eval", "suite.toml", "--limit", "10"]).ends(0);
    assert!(
        ran.out.contains("average of 1 of the 38") && ran.out.contains("missing: Caltech-101"),
        "{}",
        ran.out
    );
    // A set that fails does not stop the others.
    place.write("folders/tea/b.jpg", "no picture");
    std::fs::remove_file(place.path("folders/coffee/a.jpg")).unwrap();
    let ran = place.run(&["eval", "suite.toml", "--limit", "10"]).ends(1);
    ran.says(&["folders: there is nothing to evaluate", "b.jpg"]);
    assert!(ran.out.contains("acc1"), "{}", ran.out);
}

#[test]
fn precisions_are_measured_side_by_side() {
    let place = Place::new();
    let data = cifar();
    let run = |more: &[&str]| {
        let fixed = ["eval", &data, "--limit", "20", "--precision", "f32,bf16,int8"];
        place.run(&[&fixed[..], more].concat())
    };
    let lines = run(&["--json", "-q"]).ends(0).lines();
    let precisions: Vec<&Value> = lines.iter().map(|line| &line["precision"]).collect();
    assert_eq!(precisions, ["f32", "bf16", "int8"]);
    assert_eq!(lines[0].get("agreement"), None);
    for line in &lines[1..] {
        assert!(line["agreement"].as_f64().is_some_and(|share| (0.5..=1.0).contains(&share)), "{line}");
    }
    let table = run(&["-q"]).ends(0);
    assert_eq!(table.out.matches("same first answer as f32").count(), 2, "{}", table.out);
    run(&["--out", "a.json"]).fails(&["{precision}"]);
    run(&["--datacomp", "a.jsonl"]).fails(&["a.jsonl", "precision"]);
}

#[test]
fn a_probe_is_trained_and_tested() {
    let place = Place::new();
    let data = cifar();
    let ran = place.run(&[
        "eval",
        &data,
        "--task",
        "probe",
        "--train",
        &data,
        "--train-split",
        "test",
        "--validation",
        "0.2",
        "--epochs",
        "2",
        "--json",
    ]);
    let [line] = ran.ends(0).lines().try_into().unwrap();
    assert_eq!((&line["task"], &line["metrics"]["epochs"]), (&"linear_probe".into(), &2.into()));
    assert!(line["metrics"]["weight_decay"].as_f64().unwrap() >= 1e-6, "{line}");
}

#[test]
fn what_is_wrong_is_said_before_a_model_is_loaded() {
    let place = Place::new();
    let data = cifar();
    place.write("templates.txt", "a photo\n");
    place.run(&["eval", "nowhere"]).fails(&["nowhere", "no such folder"]);
    place.run(&["eval", &data, "--templates", "templates.txt"]).fails(&["templates.txt", "{c}"]);
    place.run(&["eval", &data, &data, "--out", "a.json"]).fails(&["--out a.json", "{dataset}"]);
    place.run(&["eval", &data, "--shots", "3"]).fails(&["--task probe"]);
    place.run(&["eval", &data, "--datacomp", "no/where.jsonl"]).fails(&["no/where.jsonl"]);
    place.run(&["eval", "--compare", "a.json", "b.json"]).fails(&["a.json"]);
}
