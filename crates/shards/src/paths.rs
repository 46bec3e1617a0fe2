//! What a user types to the list of shards.

use std::path::{Path, PathBuf};

use mobileclip_store::{Place, is_remote};

use crate::error::{Error, Result};
use crate::format::{self, Format};
use crate::lists;

/// Paths that a pattern may stand for.
const PATHS_MAX: usize = 1 << 20;
/// Braces within braces.
const DEPTH_MAX: usize = 32;
/// Endings of shards of a split, and of those that a list names without.
pub(crate) const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tar.zst"];
/// How many shards a folder of CLIP_benchmark's layout has.
const COUNT: &str = "nshards.txt";
const WILDCARDS: [char; 3] = ['*', '?', '['];
const NO_MATCH: &str = "no file's name is like this";

/// The shards that the patterns stand for, in their order.
///
/// A pattern is the path of a shard, or its address on a store (`s3://bucket/key`, `gs://`, `az://`, `https://`); a folder, which stands for
/// its files of [`Format`]s, packed or not, by name (or for those that `nshards.txt` counts, see [`numbered`]); a list (`info.json`,
/// `manifest.jsonl`); or has brace lists (`{a,b}`, `{00000..00019}`, `{0..8..2}`, also within each other) or wildcards (`*`, `?`, `[…]`; on a
/// store in the last part only). `::` joins several.
///
/// # Errors
/// If a pattern is malformed, stands for nothing, or one of the shards that it names is not there.
pub fn expand<S: AsRef<str>>(patterns: &[S]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for pattern in patterns.iter().flat_map(|pattern| pattern.as_ref().split("::")) {
        if is_remote(Path::new(pattern)) {
            expand_remote(pattern, &mut paths)?;
            continue;
        }
        if Path::new(pattern).exists() {
            add(pattern, Path::new(pattern), &mut paths)?;
            continue;
        }
        let fail = |reason: String| Error::Pattern { pattern: pattern.to_owned(), reason };
        let mut missing = Vec::new();
        for path in braces(pattern).map_err(fail)? {
            if Path::new(&path).exists() {
                add(pattern, Path::new(&path), &mut paths)?;
            } else if path.contains(WILDCARDS) {
                let before = paths.len();
                for found in glob::glob(&path).map_err(|error| fail(error.to_string()))? {
                    let found = found.map_err(|error| fail(error.to_string()))?;
                    add(pattern, &found, &mut paths)?;
                }
                if paths.len() == before {
                    return Err(fail(NO_MATCH.to_owned()));
                }
            } else {
                missing.push(PathBuf::from(path));
            }
        }
        let count = missing.len();
        if let Some(first) = missing.into_iter().next() {
            return Err(Error::NoShard { pattern: pattern.to_owned(), first, count });
        }
    }
    Ok(paths)
}

/// As [`expand`], of addresses on a store. What an address stands for is told by its end, so that single shards need not be asked for one
/// by one.
fn expand_remote(pattern: &str, paths: &mut Vec<PathBuf>) -> Result<()> {
    let fail = |reason: String| Error::Pattern { pattern: pattern.to_owned(), reason };
    let mut shards = Vec::new();
    for address in braces(pattern).map_err(fail)? {
        let place = place(Path::new(&address))?;
        let (folder, name) = address.rsplit_once('/').unwrap_or_default();
        let has_wildcards = name.contains(WILDCARDS) && !is_http(&address);
        if !has_wildcards && !lists::is_list(name) && Format::named(Path::new(name)).is_some() {
            shards.push(vec![address]);
            continue;
        }
        // What is named before stands before.
        paths.extend(find(pattern, std::mem::take(&mut shards))?);
        if lists::is_list(name) {
            paths.extend(lists::listed(&place)?);
        } else if has_wildcards {
            let wanted = glob::Pattern::new(name).map_err(|error| fail(error.to_string()))?;
            let before = paths.len();
            paths.extend(list(&self::place(Path::new(folder))?, |name| wanted.matches(name))?);
            if paths.len() == before {
                return Err(fail(NO_MATCH.to_owned()));
            }
        } else {
            add_folder(pattern, &place, paths)?;
        }
    }
    paths.extend(find(pattern, shards)?);
    Ok(())
}

