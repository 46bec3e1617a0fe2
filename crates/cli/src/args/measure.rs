//! Commands that measure: speed and accuracy.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::shared::{Computing, Precision, count, rate, share};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip bench MobileCLIP2-S0 --threads 1
  mobileclip bench s0.safetensors --json
  mobileclip bench s0.safetensors --profile
  mobileclip bench s0.safetensors --precision int8")]
pub struct Bench {
    /// A model's name, folder or file [default: --model]
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub target: Option<String>,

    /// Timed repetitions of each step
    #[arg(long, value_name = "N", default_value = "20", value_parser = count)]
    pub runs: usize,

    /// A photo of one's own instead of the bundled one (1411 x 1411, JPEG)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub photo: Option<PathBuf>,

    /// Decodes the photo at a half, a quarter or an eighth of its size, as far as the tower's size allows it
    #[arg(long)]
    pub fast_decode: bool,

    /// Also times every node of both towers
    #[arg(long)]
    pub profile: bool,

    /// Prints a JSON object
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub computing: Computing,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvalTask {
    /// What the set asks: classification by prompts, or retrieval
    ZeroShot,
    /// A linear classifier on the pictures' features
    Probe,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip eval data/cifar10-test data/flickr8k-1k
  mobileclip eval data/my-photos --limit 500             (a folder of pictures for each class)
  mobileclip eval suite.toml --datacomp eval_results.jsonl
  mobileclip eval data/cifar10-test --task probe --train data/cifar10-train --validation 0.1
  mobileclip eval data/cifar10-test --out \"{dataset}_{model}_{task}.json\"
  mobileclip eval data/cifar10-test --precision f32,bf16,int8
  mobileclip eval --compare before.json after.json

A set is a folder in CLIP_benchmark's webdataset layout (test/nshards.txt, test/0.tar, classnames.txt,
zeroshot_classification_templates.txt, dataset_type.txt), a folder with shards, or one with a folder of
pictures for each class. A suite is a TOML file of [[set]] tables: path, name, key, metric.

Embeddings are kept in the cache (MOBILECLIP_CACHE, or the user's cache folder), so an interrupted run
goes on and a second one takes seconds. Photos are not turned by their EXIF orientation: the
benchmark does not turn them.

The intervals are of 95 %: Wilson's where pictures count one by one, else a bootstrap over pictures.")]
pub struct Eval {
    /// Folders of evaluation sets, and suites (.toml)
    #[arg(value_name = "DATA", required_unless_present = "compare", value_hint = ValueHint::AnyPath)]
    pub data: Vec<PathBuf>,

    /// What is measured
    #[arg(long, value_enum, value_name = "TASK", default_value = "zero-shot")]
    pub task: EvalTask,

    /// Templates instead of the sets' own: a file with one in each line, {c} stands for the class; or JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub templates: Option<PathBuf>,

    /// At most so many pictures of each set, spread over it
    #[arg(long, value_name = "N", value_parser = count)]
    pub limit: Option<usize>,

    /// The split that is measured: a folder within a set's folder
    #[arg(long, value_name = "NAME", default_value = "test")]
    pub split: String,

    /// Ranks that count as found, in retrieval
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1,5,10", value_parser = count)]
    pub recall_k: Vec<usize>,

    /// The probe's training set [default: DATA itself, its split --train-split]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub train: Option<PathBuf>,

    /// The split that the probe is trained on: a folder within its training set's folder
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub train_split: String,

    /// Training pictures of each class for the probe [default: all]
    #[arg(long, value_name = "K", value_parser = count)]
    pub shots: Option<usize>,

    /// The share of training pictures on which the probe's weight decay is chosen; without, there is none
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub validation: Option<f64>,

    /// The probe's passes over its training pictures
    #[arg(long, value_name = "N", default_value = "10", value_parser = count)]
    pub epochs: usize,

    /// The probe's learning rate
    #[arg(long, value_name = "RATE", default_value = "0.1", value_parser = rate)]
    pub rate: f64,

    /// The probe's seed
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// What numbers the towers multiply; with several, each is measured, and how often its first answer is that of the first
    #[arg(long, value_enum, value_name = "TYPE,…", value_delimiter = ',', default_value = "f32")]
    pub precision: Vec<Precision>,

    /// Writes CLIP_benchmark's result file; with several sets the name must hold {dataset}, with several precisions {precision};
    /// also {model}, {pretrained}, {language}, {task}
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: Option<String>,

    /// Appends a line for each set to a file of DataComp's form (eval_results.jsonl)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub datacomp: Option<PathBuf>,

    /// Prints one JSON object a set
    #[arg(long)]
    pub json: bool,

    /// Compares two result files (of either form) instead of measuring
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "data", value_hint = ValueHint::FilePath)]
    pub compare: Vec<PathBuf>,

    /// Computes all embeddings anew, and keeps none
    #[arg(long)]
    pub no_cache: bool,

    /// GiB that unpacked shards may take in the cache
    #[arg(long, value_name = "GIB", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shard_cache: u32,
}
