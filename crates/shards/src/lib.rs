//! Webdataset shards to samples, and samples to shards.
//!
//! A shard is a tar file whose members belong together by name: `0001.jpg`, `0001.txt`, `0001.json` are the
//! sample `0001`; or a file of JSON lines or TFRecord, whose objects become the same members ([`Format`]); each plain, gzip or zstd. [`SampleStream`] reads a shard from the front, one sample in memory at a time; [`Shard`] and [`Dataset`] give
//! sample number `i`, from an index that is made once and kept in a [`Cache`], which also holds copies of shards that are packed, no tar files, or on a store.
//! [`expand`] turns brace lists, globs, folders and lists into the list of shards; wherever there is a path, there may be an address
//! (`s3://bucket/key`, see `mobileclip-store`).
//!
//! A [`Sample`] has bytes and readers for the usual members; [`Reinforcement`] reads what reinforced shards add: recorded
//! augmentations, synthetic captions, and what teachers made of them.
//!
//! [`ShardWriter`] writes shards in the form of the published sets; [`array_member`] packs embeddings as either of them does.
//!
//! Whatever is wrong inside a shard is a [`Fault`] that names shard, sample and member. Readers give faults in place of samples and
//! go on where that is possible, so a caller chooses between stopping at the first and counting them in a [`Tally`].
//!
//! ```
//! # let shards = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards/npz-list/{00000000..00000000}.tar");
//! use mobileclip_shards::{Limits, SampleStream, Tally, expand};
//!
//! let mut tally = Tally::default();
//! for shard in expand(&[shards])? {
//!     for sample in SampleStream::open(&shard, Limits::default())? {
//!         match sample {
//!             Ok(sample) => println!("{}: {}", sample.key(), sample.text()?),
//!             Err(fault) => tally.add(&fault),
//!         }
//!     }
//! }
//! assert_eq!(tally.total(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

mod as_tar;
mod cache;
mod compression;
mod crc32c;
mod dataset;
mod error;
mod example;
mod fields;
mod format;
mod group;
mod index;
mod limits;
mod lines;
mod lists;
mod matrix;
mod name;
mod npy;
mod paths;
mod pickled;
mod reading;
mod records;
mod reinforced;
mod rewrite;
mod sample;
mod shard;
mod stream;
mod tar;
mod uids;
mod write;

pub use cache::{Cache, make_room};
pub use crc32c::masked_crc32c;
pub use dataset::Dataset;
pub use error::{Error, Fault, Result, Tally};
pub use format::{Format, stem};
pub use limits::Limits;
pub use matrix::Matrix;
pub use paths::{expand, numbered};
pub use reinforced::{
    ArrayType, Augmentation, CaptionSet, Crop, Operation, Reinforcement, ReinforcementSpec, Transform,
    array_member,
};
pub use rewrite::{Keys, Repack, Rewritten, join, repack};
pub use sample::{Member, PICTURES, Sample};
pub use shard::Shard;
pub use stream::SampleStream;
pub use uids::{parse_uid, read_uids, write_uids};
pub use write::{FinishedShard, ShardWriter, remove_partial};