fn is_http(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

/// A file, the shards that it lists, or those of a folder.
fn add(pattern: &str, path: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match path.is_dir() {
        true => add_folder(pattern, &place(path)?, paths)?,
        false if lists::is_list(&name) => paths.extend(lists::listed(&place(path)?)?),
        false => paths.push(path.to_path_buf()),
    }
    Ok(())
}

fn add_folder(pattern: &str, folder: &Place, paths: &mut Vec<PathBuf>) -> Result<()> {
    let count = folder.join(COUNT);
    if count.stat().map_err(|source| Error::Io { path: count.address().to_path_buf(), source })?.is_some() {
        paths.extend(numbered(folder.address())?);
        return Ok(());
    }
    let found = list(folder, format::is_shard)?;
    if found.is_empty() {
        let reason =
            "there are no shards (.tar, .jsonl, .tfrecord; .gz or .zst after it) in the folder".to_owned();
        return Err(Error::Pattern { pattern: pattern.to_owned(), reason });
    }
    paths.extend(found);
    Ok(())
}

fn place(path: &Path) -> Result<Place> {
    Place::new(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// The files of a folder whose names are wanted.
fn list(folder: &Place, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let files = folder.list().map_err(|source| Error::Io { path: folder.address().to_path_buf(), source })?;
    let wanted = files.into_iter().filter(|(name, _)| is_wanted(name));
    Ok(wanted.map(|(name, _)| folder.join(&name).address().to_path_buf()).collect())
}

/// Of each list of addresses the first where there is a file.
///
/// # Errors
/// If one has none; its first address is told.
pub(crate) fn find(pattern: &str, wanted: Vec<Vec<String>>) -> Result<Vec<PathBuf>> {
    let places: Vec<Place> =
        wanted.iter().flatten().map(|address| place(Path::new(address))).collect::<Result<_>>()?;
    let stats = Place::stat_all(&places).map_err(|(i, source)| {
        let path = places.get(i).map_or_else(|| pattern.into(), |place| place.address().to_path_buf());
        Error::Io { path, source }
    })?;
    let mut stats = stats.into_iter();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for candidates in wanted {
        let is_there: Vec<bool> = stats.by_ref().take(candidates.len()).map(|stat| stat.is_some()).collect();
        match candidates.iter().zip(&is_there).find(|(_, is_there)| **is_there) {
            Some((address, _)) => found.push(PathBuf::from(address)),
            None => missing.extend(candidates.first().map(PathBuf::from)),
        }
    }
    let count = missing.len();
    match missing.into_iter().next() {
        Some(first) => Err(Error::NoShard { pattern: pattern.to_owned(), first, count }),
        None => Ok(found),
    }
}

/// The shards of one split of CLIP_benchmark's layout: `0.tar`, `1.tar`, …, as many as `nshards.txt` says (they may be compressed).
///
/// # Errors
/// If `nshards.txt` is not there or no number, or a shard is not there.
pub fn numbered(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = place(folder)?;
    let count = folder.join(COUNT);
    let path = count.address().to_path_buf();
    let io = |source| Error::Io { path: path.clone(), source };
    let (bytes, _) = count.read().map_err(io)?.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))?;
    let text = String::from_utf8_lossy(&bytes);
    let count = text.trim().parse().ok().filter(|count| (1..=PATHS_MAX).contains(count));
    let Some(count) = count else {
        let found = text.trim().chars().take(40).collect();
        return Err(Error::Content { path, expected: "the number of shards", found });
    };
    let address = |name: String| folder.join(&name).address().to_string_lossy().into_owned();
    let shard = |i: usize| ENDINGS.iter().map(|ending| address(format!("{i}{ending}"))).collect();
    find(&folder.address().to_string_lossy(), (0..count).map(shard).collect())
}

/// Brace lists, as bash and Python's `braceexpand` take them: braces without comma or range stand for themselves.
fn braces(pattern: &str) -> Result<Vec<String>, String> {
    expand_braces(pattern, 0)
}

fn expand_braces(pattern: &str, depth: usize) -> Result<Vec<String>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} braces within each other"));
    }
    let mut done = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let (before, braced) = rest.split_at(open);
        let Some(close) = closing(braced) else { return Err("a brace is not closed".to_owned()) };
        let inside = braced.get(1..close).unwrap_or_default();
        let mut choices = Vec::new();
        let parts = split_commas(inside);
        match (parts.as_slice(), range(inside)?) {
            (_, Some(range)) => choices = range,
            ([one], None) => {
                choices.extend(expand_braces(one, depth + 1)?.into_iter().map(|one| format!("{{{one}}}")));
            }
            (parts, None) => {
                for part in parts {
                    choices.extend(expand_braces(part, depth + 1)?);
                    check(choices.len())?;
                }
            }
        }
        check(done.len().saturating_mul(choices.len()))?;
        done = (done.iter())
            .flat_map(|start| choices.iter().map(move |choice| format!("{start}{before}{choice}")))
            .collect();
        rest = braced.get(close + 1..).unwrap_or_default();
    }
    done.iter_mut().for_each(|path| path.push_str(rest));
    Ok(done)
}

fn check(paths: usize) -> Result<(), String> {
    match paths > PATHS_MAX {
        true => Err(format!("stands for more than {PATHS_MAX} paths")),
        false => Ok(()),
    }
}

