//! What a shard is, as its name says.

use std::path::Path;

/// Endings of shards, without those of their packing.
const ENDINGS: [(&str, Format); 4] = [
    (".tar", Format::Tar),
    (".jsonl", Format::JsonLines),
    (".json", Format::JsonLines),
    (".tfrecord", Format::TfRecord),
];
/// What names of packed files end in.
const PACKINGS: [&str; 4] = ["", ".gz", ".zst", ".zstd"];
/// A list of what was made; no shard, though it ends like one.
const MANIFEST: &str = "manifest.jsonl";

/// A format of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Webdataset's: a member for each part of a sample. Also what names with no known ending are taken for.
    Tar,
    /// A JSON object in each line, `.jsonl` or `.json`.
    JsonLines,
    /// TensorFlow's records of `tf.train.Example`, `.tfrecord`, also `.tfrecord-00000-of-00010`.
    TfRecord,
}

impl Format {
    /// The format of a shard of this name.
    pub fn of(path: &Path) -> Self {
        Self::named(path).unwrap_or(Self::Tar)
    }

    /// The format that a name has the ending of.
    pub(crate) fn named(path: &Path) -> Option<Self> {
        split(&name(path)).map(|(_, format)| format)
    }

    /// What names of this format end in, before the packing's ending.
    pub fn ending(self) -> &'static str {
        ENDINGS.iter().find(|(_, format)| *format == self).map_or("", |(ending, _)| ending)
    }
}

/// The name of a shard's file without the endings of its format and packing.
pub fn stem(path: &Path) -> String {
    let name = name(path);
    split(&name).map_or_else(|| name.clone(), |(stem, _)| stem.to_owned())
}

/// Whether a file of a folder is one of its shards. (A `.json` is one only where it is named itself.)
pub(crate) fn is_shard(name: &str) -> bool {
    let bare = PACKINGS.iter().rev().find_map(|packing| name.strip_suffix(packing)).unwrap_or(name);
    split(name).is_some() && !bare.ends_with(".json") && name != MANIFEST && !name.starts_with('.')
}

/// Whether the name says that the file is packed.
pub(crate) fn is_packed(path: &Path) -> bool {
    PACKINGS.iter().skip(1).any(|packing| name(path).ends_with(packing))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn split(name: &str) -> Option<(&str, Format)> {
    for packing in PACKINGS {
        let Some(bare) = name.strip_suffix(packing) else { continue };
        if let Some(found) =
            ENDINGS.iter().find_map(|(ending, format)| Some((bare.strip_suffix(ending)?, *format)))
        {
            return Some(found);
        }
    }
    // `part.tfrecord-00000-of-00010`: each is another shard, so the number belongs to what it is called.
    let (_, number) = name.split_once(".tfrecord-")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let (i, n) = number.split_once("-of-")?;
    (digits(i) && digits(n)).then_some((name, Format::TfRecord))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let cases = [
            ("a/0.tar", Format::Tar, "0", true),
            ("0.tar.gz", Format::Tar, "0", true),
            ("0.b.tar.zst", Format::Tar, "0.b", true),
            ("0.jsonl", Format::JsonLines, "0", true),
            ("0.jsonl.zstd", Format::JsonLines, "0", true),
            ("0.json.gz", Format::JsonLines, "0", false),
            ("0.json", Format::JsonLines, "0", false),
            ("0.tfrecord", Format::TfRecord, "0", true),
            ("x.tfrecord-00003-of-00010", Format::TfRecord, "x.tfrecord-00003-of-00010", true),
            ("x.tfrecord-a-of-2", Format::Tar, "x.tfrecord-a-of-2", false),
            ("pipe", Format::Tar, "pipe", false),
            ("manifest.jsonl", Format::JsonLines, "manifest", false),
            (".0.tar", Format::Tar, ".0", false),
        ];
        for (path, format, expected, is_shard) in cases {
            let path = Path::new(path);
            let found = (Format::of(path), stem(path), super::is_shard(&name(path)));
            assert_eq!(found, (format, expected.to_owned(), is_shard), "{path:?}");
        }
        assert!(is_packed(Path::new("0.tfrecord.gz")) && !is_packed(Path::new("0.tfrecord")));
    }
}
