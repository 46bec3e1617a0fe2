//! Weights and images that are a function of their name (`golden/models/README.md`), so that none need storing.

use std::borrow::Cow;
use std::collections::HashMap;

use std::path::Path;

use mobileclip_arch::{Form, Manifest, Shape, TensorSpec, Variant, Weights};
use safetensors::tensor::{Dtype, View, serialize_to_file};

const CONV_GAIN: f64 = 1.15;
const MATRIX_GAIN: f64 = 2.0;

/// FNV-1a, 64 bits.
pub fn fnv1a64(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3))
}

/// The splitmix64 stream that starts at the name's hash, from element `first` on.
fn stream(name: &str, first: usize) -> impl Iterator<Item = u64> + use<> {
    let start = fnv1a64(name);
    (1 + first as u64..).map(move |i| {
        let mut z = start.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Numbers in [−1, 1), multiples of 2⁻²³, from element `first` on.
fn unit(name: &str, first: usize) -> impl Iterator<Item = f64> + use<> {
    stream(name, first).map(|z| (z >> 40) as f64 / f64::from(1 << 23) - 1.0)
}

/// `count` numbers in [−1, 1), multiples of 2⁻²³, that belong to a name.
pub fn numbers(name: &str, count: usize) -> Vec<f64> {
    unit(name, 0).take(count).collect()
}

/// The tensor that a checkpoint key of this name and shape gets.
///
/// # Panics
/// If no rule of the formula fits the name.
pub fn tensor(name: &str, shape: &[usize]) -> Vec<f32> {
    part("", name, shape, 0, shape.iter().product())
}

/// `len` elements of a tensor from element `first` on; the salt changes the numbers, not their kind.
fn part(salt: &str, name: &str, shape: &[usize], first: usize, len: usize) -> Vec<f32> {
    let mut parts = name.rsplit('.');
    let last = parts.next().unwrap_or_default();
    let owner = parts.next().unwrap_or_default();
    let (offset, scale) = match last {
        "num_batches_tracked" => (0.0, 0.0),
        "running_mean" | "logit_bias" => (0.0, 0.05),
        "running_var" => (1.0, 0.5),
        "logit_scale" => (100f64.ln(), 0.0),
        "cls_token" | "class_embedding" | "cls_emb" | "positional_embedding" | "pos_embed" => (0.0, 0.25),
        "weight" if matches!(owner, "token_embedding" | "embedding_layer") => (0.0, 0.25),
        _ if last == "gamma" || last.starts_with("layer_scale") => (0.1, 0.05),
        _ if shape.len() >= 2 => {
            let fan_in = shape[1..].iter().product::<usize>() as f64;
            (0.0, (3.0 / fan_in).sqrt() * if shape.len() == 4 { CONV_GAIN } else { MATRIX_GAIN })
        }
        _ if last.ends_with("bias") => (0.0, 0.05),
        _ if last.ends_with("weight") => (1.0, 0.1),
        _ => panic!("no formula rule for {name} {shape:?}"),
    };
    unit(&format!("{salt}{name}"), first).take(len).map(|u| (offset + scale * u) as f32).collect()
}

/// An image in [0, 1), shape 3 × `height` × `width`, before normalisation.
pub fn image(label: &str, height: usize, width: usize) -> Vec<f32> {
    const CELLS: usize = 8;
    let key = format!("input:{label}");
    let coarse: Vec<f64> = unit(&format!("{key}:coarse"), 0).take(3 * CELLS * CELLS).collect();
    let tint: Vec<f64> = unit(&format!("{key}:tint"), 0).take(3).collect();
    unit(&key, 0)
        .take(3 * height * width)
        .enumerate()
        .map(|(i, fine)| {
            let (c, y, x) = (i / (height * width), i / width % height, i % width);
            let cell = (c * CELLS + y * CELLS / height) * CELLS + x * CELLS / width;
            ((0.25 * fine + 0.25 * coarse[cell] + 0.5 * tint[c] + 1.0) / 2.0) as f32
        })
        .collect()
}

/// The train-form weights of a variant whose dialect is the canonical one, made when asked for.
pub struct Formula {
    salt: String,
    shapes: HashMap<String, Vec<usize>>,
}

impl Formula {
    /// Weights for every train-form tensor of the manifest.
    pub fn of(manifest: &Manifest) -> Self {
        Self::salted("", manifest)
    }

    /// The same with other numbers.
    pub fn salted(salt: &str, manifest: &Manifest) -> Self {
        let shapes = manifest.of_form(Form::Train).map(|t| (t.name.clone(), t.shape.clone())).collect();
        Self { salt: salt.to_owned(), shapes }
    }
}

impl Weights for Formula {
    fn contains(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        let shape = self.shapes.get(name).unwrap_or_else(|| panic!("the manifest has no `{name}`"));
        Cow::Owned(part(&self.salt, name, shape, 0, shape.iter().product()))
    }

    fn row(&self, name: &str, row: usize, out: &mut [f32]) {
        let shape = self.shapes.get(name).unwrap_or_else(|| panic!("the manifest has no `{name}`"));
        out.copy_from_slice(&part(&self.salt, name, shape, row * out.len(), out.len()));
    }
}

/// A formula image, normalised in double precision.
pub fn pixels(label: &str, shape: Shape, mean: [f64; 3], std: [f64; 3]) -> Vec<f64> {
    let plane = shape.pixels();
    image(label, shape.height, shape.width)
        .iter()
        .enumerate()
        .map(|(i, &v)| (f64::from(v) - mean[i / plane]) / std[i / plane])
        .collect()
}

/// A tensor of a checkpoint, made when it is written.
struct Lazy<'a>(&'a TensorSpec);

impl View for Lazy<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        tensor(&self.0.name, &self.0.shape).iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.0.shape.iter().product::<usize>()
    }
}

/// Writes a checkpoint in train form with these weights, as safetensors by canonical names.
///
/// # Errors
/// If the file cannot be written.
pub fn write_checkpoint(variant: &Variant, path: &Path) -> Result<(), safetensors::SafeTensorError> {
    let manifest = Manifest::of(variant);
    let tensors = manifest.of_form(Form::Train).map(|spec| (spec.name.as_str(), Lazy(spec)));
    serialize_to_file(tensors, None, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_published_samples() {
        let samples: serde_json::Value =
            serde_json::from_slice(&std::fs::read(crate::golden::path("formula.json")).unwrap()).unwrap();
        let bits = |values: &[f32]| -> Vec<String> {
            values.iter().take(6).map(|v| format!("{:08x}", v.to_bits())).collect()
        };
        let list = |value: &serde_json::Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
        };
        let sizes = |value: &serde_json::Value| -> Vec<usize> {
            value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
        };
        let mut checked = 0;
        for sample in samples["tensors"].as_array().unwrap() {
            if sample["first_bits"].is_null() {
                continue;
            }
            let name = format!("{}{}", sample["salt"].as_str().unwrap(), sample["name"].as_str().unwrap());
            let got = tensor(&name, &sizes(&sample["shape"]));
            let expected = list(&sample["first_bits"]);
            assert_eq!(bits(&got)[..expected.len()], expected, "{name}");
            checked += 1;
        }
        for sample in samples["images"].as_array().unwrap() {
            let shape = sizes(&sample["shape"]);
            let got = image(sample["label"].as_str().unwrap(), shape[1], shape[2]);
            let expected = list(&sample["first_bits"]);
            assert_eq!(bits(&got)[..expected.len()], expected, "{}", sample["label"]);
            checked += 1;
        }
        assert!(checked > 5, "only {checked} samples");
    }
}
