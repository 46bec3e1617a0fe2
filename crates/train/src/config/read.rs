//! A recipe's text, and what is set from outside, to a configuration.

use std::path::Path;

use super::{Config, Field};
use crate::error::{Error, Result};

impl Config {
    /// Reads a recipe and sets fields: `(section, name, value)`, a value being TOML, a bare word, or for lists several of
    /// either with commas between.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Recipe`] with the line or field if something is unknown or of another type;
    /// [`Error::Field`] as [`Config::check`].
    pub fn read(recipe: Option<&Path>, set: &[(&str, &str, &str)]) -> Result<Config> {
        let path = recipe.unwrap_or(Path::new("command line"));
        let refuse = |reason: String| Error::Recipe { path: path.to_path_buf(), reason };
        let text = recipe.map(|path| std::fs::read_to_string(path).map_err(Error::io(path))).transpose()?;
        let text = text.unwrap_or_default();
        // First by itself, so that an error has the line of the file.
        toml::from_str::<Config>(&text).map_err(|error| refuse(error.to_string().trim().to_owned()))?;
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        for &(section, name, value) in set {
            let field = Self::FIELDS.iter().find(|f| f.section == section && f.name == name);
            let field = field.ok_or_else(|| refuse(format!("there is no field {section}.{name}")))?;
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            let section =
                section.as_table_mut().ok_or_else(|| refuse(format!("{} is no table", field.section)))?;
            section.insert(name.to_owned(), parse(field, value));
            let one: Result<Config, _> = table.clone().try_into();
            one.map_err(|e| refuse(format!("{}.{name} = {value}: {}", field.section, e.message())))?;
        }
        let config: Config = table.try_into().map_err(|e: toml::de::Error| refuse(e.to_string()))?;
        config.check()?;
        Ok(config)
    }
}

/// A value from outside: TOML, or a bare word.
fn parse(field: &Field, text: &str) -> toml::Value {
    let scalar = |text: &str| -> toml::Value {
        let table: Option<toml::Table> = format!("v = {text}").parse().ok();
        table.and_then(|mut t| t.remove("v")).unwrap_or_else(|| text.to_owned().into())
    };
    let value = scalar(text);
    match field.is_list && !value.is_array() {
        // Commas within braces belong to a brace list.
        true => split(text).into_iter().map(scalar).collect::<Vec<_>>().into(),
        false => value,
    }
}

/// Parts between commas that stand outside of braces.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}
