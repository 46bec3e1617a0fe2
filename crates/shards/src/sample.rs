//! One sample: members by suffix, and readers for the usual ones.

use std::path::Path;
use std::sync::Arc;

use mobileclip_image::{DecodeOptions, RgbImage};
use serde_json::{Map, Value};

use crate::error::{Fault, Result};
use crate::npy;

/// Suffixes of pictures, in the order in which webdataset's users take the first that is there.
pub const PICTURES: [&str; 4] = ["webp", "png", "jpg", "jpeg"];

/// A member of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What stands after the first dot of its file name, in lower case: `jpg`, `syn.json`.
    pub suffix: String,
    /// Its contents.
    pub bytes: Vec<u8>,
}

/// A sample of a shard. Its readers' faults name the shard, the key and the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    shard: Arc<Path>,
    key: String,
    members: Vec<Member>,
}

impl Sample {
    /// A sample of these members; no suffix may stand twice.
    pub fn new(shard: Arc<Path>, key: String, members: Vec<Member>) -> Self {
        Self { shard, key, members }
    }

    /// The shard it comes from.
    pub fn shard(&self) -> &Path {
        &self.shard
    }

    /// What its members' names have in common: folder, slash, file name up to the first dot.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its members, in the order of the shard.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The contents of a member.
    pub fn get(&self, suffix: &str) -> Option<&[u8]> {
        self.members.iter().find(|member| member.suffix == suffix).map(|member| member.bytes.as_slice())
    }

    /// The contents of a member that must be there.
    ///
    /// # Errors
    /// [`Fault::Missing`].
    pub fn require(&self, suffix: &str) -> Result<&[u8], Fault> {
        self.get(suffix).ok_or_else(|| self.missing(suffix))
    }

    /// The picture's file: the first of `webp`, `png`, `jpg`, `jpeg` that is there.
    ///
    /// # Errors
    /// If there is none.
    pub fn picture(&self) -> Result<&Member, Fault> {
        let of = |suffix| self.members.iter().find(|member| member.suffix == suffix);
        PICTURES.iter().find_map(|&suffix| of(suffix)).ok_or_else(|| self.missing("jpg, png or webp"))
    }

    /// The picture's file, out of the sample.
    ///
    /// # Errors
    /// If there is none.
    pub fn into_picture(self) -> Result<Vec<u8>, Fault> {
        let suffix = self.picture()?.suffix.clone();
        let picture = self.members.into_iter().find(|member| member.suffix == suffix);
        Ok(picture.map(|member| member.bytes).unwrap_or_default())
    }

    /// The picture, decoded.
    ///
    /// # Errors
    /// If there is none, or it cannot be decoded.
    pub fn decode(&self, options: &DecodeOptions) -> Result<RgbImage, Fault> {
        let picture = self.picture()?;
        mobileclip_image::decode(&picture.bytes, options)
            .map_err(|error| self.bad(&picture.suffix, error.to_string()))
    }

    /// The contents of `txt`, as they are.
    ///
    /// # Errors
    /// If there is none, or it is not UTF-8.
    pub fn text(&self) -> Result<&str, Fault> {
        self.utf8("txt")
    }

    /// The lines of `txt`, as Python's `splitlines` has them: what retrieval sets keep their captions in.
    ///
    /// # Errors
    /// As [`Sample::text`].
    pub fn captions(&self) -> Result<Vec<&str>, Fault> {
        Ok(lines(self.text()?))
    }

    /// The number in `cls`.
    ///
    /// # Errors
    /// If there is none, or it is no number of a class.
    pub fn class(&self) -> Result<usize, Fault> {
        let text = self.utf8("cls")?.trim();
        text.parse().map_err(|_| {
            let start: String = text.chars().take(40).collect();
            self.bad("cls", format!("a class's number must stand there, found {start:?}"))
        })
    }

    /// All numbers of a member that is one of NumPy's array files.
    ///
    /// # Errors
    /// If there is none, or it is no array of numbers of at most two dimensions.
    pub fn numbers(&self, suffix: &str) -> Result<Vec<f32>, Fault> {
        let array = npy::read(self.require(suffix)?, npy::NUMBERS);
        Ok(array.map_err(|reason| self.bad(suffix, reason))?.values().to_vec())
    }

    /// The contents of a member that must be text.
    ///
    /// # Errors
    /// If there is none, or it is not UTF-8.
    pub fn utf8(&self, suffix: &str) -> Result<&str, Fault> {
        let bytes = self.require(suffix)?;
        std::str::from_utf8(bytes).map_err(|error| self.bad(suffix, format!("not UTF-8: {error}")))
    }

