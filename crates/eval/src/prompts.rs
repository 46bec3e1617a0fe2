//! The sentences that stand for a class.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// What a class's name is put into when a set has no templates.
pub const DEFAULT_TEMPLATE: &str = "a photo of a {c}.";

/// Sentences about classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// Templates; `{c}` (or `{}`) stands for the class's name.
    Templates(Vec<String>),
    /// Whole sentences for each class's name, any number of them.
    Table(BTreeMap<String, Vec<String>>),
}

impl Prompts {
    /// One template a line; or, from a `.json` file, a list of templates or an object of lists of sentences by class.
    ///
    /// # Errors
    /// If the file cannot be read, is empty, or a line has no place for the name.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let bad = |expected: &str, found: &str| Error::Content {
            path: path.to_path_buf(),
            expected: expected.to_owned(),
            found: found.chars().take(60).collect(),
        };
        if path.extension().is_some_and(|extension| extension == "json") {
            let expected = "a list of templates or an object of lists of sentences";
            if let Ok(table) = serde_json::from_str::<BTreeMap<String, Vec<String>>>(&text) {
                return Ok(Self::Table(table));
            }
            let templates: Vec<String> = serde_json::from_str(&text).map_err(|_| bad(expected, &text))?;
            return Self::templates(templates).map_err(|template| bad("{c} in each template", &template));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Self::templates(lines).map_err(|template| bad("a template with {c} in each line", &template))
    }

    /// Templates, of which each must have a place for the name.
    ///
    /// # Errors
    /// The first that has none; empty if there is no template at all.
    pub fn templates(templates: Vec<String>) -> std::result::Result<Self, String> {
        let has_place = |template: &&String| template.contains("{c}") || template.contains("{}");
        match templates.iter().find(|template| !has_place(template)) {
            Some(template) => Err(template.clone()),
            None if templates.is_empty() => Err(String::new()),
            None => Ok(Self::Templates(templates)),
        }
    }

    /// The sentences of a class.
    ///
    /// # Errors
    /// If the table has none for it.
    pub(crate) fn of(&self, class: &str) -> std::result::Result<Vec<String>, String> {
        match self {
            Self::Templates(templates) => Ok(templates
                .iter()
                .map(|template| template.replace("{c}", class).replace("{}", class))
                .collect()),
            Self::Table(table) => match table.get(class) {
                Some(sentences) if !sentences.is_empty() => Ok(sentences.clone()),
                _ => Err(format!("the prompts have no sentence for class `{class}`")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_and_tables() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Prompts::read(&path).map_err(|error| error.to_string())
        };
        let lines = read("a.txt", "a {c}.\n\n  the {}!  \n").unwrap();
        assert_eq!(lines.of("cat").unwrap(), ["a cat.", "the cat!"]);
        assert_eq!(read("a.json", r#"["a {c}.", "the {}!"]"#).unwrap(), lines);
        let table = read("b.json", r#"{"cat": ["it purrs", "a cat"], "dog": []}"#).unwrap();
        assert_eq!(table.of("cat").unwrap(), ["it purrs", "a cat"]);
        assert!(table.of("dog").is_err() && table.of("cow").is_err());
        assert!(read("c.txt", "a photo\n").unwrap_err().contains("found \"a photo\""));
        assert!(read("d.txt", "").is_err() && read("e.json", "{").is_err() && read("f.json", "[]").is_err());
    }
}
