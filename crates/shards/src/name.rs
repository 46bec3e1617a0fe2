//! A member's name to the sample it belongs to.

/// Splits a member's name into the sample's key and the suffix (lower case), by webdataset's rule: the key ends before the first dot
/// after the last slash. `None` for what belongs to no sample: names without a dot, and webdataset's own notes (`__name__`).
///
/// The rule is its regular expression `^((?:.*/|)[^.]+)[.]([^/]*)$`, with the one odd consequence that a hidden file's key is its
/// folder with the slash, if that folder's name has no dot.
pub(crate) fn split(name: &str) -> Option<(&str, String)> {
    if is_note(name) {
        return None;
    }
    let (folder, file) = name.split_at(name.rfind('/').map_or(0, |slash| slash + 1));
    let dot = file.find('.')?;
    let last_folder = folder.strip_suffix('/').unwrap_or_default().rsplit('/').next().unwrap_or_default();
    if dot == 0 && (folder.is_empty() || last_folder.contains('.')) {
        return None;
    }
    let (key, suffix) = name.split_at(folder.len() + dot);
    Some((key, suffix.get(1..)?.to_lowercase()))
}

/// `__key__` and the like, which webdataset passes over: `^__[^/]*__($|/)`.
fn is_note(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    first.len() >= 4 && first.starts_with("__") && first.ends_with("__")
}

#[cfg(test)]
mod tests {
    use super::split;

    /// Expectations are what Python's `re` gives for the expression above.
    #[test]
    fn names_split_as_webdataset_splits_them() {
        let cases = [
            ("a.jpg", Some(("a", "jpg"))),
            ("a.seg.PNG", Some(("a", "seg.png"))),
            ("./top.jpg", Some(("./top", "jpg"))),
            ("sub.dir/one.url.txt", Some(("sub.dir/one", "url.txt"))),
            ("a/b/c.txt", Some(("a/b/c", "txt"))),
            ("/abs.txt", Some(("/abs", "txt"))),
            ("a.", Some(("a", ""))),
            ("dir/.hidden", Some(("dir/", "hidden"))),
            ("x//.hidden", Some(("x//", "hidden"))),
            ("a.b//.hidden", Some(("a.b//", "hidden"))),
            ("/.c", Some(("/", "c"))),
            ("./.c", None),
            ("a.b/.hidden", None),
            (".hidden", None),
            ("readme", None),
            ("a.b/readme", None),
            ("", None),
            ("__key__/x.txt", None),
            ("____", None),
            ("___", None),
            ("__a__b.txt", Some(("__a__b", "txt"))),
            ("a/__b__/c.txt", Some(("a/__b__/c", "txt"))),
        ];
        for (name, expected) in cases {
            let expected = expected.map(|(key, suffix): (&str, &str)| (key, suffix.to_owned()));
            assert_eq!(split(name), expected, "{name}");
        }
    }
}
