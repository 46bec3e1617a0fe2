//! The whole way from a folder to results, with the model and the data of which CLIP_benchmark's command line gave `golden/eval/cli.json`.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip::{LoadOptions, Manifest, Model, Variant};
use mobileclip_eval::{
    EmbeddingStore, Encoder, Error, EvalSet, Outcome, ProbeOptions, Progress, Prompts, SetOptions, Task,
    benchmark_json, benchmark_name, linear_probe, zero_shot,
};
use mobileclip_testing::{formula, golden};
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::TempDir;

/// The golden's model, of formula weights.
fn toy(folder: &Path) -> Model {
    let toml =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/toy-eval.toml")).unwrap();
    let variant = Variant::parse(&toml).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Manifest::of(&variant)
        .of_form(mobileclip::Form::Train)
        .map(|spec| {
            // The file has the text tower apart, as `custom_text` asks of open_clip.
            let is_text = !spec.name.starts_with("visual.") && spec.name != "logit_scale";
            let name = if is_text { format!("text.{}", spec.name) } else { spec.name.clone() };
            let values = formula::tensor(&name, &spec.shape);
            (name, spec.shape.clone(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let path = folder.join("toy.safetensors");
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    Model::open(&path, &LoadOptions { variant: Some(variant), threads: 2, ..LoadOptions::default() }).unwrap()
}

fn run(case: usize) -> Value {
    golden::json("eval/cli.json")["runs"][case].clone()
}

fn measure(model: &Model, set: &EvalSet, store: Option<&EmbeddingStore>) -> (Outcome, Vec<Progress>) {
    let mut seen = Vec::new();
    let outcome = zero_shot(&Encoder::new(model, store), set, &[1, 5, 10], &mut |now| {
        seen.push(now);
        ControlFlow::Continue(())
    });
    (outcome.unwrap(), seen)
}

fn cifar() -> EvalSet {
    EvalSet::open(&golden::path("eval/cifar10-100"), &SetOptions::default()).unwrap()
}

#[test]
fn predictions_are_the_benchmarks() {
    let folder = tempfile::tempdir().unwrap();
    let set = cifar();
    assert_eq!(
        (set.task, set.len(), set.classes.len(), set.name.as_str()),
        (Task::Classification, 100, 10, "wds/cifar10-100")
    );
    let (outcome, _) = measure(&toy(folder.path()), &set, None);
    let expected = run(0);
    let close: Vec<u64> =
        expected["margin_below_1e_3"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
    for (i, (found, expected)) in
        outcome.top1.iter().zip(expected["argmax"].as_str().unwrap().bytes()).enumerate()
    {
        assert!(
            *found == usize::from(expected - b'0') || close.contains(&(i as u64)),
            "picture {i}: {found}"
        );
    }
    assert_eq!(outcome.top1.len(), 100);
    // The file has the golden's keys in the golden's order.
    let text = benchmark_json(&outcome, "toy.pt");
    let wanted: Value = serde_json::from_str(expected["output_text"].as_str().unwrap()).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    for key in ["model", "pretrained", "task", "language"] {
        assert_eq!(found[key], wanted[key]);
    }
    let place = |key: &str| text.find(&format!("\"{key}\"")).unwrap();
    assert!(
        [
            "dataset",
            "model",
            "pretrained",
            "task",
            "metrics",
            "acc1",
            "acc5",
            "mean_per_class_recall",
            "language"
        ]
        .is_sorted_by_key(|key| place(key)),
        "{text}"
    );
    let name =
        benchmark_name("{dataset}_{pretrained}_{model}_{language}_{task}.json", &outcome, "/a/b/toy.pt");
    assert_eq!(name, "cifar10-100_toy.pt_toy-eval_en_zeroshot_classification.json");
}

/// Needs the test sets that the golden was made on: `MOBILECLIP_EVAL_DATA` is the folder with `cifar10-test` and `flickr8k-1k`.
#[test]
#[ignore = "needs data that is not part of the repository"]
fn result_files_are_the_benchmarks() {
    let data = PathBuf::from(std::env::var_os("MOBILECLIP_EVAL_DATA").expect("MOBILECLIP_EVAL_DATA is set"));
    let folder = tempfile::tempdir().unwrap();
    let model = toy(folder.path());
    for (case, name) in ["cifar10-test", "flickr8k-1k"].iter().enumerate() {
        let set = EvalSet::open(&data.join(name), &SetOptions::default()).unwrap();
        let (outcome, _) = measure(&model, &set, None);
        let expected: Value = serde_json::from_str(run(case)["output_text"].as_str().unwrap()).unwrap();
        let found: Value = serde_json::from_str(&benchmark_json(&outcome, "toy.pt")).unwrap();
        println!("{found}");
        for (metric, wanted) in expected["metrics"].as_object().unwrap() {
            let (found, wanted) = (found["metrics"][metric].as_f64().unwrap(), wanted.as_f64().unwrap());
            // Of 5,000 pictures, six are nearly tied.
            assert!((found - wanted).abs() < 7.0 / 5000.0, "{name}: {metric}: {found} for {wanted}");
        }
    }
}

#[test]
fn embeddings_come_from_the_store_the_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let model = toy(folder.path());
    let store = EmbeddingStore::new(folder.path().join("store"), 1 << 30);
    let (first, seen) = measure(&model, &cifar(), Some(&store));
    let (second, seen_again) = measure(&model, &cifar(), Some(&store));
    let (without, _) = measure(&model, &cifar(), None);
    // Work is told of every few pictures, the end of a chunk in any case: here one of texts and one of pictures.
    assert!(seen.len() > 10 && seen_again.len() == 2, "{seen_again:?}");
    for other in [&second, &without] {
        assert_eq!(other.metrics, first.metrics);
        assert_eq!(other.top1, first.top1);
    }
    assert_eq!(first.agreement(&second), Some(1.0));
}

#[test]
fn an_interrupted_run_ends() {
    let folder = tempfile::tempdir().unwrap();
    let model = toy(folder.path());
    let mut calls = 0;
    let ended = zero_shot(&Encoder::new(&model, None), &cifar(), &[1], &mut |_| {
        calls += 1;
        if calls < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert!(matches!(ended, Err(Error::Interrupted)) && calls == 3);
}

/// A set of one's own in a temporary folder.
struct Own(TempDir);

impl Own {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn photo(&self, name: &str) {
        self.write(name, std::fs::read(golden::path("images_small/chelsea.png")).unwrap());
    }

    fn open(&self, options: &SetOptions) -> mobileclip_eval::Result<EvalSet> {
        EvalSet::open(self.path(), options)
    }
}

#[test]
fn a_folder_for_each_class_is_a_set() {
    let own = Own::new();
    ["a_cat/1.png", "a_cat/deep/2.png", "dog/3.png", "dog/4.png", ".hidden/5.png"]
        .iter()
        .for_each(|name| own.photo(name));
    own.write("dog/broken.jpg", "no picture");
    own.write("dog/notes.txt", "none either");
    let set = own.open(&SetOptions::default()).unwrap();
    assert_eq!((set.classes.as_slice(), set.len()), (&["a cat".to_owned(), "dog".to_owned()][..], 5));
    let folder = tempfile::tempdir().unwrap();
    let (outcome, seen) = measure(&toy(folder.path()), &set, None);
    assert_eq!((outcome.pictures, outcome.faults.total()), (4, 1));
    assert!(outcome.faults.first()[0].to_string().contains("broken.jpg"));
    assert_eq!(seen.last().unwrap().failed, 1);
    // The same picture four times, two in each class, so it is right for two.
    assert_eq!(outcome.metric("acc1"), Some(0.5));
    assert_eq!(outcome.metrics[1].value, Value::Null);
    own.write("classnames.txt", "cat\nhound\n");
    assert_eq!(own.open(&SetOptions::default()).unwrap().classes, ["cat", "hound"]);
    own.write("classnames.txt", "cat\n");
    assert!(own.open(&SetOptions::default()).unwrap_err().to_string().contains("1 names"));
}

#[test]
fn limits_spread_over_the_set_and_prompts_can_be_given() {
    let options = SetOptions {
        limit: 10,
        prompts: Some(Prompts::templates(vec!["{c}".to_owned()]).unwrap()),
        ..SetOptions::default()
    };
    let set = EvalSet::open(&golden::path("eval/cifar10-100"), &options).unwrap();
    assert_eq!(set.len(), 10);
    assert_eq!(set.prompts, Prompts::Templates(vec!["{c}".to_owned()]));
}

#[test]
fn what_is_wrong_with_a_set_is_said() {
    let fails = |own: &Own, words: &[&str]| {
        let error = own.open(&SetOptions::default()).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "no `{word}` in: {error}"));
    };
    fails(&Own::new(), &["no pictures"]);
    let missing = EvalSet::open("/no/such/folder".as_ref(), &SetOptions::default()).unwrap_err();
    assert!(missing.to_string().contains("/no/such/folder"), "{missing}");
    let own = Own::new();
    own.write("test/nshards.txt", "1");
    fails(&own, &["0.tar"]);
    own.write("test/0.tar", std::fs::read(golden::path("eval/cifar10-100/test/0.tar")).unwrap());
    fails(&own, &["classnames.txt"]);
    own.write("classnames.txt", "only\none\n");
    let set = own.open(&SetOptions::default()).unwrap();
    assert!(set.faults.total() > 50 && set.faults.first()[0].to_string().contains("of 2 classes"));
    own.write("classnames.txt", "");
    fails(&own, &["nothing to evaluate", "all 100 samples failed"]);
    own.write("dataset_type.txt", "video");
    fails(&own, &["found \"video\""]);
    own.write("dataset_type.txt", "retrieval\n");
    fails(&own, &["all 100 samples failed", "has no `txt`"]);
    own.write("dataset_type.txt", "multilabel\n");
    own.write("classnames.txt", "a\nb\n");
    fails(&own, &["has no `npy`"]);
}

#[test]
fn a_probe_learns_its_training_set() {
    let folder = tempfile::tempdir().unwrap();
    let model = toy(folder.path());
    let encoder = Encoder::new(&model, None);
    let watch = &mut |_| ControlFlow::Continue(());
    let options = ProbeOptions { epochs: 40, batch: 16, ..ProbeOptions::default() };
    let outcome = linear_probe(&encoder, &cifar(), &cifar(), &options, watch).unwrap();
    // 24 features of 100 pictures; chance is 0.1.
    assert!(outcome.metric("lp_acc1").unwrap() > 0.3, "{:?}", outcome.metrics);
    assert_eq!(outcome.main_metric(), "lp_acc1");
    let again = linear_probe(&encoder, &cifar(), &cifar(), &options, watch).unwrap();
    assert_eq!(again.metrics, outcome.metrics);
    let few = ProbeOptions { shots: 2, validation: 0.2, ..options.clone() };
    let few = linear_probe(&encoder, &cifar(), &cifar(), &few, watch).unwrap();
    assert_eq!(few.metric("fewshot_k"), Some(2.0));
    let too_many = ProbeOptions { shots: 90, ..options };
    let error = linear_probe(&encoder, &cifar(), &cifar(), &too_many, watch).unwrap_err();
    assert!(error.to_string().contains("90 are asked for"), "{error}");
}
