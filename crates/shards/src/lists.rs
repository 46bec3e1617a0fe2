//! Files that list shards: `info.json` and `manifest.jsonl`, which the published generator and `reinforce` write.

use std::path::{Path, PathBuf};

use mobileclip_store::{Place, is_remote};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::paths::{ENDINGS, find};

/// Whether a file is a list of shards, by its name.
pub(crate) fn is_list(name: &str) -> bool {
    name == "manifest.jsonl" || (name.starts_with("info") && name.ends_with(".json"))
}

#[derive(Deserialize)]
struct Info {
    /// Numbers of samples by shard. They may be texts, and are of no use here.
    lengths: Map<String, Value>,
}

#[derive(Deserialize)]
struct Line {
    shard: String,
}

/// The shards of a list. They lie beside it, wherever the list says they lay when it was written.
///
/// # Errors
/// If it cannot be read, or is no such list.
pub(crate) fn listed(list: &Place) -> Result<Vec<PathBuf>> {
    let io = |source| Error::Io { path: list.address().to_path_buf(), source };
    let (bytes, _) = list.read().map_err(io)?.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))?;
    let text = String::from_utf8_lossy(&bytes);
    let names = match list.address().extension().is_some_and(|extension| extension == "jsonl") {
        true => manifest(&text),
        false => serde_json::from_str(&text)
            .ok()
            .map(|Info { lengths }| lengths.into_iter().map(|(name, _)| name).collect()),
    };
    let Some(names) = names.filter(|names: &Vec<String>| !names.is_empty()) else {
        return Err(Error::Content {
            path: list.address().to_path_buf(),
            expected: "an object whose `lengths` has the shards' names as keys, or lines with the key `shard`",
            found: text.trim().chars().take(40).collect(),
        });
    };
    find(&list.address().to_string_lossy(), names.iter().map(|name| candidates(list, name)).collect())
}

fn manifest(text: &str) -> Option<Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).ok().map(|line: Line| line.shard)).collect()
}

/// Where the shard may be that a list calls so. Manifests may leave the ending out, and `info.json` has the bucket in front, or a path
/// without its first slash.
fn candidates(list: &Place, name: &str) -> Vec<String> {
    if is_remote(Path::new(name)) {
        return vec![name.to_owned()];
    }
    let own = list.address().file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = list.address().to_string_lossy();
    let folder = folder.strip_suffix(own.as_str()).unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_whole = Format::named(Path::new(name)).is_some();
    let endings: &[&str] = if is_whole { &[""] } else { &ENDINGS };
    let mut names = vec![name];
    names.extend((last != name).then_some(last));
    let places =
        names.iter().flat_map(|name| endings.iter().map(move |ending| format!("{folder}{name}{ending}")));
    places.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lists_name_the_shards_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["00000000.tar", "00000001.tar.gz", "sub/2.tar"] {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), "").unwrap();
        }
        let read = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).unwrap();
            let found = listed(&Place::new(folder.path().join(name)).unwrap());
            let strip =
                |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            found
                .map(|paths| paths.into_iter().map(strip).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        let all = ["00000000.tar", "00000001.tar.gz"];
        let info = r#"{"name": "bucket/set", "lengths": {"bucket/set/00000000.tar": "3", "bucket/set/00000001.tar.gz": "3"}}"#;
        assert_eq!(read("info.json", info).unwrap(), all);
        let minimal = r#"{"lengths": {"00000000.tar": 0, "sub/2.tar": 0}}"#;
        assert_eq!(read("info-minimal.json", minimal).unwrap(), ["00000000.tar", "sub/2.tar"]);
        let manifest = "{\"shard\": \"00000000\", \"num_uids\": 3}\n{\"shard\": \"00000001.tar.gz\"}\n\n";
        assert_eq!(read("manifest.jsonl", manifest).unwrap(), all);
        let published = "\"name\"\n\"lengths\"\n\"totalLength\"\n\"date\"\n";
        assert!(read("info.json", published).unwrap_err().contains("found \"\\\"name"));
        assert!(read("manifest.jsonl", "{\"shard\": \"00000007\"}").unwrap_err().contains("there is no"));
        assert!(read("manifest.jsonl", "").is_err());
        assert!(is_list("info.json") && is_list("manifest.jsonl"));
        assert!(!is_list("00000000.json") && !is_list("0.jsonl"));
    }
}
