//! The goldens' files, as the tests want them.

use std::path::PathBuf;

use serde_json::Value;

/// A file under `golden/`.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

/// Reads a JSON file under `golden/`.
///
/// # Panics
/// If it is not there or no JSON.
pub fn json(name: &str) -> Value {
    let path = path(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads the f32 tensors of a safetensors file under `golden/`: name, shape and values, in the file's order.
///
/// # Panics
/// If it is not there or holds anything else.
pub fn tensors(name: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let path = path(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file =
        safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file.iter()
        .map(|(name, view)| {
            assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            (name.to_owned(), view.shape().to_vec(), values.collect())
        })
        .collect()
}

/// What a reference implementation gave for one model.
#[derive(Debug)]
pub struct Model {
    /// The JSON file, for what else it holds (taps, parameter counts).
    pub json: Value,
    /// Labels of the formula images.
    pub images: Vec<String>,
    /// Height and width of the images.
    pub size: (usize, usize),
    /// What the images were normalised with.
    pub mean: [f64; 3],
    /// What the images were normalised with.
    pub std: [f64; 3],
    /// Rows of token ids.
    pub token_rows: Vec<Vec<u32>>,
    /// Features of each image, not normalised.
    pub image_features: Vec<Vec<f64>>,
    /// Features of each row, not normalised.
    pub text_features: Vec<Vec<f64>>,
}

/// Reads `golden/models/<name>.json` with its features (`toy/toy4` for the toys).
///
/// # Panics
/// If there is no such golden or a field is missing.
pub fn model(name: &str) -> Model {
    let json = json(&format!("models/{name}.json"));
    let inputs = &json["inputs"];
    let images = inputs["images"].as_array().expect("inputs.images");
    let size = &images[0]["shape"];
    let (image_features, text_features) = match json.get("features") {
        Some(features) => (rows(&features["image"]), rows(&features["text"])),
        None => {
            let mut stored = tensors(&format!("models/{name}.safetensors"));
            let mut take = |key: &str| {
                let at = stored.iter().position(|(name, ..)| name == key).expect(key);
                let (_, shape, values) = stored.swap_remove(at);
                values.chunks(shape[1]).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
            };
            (take("image_features"), take("text_features"))
        }
    };
    Model {
        images: images.iter().map(|i| i["label"].as_str().expect("label").to_owned()).collect(),
        size: (count(&size[1]), count(&size[2])),
        mean: triple(&inputs["mean"]),
        std: triple(&inputs["std"]),
        token_rows: array(&inputs["token_rows"])
            .iter()
            .map(|row| array(row).iter().map(|id| id.as_u64().expect("an id") as u32).collect())
            .collect(),
        image_features,
        text_features,
        json,
    }
}

/// The list in a JSON value.
///
/// # Panics
/// If it is none.
pub fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// The number in a JSON value.
///
/// # Panics
/// If it is none.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

/// The non-negative integer in a JSON value.
///
/// # Panics
/// If it is none.
pub fn count(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}")) as usize
}

/// The list of numbers in a JSON value.
pub fn numbers(value: &Value) -> Vec<f64> {
    array(value).iter().map(number).collect()
}

/// A list of three numbers in a JSON value.
pub fn triple(value: &Value) -> [f64; 3] {
    numbers(value).try_into().expect("three numbers")
}

fn rows(value: &Value) -> Vec<Vec<f64>> {
    array(value).iter().map(numbers).collect()
}
