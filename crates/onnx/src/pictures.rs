//! Preprocessing inside the model: pictures of any size to the pixels that the tower sees (opset 18).
//!
//! The steps are those of open_clip's inference transform over Pillow: an antialiased resize in two passes, each of which rounds
//! to whole numbers, a central crop, a division by 255, mean and standard deviation. Where Pillow 13 has the vertical pass first
//! (tall pictures), this has the horizontal one.

use mobileclip_arch::{Interpolation, Preprocess, ResizeMode};

use crate::builder::{Builder, Data, Dim, port};
use crate::proto::{Attribute, DataType};
use crate::translate::BATCH;

/// In which order a picture's bytes lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PixelOrder {
    /// `[N, H, W, 3]`, as decoders give it.
    #[default]
    Nhwc,
    /// `[N, 3, H, W]`.
    Nchw,
}

/// What an image tower that takes pictures does to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    /// What the checkpoint expects of an image.
    pub preprocess: Preprocess,
    /// How the bytes lie.
    pub order: PixelOrder,
}

const PLACE: &str = "preprocess";

/// Adds the input `image` of bytes and the nodes down to normalised pixels `[N, 3, height, width]`, whose name is returned.
pub(crate) fn prepare(builder: &mut Builder, pictures: &Pictures, size: (usize, usize)) -> String {
    let image = "image";
    builder.reserve(image);
    let (height, width, channels) = (Dim::Free("height"), Dim::Free("width"), Dim::Fixed(3));
    let dims = match pictures.order {
        PixelOrder::Nhwc => [BATCH, height, width, channels],
        PixelOrder::Nchw => [BATCH, channels, height, width],
    };
    builder.inputs.push(port(image, DataType::Uint8, &dims));
    let planes = match pictures.order {
        PixelOrder::Nhwc => {
            builder.node(PLACE, "Transpose", &[image], vec![Attribute::ints("perm", &[0, 3, 1, 2])])
        }
        PixelOrder::Nchw => image.to_owned(),
    };
    let bytes = builder.node(PLACE, "Cast", &[&planes], vec![to(DataType::Float)]);
    let resized = resize(builder, &pictures.preprocess, &bytes, size);
    normalize(builder, &pictures.preprocess, resized)
}

fn to(data_type: DataType) -> Attribute {
    Attribute::int("to", data_type as i64)
}

/// Resized and cropped to `size`, in whole numbers from 0 to 255.
fn resize(builder: &mut Builder, preprocess: &Preprocess, x: &str, size: (usize, usize)) -> String {
    let target = builder.ints(&[size.0 as i64, size.1 as i64]);
    let is_square = size.0 == size.1;
    let (sides, filter) = match preprocess.resize_mode {
        ResizeMode::Squash => (target.clone(), preprocess.interpolation),
        ResizeMode::Shortest if is_square => (shortest(builder, x, &target), preprocess.interpolation),
        // open_clip takes another road for targets that are not square, and forgets the interpolation there.
        ResizeMode::Shortest => (keep_ratio(builder, x, size), Interpolation::Bicubic),
    };
    let last = builder.ints(&[1]);
    let width = builder.node(PLACE, "Gather", &[&sides, &last], vec![Attribute::int("axis", 0)]);
    let wide = resize_pass(builder, x, 3, &width, filter);
    let bytes = resize_pass(builder, &wide, 2, &sides, filter);
    match preprocess.resize_mode {
        ResizeMode::Squash => bytes,
        ResizeMode::Shortest => crop(builder, &bytes, &sides, &target),
    }
}

