//! The classes of a set with labels, and a prompt for each.

use std::collections::HashMap;

use mobileclip_autodiff::Random;

use super::captions::{lines, sentence, templates};
use crate::config::DataConfig;
use crate::error::{Error, Result};

/// Names of classes, and the sentences that are made of them.
pub(super) struct Classes {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
    templates: Vec<String>,
}

impl Classes {
    /// What `data.names` lists.
    pub(super) fn new(config: &DataConfig) -> Result<Option<Classes>> {
        let Some(path) = &config.names else { return Ok(None) };
        let names = lines(path)?;
        let numbers: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
        if let Some((_, twice)) = names.iter().enumerate().find(|(number, name)| numbers[*name] != *number) {
            return Err(Error::field("data.names", format!("`{twice}` stands there twice")));
        }
        Ok(Some(Classes { names, numbers, templates: templates(config)? }))
    }

    /// The place of a class among all.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// A sentence about each, drawn.
    pub(super) fn prompts(&self, random: Random) -> impl Iterator<Item = String> {
        let of = move |(number, name): (usize, &String)| {
            sentence(&self.templates, name, random.with(number as u64))
        };
        self.names.iter().enumerate().map(of)
    }
}
