//! What can be typed, and the texts that explain it.

mod data;
mod measure;
mod models;
mod photos;
mod shards;
mod shared;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

pub use data::{
    Compress, Format, Names, OnBad, Pillow, Reinforce, ReinforceCaptions, ReinforceEmbeddings,
    ReinforceFilter, ReinforceStage, ReinforceVerify, Shards, StoredType, Teaching,
};
pub use measure::{Bench, Eval, EvalTask};
pub use models::{Convert, Download, Dtype, Export, Form, Inspect, Models, PixelOrder, Tokens, TowerName};
pub use photos::{Caption, CaptionMethod, Classify, Embed, Index, Search, Writing};
pub use shards::{ShardsCommand, ShardsJoin, ShardsRepack, ShardsStat, ShardsTool, Unpacking};
pub use shared::{Caching, Computing, Decoding, Precision};

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
    /// Makes reinforced shards: captions, augmentations of pictures, and what teachers make of them
    Reinforce(Reinforce),
    /// Looks at shards, joins and repacks them
    Shards(ShardsTool),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
