//! What the names of a file and its folders say: which model, and which published weights.

use std::path::Path;

use mobileclip_arch::{Activation, Image, Interpolation, Preprocess, ResizeMode, Variant};

/// Published weights of the OpenAI-style models, by a part of their names. `quick_gelu` is a matter of the weights, not of the
/// model's name: a state dict of OpenAI named `ViT-L-14` needs QuickGELU, one of LAION's needs GELU.
struct Tag {
    /// Letters and digits of the tag, as they stand in names without separators.
    part: &'static str,
    /// Only for models of this patch size.
    patch: Option<usize>,
    activation: Activation,
    preprocess: Preprocess,
}

const fn tag(part: &'static str, activation: Activation) -> Tag {
    Tag { part, patch: None, activation, preprocess: OPENAI }
}

#[allow(clippy::excessive_precision)] // As OpenAI wrote them.
const OPENAI: Preprocess = Preprocess {
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
    interpolation: Interpolation::Bicubic,
    resize_mode: ResizeMode::Shortest,
};

/// As open_clip 3.3 lists them; the first whose part occurs in a name counts, so longer parts stand first.
const TAGS: &[Tag] = &[
    tag("dfn2bs39b", Activation::Gelu),
    tag("dfn2bclipvitl1439b", Activation::Gelu),
    tag("dfn2b", Activation::QuickGelu),
    Tag {
        preprocess: Preprocess { resize_mode: ResizeMode::Squash, ..OPENAI },
        ..tag("dfn5b", Activation::QuickGelu)
    },
    Tag {
        preprocess: Preprocess { mean: [0.5; 3], std: [0.5; 3], ..OPENAI },
        ..tag("laion2bs32bb82k", Activation::Gelu)
    },
    tag("laion2b", Activation::Gelu),
    Tag { patch: Some(32), ..tag("laion400m", Activation::QuickGelu) },
    tag("laion400m", Activation::Gelu),
    tag("metaclip", Activation::QuickGelu),
    tag("datacomp", Activation::Gelu),
    tag("commonpool", Activation::Gelu),
    tag("openai", Activation::QuickGelu),
];

/// How many folders above the file are looked at: a snapshot of the hub's cache has the model's name three above.
const FOLDERS: usize = 3;

/// The names along a path, the nearest first, lower case.
#[derive(Debug)]
pub(crate) struct Hints(Vec<String>);

impl Hints {
    pub(crate) fn of(path: &Path) -> Hints {
        let stem = path.file_stem().filter(|_| path.is_file()).or(path.file_name());
        let folders = path.ancestors().skip(1).filter_map(Path::file_name).take(FOLDERS);
        Hints(stem.into_iter().chain(folders).map(|name| name.to_string_lossy().to_lowercase()).collect())
    }

    /// Of `candidates` those that the nearest telling name means; `None` if no name tells.
    pub(crate) fn narrow<'v>(&self, candidates: &[&'v Variant]) -> Option<Vec<&'v Variant>> {
        for name in &self.0 {
            let said: Vec<usize> = candidates.iter().map(|v| said(name, v)).collect();
            // `mobileclip_b` also stands in `mobileclip_blt`: the longest name is the one that is meant.
            let longest = said.iter().copied().max().unwrap_or(0);
            if longest > 0 {
                let meant = candidates.iter().zip(said).filter(|&(_, length)| length == longest);
                return Some(meant.map(|(&v, _)| v).collect());
            }
        }
        None
    }

    /// The variant among `all` that the nearest telling name means, if it means one.
    pub(crate) fn named<'v>(&self, all: &'v [Variant]) -> Option<&'v Variant> {
        let all: Vec<&Variant> = all.iter().collect();
        match self.narrow(&all)?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The preprocessing of the published weights that the names speak of, for OpenAI-style models.
    pub(crate) fn tag_preprocess(&self, variant: &Variant) -> Option<Preprocess> {
        self.0.iter().find_map(|name| find_tag(name, variant)).map(|tag| tag.preprocess.clone())
    }
}

/// Whether weights of this kind are published with either activation, which neither they nor the model's name says. All
/// captioners have GELU.
pub(crate) fn says_no_activation(variant: &Variant) -> bool {
    matches!(variant.image, Image::ClipVit(_)) && variant.captioner.is_none()
}

/// How long the part of `name` is that means `variant`; 0 if there is none.
fn said(name: &str, variant: &Variant) -> usize {
    let aliases = variant.files.iter().chain([&variant.name]).chain(&variant.open_clip);
    let length = aliases.filter(|a| name.contains(&a.to_lowercase())).map(String::len).max().unwrap_or(0);
    if !says_no_activation(variant) {
        return length;
    }
    // The plain name says nothing about the activation; a tag or the word does.
    let activation = variant.text.blocks.activation;
    if name.contains("quickgelu") {
        return if activation == Activation::QuickGelu { length.max(1) } else { 0 };
    }
    find_tag(name, variant).filter(|tag| tag.activation == activation).map_or(0, |tag| tag.part.len())
}

