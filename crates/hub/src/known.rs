//! The table of published models: which repository holds which checkpoint.

/// A published checkpoint that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownModel {
    /// The model's name as open_clip and its authors write it.
    pub name: &'static str,
    /// open_clip's tag for this training of it; `None` for an author's file that open_clip has no tag for. The
    /// preprocessing belongs to the tag where the repository has no config.
    pub tag: Option<&'static str>,
    /// Repository of the hub, `owner/name`.
    pub repo: &'static str,
    /// The weights' file, where the repository does not use one of [`WEIGHT_FILES`](crate::WEIGHT_FILES) and the name
    /// is known.
    pub file: Option<&'static str>,
    /// The licence's identifier as published; `None`: the model page says it.
    pub licence: Option<&'static str>,
    /// Trainable numbers of both towers and the scale, before reparameterisation.
    pub parameters: u64,
    /// Whether the checkpoint was trained with QuickGELU, whatever the config of the plain name says.
    pub quick_gelu: bool,
    /// What people should know, maybe empty.
    pub note: &'static str,
}

impl KnownModel {
    /// What to type to get this checkpoint: the name alone if it has only one, else `NAME:TAG`.
    #[must_use]
    pub fn reference(&self) -> String {
        match self.tag {
            Some(tag) if TABLE.iter().filter(|m| m.name == self.name).count() > 1 => {
                format!("{}:{tag}", self.name)
            }
            _ => self.name.into(),
        }
    }

    /// Where licence and description stand.
    #[must_use]
    pub fn page(&self) -> String {
        format!("https://huggingface.co/{}", self.repo)
    }
}

/// All checkpoints with a name, the family first.
#[must_use]
pub fn known_models() -> &'static [KnownModel] {
    &TABLE
}

/// Apple's licence for its published weights: research only.
const APPLE: Option<&str> = Some("apple-amlr");
const FIRST_ONLY: &str = "the authors' own file; open_clip has no such model";
const FIRST_LATE: &str = "the authors' own file, found by listing the repository";

/// In open_clip's form.
const fn family(name: &'static str, tag: &'static str, repo: &'static str, parameters: u64) -> KnownModel {
    let note = "";
    KnownModel { name, tag: Some(tag), repo, file: None, licence: APPLE, parameters, quick_gelu: false, note }
}

/// In the authors' form.
const fn author(
    name: &'static str,
    repo: &'static str,
    file: Option<&'static str>,
    parameters: u64,
    note: &'static str,
) -> KnownModel {
    KnownModel { name, tag: None, repo, file, licence: APPLE, parameters, quick_gelu: false, note }
}

/// The teachers, and what people compare with.
const fn peer(
    name: &'static str,
    tag: &'static str,
    repo: &'static str,
    parameters: u64,
    quick_gelu: bool,
) -> KnownModel {
    KnownModel { name, tag: Some(tag), repo, file: None, licence: None, parameters, quick_gelu, note: "" }
}

