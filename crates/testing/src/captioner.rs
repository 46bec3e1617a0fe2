//! The captioner's goldens, as the tests want them.

use mobileclip_arch::{Array, Shape, Tower};
use serde_json::Value;

use crate::compare::assert_close;
use crate::formula;
use crate::golden::{self, array, count, number, numbers, triple};

/// What open_clip gave for one captioner.
#[derive(Debug)]
pub struct Golden {
    /// The whole file.
    pub json: Value,
    /// Pairs of an image and a text.
    pub rows: Vec<Row>,
}

/// An image and a text.
#[derive(Debug)]
pub struct Row {
    /// The image's shape.
    pub shape: Shape,
    /// Normalised pixels.
    pub pixels: Vec<f64>,
    /// Token ids, filled up with pads.
    pub ids: Vec<u32>,
    /// Ids without the pads.
    pub length: usize,
    /// The image's features.
    pub image_features: Features,
    /// The text's features.
    pub text_features: Features,
    /// Some of what the decoder sees of the image: `[position, column, value]`.
    pub image_tokens: Vec<[f64; 3]>,
    /// Some of the text tower's outputs, likewise.
    pub text_tokens: Vec<[f64; 3]>,
    /// Some of the decoder's, likewise.
    pub logits: Vec<[f64; 3]>,
    /// The most likely next id at each place.
    pub argmax: Vec<usize>,
}

/// A normalised vector, in part, and what it was divided by.
#[derive(Debug)]
pub struct Features {
    norm: f64,
    /// Place and value.
    values: Vec<(usize, f64)>,
}

impl Features {
    /// Asserts that features, not normalised, are these.
    ///
    /// # Panics
    /// If they are not.
    #[track_caller]
    pub fn check(&self, what: &str, features: &[f64], tolerance: f64) {
        let norm = features.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((norm / self.norm - 1.0).abs() < tolerance, "{what}: norm {norm}, expected {}", self.norm);
        let got: Vec<f64> = self.values.iter().map(|&(place, _)| features[place] / norm).collect();
        let expected: Vec<f64> = self.values.iter().map(|&(_, value)| value).collect();
        assert_close(what, &got, &expected, tolerance);
    }
}

/// Asserts that tokens have these values.
///
/// # Panics
/// If they have not.
#[track_caller]
pub fn check_rows(what: &str, got: &Array, expected: &[[f64; 3]], tolerance: f64) {
    let at = |row: &[f64; 3]| got.values[row[1] as usize * got.shape.pixels() + row[0] as usize];
    let got: Vec<f64> = expected.iter().map(at).collect();
    let values: Vec<f64> = expected.iter().map(|row| row[2]).collect();
    assert_close(what, &got, &values, tolerance);
}

/// Reads `golden/captioner/<name>.json`, or the part of it under `section`.
///
/// # Panics
/// If there is no such golden or a field is missing.
pub fn golden(name: &str, section: Option<&str>) -> Golden {
    let json = golden::json(&format!("captioner/{name}.json"));
    let forward = section.map_or(&json["forward"], |section| &json[section]["forward"]);
    let size = count(&json["config"]["vision_cfg"]["image_size"]);
    let shape = Tower::Image.input(size, size);
    let labels = array(&json["image_labels"]);
    let rows = (0..labels.len()).map(|b| {
        let label = labels[b].as_str().expect("a label");
        let triples = |value: &Value| array(&value[b]).iter().map(triple).collect();
        let features = |value: &Value, norm: &Value| Features {
            norm: number(&norm[b]),
            // In full for the toy, else `[row, column, value]`.
            values: match value[0][0].is_number() && array(value).len() == labels.len() {
                true => numbers(&value[b]).into_iter().enumerate().collect(),
                false => array(value)
                    .iter()
                    .map(triple)
                    .filter(|t| t[0] as usize == b)
                    .map(|t| (t[1] as usize, t[2]))
                    .collect(),
            },
        };
        Row {
            shape,
            pixels: formula::pixels(label, shape, triple(&json["mean"]), triple(&json["std"])),
            ids: array(&forward["text_ids"][b]).iter().map(|id| count(id) as u32).collect(),
            length: count(&forward["text_lengths"][b]),
            image_features: features(
                &forward["image_latent"],
                &forward["norm_of_image_latent_before_normalising"],
            ),
            text_features: features(
                &forward["text_latent"],
                &forward["norm_of_text_latent_before_normalising"],
            ),
            image_tokens: triples(&forward["image_tokens"]),
            text_tokens: triples(&forward["text_tokens"]),
            logits: triples(&forward["logits"]),
            argmax: array(&forward["argmax"][b]).iter().map(count).collect(),
        }
    });
    let rows = rows.collect();
    Golden { json, rows }
}
