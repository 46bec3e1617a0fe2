//! Commands that make data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::photos::Writing;
use super::shared::{Computing, count};

#[derive(Args, Debug)]
pub struct Reinforce {
    #[command(subcommand)]
    pub stage: ReinforceStage,
}

#[derive(Subcommand, Debug)]
pub enum ReinforceStage {
    /// Augments pictures and records what teachers make of them and of the captions
    Embeddings(Box<ReinforceEmbeddings>),
    /// Writes synthetic captions with a CoCa model
    Captions(Box<ReinforceCaptions>),
    /// Keeps the samples whose picture and caption fit each other best
    Filter(Box<ReinforceFilter>),
    /// Replays stored augmentations, asks the teachers again and compares
    Verify(Box<ReinforceVerify>),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip reinforce embeddings --input 'shards/{00000..00019}.tar.gz' --output reinforced \\
      --teacher ViT-L-14 --augmentations 10
  mobileclip reinforce embeddings --input shards --output reinforced --teacher a.safetensors --teacher b.safetensors --dtype bf16
  mobileclip reinforce embeddings --input shards --output reinforced \\
      --teacher runs/teacher/checkpoints/step-00010000/student.safetensors=runs/teacher/variant.toml --captions json:captions

Each picture is decoded once; K augmentations of it are drawn, replayed at each teacher's size and embedded. A shard of the
output has what the input has, and beside it
  KEY.paug.json   the augmentations' parameters
  KEY.npz         image_emb (K rows), text_emb (a row a true caption), SET_emb (a row a synthetic caption of SET); columns:
                  the teachers' embeddings side by side in the order of --teacher, each of length 1. (KEY.pth.gz with --dtype bf16.)
  KEY.syn.json    the synthetic captions; {} where the input has none
Output folder: also manifest.jsonl (a line a shard), config.json (what the folder was made with; the published trainer takes it).

To train on it (widths: as this command prints them; the share of 0 where there are no synthetic captions):
  [data]
  shards = [\"reinforced\"]
  augment = \"recorded\"
  mix_synthetic = 0.0
  [loss]
  contrastive_weight = 0.0
  distill_weight = 1.0
  teacher_widths = [512]
  teacher_scales = [100.0]

The augmentations of a sample depend on --seed, its uid (in KEY.json; else its key) and its picture's size alone, so the same
command gives the same bytes again. A shard appears when it is whole: a rerun makes those that are missing. Ctrl-C leaves the
shard at hand to the next run.

The default augmentation is the published one, a bicubic random resized crop and RandAugment (2 operations, magnitude 9 of 31),
at the teachers' size.")]
pub struct ReinforceEmbeddings {
    #[command(flatten)]
    pub shards: Shards,

    #[command(flatten)]
    pub teaching: Teaching,

    /// Augmentations of each picture
    #[arg(long, short = 'k', value_name = "K", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub augmentations: u32,

    /// The augmentations' configuration, in the published form: a JSON or TOML file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub augment: Option<PathBuf>,

    /// Seed of the augmentations
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// Which sets of synthetic captions (the names in KEY.syn.json) are embedded: a regular expression for the name from its
    /// beginning. The others stay without embeddings [default: all]
    #[arg(long, value_name = "REGEX")]
    pub synthetic: Option<mobileclip_reinforce::Regex>,

    /// How embeddings are stored
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub dtype: StoredType,

    /// Which Pillow's resize is followed; published sets come from one before 12.2
    #[arg(long, value_enum, value_name = "VERSION", default_value = "13")]
    pub pillow: Pillow,
}

/// Who embeds what.
#[derive(Args, Debug)]
pub struct Teaching {
    /// A teacher: a model's name, folder or file, =VARIANT (name or TOML file) after it where need be; may be repeated
    #[arg(long, required = true, value_name = "CHECKPOINT[=VARIANT]")]
    pub teacher: Vec<String>,

    #[command(flatten)]
    pub reading: Reading,
}

/// Which captions are embedded, and how.
#[derive(Args, Debug)]
pub struct Reading {
    /// Where the true captions stand: txt, or json:FIELD (a text or a list of texts in KEY.json)
    #[arg(long, value_name = "WHERE", default_value = "txt", value_parser = captions)]
    pub captions: mobileclip_reinforce::Captions,

    #[command(flatten)]
    pub computing: Computing,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip reinforce captions --input shards --output captioned --captioner coca_ViT-L-14 --samples 5
  mobileclip reinforce captions --input shards --output captioned --captioner ./coca --method beam --set syn_text_beam

KEY.syn.json gets the set of captions, beside the sets that are there. They depend on --seed, the sample's uid and the caption's
number alone. Captions are written before embeddings: a shard that has embeddings already is left as it is.")]
pub struct ReinforceCaptions {
    #[command(flatten)]
    pub shards: Shards,

    /// The captioner: a model's name, folder or file, =VARIANT after it where need be
    #[arg(long, required = true, value_name = "CHECKPOINT[=VARIANT]")]
    pub captioner: String,

    /// What the set of captions is called
    #[arg(long, value_name = "NAME", default_value = "syn_text")]
    pub set: String,

    #[command(flatten)]
    pub writing: Writing,

    #[command(flatten)]
    pub computing: Computing,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip reinforce filter --input shards --output kept --judge ViT-B-32 --share 0.2
  mobileclip reinforce filter --input shards --output kept --judge ViT-B-32 --threshold 0.25 --uids kept.npy

A sample is kept if the cosine of its picture and its caption (of several, the best) is at least the threshold. With --share all
shards are looked at once before, to find it; the manifest says what it was. With several processes, give --threshold.")]
pub struct ReinforceFilter {
    #[command(flatten)]
    pub shards: Shards,

    /// Who judges: a model's name, folder or file, =VARIANT after it where need be
    #[arg(long, required = true, value_name = "CHECKPOINT[=VARIANT]")]
    pub judge: String,

    /// Keeps the best share of the samples, above 0 and up to 1
    #[arg(long, value_name = "SHARE", required_unless_present = "threshold", conflicts_with = "threshold")]
    pub share: Option<f64>,

    /// Keeps samples of at least this cosine
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = cosine)]
    pub threshold: Option<f32>,

    /// Writes the uids of the samples that were kept, sorted, as DataComp has them (NumPy, u8,u8)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub uids: Option<PathBuf>,

    #[command(flatten)]
    pub reading: Reading,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip reinforce verify --input reinforced --teacher ViT-L-14 -n 100
  mobileclip reinforce verify --input reinforced --teacher ViT-L-14 -n 100 --least 0.999 --json

The augmentations' configuration and the resize's pass order come from config.json beside the shards; where there is none, they
are the published ones. The exit status is 1 if a sample could not be compared or a cosine is below --least.")]
pub struct ReinforceVerify {
    /// Reinforced shards: paths, folders, brace lists, wildcards; may be repeated
    #[arg(long, required = true, value_name = "SHARDS", value_hint = ValueHint::AnyPath)]
    pub input: Vec<String>,

    #[command(flatten)]
    pub teaching: Teaching,

    /// Samples, spread over the shards
    #[arg(long, short = 'n', value_name = "N", default_value = "100", value_parser = count)]
    pub samples: usize,

    /// The least cosine that is well
    #[arg(long, value_name = "COSINE", default_value = "0.9999", value_parser = cosine)]
    pub least: f32,

    /// Prints the result as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// From shards to shards.
#[derive(Args, Debug)]
pub struct Shards {
    /// Shards (.tar, .jsonl, .tfrecord; .gz or .zst after it): paths or addresses (s3://…, https://…), folders, lists
    /// (info.json), brace lists, wildcards; may be repeated
    #[arg(long, required = true, value_name = "SHARDS", value_hint = ValueHint::AnyPath)]
    pub input: Vec<String>,

    /// The folder of the shards that are made, or its address on a store
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,

    /// What becomes of samples without picture or caption, or with broken ones
    #[arg(long, value_enum, value_name = "WHAT", default_value = "keep")]
    pub on_bad: OnBad,

    /// What the shards are called
    #[arg(long, value_enum, value_name = "HOW", default_value = "input")]
    pub names: Names,

    /// What the shards are
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tar")]
    pub format: Format,

    /// How the shards are packed
    #[arg(long, value_enum, value_name = "HOW", default_value = "none")]
    pub compress: Compress,

    /// Writes a page of the first samples to look at: picture, augmentations as the teachers saw them, captions, cosines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub preview: Option<PathBuf>,

    /// Samples of the preview
    #[arg(long, value_name = "N", default_value = "20", value_parser = count)]
    pub preview_count: usize,

    /// Samples that a thread takes at a time
    #[arg(long, value_name = "N", default_value = "16", value_parser = count)]
    pub batch: usize,

    /// Several processes may share a list and a folder: seconds without a sign of life after which one of another machine is
    /// taken for dead, and its shard made by another. (One of the same machine is replaced without that.)
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub lease: u32,

    /// Prints the report as a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBad {
    /// They are written as they are, without reinforcement
    Keep,
    /// They are left out
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Names {
    /// As the inputs
    Input,
    /// By their place in the list: 00000000, 00000001, …
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compress {
    /// Training reads such shards as they are; embeddings hardly become smaller
    None,
    /// By gzip: .tar.gz, .jsonl.gz
    Gz,
    /// By zstd: .tar.zst, .jsonl.zst
    Zst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Webdataset's tar files
    Tar,
    /// JSON lines with the published generator's fields; embeddings in f32, whatever --dtype says
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoredType {
    /// 32 bits, in KEY.npz
    F32,
    /// bfloat16, in KEY.pth.gz: half the bytes, cosines off by 2e-6
    Bf16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pillow {
    /// 13
    #[value(name = "13")]
    Pillow13,
    /// 12.2 and 12.3
    #[value(name = "12.2")]
    Pillow12_2,
    /// Those before
    #[value(name = "older")]
    Older,
}

fn captions(text: &str) -> Result<mobileclip_reinforce::Captions, String> {
    let captions = mobileclip_reinforce::Captions::parse(text);
    captions.ok_or_else(|| format!("`{text}` is neither txt nor json:FIELD"))
}

/// From -1 to 1.
fn cosine(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(cosine) if (-1.0..=1.0).contains(&cosine) => Ok(cosine),
        Ok(_) => Err("must be from -1 to 1".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}
