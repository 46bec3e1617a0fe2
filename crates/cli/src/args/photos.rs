//! Commands on photos and texts.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::shared::{Caching, Computing, Decoding, count};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip classify photo.jpg --labels \"cat,dog,neither\"
  mobileclip classify *.jpg --labels-file species.txt --top 3
  mobileclip classify a.png --labels \"cat,dog\" --template \"a photo of a {}\" --template \"a sketch of a {}\"
  mobileclip classify *.jpg --labels \"cat,dog\" --json | jq -r '[.path, .scores[0].label] | @tsv'

With --json each photo gives one line, best label first:
  {\"path\":…,\"scores\":[{\"label\":…,\"probability\":…,\"logit\":…},…]}   or   {\"path\":…,\"error\":…}

Probabilities compare the given labels with each other: they add up to 1 whatever the photo shows.")]
pub struct Classify {
    /// Photos: JPEG, PNG, WebP, GIF, BMP, TIFF
    #[arg(required = true, value_name = "PHOTO", value_hint = ValueHint::FilePath)]
    pub photos: Vec<PathBuf>,

    /// The labels, with commas between them
    #[arg(long, short, value_name = "LABELS", required_unless_present = "labels_file")]
    pub labels: Option<String>,

    /// A file with one label in each line
    #[arg(long, value_name = "FILE", conflicts_with = "labels", value_hint = ValueHint::FilePath)]
    pub labels_file: Option<PathBuf>,

    /// The sentence around a label, {} stands for the label; may be repeated, then the embeddings are averaged
    #[arg(long, value_name = "TEXT", default_values_t = [mobileclip::DEFAULT_TEMPLATE.to_owned()])]
    pub template: Vec<String>,

    /// How many labels to print [default: 5, or all with --json]
    #[arg(long, short = 'k', value_name = "K", value_parser = count)]
    pub top: Option<usize>,

    /// Prints one JSON object a photo
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub caching: Caching,

    #[command(flatten)]
    pub computing: Computing,

    #[command(flatten)]
    pub decoding: Decoding,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip caption photo.jpg --model coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k
  mobileclip caption photo.jpg --model ./coca --method beam
  mobileclip caption *.jpg --model ./coca --samples 5 --json
  mobileclip caption photo.jpg --model ./coca --beginning \"a close-up of\" --max-ids 60

With --json each photo gives one line:
  {\"path\":…,\"captions\":[…]}   or   {\"path\":…,\"error\":…}

Only CoCa models write captions. The same seed, photo's name and sample give the same caption, whichever photos are
captioned together.")]
pub struct Caption {
    /// Photos: JPEG, PNG, WebP, GIF, BMP, TIFF
    #[arg(required = true, value_name = "PHOTO", value_hint = ValueHint::FilePath)]
    pub photos: Vec<PathBuf>,

    #[command(flatten)]
    pub writing: Writing,

    /// Photos that are looked at together
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count)]
    pub batch: usize,

    /// One JSON object for each photo
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub decoding: Decoding,

    #[command(flatten)]
    pub computing: Computing,
}

/// What captions are written.
#[derive(Args, Debug)]
pub struct Writing {
    /// Captions of each picture
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = count)]
    pub samples: usize,

    /// How the next word is chosen
    #[arg(long, value_enum, default_value_t = CaptionMethod::TopP)]
    pub method: CaptionMethod,

    /// With top-p: the best words that make up this share of the probability are drawn from
    #[arg(long, value_name = "P", default_value_t = 0.9)]
    pub top_p: f64,

    /// With top-k: so many of the best words are drawn from
    #[arg(long, value_name = "K", default_value_t = 50)]
    pub top_k: usize,

    /// With beam: so many texts are continued side by side
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub beams: usize,

    /// Less than 1 for likelier words, more for others
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,

    /// More than 1 against words that are there already
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub repetition_penalty: f64,

    /// Tokens of a caption at most, with its two marks
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub max_ids: usize,

    /// Tokens of a caption at least, with its start mark
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub min_ids: usize,

    /// Seed of what is by chance
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// What captions begin with
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub beginning: String,

    /// Everything that the model wrote, not only the first sentence
    #[arg(long)]
    pub whole: bool,
}

