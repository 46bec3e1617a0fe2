//! What people write for a model, and which repository they mean.

use crate::error::Error;
use crate::known::{ALIASES, KnownModel, NOT_LOADABLE, known_models};
use crate::paths::{DEFAULT_REVISION, Repo};

/// The prefix that names a repository instead of a model, as in open_clip.
const HUB_PREFIX: &str = "hf-hub:";

/// A name that was understood: `NAME`, `NAME:TAG` or `hf-hub:owner/name[@revision]`, upper or lower case in names and
/// tags alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    repo: Repo,
    known: Option<&'static KnownModel>,
}

impl Target {
    /// Looks the name up. Nothing is read or asked.
    ///
    /// ```
    /// # use mobileclip_hub::Target;
    /// # fn main() -> Result<(), mobileclip_hub::Error> {
    /// assert_eq!(Target::parse("mobileclip-b-lt")?.repo().id(), "apple/MobileCLIP-B-LT-OpenCLIP");
    /// assert_eq!(Target::parse("ViT-L-14:openai")?.repo().id(), "timm/vit_large_patch14_clip_224.openai");
    /// assert_eq!(Target::parse("hf-hub:you/yours@v2")?.repo().revision(), "v2");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownModel`] with what may have been meant, [`Error::NeedsTag`], [`Error::NotLoadable`],
    /// [`Error::BadName`].
    pub fn parse(name: &str) -> Result<Self, Error> {
        let name = name.trim();
        let repository = name.get(..HUB_PREFIX.len()).filter(|p| p.eq_ignore_ascii_case(HUB_PREFIX));
        let plain = if repository.is_some() { &name[HUB_PREFIX.len()..] } else { name };
        let lower = plain.to_ascii_lowercase();
        if let Some((_, reason)) = NOT_LOADABLE.iter().find(|(start, _)| lower.starts_with(start)) {
            return Err(Error::NotLoadable { name: name.into(), reason: (*reason).into() });
        }
        if repository.is_some() {
            let (id, revision) = plain.split_once('@').unwrap_or((plain, DEFAULT_REVISION));
            let repo = Repo::new(id, revision)?;
            // The table's facts (file, licence) hold for the repository, whichever way it was named.
            let known = known_models().iter().find(|m| m.repo.eq_ignore_ascii_case(id));
            return Ok(Self { repo, known });
        }
        let known = look_up(plain)?;
        Ok(Self { repo: Repo::main(known.repo)?, known: Some(known) })
    }

    /// The repository and its revision.
    #[must_use]
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// The row of the table, if there is one for this repository.
    #[must_use]
    pub fn known(&self) -> Option<&'static KnownModel> {
        self.known
    }
}

fn look_up(name: &str) -> Result<&'static KnownModel, Error> {
    let aliased = ALIASES.iter().find(|(alias, _)| is_same(alias, name)).map_or(name, |(_, meant)| meant);
    let (model, tag) = match aliased.split_once(':') {
        Some((model, tag)) => (model, Some(tag)),
        None => (aliased, None),
    };
    let of_model: Vec<&'static KnownModel> =
        known_models().iter().filter(|m| m.name.eq_ignore_ascii_case(model)).collect();
    match (of_model.as_slice(), tag) {
        ([], _) => Err(Error::UnknownModel { name: name.into(), suggestions: suggestions(name) }),
        ([only], None) => Ok(only),
        (some, Some(tag)) if some.iter().any(|m| m.tag.is_some_and(|t| is_same(t, tag))) => {
            let row = some.iter().find(|m| m.tag.is_some_and(|t| is_same(t, tag)));
            row.copied().ok_or_else(|| Error::UnknownModel { name: name.into(), suggestions: Vec::new() })
        }
        (some, _) => {
            let tags: Vec<String> = some.iter().filter_map(|m| m.tag).map(Into::into).collect();
            match some.first() {
                Some(first) if tags.is_empty() => {
                    Err(Error::UnknownModel { name: name.into(), suggestions: vec![first.name.into()] })
                }
                first => Err(Error::NeedsTag { name: first.map_or(model, |m| m.name).into(), tags }),
            }
        }
    }
}

/// Equal but for case and for `-` written as `_`, as open_clip cleans its tags.
fn is_same(a: &str, b: &str) -> bool {
    normalised(a) == normalised(b)
}

fn normalised(text: &str) -> String {
    text.to_ascii_lowercase().replace('_', "-")
}

/// The nearest names, at most three; for `owner/name` the form that a repository is written in.
fn suggestions(name: &str) -> Vec<String> {
    if name.contains('/') && Repo::main(name.split('@').next().unwrap_or(name)).is_ok() {
        return vec![format!("{HUB_PREFIX}{name}")];
    }
    let asked = normalised(name);
    let limit = (asked.chars().count() / 4).max(2);
    let mut near: Vec<(usize, String)> = Vec::new();
    for model in known_models() {
        for candidate in [model.name.to_owned(), model.reference()] {
            let distance = edit_distance(&asked, &normalised(&candidate), limit);
            if distance <= limit && !near.iter().any(|(_, n)| *n == candidate) {
                near.push((distance, candidate));
            }
        }
    }
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(3).map(|(_, n)| n).collect()
}