#[rustfmt::skip]
static TABLE: [KnownModel; 56] = [
    family("MobileCLIP2-S0", "dfndr2b", "timm/MobileCLIP2-S0-OpenCLIP", 74835073),
    family("MobileCLIP2-S2", "dfndr2b", "timm/MobileCLIP2-S2-OpenCLIP", 99243329),
    family("MobileCLIP2-B", "dfndr2b", "timm/MobileCLIP2-B-OpenCLIP", 149777153),
    family("MobileCLIP2-S3", "dfndr2b", "timm/MobileCLIP2-S3-OpenCLIP", 248885953),
    family("MobileCLIP2-S4", "dfndr2b", "timm/MobileCLIP2-S4-OpenCLIP", 445435137),
    family("MobileCLIP2-L-14", "dfndr2b", "timm/MobileCLIP2-L-14-OpenCLIP", 427617281),
    author("MobileCLIP-S0", "apple/MobileCLIP-S0", Some("mobileclip_s0.pt"), 53847681, FIRST_ONLY),
    family("MobileCLIP-S1", "datacompdr", "apple/MobileCLIP-S1-OpenCLIP", 84969729),
    family("MobileCLIP-S2", "datacompdr", "apple/MobileCLIP-S2-OpenCLIP", 99243329),
    family("MobileCLIP-B", "datacompdr", "apple/MobileCLIP-B-OpenCLIP", 149777153),
    family("MobileCLIP-B-LT", "datacompdr_lt", "apple/MobileCLIP-B-LT-OpenCLIP", 149777153),
    author("MobileCLIP-S3", "apple/MobileCLIP-S3", None, 248885953, FIRST_LATE),
    author("MobileCLIP-S4", "apple/MobileCLIP-S4", None, 445435137, FIRST_LATE),
    author("MobileCLIP-L-14", "apple/MobileCLIP-L-14", None, 427617281, FIRST_LATE),
    peer("ViT-B-16", "openai", "timm/vit_base_patch16_clip_224.openai", 149620737, true),
    peer("ViT-B-16", "laion400m_e31", "timm/vit_base_patch16_clip_224.laion400m_e31", 149620737, false),
    peer("ViT-B-16", "laion400m_e32", "timm/vit_base_patch16_clip_224.laion400m_e32", 149620737, false),
    peer("ViT-B-16", "laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", 149620737, false),
    peer("ViT-B-16", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 149620737, false),
    peer("ViT-B-16", "datacomp_l_s1b_b8k", "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_clip_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.clip-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_laion_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.laion-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_image_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.image-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_text_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.text-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_basic_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L.basic-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "commonpool_l_s1b_b8k", "laion/CLIP-ViT-B-16-CommonPool.L-s1B-b8K", 149620737, false),
    peer("ViT-B-16", "dfn2b", "apple/DFN2B-CLIP-ViT-B-16", 149620737, true),
    peer("ViT-B-16", "metaclip_400m", "timm/vit_base_patch16_clip_224.metaclip_400m", 149620737, true),
    peer("ViT-B-16", "metaclip_fullcc", "timm/vit_base_patch16_clip_224.metaclip_2pt5b", 149620737, true),
    peer("coca_ViT-B-32", "laion2b_s13b_b90k", "laion/CoCa-ViT-B-32-laion2B-s13B-b90k", 253560065, false),
    peer("coca_ViT-B-32", "mscoco_finetuned_laion2b_s13b_b90k", "laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k", 253560065, false),
    peer("coca_ViT-L-14", "laion2b_s13b_b90k", "laion/CoCa-ViT-L-14-laion2B-s13B-b90k", 638450177, false),
    peer("coca_ViT-L-14", "mscoco_finetuned_laion2b_s13b_b90k", "laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k", 638450177, false),
    peer("ViT-B-32-quickgelu", "openai", "timm/vit_base_patch32_clip_224.openai", 151277313, true),
    peer("ViT-B-32-quickgelu", "laion400m_e31", "timm/vit_base_patch32_clip_224.laion400m_e31", 151277313, true),
    peer("ViT-B-32-quickgelu", "laion400m_e32", "timm/vit_base_patch32_clip_224.laion400m_e32", 151277313, true),
    peer("ViT-B-32-quickgelu", "metaclip_400m", "timm/vit_base_patch32_clip_224.metaclip_400m", 151277313, true),
    peer("ViT-B-32-quickgelu", "metaclip_fullcc", "timm/vit_base_patch32_clip_224.metaclip_2pt5b", 151277313, true),
    peer("ViT-L-14", "openai", "timm/vit_large_patch14_clip_224.openai", 427616513, true),
    peer("ViT-L-14", "laion400m_e31", "timm/vit_large_patch14_clip_224.laion400m_e31", 427616513, false),
    peer("ViT-L-14", "laion400m_e32", "timm/vit_large_patch14_clip_224.laion400m_e32", 427616513, false),
    peer("ViT-L-14", "laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", 427616513, false),
    peer("ViT-L-14", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 427616513, false),
    peer("ViT-L-14", "commonpool_xl_clip_s13b_b90k", "laion/CLIP-ViT-L-14-CommonPool.XL.clip-s13B-b90K", 427616513, false),
    peer("ViT-L-14", "commonpool_xl_laion_s13b_b90k", "laion/CLIP-ViT-L-14-CommonPool.XL.laion-s13B-b90K", 427616513, false),
    peer("ViT-L-14", "commonpool_xl_s13b_b90k", "laion/CLIP-ViT-L-14-CommonPool.XL-s13B-b90K", 427616513, false),
    peer("ViT-L-14", "metaclip_400m", "timm/vit_large_patch14_clip_224.metaclip_400m", 427616513, true),
    peer("ViT-L-14", "metaclip_fullcc", "timm/vit_large_patch14_clip_224.metaclip_2pt5b", 427616513, true),
    peer("ViT-L-14", "dfn2b", "apple/DFN2B-CLIP-ViT-L-14", 427616513, true),
    peer("ViT-L-14", "dfn2b_s39b", "apple/DFN2B-CLIP-ViT-L-14-39B", 427616513, false),
    peer("ViT-L-14-quickgelu", "openai", "timm/vit_large_patch14_clip_224.openai", 427616513, true),
    peer("ViT-L-14-quickgelu", "metaclip_400m", "timm/vit_large_patch14_clip_224.metaclip_400m", 427616513, true),
    peer("ViT-L-14-quickgelu", "metaclip_fullcc", "timm/vit_large_patch14_clip_224.metaclip_2pt5b", 427616513, true),
    peer("ViT-L-14-quickgelu", "dfn2b", "apple/DFN2B-CLIP-ViT-L-14", 427616513, true),
    peer("ViT-H-14-quickgelu", "metaclip_fullcc", "timm/vit_huge_patch14_clip_224.metaclip_2pt5b", 986109441, true),
    peer("ViT-H-14-quickgelu", "dfn5b", "apple/DFN5B-CLIP-ViT-H-14", 986109441, true),
];

/// Other spellings that open_clip's users know.
pub(crate) const ALIASES: [(&str, &str); 2] = [
    ("MobileCLIP-B:datacompdr_lt", "MobileCLIP-B-LT"),
    // open_clip's table has this tag under the plain name too, and only warns that the activation is another.
    ("ViT-H-14:dfn5b", "ViT-H-14-quickgelu:dfn5b"),
];

/// Names that people will try and that lead nowhere, with the reason and the mend. A name is met if it starts with the
/// first string (lower case), written plainly or behind `hf-hub:`.
pub(crate) const NOT_LOADABLE: [(&str, &str); 13] = [
    ("mobileclip2-s1", "none was published; the second generation has S0, S2, B, S3, S4 and L-14"),
    ("mobileclip2-b-lt", "none was published; the first generation has a B-LT"),
    (
        "mobileclip-s0-openclip",
        "its text tower has no open_clip form, so no such repository exists; `MobileCLIP-S0` loads the authors' file",
    ),
    (
        "apple/mobileclip-s0-openclip",
        "its text tower has no open_clip form, so no such repository exists; `MobileCLIP-S0` loads the authors' file",
    ),
    ("apple/mobileclip_", "image towers alone are published there, without a text tower"),
    ("coca_base", "its weights were never published; coca_ViT-B-32 and coca_ViT-L-14 were"),
    ("coca_roberta", "its text tower is RoBERTa's, which this program does not have"),
    (
        "vit-b/",
        "OpenAI's own archives are TorchScript programs, which are not read; take `ViT-B-32-quickgelu:openai` or `ViT-B-16:openai`",
    ),
    (
        "vit-l/",
        "OpenAI's own archives are TorchScript programs, which are not read; take `ViT-L-14-quickgelu:openai`",
    ),
    ("rn50", "this program has no ResNet towers"),
    ("rn101", "this program has no ResNet towers"),
    ("vit-h-14-378", "this program has ViT-H-14 at 224 pixels only: `ViT-H-14-quickgelu:dfn5b`"),
    ("vit-l-14-336", "this program has ViT-L-14 at 224 pixels only: `ViT-L-14-quickgelu:openai`"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden")
    }

    fn json(path: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(golden().join(path)).unwrap()).unwrap()
    }

    /// open_clip's own table, as far as this program has the networks.
    #[test]
    fn tags_and_repositories_are_those_of_open_clip() {
        let tags = json("models/pretrained_tags.json");
        let mut checked = 0;
        for (name, entries) in tags["models"].as_object().unwrap() {
            // The network with GELU is no variant of this program.
            if name == "ViT-B-32" {
                continue;
            }
            for (tag, facts) in entries.as_object().unwrap() {
                let repo = facts["hf_hub"].as_str().unwrap().trim_end_matches('/');
                let ours = crate::Target::parse(&format!("{name}:{tag}")).unwrap();
                assert_eq!(ours.repo().id(), repo, "{name} {tag}");
                let known = ours.known().unwrap();
                assert_eq!(known.quick_gelu, facts["quick_gelu"].as_bool().unwrap_or(false), "{name} {tag}");
                assert_eq!(known.tag, Some(tag.as_str()));
                checked += 1;
            }
        }
        let is_clip = |m: &&KnownModel| m.tag.is_some() && !m.name.starts_with("coca");
        assert_eq!(checked, TABLE.iter().filter(is_clip).count());
    }

    #[test]
    fn parameters_are_those_of_the_goldens() {
        for model in &TABLE {
            let file = match model.name {
                "MobileCLIP-S0" => "mobileclip_s0",
                "MobileCLIP-B-LT" => "MobileCLIP-B",
                other => other,
            };
            let parameters = match file.starts_with("coca") {
                true => json(&format!("captioner/{file}.json"))["parameters"].clone(),
                false => json(&format!("models/{file}.json"))["parameters"]["total"].clone(),
            };
            assert_eq!(parameters.as_u64(), Some(model.parameters), "{}", model.name);
        }
    }

    #[test]
    fn every_row_can_be_asked_for() {
        for model in &TABLE {
            assert_eq!(crate::Target::parse(&model.reference()).unwrap().known(), Some(model));
        }
    }

    /// The table of the notes on the hub, but for what this program has no network for.
    #[test]
    fn rows_of_the_notes() {
        let notes = std::fs::read_to_string(golden().join("hub/README.md")).unwrap();
        let rows = notes.lines().filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            match cells.as_slice() {
                [_, model, tag, repo, _, _] if repo.contains('/') => Some((*model, *tag, *repo)),
                _ => None,
            }
        });
        let mut checked = 0;
        for (model, tag, repo) in rows {
            let target = crate::Target::parse(&format!("{model}:{tag}"));
            if model.ends_with("378") {
                assert!(matches!(target, Err(crate::Error::NotLoadable { .. })), "{model}");
            } else {
                assert_eq!(target.unwrap().repo().id(), repo);
            }
            checked += 1;
        }
        assert_eq!(checked, 21);
    }
}
