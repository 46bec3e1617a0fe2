//! The containers, one module each, and how a file's container is told.

pub(crate) mod safetensors;
mod state_dict;
pub(crate) mod torch_legacy;
pub(crate) mod torch_zip;

use std::path::Path;

use crate::error::{Error, Result};
use crate::file::Container;

/// Tells the container by the contents, not by the name: people rename files. Only a damaged file is judged by its extension,
/// so that the message speaks of what it was meant to be.
pub(crate) fn sniff(path: &Path, bytes: &[u8]) -> Result<Container> {
    if bytes.is_empty() {
        return Err(Error::Empty { path: path.to_path_buf() });
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Ok(Container::TorchZip);
    }
    // Protocol 2 and later begin with PROTO and its number.
    if let [0x80, 2..=5, ..] = bytes {
        return Ok(Container::TorchLegacy);
    }
    let named_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    if named_safetensors || bytes.get(8) == Some(&b'{') {
        return Ok(Container::Safetensors);
    }
    let found = if bytes.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer: the weights themselves were not downloaded".to_string()
    } else if bytes.starts_with(b"<") {
        "it looks like a web page, perhaps an error message of a download".to_string()
    } else {
        format!("it begins with {:02x?}", bytes.get(..8).unwrap_or(bytes))
    };
    Err(Error::UnknownFormat { path: path.to_path_buf(), found })
}
