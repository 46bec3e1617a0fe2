//! What can be typed, and the texts that explain it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

/// Compare photos and texts with MobileCLIP models: classify, embed, index, search.
#[derive(Parser, Debug)]
#[command(name = "mobileclip", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  mobileclip classify photo.jpg --labels \"a cat,a dog\"
  mobileclip index ~/Photos --out photos.index
  mobileclip search photos.index \"a dog on a beach\" --html found.html
  mobileclip embed ~/Photos --out photos.parquet
  mobileclip --model ./my-checkpoint inspect

Exit status:
  0  everything worked
  1  some inputs failed; each is named on the standard error
  2  nothing worked: wrong usage, a model that cannot be loaded, or every input failed

Models are loaded from the Hugging Face hub's cache, or from the hub the first time. Where the hub
cannot be reached, give a folder or a file: `--model PATH`.";

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// A model's name (see `mobileclip models`), `hf-hub:OWNER/NAME`, or the path of a model folder or file
    #[arg(
        long,
        short,
        global = true,
        env = "MOBILECLIP_MODEL",
        default_value = "MobileCLIP2-S0",
        value_name = "NAME|PATH"
    )]
    pub model: String,

    /// Which variant the weights are, where they fit several; or a TOML file that describes a variant of one's own
    #[arg(long, global = true, value_name = "NAME|FILE")]
    pub variant: Option<String>,

    /// Threads [default: as many as the processor has]
    #[arg(long, short = 'j', global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,

    /// Prints neither progress nor notes, only results and errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// How photos are read.
#[derive(Args, Clone, Debug)]
pub struct Decoding {
    /// Takes photos as they are stored, not turned as their EXIF orientation says
    #[arg(long)]
    pub no_exif: bool,

    /// Decodes large JPEGs at a half, a quarter or an eighth of their size: quicker, but scores and embeddings are a little off
    #[arg(long)]
    pub fast_decode: bool,

    /// Refuses photos of more megapixels [default: 179]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_megapixels: Option<u32>,
}

/// How the towers compute.
#[derive(Args, Clone, Debug)]
pub struct Computing {
    /// What numbers the towers multiply; bf16 and int8 are about 1.7 and 2.7 times as fast where the processor has instructions
    /// for them (AVX512-BF16, AVX512-VNNI), and gain nothing where it has not
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub precision: Precision,
}

/// Numbers that are multiplied; sums are f32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits: the reference implementation's embeddings, to 2e-5
    F32,
    /// 16 bits: cosines to these of 0.9995 and more
    Bf16,
    /// 8 bits, sensitive layers in bf16: cosines of 0.995 and more
    Int8,
}

