//! Names that become paths and addresses, checked before either is built.

use crate::error::Error;
use crate::url::quote;

/// The revision that is meant when none is given.
pub(crate) const DEFAULT_REVISION: &str = "main";

/// A model repository at a revision; both are valid by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    id: String,
    revision: String,
}

impl Repo {
    /// `id` is `owner/name` (or `name`), `revision` a branch, tag or commit.
    ///
    /// # Errors
    /// [`Error::BadName`] if the hub would not accept it, or if it could lead out of the cache.
    pub fn new(id: &str, revision: &str) -> Result<Self, Error> {
        check_id(id).map_err(|reason| bad("repository", id, reason))?;
        check_path(revision).map_err(|reason| bad("revision", revision, reason))?;
        Ok(Self { id: id.into(), revision: revision.into() })
    }

    /// `owner/name`, the revision `main`.
    ///
    /// # Errors
    /// As [`Repo::new`].
    pub fn main(id: &str) -> Result<Self, Error> {
        Self::new(id, DEFAULT_REVISION)
    }

    /// `owner/name`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same repository at another revision that is known to be valid (a commit).
    pub(crate) fn at(&self, commit: &str) -> Self {
        Self { id: self.id.clone(), revision: commit.into() }
    }

    /// The repository's folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.id.replace('/', "--"))
    }

    /// Where people read about it.
    pub(crate) fn page(&self, endpoint: &str) -> String {
        format!("{endpoint}/{}", self.id)
    }

    pub(crate) fn file_url(&self, endpoint: &str, file: &str) -> String {
        format!("{endpoint}/{}/resolve/{}/{}", self.id, quote(&self.revision, ""), quote(file, "/"))
    }

    pub(crate) fn list_url(&self, endpoint: &str) -> String {
        format!("{endpoint}/api/models/{}/revision/{}", self.id, quote(&self.revision, ""))
    }
}

fn bad(what: &'static str, value: &str, reason: &'static str) -> Error {
    Error::BadName { what, value: value.into(), reason }
}

/// Checks a file's path inside a repository.
pub(crate) fn check_file(file: &str) -> Result<(), Error> {
    check_path(file).map_err(|reason| bad("file", file, reason))
}

/// Whether this is a commit's name: 40 hexadecimal digits.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_id(id: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = id.split('/').collect();
    if parts.len() > 2 {
        return Err("it has more than one `/`");
    }
    if id.contains("--") || id.contains("..") || id.ends_with(".git") {
        return Err("`--`, `..` and a final `.git` are not allowed");
    }
    for part in parts {
        if part.is_empty() || part.len() > 96 {
            return Err("each part has 1 to 96 characters");
        }
        if part == "." || !part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
            return Err("only letters, digits, `_`, `.` and `-` are allowed");
        }
    }
    Ok(())
}

/// A relative path of plain parts, on every system: no way up, no drive, no device, no backslash.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > 1024 {
        return Err("it is longer than 1024 bytes");
    }
    if path.chars().any(|c| c.is_control() || c == '\\' || c == ':') {
        return Err("control characters, `\\` and `:` are not allowed");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("it is not a relative path of plain parts");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let repo = Repo::new("timm/MobileCLIP2-S0-OpenCLIP", "refs/pr/1").unwrap();
        assert_eq!(repo.folder(), "models--timm--MobileCLIP2-S0-OpenCLIP");
        let url = "http://h/timm/MobileCLIP2-S0-OpenCLIP/resolve/refs%2Fpr%2F1/sub/a%20b.bin";
        assert_eq!(repo.file_url("http://h", "sub/a b.bin"), url);
        assert_eq!(Repo::main("gpt2").unwrap().folder(), "models--gpt2");
        let long = format!("a/{}", "b".repeat(97));
        for bad in
            ["", "/", "a/", "/a", "a/b/c", "a--b/c", "a/..", "../a", "a/b.git", "a/b c", "a/ä", "./a", &long]
        {
            assert!(Repo::main(bad).is_err(), "{bad}");
        }
        for bad in ["", "../x", "/main", "a//b", "a\\b", "x:y", "a\nb"] {
            assert!(Repo::new("a/b", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files() {
        assert!(check_file("sub/open_clip_model.safetensors").is_ok());
        for bad in ["", "..", "../a", "a/../b", "/etc/passwd", "a/", "C:/x", "\\\\host\\x", "a\0b", "./a"] {
            assert!(check_file(bad).is_err(), "{bad}");
        }
        assert!(check_file(&"a/".repeat(600)).is_err());
    }
}
