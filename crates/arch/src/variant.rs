//! Members of the family as data: one TOML file each, none derived from another.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::ops::{Activation, Attention, Resample};
use crate::transformer::Block;

/// One member of the family.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name, as the papers and open_clip write it.
    pub name: String,
    /// One line for people.
    pub summary: String,
    /// Whose file layout its checkpoints have.
    pub dialect: Dialect,
    /// Names of bare files that hold it, without extension (`mobileclip_s0`).
    #[serde(default)]
    pub files: Vec<String>,
    /// open_clip's name for its configuration, if open_clip can hold it.
    #[serde(default)]
    pub open_clip: Option<String>,
    /// Width of the common embedding space.
    pub embed_dim: usize,
    /// What an image goes through before the tower.
    pub preprocess: Preprocess,
    /// The image tower.
    pub image: Image,
    /// The text tower.
    pub text: Text,
    /// What writes captions, if it can: the towers are then CoCa's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub captioner: Option<Captioner>,
}

/// A published file layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// open_clip's names, over timm's for the image tower: the canonical names.
    OpenClip,
    /// The first `mobileclip` package's: `image_encoder.*`, `text_encoder.*`.
    Mobileclip,
}

/// What the published weights expect of an image.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Subtracted per channel, of values in 0…1.
    pub mean: [f32; 3],
    /// Divided by per channel, after the mean.
    pub std: [f32; 3],
    /// Resampling filter.
    pub interpolation: Interpolation,
    /// How the picture is brought to the tower's size.
    #[serde(default)]
    pub resize_mode: ResizeMode,
}

/// A resampling filter, as Pillow names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = −0.5, support 2.
    Bicubic,
}

/// How a picture is brought to the tower's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// The shorter side is resized, then the centre is cut out.
    #[default]
    Shortest,
    /// Both sides are resized, whatever the aspect.
    Squash,
}

/// An image tower.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Image {
    /// A FastViT hybrid.
    Mci(Mci),
    /// A timm vision transformer.
    TimmVit(TimmVit),
    /// An OpenAI-style vision transformer.
    ClipVit(ClipVit),
}

/// A FastViT hybrid.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mci {
    /// Height and width it was trained at.
    pub size: usize,
    /// timm's name, if timm has it.
    #[serde(default)]
    pub timm: Option<String>,
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Hidden width of the ConvFFNs over the stage's width.
    pub mlp_ratio: usize,
    /// What mixes tokens in each stage.
    pub mixers: Vec<Mixer>,
    /// Which stages' downsampling has squeeze-excite (the first stage has no downsampling).
    pub downsample_squeeze_excite: Vec<bool>,
    /// Side of the depthwise kernel that gives positions to an attention stage.
    #[serde(default = "published_position_kernel", skip_serializing_if = "is_published_position_kernel")]
    pub position_kernel: usize,
    /// Whether the stem's blocks have a 1×1 branch.
    pub stem_scale_branch: bool,
    /// What normalises in front of attention.
    pub attention_norm: AttentionNorm,
    /// Whether the projection has a bias.
    pub head_bias: bool,
}

/// All published towers have this one, so that their files need not say it.
const fn published_position_kernel() -> usize {
    7
}

/// Variants without the field keep the fingerprints that indexes and caches were made with.
const fn is_published_position_kernel(kernel: &usize) -> bool {
    *kernel == published_position_kernel()
}

/// What mixes tokens in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mixer {
    /// Depthwise convolution with branches that fuse.
    RepMixer,
    /// Multi-head self-attention.
    Attention,
}

/// What normalises in front of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionNorm {
    /// BatchNorm.
    BatchNorm,
    /// LayerNorm over channels.
    LayerNorm,
}

const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A stack of transformer blocks.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Blocks {
    /// Number of transformer blocks.
    pub layers: usize,
    /// Width of a token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// The MLP's nonlinearity.
    pub activation: Activation,
    /// LayerNorm's epsilon.
    pub norm_eps: f64,
    /// Whether a token sees only what stands before it.
    #[serde(default)]
    pub causal: bool,
}

impl From<&Blocks> for Block {
    fn from(blocks: &Blocks) -> Self {
        Block {
            width: blocks.width,
            hidden: blocks.hidden,
            attention: Attention {
                heads: blocks.heads,
                head_width: blocks.width / blocks.heads,
                is_causal: blocks.causal,
            },
            activation: blocks.activation,
            norm_eps: blocks.norm_eps,
        }
    }
}

