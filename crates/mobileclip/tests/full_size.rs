//! Full-size models, filled by formula and written in their dialect, through the whole library: file → detection →
//! fusion → engine → features, photos → probabilities.

use std::collections::BTreeMap;
use std::path::Path;

use mobileclip::{Labels, LoadOptions, Model};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula;
use mobileclip_testing::golden::{self, array, count, numbers};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

/// What the architecture promises of single precision.
const TOLERANCE: f64 = 2e-5;

/// Writes the train-form checkpoint whose keys the golden lists.
fn write_formula(golden: &str, path: &Path) {
    let keys = golden::json(&format!("models/{golden}.keys.json"));
    let tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = array(&keys["train"])
        .iter()
        .filter(|row| row[2] == "F32")
        .map(|row| {
            let (name, shape) =
                (row[0].as_str().unwrap(), array(&row[1]).iter().map(count).collect::<Vec<_>>());
            let bytes = formula::tensor(name, &shape).iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.to_owned(), (shape, bytes))
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn features(golden: &str, variant: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("{golden}.safetensors"));
    write_formula(golden, &path);
    let options = LoadOptions { variant: mobileclip::variant(variant).cloned(), ..LoadOptions::default() };
    let model = Model::open(&path, &options).unwrap();
    let golden = golden::model(golden);
    for (label, expected) in golden.images.iter().zip(&golden.image_features) {
        let shape = mobileclip::Shape::new(3, golden.size.0, golden.size.1);
        let pixels = formula::pixels(label, shape, golden.mean, golden.std);
        let pixels: Vec<f32> = pixels.iter().map(|&v| v as f32).collect();
        let got = model.pixel_features(&pixels).unwrap();
        assert_close(&format!("{variant} image {label}"), &wide(&got), expected, TOLERANCE);
    }
    for (ids, expected) in golden.token_rows.iter().zip(&golden.text_features) {
        let got = model.token_features(ids).unwrap();
        assert_close(&format!("{variant} text"), &wide(&got), expected, TOLERANCE);
    }
}

#[test]
fn the_first_packages_s0_gives_its_features() {
    features("mobileclip_s0", "MobileCLIP-S0");
}

#[test]
#[ignore = "writes four checkpoints of up to 600 MB; half a minute in release"]
fn the_first_packages_other_models_give_their_features() {
    for name in ["mobileclip_s1", "mobileclip_s2", "mobileclip_b"] {
        features(name, name);
    }
}

fn photos(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_formula(name, &path);
    let options = LoadOptions { variant: mobileclip::variant(name).cloned(), ..LoadOptions::default() };
    let model = Model::open(&path, &options).unwrap();
    let json = golden::json("models/photos.json");
    let case = array(&json["models"]).iter().find(|case| case["model"] == name).unwrap();
    let labels: Vec<String> =
        array(&case["labels"]).iter().map(|label| label.as_str().unwrap().to_owned()).collect();
    let labels = Labels::embed(&model, &labels, &["{}".to_owned()]).unwrap();
    let stored = golden::tensors("models/photos.safetensors");
    let key = format!("{name}.image_features");
    let (_, shape, values) = stored.iter().find(|(stored, ..)| *stored == key).unwrap();
    let rows = array(&json["photos"]).iter().zip(values.chunks(shape[1])).zip(array(&case["probabilities"]));
    for ((photo, expected), probabilities) in rows {
        let file = photo["file"].as_str().unwrap();
        let path = golden::path(&format!("images_small/{file}"));
        let image = mobileclip::image::decode_file(&path, model.decode_options()).unwrap();
        let got = model.image_features(&image).unwrap();
        assert_close(&format!("{name} {file}"), &wide(&got), &wide(expected), TOLERANCE);
        let scores = labels.scores(&model, &mobileclip::normalized(got));
        for (label, expected) in labels.names().iter().zip(numbers(probabilities)) {
            let got = scores.iter().find(|score| score.label == *label).unwrap().probability;
            assert!((f64::from(got) - expected).abs() < 1e-4, "{name} {file} {label}: {got}, not {expected}");
        }
    }
}

#[test]
fn s0_gives_the_photos_probabilities() {
    photos("MobileCLIP2-S0");
}

#[test]
#[ignore = "writes three checkpoints of up to 1 GB; half a minute in release"]
fn other_models_give_the_photos_probabilities() {
    for name in ["MobileCLIP2-S2", "MobileCLIP2-B", "MobileCLIP2-S3"] {
        photos(name);
    }
}