fn find_tag(name: &str, variant: &Variant) -> Option<&'static Tag> {
    let Image::ClipVit(vit) = &variant.image else { return None };
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    TAGS.iter().find(|tag| letters.contains(tag.part) && tag.patch.is_none_or(|patch| patch == vit.patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variants(names: &[&str]) -> Vec<&'static Variant> {
        names.iter().map(|n| mobileclip_arch::variant(n).unwrap()).collect()
    }

    fn narrowed(path: &str, candidates: &[&str]) -> Vec<&'static str> {
        let meant = Hints::of(Path::new(path)).narrow(&variants(candidates));
        meant.iter().flatten().map(|v| v.name.as_str()).collect()
    }

    #[test]
    fn names_of_files_and_folders_decide() {
        let s3 = ["MobileCLIP-S3", "MobileCLIP2-S3"];
        assert_eq!(narrowed("x/mobileclip2_s3", &s3), ["MobileCLIP2-S3"]);
        assert_eq!(narrowed("x/mobileclip_s3", &s3), ["MobileCLIP-S3"]);
        assert_eq!(
            narrowed("hub/models--timm--MobileCLIP2-S3-OpenCLIP/snapshots/0a1b/open_clip_model", &s3),
            ["MobileCLIP2-S3"]
        );
        // The nearest name wins.
        assert_eq!(narrowed("mobileclip2_s3_runs/a/mobileclip_s3", &s3), ["MobileCLIP-S3"]);
        assert!(narrowed("x/weights", &s3).is_empty());
        assert_eq!(narrowed("mobileclip_blt", &["mobileclip_b", "mobileclip_blt"]), ["mobileclip_blt"]);
        assert_eq!(narrowed("mobileclip_b", &["MobileCLIP-B", "mobileclip_b"]), ["mobileclip_b"]);
        assert_eq!(narrowed("MobileCLIP-B", &["MobileCLIP-B", "mobileclip_b"]), ["MobileCLIP-B"]);
    }

    #[test]
    fn a_plain_name_does_not_say_the_activation() {
        let both = ["ViT-L-14", "ViT-L-14-quickgelu"];
        assert!(narrowed("x/ViT-L-14", &both).is_empty());
        assert_eq!(narrowed("x/ViT-L-14-quickgelu", &both), ["ViT-L-14-quickgelu"]);
        assert_eq!(narrowed("DFN2B-CLIP-ViT-L-14/open_clip_pytorch_model", &both), ["ViT-L-14-quickgelu"]);
        assert_eq!(narrowed("DFN2B-CLIP-ViT-L-14-39B/open_clip_pytorch_model", &both), ["ViT-L-14"]);
        assert_eq!(narrowed("CLIP-ViT-L-14-DataComp.XL-s13B-b90K/x", &both), ["ViT-L-14"]);
        assert_eq!(narrowed("ViT-L-14-openai", &both), ["ViT-L-14-quickgelu"]);
        assert_eq!(narrowed("vit_b_32-laion400m_e31", &["ViT-B-32-quickgelu"]), ["ViT-B-32-quickgelu"]);
    }

    /// Every tag of the reference's table that our variants can hold gets its activation and preprocessing.
    #[test]
    fn tags_agree_with_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/models/pretrained_tags.json");
        let table: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut checked = 0;
        for (model, tags) in table["models"].as_object().unwrap() {
            let quick = mobileclip_arch::variant(&format!("{model}-quickgelu"));
            let plain = mobileclip_arch::variant(model);
            for (tag, row) in tags.as_object().unwrap() {
                let wants_quick = row["quick_gelu"].as_bool().unwrap_or(false);
                let Some(variant) =
                    (if wants_quick && !model.ends_with("quickgelu") { quick } else { plain })
                else {
                    continue;
                };
                let stem = format!("{model}.{tag}");
                let preprocess = match variant.image {
                    Image::ClipVit(_) => {
                        let candidates: Vec<&str> =
                            [plain, quick].iter().flatten().map(|v| v.name.as_str()).collect();
                        assert_eq!(narrowed(&stem, &candidates), [variant.name.as_str()], "{stem}");
                        Hints::of(Path::new(&stem)).tag_preprocess(variant).unwrap()
                    }
                    _ => variant.preprocess.clone(),
                };
                let mut want: Preprocess = serde_json::from_value(serde_json::json!({
                    "mean": row["mean"], "std": row["std"], "interpolation": row["interpolation"],
                }))
                .unwrap();
                want.resize_mode = serde_json::from_value(row["resize_mode"].clone()).unwrap();
                assert_eq!(preprocess, want, "{stem}");
                checked += 1;
            }
        }
        assert!(checked > 40, "only {checked} tags");
    }
}