/// A vision transformer as timm writes it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TimmVit {
    /// Height and width it was trained at.
    pub size: usize,
    /// timm's name, if timm has it.
    #[serde(default)]
    pub timm: Option<String>,
    /// How pixels become tokens.
    pub stem: Stem,
    /// Rows and columns of the trained positions.
    pub grid: usize,
    /// Whether the class token has a position of its own.
    pub class_position: bool,
    /// What happens to positions at another size.
    pub resample: Resample,
    /// Whether there is a LayerNorm before the first block.
    pub norm_pre: bool,
    /// Whether the projection has a bias.
    pub head_bias: bool,
    /// The blocks.
    pub blocks: Blocks,
}

/// How pixels become tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stem {
    /// One convolution whose kernel is its stride.
    Patch {
        /// Side of a patch.
        size: usize,
        /// Whether it has a bias.
        bias: bool,
    },
    /// Three convolutions, 4×4 and twice 2×2, with BatchNorm and GELU after the first two.
    Convolutional {
        /// Channels of the first two.
        widths: [usize; 2],
        /// Padding of the first.
        padding: usize,
    },
}

/// A vision transformer as OpenAI and open_clip write it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClipVit {
    /// Height and width it was trained at.
    pub size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Rows and columns of the trained positions.
    pub grid: usize,
    /// The blocks.
    pub blocks: Blocks,
}

/// A decoder that writes captions, and what feeds it (CoCa). Its text tower has a class token behind its ids, which alone gives
/// the features, and so one row of positions more than the context.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Captioner {
    /// Learnt queries that pool the image's tokens: the first gives the features, the others what the decoder sees.
    pub queries: usize,
    /// Attention heads of that pooling.
    pub pooler_heads: usize,
    /// The decoder: each layer is one such block and one that looks at the image. Its width is that of the text tower and of
    /// the embedding.
    pub decoder: Blocks,
}

/// A text tower.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// What stands in front of its tensors' names: `text`, or nothing in open_clip's plain CLIP class.
    pub prefix: String,
    /// Number of token ids.
    pub vocabulary: usize,
    /// Whether they are those of CLIP's tokenizer cut to its first merges; otherwise the tokenizer is the whole one,
    /// whatever `vocabulary` says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cut_vocabulary: bool,
    /// Number of tokens of a row.
    pub context: usize,
    /// Whether one RepMixer block stands before the transformer blocks and one after.
    #[serde(default)]
    pub mixer_ends: bool,
    /// The transformer blocks.
    pub blocks: Blocks,
}

/// A block of a text tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextBlock {
    Transformer,
    RepMixer,
}

/// Entries of CLIP's vocabulary: 256 bytes in two forms, 48,894 merges, two marks.
const CLIP_VOCABULARY: usize = 49_408;

impl Text {
    /// The name of its table of positions.
    pub fn positions_name(&self) -> String {
        let leaf = "positional_embedding";
        if self.prefix.is_empty() { leaf.to_owned() } else { format!("{}.{leaf}", self.prefix) }
    }

    /// Number of entries that the tokenizer of its texts has.
    pub fn tokenizer_size(&self) -> usize {
        if self.cut_vocabulary { self.vocabulary } else { CLIP_VOCABULARY }
    }

    pub(crate) fn layout(&self) -> impl Iterator<Item = TextBlock> + use<> {
        let end = self.mixer_ends.then_some(TextBlock::RepMixer);
        let blocks = std::iter::repeat_n(TextBlock::Transformer, self.blocks.layers);
        end.into_iter().chain(blocks).chain(end)
    }
}

/// Why a variant's TOML was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VariantError {
    /// Not TOML, a missing or an unknown field.
    #[error("not a variant: {0}")]
    Parse(#[from] toml::de::Error),
    /// Fields that contradict each other or are out of range.
    #[error("variant `{variant}`: {problem}")]
    Invalid {
        /// The variant's name.
        variant: String,
        /// What is wrong.
        problem: String,
    },
}

impl Variant {
    /// Reads and checks a variant.
    ///
    /// # Errors
    /// [`VariantError`] if the text is no variant or its numbers contradict each other.
    pub fn parse(toml: &str) -> Result<Self, VariantError> {
        let variant: Self = toml::from_str(toml)?;
        match variant.problem() {
            None => Ok(variant),
            Some(problem) => Err(VariantError::Invalid { variant: variant.name, problem }),
        }
    }

    /// Height and width of the images it was trained on.
    pub fn image_size(&self) -> usize {
        match &self.image {
            Image::Mci(mci) => mci.size,
            Image::TimmVit(vit) => vit.size,
            Image::ClipVit(vit) => vit.size,
        }
    }

    /// Whether other resolutions than the trained one need no resampled positions.
    pub fn is_convolutional(&self) -> bool {
        matches!(self.image, Image::Mci(_))
    }

