//! From a path to a file of weights and, if there is one, the configuration beside it.

use std::path::{Path, PathBuf};

use crate::config::{CONFIG, Config};
use crate::error::{Error, Listing, Result};

/// Weights in a model directory, in the order in which open_clip and we look for them.
pub const WEIGHTS: [&str; 9] = [
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "model.pt",
];

/// What a path leads to.
#[derive(Debug)]
pub(crate) struct Location {
    pub weights: PathBuf,
    pub config: Option<(PathBuf, Config)>,
}

impl Location {
    pub(crate) fn of(path: &Path) -> Result<Location> {
        let metadata =
            std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let weights = if metadata.is_dir() { weights_in(path)? } else { path.to_path_buf() };
        // The configuration beside a file counts if the file has one of the names it is found by.
        let is_named = weights.file_name().is_some_and(|name| WEIGHTS.iter().any(|w| name == *w));
        let config = weights
            .parent()
            .filter(|_| metadata.is_dir() || is_named)
            .map(|folder| folder.join(CONFIG))
            .filter(|config| config.is_file());
        let config = match config {
            Some(path) => Some((path.clone(), Config::read(&path)?)),
            None => None,
        };
        Ok(Location { weights, config })
    }
}

/// The weights of a directory: by name, else the only file that can be one.
fn weights_in(folder: &Path) -> Result<PathBuf> {
    if let Some(found) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(found);
    }
    let io = |source| Error::Io { path: folder.to_path_buf(), source };
    let mut others = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_weights =
            path.extension().is_some_and(|e| ["safetensors", "pt", "bin", "pth"].iter().any(|w| e == *w));
        if is_weights && path.is_file() {
            others.push(path);
        }
    }
    others.sort();
    match others.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::NoWeights { path: folder.to_path_buf() }),
        several => {
            let names =
                several.iter().filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned());
            Err(Error::SeveralWeights { path: folder.to_path_buf(), names: Listing::from_iter(names) })
        }
    }
}