    /// The contents of a member that must be JSON.
    ///
    /// # Errors
    /// If there is none, or it is no JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self, suffix: &str) -> Result<T, Fault> {
        serde_json::from_slice(self.require(suffix)?).map_err(|error| self.bad(suffix, error.to_string()))
    }

    /// The texts in a field of the member `json`: a text, or a list of texts.
    ///
    /// # Errors
    /// If there is none, it is no JSON object, or the field is something else.
    pub fn json_texts(&self, field: &str) -> Result<Vec<String>, Fault> {
        let mut object: Map<String, Value> = self.json("json")?;
        let bad = |what: &str| self.bad("json", format!("`{field}` {what}"));
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(bad("has an entry that is no text")),
        };
        match object.remove(field) {
            Some(Value::String(text)) => Ok(vec![text]),
            Some(Value::Array(list)) if !list.is_empty() => list.into_iter().map(text).collect(),
            Some(_) => Err(bad("is neither a text nor a list of texts")),
            None => Err(bad("is not there")),
        }
    }

    /// What it is called wherever it stands: the text `uid` of the member `json`, or its key.
    ///
    /// # Errors
    /// If there is a `json` that is no JSON object.
    pub fn uid(&self) -> Result<String, Fault> {
        let Some(_) = self.get("json") else { return Ok(self.key.clone()) };
        let mut object: Map<String, Value> = self.json("json")?;
        match object.remove("uid") {
            Some(Value::String(uid)) => Ok(uid),
            _ => Ok(self.key.clone()),
        }
    }

    /// The sample with other members in place of its own of the same suffixes.
    #[must_use]
    pub fn with(mut self, members: Vec<Member>) -> Self {
        self.members.retain(|own| members.iter().all(|new| new.suffix != own.suffix));
        self.members.extend(members);
        self
    }

    /// The sample without the members of these suffixes.
    #[must_use]
    pub fn without(mut self, suffixes: &[&str]) -> Self {
        self.members.retain(|member| !suffixes.contains(&member.suffix.as_str()));
        self
    }

    /// A fault of one of its members.
    pub fn bad(&self, member: &str, reason: impl Into<String>) -> Fault {
        Fault::Member {
            shard: self.shard.to_path_buf(),
            key: self.key.clone(),
            member: member.to_owned(),
            reason: reason.into(),
        }
    }

    /// The fault that a member is missing.
    pub fn missing(&self, member: &str) -> Fault {
        Fault::Missing { shard: self.shard.to_path_buf(), key: self.key.clone(), member: member.to_owned() }
    }
}

/// Python's `str.splitlines`.
fn lines(text: &str) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some((line, after)) = rest.find(is_end).map(|at| rest.split_at(at)) {
        lines.push(line);
        let after_pair = after.strip_prefix("\r\n");
        rest = after_pair.unwrap_or_else(|| after.strip_prefix(is_end).unwrap_or_default());
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(members: &[(&str, &[u8])]) -> Sample {
        let members =
            members.iter().map(|&(suffix, bytes)| Member { suffix: suffix.into(), bytes: bytes.into() });
        Sample::new(Path::new("7.tar").into(), "a/b".into(), members.collect())
    }

    #[test]
    fn lines_are_those_of_splitlines() {
        assert_eq!(lines("a\nb\r\nc\rd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n"), ["a"]);
        assert_eq!(lines("a\n\nb\n\n"), ["a", "", "b", ""]);
        assert_eq!(lines("a\u{2028}b\u{85}c\u{1c}d"), ["a", "b", "c", "d"]);
        assert_eq!(lines(""), [""; 0]);
    }

    #[test]
    fn classes_are_numbers() {
        assert_eq!(sample(&[("cls", b" 17\n")]).class(), Ok(17));
        let fault = sample(&[("cls", b"cat")]).class().unwrap_err();
        assert_eq!(
            fault.to_string(),
            "7.tar: sample `a/b`: `cls`: a class's number must stand there, found \"cat\""
        );
        assert_eq!(sample(&[("txt", b"")]).class().unwrap_err().cause(), "no cls");
    }

    #[test]
    fn the_first_kind_of_picture_counts() {
        let both = sample(&[("jpg", b"j"), ("png", b"p")]);
        assert_eq!(both.picture().unwrap().suffix, "png");
        assert_eq!(both.clone().into_picture().unwrap(), b"p");
        let broken = both.decode(&DecodeOptions::default()).unwrap_err();
        assert_eq!(broken.cause(), "bad png");
        let none = sample(&[("txt", b"")]).picture().unwrap_err();
        assert_eq!(none.to_string(), "7.tar: sample `a/b`: has no `jpg, png or webp`");
    }

    #[test]
    fn text_must_be_utf8_and_json_json() {
        let sample = sample(&[("txt", b"\xff"), ("json", b"{\"label\": 3}"), ("syn.json", b"{")]);
        assert_eq!(sample.text().unwrap_err().cause(), "bad txt");
        assert_eq!(sample.json::<serde_json::Value>("json").unwrap()["label"], 3);
        assert_eq!(sample.json::<serde_json::Value>("syn.json").unwrap_err().cause(), "bad syn.json");
    }
}