    /// Whether two variants compute the same features from the same weights.
    pub fn computes_as(&self, other: &Self) -> bool {
        let nameless = |v: &Self| {
            let mut image = v.image.clone();
            match &mut image {
                Image::Mci(mci) => mci.timm = None,
                Image::TimmVit(vit) => vit.timm = None,
                Image::ClipVit(_) => {}
            }
            (v.embed_dim, v.preprocess.clone(), image, v.text.clone(), v.captioner.clone())
        };
        nameless(self) == nameless(other)
    }

    fn problem(&self) -> Option<String> {
        let in_range = |what: &str, value: usize, max: usize| {
            (value == 0 || value > max).then(|| format!("{what} is {value}, must be 1 to {max}"))
        };
        let blocks = |b: &Blocks| {
            in_range("layers", b.layers, 256)
                .or_else(|| in_range("width", b.width, 16384))
                .or_else(|| in_range("hidden", b.hidden, 65536))
                .or_else(|| in_range("heads", b.heads, 1024))
                .or_else(|| {
                    (!b.width.is_multiple_of(b.heads))
                        .then(|| format!("{} heads do not divide width {}", b.heads, b.width))
                })
                .or_else(|| {
                    (!(b.norm_eps > 0.0 && b.norm_eps < 1.0))
                        .then(|| format!("norm_eps is {}, must be between 0 and 1", b.norm_eps))
                })
        };
        let tower = match &self.image {
            Image::Mci(mci) => mci.problem(),
            Image::TimmVit(vit) => {
                blocks(&vit.blocks).or_else(|| in_range("grid", vit.grid, 1024)).or_else(|| match &vit.stem {
                    Stem::Patch { size, .. } => in_range("stem.size", *size, 1024),
                    Stem::Convolutional { widths, padding } => in_range("stem.widths[0]", widths[0], 16384)
                        .or_else(|| in_range("stem.widths[1]", widths[1], 16384))
                        .or_else(|| in_range("stem.padding + 1", padding.saturating_add(1), 4)),
                })
            }
            Image::ClipVit(vit) => blocks(&vit.blocks)
                .or_else(|| in_range("grid", vit.grid, 1024))
                .or_else(|| in_range("patch", vit.patch, 1024)),
        };
        in_range("embed_dim", self.embed_dim, 65536)
            .or_else(|| in_range("image.size", self.image_size(), 16384))
            .or(tower)
            .or_else(|| blocks(&self.text.blocks))
            .or_else(|| in_range("text.vocabulary", self.text.vocabulary, 1 << 24))
            .or_else(|| {
                (self.text.cut_vocabulary && !(514..=CLIP_VOCABULARY).contains(&self.text.vocabulary)).then(
                    || {
                        format!(
                            "text.vocabulary is {}, cut it has 514 to {CLIP_VOCABULARY}",
                            self.text.vocabulary
                        )
                    },
                )
            })
            .or_else(|| in_range("text.context", self.text.context, 65535))
            .or_else(|| blocks(&self.captioner.as_ref()?.decoder))
            .or_else(|| self.captioner.as_ref()?.problem(self))
            .or_else(|| {
                (!self.preprocess.std.iter().all(|&s| s.is_finite() && s > 0.0))
                    .then(|| "preprocess.std must be positive".to_owned())
            })
    }
}

impl Captioner {
    fn problem(&self, variant: &Variant) -> Option<String> {
        let Self { queries, pooler_heads, decoder } = self;
        let (width, text) = (decoder.width, &variant.text);
        if (variant.embed_dim, text.blocks.width) != (width, width) {
            return Some(format!(
                "a decoder of width {width}, embed_dim is {} and the text tower's width {}; they must be one",
                variant.embed_dim, text.blocks.width
            ));
        }
        if !(2..=65536).contains(queries) {
            return Some(format!("captioner.queries is {queries}, must be 2 to 65536"));
        }
        if *pooler_heads == 0 || !width.is_multiple_of(*pooler_heads) {
            return Some(format!("{pooler_heads} pooler_heads do not divide width {width}"));
        }
        if !text.blocks.causal || !decoder.causal || text.mixer_ends {
            return Some("a captioner's text tower and decoder must be plain and causal".to_owned());
        }
        None
    }
}

impl Mci {
    /// Channels of the last map.
    pub fn map_width(&self) -> usize {
        2 * self.widths.last().copied().unwrap_or_default()
    }

