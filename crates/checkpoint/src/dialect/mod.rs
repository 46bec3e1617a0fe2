//! Dialects: from a file's names to the canonical ones, open_clip's over timm's.
//!
//! A dialect is a table of rules in [`tables`]; nothing above this module knows that there are others than the canonical one.

mod rules;
mod tables;

use std::collections::HashMap;

use mobileclip_arch::Dialect;

use crate::error::{Error, Result};
use crate::file::TensorFile;
use rules::Renamer;

/// How a stored tensor becomes the canonical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Same shape, same order.
    Same,
    /// Same order, other dimensions of one.
    Reshape,
    /// A matrix stored the other way round.
    Transpose,
}

/// Where a canonical tensor stands in the file.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The name in the file.
    pub name: String,
    pub how: How,
}

/// A file's tensors by canonical name. Names that no rule knows keep their own and count as extra later.
#[derive(Debug)]
pub(crate) struct Canonical {
    pub dialect: Dialect,
    pub tensors: HashMap<String, Source>,
}

impl Canonical {
    pub(crate) fn of(file: &TensorFile) -> Result<Canonical> {
        let dialect = detect(file.names());
        let renamer = match dialect {
            Dialect::Mobileclip => Renamer::new(tables::MOBILECLIP, tables::MOBILECLIP_PARTS, file.names()),
            Dialect::OpenClip
                if file
                    .names()
                    .any(|name| tables::HAVE_TEXT_APART.iter().any(|part| name.starts_with(part))) =>
            {
                Renamer::new(tables::TEXT_APART, &[], file.names())
            }
            Dialect::OpenClip => Renamer::new(tables::TEXT_AT_THE_TOP, &[], file.names()),
        };
        let mut tensors: HashMap<String, Source> = HashMap::with_capacity(file.len());
        for name in file.names().filter(|name| !tables::IGNORED.contains(name)) {
            let (canonical, how) = renamer.rename(name);
            if let Some(other) = tensors.insert(canonical, Source { name: name.to_string(), how }) {
                return Err(Error::Tensor {
                    path: file.path().to_path_buf(),
                    key: name.to_string(),
                    reason: format!("is the same tensor as `{}`, under another name", other.name),
                });
            }
        }
        Ok(Canonical { dialect, tensors })
    }
}

fn detect<'a>(mut names: impl Iterator<Item = &'a str>) -> Dialect {
    match names.any(|name| name.starts_with("image_encoder.") || name.starts_with("text_encoder.")) {
        true => Dialect::Mobileclip,
        false => Dialect::OpenClip,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mobileclip_arch::{Form, Manifest, Variant};
    use mobileclip_testing::golden::{self, array, count};
    use mobileclip_testing::toys::toy;

    use super::*;

    fn renamer<'n>(names: impl Iterator<Item = &'n str>) -> Renamer {
        Renamer::new(tables::MOBILECLIP, tables::MOBILECLIP_PARTS, names)
    }

    /// The names of the first package become exactly those of the variant, in both forms, with fitting shapes.
    #[test]
    fn the_first_packages_keys_are_the_variants() {
        let toys = ["nano_v1_mct", "toy_v1_mct", "toy_v1_base_causal", "toy_v1_b"];
        let toys = toys.map(|name| (format!("toy/{name}"), toy(name)));
        let published = [("mobileclip_s0", "MobileCLIP-S0"), ("mobileclip_s1", "mobileclip_s1")];
        let published = published
            .into_iter()
            .chain([("mobileclip_s2", "mobileclip_s2"), ("mobileclip_b", "mobileclip_b")]);
        let published = published
            .map(|(golden, name)| (golden.to_string(), mobileclip_arch::variant(name).unwrap().clone()));
        for (golden, variant) in published.chain(toys) {
            let keys = golden::json(&format!("models/{golden}.keys.json"));
            check_keys(&golden, &variant, Form::Train, array(&keys["train"]));
            if keys["reparameterised"].is_array() {
                check_keys(&golden, &variant, Form::Deploy, array(&keys["reparameterised"]));
            }
        }
    }

    fn check_keys(golden: &str, variant: &Variant, form: Form, keys: &[serde_json::Value]) {
        let names = || keys.iter().map(|row| row[0].as_str().unwrap());
        assert_eq!(detect(names()), Dialect::Mobileclip);
        let renamer = renamer(names());
        let elements = |shape: &[usize]| shape.iter().filter(|&&d| d != 1).copied().collect::<Vec<_>>();
        let got: BTreeMap<String, Vec<usize>> = keys
            .iter()
            .map(|row| {
                let (name, how) = renamer.rename(row[0].as_str().unwrap());
                let mut shape = elements(&array(&row[1]).iter().map(count).collect::<Vec<_>>());
                if how == How::Transpose {
                    shape.reverse();
                }
                (name, shape)
            })
            .collect();
        let manifest = Manifest::of(variant);
        let want: BTreeMap<String, Vec<usize>> =
            manifest.of_form(form).map(|spec| (spec.name.clone(), elements(&spec.shape))).collect();
        assert_eq!(got, want, "{golden} {form:?}");
    }

    /// Every line of open_clip's own conversion, where it has one.
    #[test]
    fn renaming_agrees_with_open_clips_conversion() {
        for model in ["mobileclip_s0", "mobileclip_s1", "mobileclip_s2", "mobileclip_b"] {
            let rows = golden::json(&format!("models/{model}.to_open_clip.json"));
            let rows = array(&rows["keys"]);
            let renamer = renamer(rows.iter().filter_map(|row| row[0].as_str()));
            let mut checked = 0;
            for row in rows {
                let (Some(from), Some(to)) = (row[0].as_str(), row[1].as_str()) else { continue };
                let how = match row[2].as_str().unwrap() {
                    "same" => How::Same,
                    "reshape" => How::Reshape,
                    "transpose" => How::Transpose,
                    other => panic!("{model}: {from}: {other}"),
                };
                assert_eq!(renamer.rename(from), (to.to_string(), how), "{model}: {from}");
                checked += 1;
            }
            assert!(checked > 300, "{model}: only {checked} rows");
        }
    }
}
