//! The true captions of a sample.

use std::path::Path;

use mobileclip_autodiff::Random;
use mobileclip_shards::{Fault, Sample};
use serde_json::{Map, Value};

use crate::config::DataConfig;
use crate::error::{Error, Result};

/// Where captions stand.
#[derive(Clone, Debug)]
pub(super) enum Captions {
    /// The member `txt` is one.
    Text,
    /// A field of the member `json`: a text, or a list of texts.
    Json(String),
    /// A sentence about the class whose number stands in `cls`, or in `label` of `json`.
    Class { names: Vec<String>, templates: Vec<String> },
}

impl Captions {
    pub(super) fn new(config: &DataConfig) -> Result<Captions> {
        if let Some(field) = config.captions.strip_prefix("json:") {
            return Ok(Captions::Json(field.to_owned()));
        }
        let Some(names) = &config.classnames else { return Ok(Captions::Text) };
        let templates = match &config.templates {
            Some(path) => lines(path)?,
            None => vec!["a photo of a {}".to_owned()],
        };
        if let Some(without) = templates.iter().find(|t| !t.contains("{}") && !t.contains("{c}")) {
            return Err(Error::field("data.templates", format!("`{without}` has no {{}} or {{c}}")));
        }
        Ok(Captions::Class { names: lines(names)?, templates })
    }

    /// Whether a member is read.
    pub(super) fn wants(&self, suffix: &str) -> bool {
        match self {
            Captions::Text => suffix == "txt",
            Captions::Json(_) => suffix == "json",
            Captions::Class { .. } => suffix == "cls" || suffix == "json",
        }
    }

    /// A sample's captions; there is at least one.
    pub(super) fn of(&self, sample: &Sample, random: Random) -> Result<Vec<String>, Fault> {
        let captions = match self {
            Captions::Text => vec![sample.text()?.to_owned()],
            Captions::Json(field) => sample.json_texts(field)?,
            Captions::Class { names, templates } => {
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
                let template = &templates[pick(random.with_name("template"), templates.len())];
                vec![template.replace("{c}", name).replace("{}", name)]
            }
        };
        match captions.iter().all(|caption| caption.trim().is_empty()) {
            true => Err(sample.bad("caption", "is empty")),
            false => Ok(captions),
        }
    }
}

/// One of so many, at random.
pub(super) fn pick(random: Random, count: usize) -> usize {
    ((random.unit() * count as f64) as usize).min(count.saturating_sub(1))
}

/// The lines of a file that are not empty.
fn lines(path: &Path) -> Result<Vec<String>> {
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

    #[test]
    fn captions_are_found_in_their_place() {
        assert_eq!(of(&Captions::Text, &[("txt", "a cat")]).unwrap(), ["a cat"]);
        assert!(of(&Captions::Text, &[("txt", " \n")]).unwrap_err().contains("is empty"));
        assert!(of(&Captions::Text, &[("jpg", "")]).unwrap_err().contains("has no `txt`"));
        let json = Captions::Json("captions".into());
        assert_eq!(of(&json, &[("json", r#"{"captions": ["a", "b"]}"#)]).unwrap(), ["a", "b"]);
        assert!(of(&json, &[("json", r#"{"captions": []}"#)]).unwrap_err().contains("neither"));
        assert!(of(&json, &[("json", "{}")]).unwrap_err().contains("`captions` is not there"));
        let class =
            Captions::Class { names: vec!["cat".into(), "dog".into()], templates: vec!["a {c}.".into()] };
        assert_eq!(of(&class, &[("cls", "1")]).unwrap(), ["a dog."]);
        assert_eq!(of(&class, &[("json", r#"{"label": 0}"#)]).unwrap(), ["a cat."]);
        assert!(of(&class, &[("cls", "2")]).unwrap_err().contains("there are 2 names"));
    }
}