/// The first dimensions of `x` stay, the others become `sides`; what comes out are bytes again.
fn resize_pass(builder: &mut Builder, x: &str, stay: i64, sides: &str, filter: Interpolation) -> String {
    let range = vec![Attribute::int("start", 0), Attribute::int("end", stay)];
    let outer = builder.node(PLACE, "Shape", &[x], range);
    let sizes = builder.node(PLACE, "Concat", &[&outer, sides], vec![Attribute::int("axis", 0)]);
    let mut attributes =
        vec![Attribute::int("antialias", 1), Attribute::word("coordinate_transformation_mode", "half_pixel")];
    attributes.extend(match filter {
        Interpolation::Bilinear => vec![Attribute::word("mode", "linear")],
        // Pillow's cubic, normalised where it reaches over an edge.
        Interpolation::Bicubic => vec![
            Attribute::word("mode", "cubic"),
            Attribute::float("cubic_coeff_a", -0.5),
            Attribute::int("exclude_outside", 1),
        ],
    });
    let resized = builder.node(PLACE, "Resize", &[x, "", "", &sizes], attributes);
    let whole = builder.node(PLACE, "Round", &[&resized], Vec::new());
    let (least, most) = (builder.number(0.0), builder.number(255.0));
    builder.node(PLACE, "Clip", &[&whole, &least, &most], Vec::new())
}

/// Height and width of a picture `[N, 3, H, W]`.
fn sides_of(builder: &mut Builder, x: &str) -> String {
    builder.node(PLACE, "Shape", &[x], vec![Attribute::int("start", 2), Attribute::int("end", 4)])
}

/// torchvision's `Resize(size)`: the shorter side becomes `size`, the longer one is rounded down.
fn shortest(builder: &mut Builder, x: &str, target: &str) -> String {
    let sides = sides_of(builder, x);
    let shorter = builder.node(PLACE, "ReduceMin", &[&sides], vec![Attribute::int("keepdims", 1)]);
    let scaled = builder.node(PLACE, "Mul", &[&sides, target], Vec::new());
    builder.node(PLACE, "Div", &[&scaled, &shorter], Vec::new())
}

/// open_clip's `ResizeKeepRatio`: both sides divided by the smaller ratio, rounded half to even.
fn keep_ratio(builder: &mut Builder, x: &str, size: (usize, usize)) -> String {
    let sides = sides_of(builder, x);
    let sides = builder.node(PLACE, "Cast", &[&sides], vec![to(DataType::Double)]);
    let target = Data::Doubles(vec![size.0 as f64, size.1 as f64]);
    let target = builder.constant("preprocess.size", &[2], target);
    let ratios = builder.node(PLACE, "Div", &[&sides, &target], Vec::new());
    let ratio = builder.node(PLACE, "ReduceMin", &[&ratios], vec![Attribute::int("keepdims", 1)]);
    let scaled = builder.node(PLACE, "Div", &[&sides, &ratio], Vec::new());
    let whole = builder.node(PLACE, "Round", &[&scaled], Vec::new());
    builder.node(PLACE, "Cast", &[&whole], vec![to(DataType::Int64)])
}

/// torchvision's `CenterCrop`: the margin before the window is half the difference, rounded half to even.
fn crop(builder: &mut Builder, x: &str, sides: &str, target: &str) -> String {
    let spare = builder.node(PLACE, "Sub", &[sides, target], Vec::new());
    let spare = builder.node(PLACE, "Cast", &[&spare], vec![to(DataType::Float)]);
    let half = builder.number(0.5);
    let margin = builder.node(PLACE, "Mul", &[&spare, &half], Vec::new());
    let margin = builder.node(PLACE, "Round", &[&margin], Vec::new());
    let start = builder.node(PLACE, "Cast", &[&margin], vec![to(DataType::Int64)]);
    let end = builder.node(PLACE, "Add", &[&start, target], Vec::new());
    let axes = builder.ints(&[2, 3]);
    builder.node(PLACE, "Slice", &[x, &start, &end, &axes], Vec::new())
}

/// `(v / 255 − mean) / std`, each step rounded as torch rounds it.
fn normalize(builder: &mut Builder, preprocess: &Preprocess, x: String) -> String {
    let most = builder.number(255.0);
    let mut x = builder.node(PLACE, "Div", &[&x, &most], Vec::new());
    let mut channels = |name: &str, values: [f32; 3], op: &str, neutral: f32| {
        if values != [neutral; 3] {
            let values =
                builder.constant(&format!("preprocess.{name}"), &[1, 3, 1, 1], Data::Floats(values.into()));
            x = builder.node(PLACE, op, &[&x, &values], Vec::new());
        }
    };
    channels("mean", preprocess.mean, "Sub", 0.0);
    channels("std", preprocess.std, "Div", 1.0);
    x
}
