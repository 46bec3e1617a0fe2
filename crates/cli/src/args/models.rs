//! Commands on models: what they are, other forms of them, where they come from.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::shared::{count, image_size};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip inspect MobileCLIP2-S0
  mobileclip inspect ./open_clip_model.safetensors --json")]
pub struct Inspect {
    /// A model's name, folder or file [default: --model]
    #[arg(value_name = "PATH|NAME", value_hint = ValueHint::AnyPath)]
    pub target: Option<String>,

    /// Prints a JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mobileclip tokens \"a photo of a cat\"      prints [49406,320,1125,539,320,2368,49407,0,…]

No model is loaded: the whole family has one tokenizer.")]
pub struct Tokens {
    /// Texts
    #[arg(required = true, value_name = "TEXT")]
    pub texts: Vec<String>,

    /// Length of a row; longer texts are cut and keep their end mark
    #[arg(long, value_name = "N", default_value = "77", value_parser = clap::value_parser!(u16).range(2..=4096))]
    pub context: u16,
}

/// A form of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// open_clip_config.json and open_clip_model.safetensors in a folder
    OpenClip,
    /// One safetensors file with the fused graphs
    Deploy,
}

/// A type of stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32 bits
    F32,
    /// 16 bits, IEEE
    F16,
    /// The upper half of 32 bits
    Bf16,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip convert MobileCLIP2-S0 s0.safetensors                  (fused: loads at once, nothing to fold)
  mobileclip convert MobileCLIP2-S0 s0.safetensors --compact        (a third smaller, slower to load)
  mobileclip convert MobileCLIP2-S0 s0.safetensors --dtype f16      (half the size of that)
  mobileclip convert mobileclip_s2.pt ./mobileclip-s2               (open_clip's layout, for Python)

A fused file cannot be turned back, nor trained further.")]
pub struct Convert {
    /// A model's name, folder or file
    #[arg(value_name = "IN", value_hint = ValueHint::AnyPath)]
    pub input: String,

    /// A name ending in .safetensors for a fused file, or a folder for open_clip's layout
    #[arg(value_name = "OUT", value_hint = ValueHint::AnyPath)]
    pub output: PathBuf,

    /// The form to write [default: by the name of OUT]
    #[arg(long, value_enum, value_name = "FORM")]
    pub to: Option<Form>,

    /// How numbers are stored
    #[arg(long, value_enum, value_name = "TYPE", default_value = "f32")]
    pub dtype: Dtype,

    /// Leaves out of a fused file what can be made when loading, which then takes longer and more memory
    #[arg(long)]
    pub compact: bool,

    /// Replaces what is there
    #[arg(long)]
    pub force: bool,
}

/// A tower of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TowerName {
    /// Pictures to features
    Image,
    /// Texts to features
    Text,
}

/// In which order the bytes of a picture lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PixelOrder {
    /// [batch, height, width, 3], as decoders give it
    Nhwc,
    /// [batch, 3, height, width]
    Nchw,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip export MobileCLIP2-S0 --onnx --out s0                  (s0/image.onnx and s0/text.onnx)
  mobileclip export s0.safetensors --onnx --out s0 --with-preprocess
  mobileclip export MobileCLIP2-S2 --onnx --tower image --image-size 512 --out s2-512.onnx

What goes in and comes out (the batch is dynamic):
  image.onnx   pixel_values f32 [batch, 3, height, width], preprocessed   ->  image_embeds f32 [batch, D]
               with --with-preprocess: image u8 [batch, height, width, 3], RGB, of any size
  text.onnx    input_ids i64 [batch, 77], as `mobileclip tokens` prints   ->  text_embeds f32 [batch, D]

BatchNorms and branches are fused. The operators are those of opset 17, with --with-preprocess 18. Preprocessing,
context length and logit scale stand in the model's metadata. Weights of 2 GB or more go to NAME.onnx.data.")]
pub struct Export {
    /// A model's name, folder or file [default: --model]
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    pub target: Option<String>,

    /// Writes ONNX models; there is no other form yet, so it may be left out
    #[arg(long)]
    pub onnx: bool,

    /// A folder for image.onnx and text.onnx, or with --tower a name ending in .onnx
    #[arg(long, short, value_name = "DIR|FILE", value_hint = ValueHint::AnyPath)]
    pub out: PathBuf,

    /// Writes one tower only
    #[arg(long, value_enum, value_name = "TOWER")]
    pub tower: Option<TowerName>,

    /// Height and width of the images that the tower sees, as 512 or 512x384 [default: as trained]
    #[arg(long, value_name = "SIZE", value_parser = image_size)]
    pub image_size: Option<(usize, usize)>,

    /// Tokens of a row, for text towers that do not see their padding [default: the context's length]
    #[arg(long, value_name = "N", value_parser = count)]
    pub text_length: Option<usize>,

    /// Takes pictures as they are decoded: resizing, cropping and normalising are part of the model
    #[arg(long)]
    pub with_preprocess: bool,

    /// In which order the bytes of these pictures lie
    #[arg(long, value_enum, value_name = "ORDER", default_value = "nhwc", requires = "with_preprocess")]
    pub pixel_order: PixelOrder,

    /// Gives embeddings of length 1, as `mobileclip embed` does; without it, as with --raw
    #[arg(long)]
    pub normalize: bool,

    /// Puts the weights into a file of their own, NAME.onnx.data
    #[arg(long)]
    pub external_data: bool,

    /// Replaces what is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
pub struct Models {
    /// Prints one JSON object a model
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mobileclip download MobileCLIP2-S0
  mobileclip download ViT-B-16:openai hf-hub:timm/MobileCLIP2-S2-OpenCLIP

The cache is that of huggingface_hub: HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE count. A download that breaks goes on where it stopped when it is started again.")]
pub struct Download {
    /// Names (see `mobileclip models`), or hf-hub:OWNER/NAME [default: --model]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}
