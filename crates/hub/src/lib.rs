//! Model names to local directories: the Hugging Face hub's cache and routes.
//!
//! A name such as `MobileCLIP2-S0`, `ViT-L-14:openai` or `hf-hub:owner/name@revision` becomes a folder on this
//! machine that holds the checkpoint. The folder lies in the cache that Python's `huggingface_hub` keeps, in its
//! layout, so that either finds what the other has loaded. What this crate adds to the reference: an interrupted
//! download goes on where it stopped, even in another process, and every file is checked by its hash before it gets
//! its place in the cache.
//!
//! ```
//! use mobileclip_hub::{Hub, known_models};
//!
//! # fn main() -> Result<(), mobileclip_hub::Error> {
//! // The environment is an argument; `Hub::from_env()` takes that of the process.
//! let hub = Hub::from_vars(|name| match name {
//!     "HF_HUB_CACHE" => Some("no/such/folder".into()),
//!     "HF_HUB_OFFLINE" => Some("1".into()),
//!     _ => None,
//! })?;
//! assert!(hub.cached("MobileCLIP2-S0")?.is_none());
//! let error = hub.resolve("MobileCLIP2-S0", &mut |_| {}).unwrap_err();
//! assert!(error.to_string().contains("HF_HUB_OFFLINE"));
//! assert_eq!(known_models()[0].name, "MobileCLIP2-S0");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod cache;
mod client;
mod download;
mod error;
mod hub;
mod known;
mod names;
mod paths;
mod settings;
mod url;

pub use error::Error;
pub use hub::{CONFIG_FILE, Hub, Progress, Resolved, WEIGHT_FILES};
pub use known::{KnownModel, known_models};
pub use names::Target;
pub use paths::Repo;