/// Whether embeddings of words are kept for the next time.
#[derive(Args, Clone, Debug)]
pub struct Caching {
    /// Neither reads nor writes the cache of text embeddings (in MOBILECLIP_CACHE, or the user's cache folder)
    #[arg(long)]
    pub no_cache: bool,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Says which of some labels fits a photo best
    Classify(Classify),
    /// Writes captions of photos
    Caption(Caption),
    /// Writes the embeddings of photos or texts to a file
    Embed(Embed),
    /// Makes an index of photo folders, or brings one up to date
    Index(Index),
    /// Finds photos in an index by a sentence or by another photo
    Search(Search),
    /// Measures how good a model is on local data: zero-shot classification, retrieval, linear probe
    Eval(Box<Eval>),
    /// Tells what a model is, without running it
    Inspect(Inspect),
    /// Prints the token ids of texts, as JSON, one line a text
    Tokens(Tokens),
    /// Writes a model in another form: open_clip's folder, or one fused file that loads at once
    Convert(Convert),
    /// Writes a model's towers for other runtimes: ONNX
    Export(Export),
    /// Measures how fast a model runs here
    Bench(Bench),
    /// Trains a model on shards of pictures and captions
    #[cfg(feature = "train")]
    Train(Box<crate::commands::train::Train>),
    /// Lists the models that can be named
    Models(Models),
    /// Loads models from the hub into the cache, and prints where they are
    Download(Download),
    /// Prints the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Prints the manual page, or writes one for every command
    Man {
        /// A folder for the pages of all commands
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
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

    /// Captions of each photo
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

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip inspect MobileCLIP2-S0
  mobileclip inspect ./open_clip_model.safetensors --json")]
pub struct Inspect {
    /// A model's name, folder or file [default: --model]
    #[arg(value_name = "PATH|NAME", value_hint = ValueHint::AnyPath)]
    pub target: Option<String>,

    /// Prints a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mobileclip tokens \"a photo of a cat\"      prints [49406,320,1125,539,320,2368,49407,0,…]

No model is loaded: the whole family has one tokenizer.")]
pub struct Tokens {
    /// Texts
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,

    /// Length of a row; longer texts are cut and keep their end mark
    #[arg(long, value_name = "N", default_value = "77", value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub context: u16,
}

/// A form of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// open_clip_config.json and open_clip_model.safetensors in a folder
    OpenClip,
    /// One safetensors file with the fused graphs
    Deploy,
}

/// A type of stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits
    F32,
    /// 16 bits, IEEE
    F16,
    /// The upper half of 32 bits
    Bf16,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip convert MobileCLIP2-S0 s0.safetensors                  (fused: loads at once, nothing to fold)
  mobileclip convert MobileCLIP2-S0 s0.safetensors --compact        (a third smaller, slower to load)
  mobileclip convert MobileCLIP2-S0 s0.safetensors --dtype f16      (half the size of that)
  mobileclip convert mobileclip_s2.pt ./mobileclip-s2               (open_clip's layout, for Python)

A fused file cannot be turned back, nor trained further.")]
pub struct Convert {
    /// A model's name, folder or file
    #[arg(value_name = "IN", value_hint = ValueHint::AnyPath)]
    pub input: String,

    /// A name ending in .safetensors for a fused file, or a folder for open_clip's layout
    #[arg(value_name = "OUT", value_hint = ValueHint::AnyPath)]
    pub output: PathBuf,

    /// The form to write [default: by the name of OUT]
    #[arg(long, value_enum, value_name = "FORM")]
    pub to: Option<Form>,

    /// How numbers are stored
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub dtype: Dtype,

    /// Leaves out of a fused file what can be made when loading, which then takes longer and more memory
    #[arg(long)]
    pub compact: bool,

    /// Replaces what is there
    #[arg(long)]
    pub force: bool,
}

/// A tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TowerName {
    /// Pictures to features
    Image,
    /// Texts to features
    Text,
}

/// In which order the bytes of a picture lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PixelOrder {
    /// [batch, height, width, 3], as decoders give it
    Nhwc,
    /// [batch, 3, height, width]
    Nchw,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip export MobileCLIP2-S0 --onnx --out s0                  (s0/image.onnx and s0/text.onnx)
  mobileclip export s0.safetensors --onnx --out s0 --with-preprocess
  mobileclip export MobileCLIP2-S2 --onnx --tower image --image-size 512 --out s2-512.onnx

What goes in and comes out (the batch is dynamic):
  image.onnx   pixel_values f32 [batch, 3, height, width], preprocessed   ->  image_embeds f32 [batch, D]
               with --with-preprocess: image u8 [batch, height, width, 3], RGB, of any size
  text.onnx    input_ids i64 [batch, 77], as `mobileclip tokens` prints   ->  text_embeds f32 [batch, D]

BatchNorms and branches are fused. The operators are those of opset 17, with --with-preprocess 18. Preprocessing,
context length and logit scale stand in the model's metadata. Weights of 2 GB or more go to NAME.onnx.data.")]
pub struct Export {
    /// A model's name, folder or file [default: --model]
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub target: Option<String>,

    /// Writes ONNX models; there is no other form yet, so it may be left out
    #[arg(long)]
    pub onnx: bool,

    /// A folder for image.onnx and text.onnx, or with --tower a name ending in .onnx
    #[arg(long, short, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub out: PathBuf,

    /// Writes one tower only
    #[arg(long, value_enum, value_name = "TOWER")]
    pub tower: Option<TowerName>,

    /// Height and width of the images that the tower sees, as 512 or 512x384 [default: as trained]
    #[arg(long, value_name = "SIZE", value_parser = image_size)]
    pub image_size: Option<(usize, usize)>,

    /// Tokens of a row, for text towers that do not see their padding [default: the context's length]
    #[arg(long, value_name = "N", value_parser = count)]
    pub text_length: Option<usize>,

    /// Takes pictures as they are decoded: resizing, cropping and normalising are part of the model
    #[arg(long)]
    pub with_preprocess: bool,

    /// In which order the bytes of these pictures lie
    #[arg(long, value_enum, value_name = "ORDER", default_value = "nhwc", requires = "with_preprocess")]
    pub pixel_order: PixelOrder,

    /// Gives embeddings of length 1, as `mobileclip embed` does; without it, as with --raw
    #[arg(long)]
    pub normalize: bool,

    /// Puts the weights into a file of their own, NAME.onnx.data
    #[arg(long)]
    pub external_data: bool,

    /// Replaces what is there
    #[arg(long)]
    pub force: bool,
}

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

#[derive(Args, Debug)]
pub struct Models {
    /// Prints one JSON object a model
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip download MobileCLIP2-S0
  mobileclip download ViT-B-16:openai hf-hub:timm/MobileCLIP2-S2-OpenCLIP

The cache is that of huggingface_hub: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE count. A download that breaks goes on where it stopped when it is started again.")]
pub struct Download {
    /// Names (see `mobileclip models`), or hf-hub:OWNER/NAME [default: --model]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// A number of things, at least one.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Height and width of an image: one number for both, or two.
fn image_size(text: &str) -> Result<(usize, usize), String> {
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    Ok((count(height)?, count(width)?))
}

/// A share above 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        Ok(_) => Err("must be above 0 and below 1".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// A learning rate.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        Ok(_) => Err("must be above 0".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn image_sizes_are_one_number_or_two() {
        assert_eq!(super::image_size("256"), Ok((256, 256)));
        assert_eq!(super::image_size("512x384"), Ok((512, 384)));
        for wrong in ["", "x", "256x", "0", "256x0", "-1", "256X256", "1x2x3"] {
            assert!(super::image_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
