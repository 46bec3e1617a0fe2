//! The true captions of a sample.

use std::path::Path;

use mobileclip_autodiff::Random;
use mobileclip_shards::{Fault, Sample};
use serde_json::{Map, Value};

use crate::config::DataConfig;
use crate::error::{Error, Result};

/// Where captions stand, and the sentences that are made of names.
#[derive(Clone, Debug)]
pub(super) struct Captions {
    places: Vec<Place>,
    /// One for each name is drawn; none takes a name as it is.
    templates: Vec<String>,
}

#[derive(Clone, Debug)]
enum Place {
    /// The member `txt` is one.
    Text,
    /// A field of the member `json`: a text, or a list of texts. They are names if there are templates.
    Json(String),
    /// The name of the class whose number stands in `cls`, or in `label` of `json`.
    Class(Vec<String>),
}

impl Captions {
    pub(super) fn new(config: &DataConfig) -> Result<Captions> {
        let place = |name: &str| match (name.strip_prefix("json:"), &config.classnames) {
            (Some(field), _) => Ok(Place::Json(field.to_owned())),
            (None, Some(names)) if name == "class" => Ok(Place::Class(lines(names)?)),
            _ => Ok(Place::Text),
        };
        let places = config.captions.split(',').map(place).collect::<Result<_>>()?;
        let takes_names = config.templates.is_some() || config.classnames.is_some();
        let templates = if takes_names { templates(config)? } else { Vec::new() };
        Ok(Captions { places, templates })
    }

    /// Whether a member is read.
    pub(super) fn wants(&self, suffix: &str) -> bool {
        self.places.iter().any(|place| match place {
            Place::Text => suffix == "txt",
            Place::Json(_) => suffix == "json",
            Place::Class(_) => suffix == "cls" || suffix == "json",
        })
    }

    /// A sample's captions; there is at least one. Of several places those count that the sample has.
    pub(super) fn of(&self, sample: &Sample, random: Random) -> Result<Vec<String>, Fault> {
        let (mut captions, mut first_fault) = (Vec::new(), None);
        for place in &self.places {
            match self.at(place, sample, random) {
                Ok(found) => captions.extend(found),
                Err(fault) => {
                    first_fault.get_or_insert(fault);
                }
            }
        }
        match (captions.iter().all(|caption| caption.trim().is_empty()), first_fault) {
            (true, Some(fault)) => Err(fault),
            (true, None) => Err(sample.bad("caption", "is empty")),
            (false, _) => Ok(captions),
        }
    }

    fn at(&self, place: &Place, sample: &Sample, random: Random) -> Result<Vec<String>, Fault> {
        let sentence = |name: &str| sentence(&self.templates, name, random.with_name("template"));
        match place {
            Place::Text => Ok(vec![sample.text()?.to_owned()]),
            Place::Json(field) => Ok(sample.json_texts(field)?.iter().map(|name| sentence(name)).collect()),
            Place::Class(names) => {
                let (member, class) = match sample.get("cls") {
                    Some(_) => ("cls", sample.class()?),
                    None => {
                        let object: Map<String, Value> = sample.json("json")?;
                        let label = object.get("label").and_then(Value::as_u64);
                        let label = label.and_then(|label| usize::try_from(label).ok());
                        ("json", label.ok_or_else(|| sample.bad("json", "`label` is no class's number"))?)
                    }
                };
                let name = names.get(class).ok_or_else(|| {
                    sample.bad(member, format!("class {class}, but there are {} names", names.len()))
                })?;
                Ok(vec![sentence(name)])
            }
        }
    }
}

/// The sentences around names, `a photo of a {}` if none are given.
pub(super) fn templates(config: &DataConfig) -> Result<Vec<String>> {
    let Some(path) = &config.templates else { return Ok(vec!["a photo of a {}".to_owned()]) };
    let templates = lines(path)?;
    match templates.iter().find(|t| !t.contains("{}") && !t.contains("{c}")) {
        Some(without) => Err(Error::field("data.templates", format!("`{without}` has no {{}} or {{c}}"))),
        None => Ok(templates),
    }
}

/// One of the sentences, about this name; without sentences the name itself.
pub(super) fn sentence(templates: &[String], name: &str, random: Random) -> String {
    match templates.get(pick(random, templates.len())) {
        Some(template) => template.replace("{c}", name).replace("{}", name),
        None => name.to_owned(),
    }
}

/// One of so many, at random.
pub(super) fn pick(random: Random, count: usize) -> usize {
    ((random.unit() * count as f64) as usize).min(count.saturating_sub(1))
}

/// The lines of a file that are not empty.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    match lines.is_empty() {
        true => Err(Error::io(path)(std::io::Error::other("has no lines"))),
        false => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobileclip_shards::Member;

    fn sample(members: &[(&str, &str)]) -> Sample {
        let member = |&(suffix, text): &(&str, &str)| Member { suffix: suffix.into(), bytes: text.into() };
        Sample::new(Path::new("0.tar").into(), "k".into(), members.iter().map(member).collect())
    }

    fn of(captions: &Captions, members: &[(&str, &str)]) -> Result<Vec<String>, String> {
        captions.of(&sample(members), Random::new(0)).map_err(|fault| fault.to_string())
    }

    fn from(places: Vec<Place>, templates: &[&str]) -> Captions {
        Captions { places, templates: templates.iter().map(|t| (*t).to_owned()).collect() }
    }

    #[test]
    fn captions_are_found_in_their_place() {
        let text = from(vec![Place::Text], &[]);
        assert_eq!(of(&text, &[("txt", "a cat")]).unwrap(), ["a cat"]);
        assert!(of(&text, &[("txt", " \n")]).unwrap_err().contains("is empty"));
        assert!(of(&text, &[("jpg", "")]).unwrap_err().contains("has no `txt`"));
        let json = from(vec![Place::Json("captions".into())], &[]);
        assert_eq!(of(&json, &[("json", r#"{"captions": ["a", "b"]}"#)]).unwrap(), ["a", "b"]);
        assert!(of(&json, &[("json", r#"{"captions": []}"#)]).unwrap_err().contains("neither"));
        assert!(of(&json, &[("json", "{}")]).unwrap_err().contains("`captions` is not there"));
        let class = from(vec![Place::Class(vec!["cat".into(), "dog".into()])], &["a {c}."]);
        assert_eq!(of(&class, &[("cls", "1")]).unwrap(), ["a dog."]);
        assert_eq!(of(&class, &[("json", r#"{"label": 0}"#)]).unwrap(), ["a cat."]);
        assert!(of(&class, &[("cls", "2")]).unwrap_err().contains("there are 2 names"));
    }

    #[test]
    fn several_places_give_what_a_sample_has() {
        let both = from(vec![Place::Text, Place::Json("class".into())], &["a photo of a {}."]);
        let members = [("txt", "my cat"), ("json", r#"{"class": "cat"}"#)];
        assert_eq!(of(&both, &members).unwrap(), ["my cat", "a photo of a cat."]);
        assert_eq!(of(&both, &[("txt", "my cat"), ("json", "{}")]).unwrap(), ["my cat"]);
        assert_eq!(of(&both, &members[1..]).unwrap(), ["a photo of a cat."]);
        assert!(of(&both, &[("json", "{}")]).unwrap_err().contains("has no `txt`"));
    }
}