/// Where the brace that `text` begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(i),
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// The parts between commas outside inner braces.
fn split_commas(text: &str) -> Vec<&str> {
    let mut depth = 0i64;
    text.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

/// `1..3`, `07..10`, `8..0..2`: numbers with the width of the wider end, if one has leading zeros.
fn range(text: &str) -> Result<Option<Vec<String>>, String> {
    let parts: Vec<&str> = text.split("..").collect();
    let numbers: Option<Vec<i64>> = parts.iter().map(|part| part.parse().ok()).collect();
    let (Some(numbers), 2 | 3) = (numbers, parts.len()) else { return Ok(None) };
    let (from, to) = match numbers.as_slice() {
        [from, to, ..] => (*from, *to),
        _ => return Ok(None),
    };
    let step = numbers.get(2).map_or(1, |step| step.unsigned_abs()).max(1);
    let is_padded =
        |part: &&str| part.trim_start_matches('-').len() > 1 && part.trim_start_matches('-').starts_with('0');
    let ends = parts.get(..2).unwrap_or_default();
    let width =
        if ends.iter().any(is_padded) { ends.iter().map(|end| end.len()).max().unwrap_or(0) } else { 0 };
    let count = (from.abs_diff(to) / step).saturating_add(1);
    check(usize::try_from(count).unwrap_or(usize::MAX))?;
    let number = |i: u64| match from <= to {
        true => from.saturating_add_unsigned(i * step),
        false => from.saturating_sub_unsigned(i * step),
    };
    Ok(Some((0..count).map(|i| format!("{:0width$}", number(i))).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Expectations are bash's.
    #[test]
    fn braces_expand_as_in_bash() {
        let cases: [(&str, &[&str]); 12] = [
            ("a", &["a"]),
            ("a{b,c}d", &["abd", "acd"]),
            ("{a,b}{1,2}", &["a1", "a2", "b1", "b2"]),
            ("{a,b{1..3},c}", &["a", "b1", "b2", "b3", "c"]),
            ("{08..11}", &["08", "09", "10", "11"]),
            ("{3..1}", &["3", "2", "1"]),
            ("{0..8..4}", &["0", "4", "8"]),
            ("{-1..1}", &["-1", "0", "1"]),
            ("{a}", &["{a}"]),
            ("{a,}", &["a", ""]),
            ("x{{a,b},c}y", &["xay", "xby", "xcy"]),
            ("{000..2}", &["000", "001", "002"]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(braces(pattern).unwrap(), expected, "{pattern}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error() {
        assert!(braces("a{b").is_err());
        assert!(braces("{0..999999999}").is_err());
        assert!(braces("{0..9223372036854775807}").is_err());
        assert!(braces("{-9223372036854775808..9223372036854775807}").is_err());
        assert!(braces("{0..999}{0..999}{0..999}").is_err());
        assert!(braces(&format!("{{{}}}", "{0..999999},".repeat(1000))).is_err());
        assert!(braces(&"{a,".repeat(100)).is_err());
        assert!(braces(&format!("{}{}", "{a,".repeat(100), "}".repeat(100))).is_err());
    }

    #[test]
    fn folders_wildcards_and_lists_name_shards() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["1.tar.gz", "0.tar", "notes.txt", "2.tar.zst", "odd{1,2}.tar"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |pattern: String| -> Result<Vec<String>> {
            let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
            Ok(expand(&[pattern])?.into_iter().map(name).collect())
        };
        assert_eq!(names(root.to_owned()).unwrap(), ["0.tar", "1.tar.gz", "2.tar.zst", "odd{1,2}.tar"]);
        assert_eq!(names(format!("{root}/?.tar.*")).unwrap(), ["1.tar.gz", "2.tar.zst"]);
        assert_eq!(names(format!("{root}/{{2.tar.zst,0.tar}}")).unwrap(), ["2.tar.zst", "0.tar"]);
        assert_eq!(names(format!("{root}/odd{{1,2}}.tar")).unwrap(), ["odd{1,2}.tar"]);
        assert_eq!(names(format!("{root}/0.tar::{root}/1.tar.gz")).unwrap(), ["0.tar", "1.tar.gz"]);
        let error = names(format!("{root}/{{0..3}}.tar")).unwrap_err().to_string();
        assert!(
            error.contains("3 of the shards are not there, the first is") && error.ends_with("1.tar"),
            "{error}"
        );
        assert!(names(format!("{root}/*.tgz")).unwrap_err().to_string().contains("no file's name"));
    }

    #[test]
    fn nshards_counts_the_shards_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("0.tar"), "").unwrap();
        fs::write(folder.path().join("1.tar.gz"), "").unwrap();
        let count = |text: &str| {
            fs::write(folder.path().join("nshards.txt"), text).unwrap();
            numbered(folder.path()).map(|paths| paths.len()).map_err(|error| error.to_string())
        };
        assert_eq!(count("2\n"), Ok(2));
        assert_eq!(count("1"), Ok(1));
        assert!(count("3").unwrap_err().contains("there is no"));
        assert!(count("two").unwrap_err().contains("expected the number of shards, found \"two\""));
        assert!(count("0").is_err());
        assert_eq!(expand(&[folder.path().to_str().unwrap()]).err().map(|_| ()), Some(()));
    }
}