/// How the next word of a caption is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CaptionMethod {
    /// By chance among the likeliest that make up a share of the probability
    TopP,
    /// By chance among a number of the likeliest
    TopK,
    /// Always the likeliest
    Greedy,
    /// The best of several texts
    Beam,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip embed ~/Photos --out photos.parquet
  find . -name '*.jpg' | mobileclip embed - --out photos.npy --list photos.txt
  mobileclip embed --text \"a cat\" \"a dog\" --out texts.jsonl
  mobileclip embed --text-file captions.txt --out captions.npy

The format follows the name: .npy (f32, rows in the order of the inputs), .parquet or .jsonl (with
the path or text).
Embeddings are L2-normalised; --raw gives the features as the model computes them.
Folders are walked through. What cannot be read is reported and gets no row.
Compare embeddings of one precision only: those of bf16 and int8 differ a little from those of f32.
A run that was interrupted goes on where it stopped with --resume.")]
pub struct Embed {
    /// Photos and folders of photos; - stands for a list of paths on the standard input, one in each line
    #[arg(value_name = "PHOTO|DIR|-", required_unless_present_any = ["text", "text_file"],
          conflicts_with_all = ["text", "text_file"], value_hint = ValueHint::AnyPath)]
    pub inputs: Vec<PathBuf>,

    /// Embeds these texts instead of photos
    #[arg(long, value_name = "TEXT", num_args = 1.., conflicts_with = "text_file")]
    pub text: Vec<String>,

    /// Embeds the lines of a file; - is the standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text_file: Option<PathBuf>,

    /// The table to write: .npy, .parquet or .jsonl
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,

    /// Features as the model gives them, not normalised
    #[arg(long)]
    pub raw: bool,

    /// Goes on with an interrupted run
    #[arg(long)]
    pub resume: bool,

    /// Also writes the path (or text) of each row to this file, one in each line: .npy has no room for them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub list: Option<PathBuf>,

    #[command(flatten)]
    pub computing: Computing,

    #[command(flatten)]
    pub decoding: Decoding,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip index ~/Photos --out photos.index
  mobileclip index ~/Photos /mnt/archive --out photos.index    (again: only what changed is embedded)

The index is a folder of Parquet files and a note of the model. It can be interrupted at any time,
even killed: the next run goes on. Photos that are gone from a folder are dropped.
Search it with the same --precision: an index of one is refused by another.")]
pub struct Index {
    /// Folders of photos
    #[arg(required = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dirs: Vec<PathBuf>,

    /// The index's folder
    #[arg(long, short, value_name = "INDEX", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,

    /// Tries photos again that could not be read and have not changed since
    #[arg(long)]
    pub retry_failed: bool,

    /// Takes damaged segments out of the index first; their photos are embedded again
    #[arg(long)]
    pub repair: bool,

    #[command(flatten)]
    pub computing: Computing,

    #[command(flatten)]
    pub decoding: Decoding,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip search photos.index \"a dog on a beach\"
  mobileclip search photos.index --photo like-this.jpg --top 50 --html found.html
  mobileclip search photos.index \"sunset\" --json | jq -r .path

With --json each photo that is found gives one line: {\"path\":…,\"score\":…}
The score is the cosine of the two embeddings; of a sentence and a photo it seldom exceeds 0.4.")]
pub struct Search {
    /// An index made by `mobileclip index`
    #[arg(value_name = "INDEX", value_hint = ValueHint::DirPath)]
    pub index: PathBuf,

    /// What to look for, in English
    #[arg(value_name = "TEXT", required_unless_present = "photo", conflicts_with = "photo")]
    pub text: Vec<String>,

    /// Looks for photos like this one
    #[arg(long, value_name = "PHOTO", value_hint = ValueHint::FilePath)]
    pub photo: Option<PathBuf>,

    /// How many photos to find
    #[arg(long, short = 'k', value_name = "K", default_value = "10", value_parser = count)]
    pub top: usize,

    /// Prints one JSON object a photo
    #[arg(long)]
    pub json: bool,

    /// Also writes a page with thumbnails
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub html: Option<PathBuf>,

    #[command(flatten)]
    pub caching: Caching,

    #[command(flatten)]
    pub computing: Computing,

    #[command(flatten)]
    pub decoding: Decoding,
}
