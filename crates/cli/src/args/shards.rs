//! Commands on shards.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::data::{Compress, Format};
use super::shared::count;

#[derive(Args, Debug)]
pub struct ShardsTool {
    #[command(subcommand)]
    pub command: ShardsCommand,
}

#[derive(Subcommand, Debug)]
pub enum ShardsCommand {
    /// Counts samples, members and faults
    Stat(ShardsStat),
    /// As stat, and decodes every picture; the exit status is 1 if anything is wrong
    Verify(ShardsStat),
    /// Prints the first samples: key, members, caption
    Head {
        #[command(flatten)]
        shards: ShardsStat,
        /// How many
        #[arg(long, short = 'n', value_name = "N", default_value = "5", value_parser = count)]
        samples: usize,
        /// Writes a page of them to look at: picture, recorded augmentations, captions, teachers' cosines
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        preview: Option<PathBuf>,
        /// The width of each teacher's embedding, for the page's cosines, where no config.json beside the shards says it
        #[arg(long, value_name = "N,N…", value_delimiter = ',', requires = "preview")]
        teacher_widths: Vec<usize>,
    },
    /// Joins shards of pictures with reinforcements of the same keys
    Join(ShardsJoin),
    /// Writes samples anew: another size of shards, another order, a choice
    Repack(ShardsRepack),
}

#[derive(Args, Debug)]
pub struct ShardsStat {
    /// Shards (.tar, .jsonl, .tfrecord; .gz or .zst after it): paths or addresses (s3://…, https://…), folders, lists
    /// (info.json), brace lists, wildcards
    #[arg(required = true, value_name = "SHARDS", value_hint = ValueHint::AnyPath)]
    pub shards: Vec<String>,

    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mobileclip shards join 'images/{0000..0009}.tar' 'reinforcements/{0000..0009}.tar' --output joined

The first shards are read from front to end, and give names and order; the second ones are asked by key, so the two need not be cut
alike. Where both have a member (KEY.json), that of the second stays. Keys that only one side has are told and left out.")]
pub struct ShardsJoin {
    /// Shards of pictures and captions
    #[arg(value_name = "IMAGES", value_hint = ValueHint::AnyPath)]
    pub first: String,

    /// Shards of reinforcements
    #[arg(value_name = "REINFORCEMENTS", value_hint = ValueHint::AnyPath)]
    pub second: String,

    /// The folder of the joined shards
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,

    #[command(flatten)]
    pub unpacking: Unpacking,

    /// Prints the report as a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip shards repack shards --output repacked --samples 10000 --shuffle 7
  mobileclip shards repack shards --output subset --uids subset.npy

With --uids (NumPy u8,u8 as DataComp has it, or one in each line) a sample is written as often as its uid stands there, with the keys
UID-0, UID-1, …. Shards are called 00000000.tar, 00000001.tar, ….")]
pub struct ShardsRepack {
    /// Shards (.tar, .jsonl, .tfrecord; .gz or .zst after it): paths or addresses (s3://…, https://…), folders, lists
    /// (info.json), brace lists, wildcards
    #[arg(required = true, value_name = "SHARDS", value_hint = ValueHint::AnyPath)]
    pub shards: Vec<String>,

    /// The folder of the new shards, which must have none
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,

    /// Samples of a shard
    #[arg(long, short = 'n', value_name = "N", default_value = "10000", value_parser = count)]
    pub samples: usize,

    /// Shuffles all samples, with this seed
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,

    /// Writes only the samples of a list of uids
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub uids: Option<PathBuf>,

    /// What the shards are
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "tar")]
    pub format: Format,

    /// How the shards are packed
    #[arg(long, value_enum, value_name = "HOW", default_value = "none")]
    pub compress: Compress,

    #[command(flatten)]
    pub unpacking: Unpacking,

    /// Prints the report as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Where shards are unpacked to whose samples are read in any order.
#[derive(Args, Debug)]
pub struct Unpacking {
    /// A folder for unpacked shards and their indices; packed shards, those that are no tar files, and those on a store
    /// need it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub cache: Option<PathBuf>,

    /// GiB that they may take there
    #[arg(long, value_name = "GIB", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shard_cache: u32,
}