/// Levenshtein's distance, or `limit + 1` if the lengths alone differ by more than `limit`.
fn edit_distance(a: &str, b: &str, limit: usize) -> usize {
    let b: Vec<char> = b.chars().collect();
    if a.chars().count().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cb, up) in b.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(ca != *cb)).min(left + 1).min(*up + 1);
            diagonal = std::mem::replace(up, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str) -> String {
        Target::parse(name).unwrap().repo().id().to_owned()
    }

    fn error(name: &str) -> String {
        Target::parse(name).unwrap_err().to_string()
    }

    #[test]
    fn names_in_any_case() {
        assert_eq!(repo("mobileclip2-s0"), "timm/MobileCLIP2-S0-OpenCLIP");
        assert_eq!(repo("MobileCLIP2-S0:dfndr2b"), "timm/MobileCLIP2-S0-OpenCLIP");
        assert_eq!(repo("MOBILECLIP-S1"), "apple/MobileCLIP-S1-OpenCLIP");
        assert_eq!(repo("MobileCLIP-B"), "apple/MobileCLIP-B-OpenCLIP");
        assert_eq!(repo("MobileCLIP-B:datacompdr-lt"), "apple/MobileCLIP-B-LT-OpenCLIP");
        assert_eq!(repo("MobileCLIP-S0"), "apple/MobileCLIP-S0");
        assert_eq!(Target::parse("mobileclip-s0").unwrap().known().unwrap().file, Some("mobileclip_s0.pt"));
        assert_eq!(repo("ViT-H-14:dfn5b"), "apple/DFN5B-CLIP-ViT-H-14");
    }

    #[test]
    fn repositories() {
        let target = Target::parse("hf-hub:apple/MobileCLIP-S0").unwrap();
        assert_eq!(target.known().unwrap().file, Some("mobileclip_s0.pt"));
        let target = Target::parse("HF-Hub:me/mine@refs/pr/1").unwrap();
        assert_eq!((target.repo().id(), target.repo().revision()), ("me/mine", "refs/pr/1"));
        assert_eq!(target.known(), None);
        assert!(matches!(Target::parse("hf-hub:../x"), Err(Error::BadName { .. })));
        assert!(matches!(Target::parse("hf-hub:"), Err(Error::BadName { .. })));
        assert!(matches!(Target::parse("hf-hub:a/b@"), Err(Error::BadName { .. })));
    }

    #[test]
    fn several_checkpoints_are_never_guessed() {
        let text = error("vit-l-14");
        assert!(
            text.contains("`ViT-L-14` needs one of the tags openai,") && text.contains("dfn2b_s39b"),
            "{text}"
        );
        assert!(error("MobileCLIP2-S0:datacompdr").contains("`MobileCLIP2-S0:dfndr2b`"));
        assert!(error("MobileCLIP-S0:datacompdr").contains("did you mean `MobileCLIP-S0`?"));
    }

    #[test]
    fn slips_are_met_with_the_nearest_names() {
        assert!(error("mobileclip_s0").contains("did you mean `MobileCLIP-S0`"));
        assert!(error("MobileCLIP2S0").contains("did you mean `MobileCLIP2-S0`"));
        assert!(error("ViT-L-14:opnai").contains("`ViT-L-14` needs one of the tags"));
        assert!(error("VitL14:openai").contains("`ViT-L-14:openai`"));
        assert!(error("apple/MobileCLIP-S1-OpenCLIP").contains("`hf-hub:apple/MobileCLIP-S1-OpenCLIP`"));
        assert!(error("resnet").contains("lists the names"));
        assert!(error("").contains("no model is named"));
        assert!(error("ä:ö\0").contains("no model is named"));
        assert!(error(&"x".repeat(100_000)).contains("lists the names"));
    }

    #[test]
    fn what_exists_in_no_loadable_form_says_so() {
        for (name, words) in [
            ("MobileCLIP2-S1", "none was published"),
            ("MobileCLIP-S0-OpenCLIP", "`MobileCLIP-S0`"),
            ("hf-hub:apple/MobileCLIP-S0-OpenCLIP", "`MobileCLIP-S0`"),
            ("ViT-B/32", "TorchScript"),
            ("ViT-L/14@336px", "TorchScript"),
            ("RN50x4", "ResNet"),
            ("coca_base", "never published"),
            ("hf-hub:apple/mobileclip_s0_timm", "without a text tower"),
            ("ViT-H-14-378-quickgelu:dfn5b", "224 pixels"),
        ] {
            assert!(matches!(Target::parse(name), Err(Error::NotLoadable { .. })), "{name}");
            assert!(error(name).contains(words), "{}", error(name));
        }
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting", 9), 3);
        assert_eq!(edit_distance("", "abc", 9), 3);
        assert_eq!(edit_distance("abc", "", 9), 3);
        assert_eq!(edit_distance("a", "abcdef", 2), 3);
    }
}