    fn problem(&self) -> Option<String> {
        let stages = self.widths.len();
        if !(1..=8).contains(&stages) {
            return Some(format!("{stages} stages, must be 1 to 8"));
        }
        for (what, len) in [
            ("depths", self.depths.len()),
            ("mixers", self.mixers.len()),
            ("downsample_squeeze_excite", self.downsample_squeeze_excite.len()),
        ] {
            if len != stages {
                return Some(format!("image.{what} has {len} entries, image.widths has {stages}"));
            }
        }
        if self.depths.iter().any(|&d| d > 256) || self.widths.iter().any(|&w| w == 0 || w > 16384) {
            return Some("image.depths must be at most 256 and image.widths 1 to 16384".to_owned());
        }
        if let Some(last) = self.widths.last().filter(|&&last| last < 8) {
            return Some(format!(
                "image.widths ends with {last}, must be 8 at least: squeeze-excite keeps an eighth"
            ));
        }
        if self.mlp_ratio == 0 || self.mlp_ratio > 16 {
            return Some(format!("image.mlp_ratio is {}, must be 1 to 16", self.mlp_ratio));
        }
        if self.position_kernel.is_multiple_of(2) || self.position_kernel > 31 {
            return Some(format!(
                "image.position_kernel is {}, must be odd and at most 31",
                self.position_kernel
            ));
        }
        for (index, pair) in self.widths.windows(2).enumerate() {
            if pair[1] % pair[0] != 0 {
                return Some(format!(
                    "image.widths[{}] = {} is no multiple of {}; the grouped downsampling needs that",
                    index + 1,
                    pair[1],
                    pair[0]
                ));
            }
        }
        let uneven = self
            .widths
            .iter()
            .zip(&self.mixers)
            .find(|&(width, mixer)| *mixer == Mixer::Attention && width % 32 != 0);
        uneven.map(|(width, _)| format!("an attention stage of width {width}, must be a multiple of 32"))
    }
}

/// Every published member, in the order of the tables.
pub fn variants() -> &'static [Variant] {
    static VARIANTS: OnceLock<Vec<Variant>> = OnceLock::new();
    VARIANTS.get_or_init(|| {
        SOURCES
            .iter()
            .map(|(file, toml)| Variant::parse(toml).unwrap_or_else(|e| panic!("variants/{file}: {e}")))
            .collect()
    })
}

/// The variant of this name, upper or lower case.
pub fn variant(name: &str) -> Option<&'static Variant> {
    variants().iter().find(|v| v.name.eq_ignore_ascii_case(name))
}

macro_rules! sources {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../variants/", $file)))),*]
    };
}

const SOURCES: &[(&str, &str)] = sources![
    "mobileclip2-s0.toml",
    "mobileclip2-s2.toml",
    "mobileclip2-b.toml",
    "mobileclip2-s3.toml",
    "mobileclip2-l-14.toml",
    "mobileclip2-s4.toml",
    "mobileclip-s0.toml",
    "mobileclip-s1.toml",
    "mobileclip-s2.toml",
    "mobileclip-b.toml",
    "mobileclip-b-lt.toml",
    "mobileclip-s3.toml",
    "mobileclip-l-14.toml",
    "mobileclip-s4.toml",
    "mobileclip_s1.toml",
    "mobileclip_s2.toml",
    "mobileclip_b.toml",
    "mobileclip_blt.toml",
    "vit-b-32-quickgelu.toml",
    "vit-b-16.toml",
    "vit-l-14.toml",
    "vit-l-14-quickgelu.toml",
    "vit-h-14-quickgelu.toml",
    "coca_vit-b-32.toml",
    "coca_vit-l-14.toml",
    "mobileclip-nano.toml",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;

    fn changed(file: &str, changes: &[(&str, &str)]) -> Result<Variant, VariantError> {
        let toml = SOURCES.iter().find(|(name, _)| *name == file).map(|(_, toml)| (*toml).to_owned());
        let change = |toml: String, (from, to): &(&str, &str)| {
            assert!(toml.contains(from), "{from}");
            toml.replacen(from, to, 1)
        };
        Variant::parse(&changes.iter().fold(toml.unwrap(), change))
    }

    #[test]
    fn the_largest_sizes_that_are_accepted_can_be_counted() {
        let huge =
            [("size = 224", "size = 16384"), ("patch = 16", "patch = 1"), ("width = 768", "width = 16128")];
        let manifest = Manifest::of(&changed("vit-b-16.toml", &huge).unwrap());
        assert_eq!(manifest.image_multiply_adds, u64::MAX);
    }

    #[test]
    fn a_last_stage_too_narrow_for_squeeze_excite_is_refused() {
        let narrow =
            [("widths = [64, 128, 256, 512]", "widths = [4, 4, 4, 4]"), ("\"attention\"", "\"rep_mixer\"")];
        let error = changed("mobileclip2-s0.toml", &narrow).unwrap_err().to_string();
        assert!(error.contains("ends with 4"), "{error}");
    }
}
