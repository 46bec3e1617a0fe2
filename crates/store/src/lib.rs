//! Files by address: the path of a file, or `s3://bucket/key`, `gs://bucket/key`, `az://container/key`, `https://host/path`.
//!
//! A [`Place`] is such an address with the few operations that shards need: list, read from the front, put a file that appears whole or
//! not at all, put it only if there is none, replace it only if it is what one has seen, delete. On a disk these are files and renames, on
//! a store requests with preconditions; who uses a place need not know which.
//!
//! Stores are behind the feature `stores`; without it their addresses are an error that says so. Credentials and endpoints come from the
//! environment, under the names that `object_store` reads (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, …). The async runtime does not leave
//! this crate: all calls block.
//!
//! Errors are [`std::io::Error`]s, as those of files: the caller knows the address and names it, the error says in one line what is wrong.
//!
//! ```
//! use std::io::Read;
//!
//! use mobileclip_store::Place;
//!
//! let folder = tempfile::tempdir()?;
//! let place = Place::new(folder.path())?.join("note.txt");
//! let version = place.put_new(b"one")?.expect("there was none");
//! assert!(place.put_new(b"two")?.is_none());
//! assert!(place.replace_if(b"three", &version)?.is_some());
//! assert!(place.replace_if(b"four", &version)?.is_none());
//! let mut text = String::new();
//! place.open()?.read_to_string(&mut text)?;
//! assert_eq!(text, "three");
//! # Ok::<(), std::io::Error>(())
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

mod draft;
mod local;
mod place;
#[cfg(feature = "stores")]
mod remote;

pub use draft::{Draft, Finished};
pub use place::{Place, Source, Stat, Version, is_remote};
