//! From files to features: what a reading computes from each checkpoint equals the reference implementation's numbers.

use std::path::Path;

use mobileclip_arch::{Array, Dialect, Form, Manifest, Reference, Tower, Variant};
use mobileclip_checkpoint::{Checkpoint, Error, Options};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::toys::toy;
use mobileclip_testing::{formula, golden};

/// Both sides compute in double precision from the same stored weights; the goldens have nine digits.
const TOLERANCE: f64 = 1e-7;

fn open(path: &Path, variant: &Variant) -> Checkpoint {
    Checkpoint::open_with(path, &Options::of(variant)).unwrap_or_else(|e| panic!("{e}"))
}

fn check(what: &str, checkpoint: &Checkpoint, golden: &golden::Model, image: &[Vec<f64>], text: &[Vec<f64>]) {
    let variant = checkpoint.variant();
    checkpoint
        .with_weights(|weights| {
            let reference = Reference::new(weights);
            for (i, expected) in image.iter().enumerate() {
                let shape = Tower::Image.input(golden.size.0, golden.size.1);
                let pixels = formula::pixels(&golden.images[i], shape, golden.mean, golden.std);
                let got = variant.encode_image(&reference, &Array::new(shape, pixels));
                assert_close(&format!("{what} image {i}"), &got.values, expected, TOLERANCE);
            }
            for (i, expected) in text.iter().enumerate() {
                let got = variant.encode_text(&reference, &Array::ids(&golden.token_rows[i]));
                assert_close(&format!("{what} text {i}"), &got.values, expected, TOLERANCE);
            }
        })
        .unwrap();
}

#[test]
fn every_container_and_form_gives_the_golden_features() {
    let expected = golden::json("checkpoints/expected.json");
    let mut checked = 0;
    for (name, row) in expected["files"].as_object().unwrap() {
        let Some(set) = row["features"].as_str() else { continue };
        let model = if set.starts_with("v1") { "nano_v1_mct" } else { "nano4" };
        let checkpoint = open(&golden::path(&format!("checkpoints/{name}")), &toy(model));
        let form = if set.ends_with("reparameterised") { Form::Deploy } else { Form::Train };
        let dialect = if set.starts_with("v1") { Dialect::Mobileclip } else { Dialect::OpenClip };
        assert_eq!((checkpoint.form(), checkpoint.dialect()), (form, dialect), "{name}");
        let rows = |tower: &str| -> Vec<Vec<f64>> {
            golden::array(&expected["features"][set][tower]).iter().map(golden::numbers).collect()
        };
        let golden = golden::model(&format!("toy/{model}"));
        check(name, &checkpoint, &golden, &rows("image"), &rows("text"));
        checked += 1;
    }
    assert_eq!(checked, 16, "files with features");
}

/// A safetensors file of formula weights under the names of a golden's key list.
fn write_formula(folder: &Path, golden: &str) -> std::path::PathBuf {
    let keys = golden::json(&format!("models/{golden}.keys.json"));
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = golden::array(&keys["train"])
        .iter()
        .map(|row| {
            let name = row[0].as_str().unwrap();
            let shape: Vec<usize> = golden::array(&row[1]).iter().map(golden::count).collect();
            let bytes = formula::tensor(name, &shape).iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.to_string(), shape, bytes)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let path = folder.join("formula.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    path
}

#[test]
fn the_first_packages_toys_give_the_golden_features() {
    for name in ["nano_v1_mct", "toy_v1_mct", "toy_v1_base_causal", "toy_v1_b"] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = open(&write_formula(folder.path(), &format!("toy/{name}")), &toy(name));
        let golden = golden::model(&format!("toy/{name}"));
        check(name, &checkpoint, &golden, &golden.image_features, &golden.text_features);
    }
}

#[test]
fn strict_loading_names_every_tensor() {
    let refusal = |name: &str| {
        let path = golden::path(&format!("checkpoints/{name}.safetensors"));
        let error = Checkpoint::open_with(path, &Options::of(&toy("nano4"))).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        error.to_string()
    };
    for (name, text) in [
        ("missing_key", "does not hold nano4: 1 missing: `visual.trunk.stages.1.blocks.0.mlp.fc1.weight`"),
        ("wrong_shape", "1 of another shape: `text.text_projection`: [16, 17] instead of [16, 16]"),
        ("unexpected_key", "1 not of the model: `visual.trunk.extra.weight`"),
    ] {
        let message = refusal(name);
        assert!(message.ends_with(text) && message.contains(name), "`{text}` is not in: {message}");
    }
}

#[test]
fn a_mismatch_lists_ten_and_counts_the_rest() {
    let path = golden::path("checkpoints/f32.safetensors");
    let error = Checkpoint::open_with(path, &Options::of(&toy("nano_v1_mct"))).unwrap_err();
    let Error::Mismatch { misfit, .. } = &error else { panic!("{error:?}") };
    assert_eq!(misfit.missing.first().len(), 10);
    let more = format!(" and {} more", misfit.missing.total() - 10);
    assert!(misfit.missing.total() > 10 && error.to_string().contains(&more), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden::path("checkpoints/f32.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let key = "visual.trunk.stages.0.blocks.0.mlp.fc1.weight";
    let start = 8 + header + json[key]["data_offsets"][0].as_u64().unwrap() as usize;
    for value in [f32::NAN, f32::INFINITY] {
        bytes[start + 20..start + 24].copy_from_slice(&value.to_le_bytes());
        let path = folder.path().join("nan.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        let checkpoint = open(&path, &toy("nano4"));
        let text = format!("tensor `{key}`: element 5 is {}", if value.is_nan() { "NaN" } else { "inf" });
        let direct = checkpoint.get(key).unwrap().to_f32().unwrap_err().to_string();
        assert!(direct.contains(&text), "{direct}");
        let reading = checkpoint.with_weights(|weights| {
            let shape = Tower::Image.input(64, 64);
            let pixels = formula::pixels("p", shape, [0.0; 3], [1.0; 3]);
            checkpoint.variant().encode_image(&Reference::new(weights), &Array::new(shape, pixels))
        });
        assert!(reading.unwrap_err().to_string().contains(&text));
    }
}

#[test]
fn tensors_come_in_the_manifests_order() {
    let variant = toy("nano_v1_mct");
    let checkpoint = open(&golden::path("checkpoints/v1.pt"), &variant);
    let want: Vec<String> = Manifest::of(&variant).of_form(Form::Train).map(|t| t.name.clone()).collect();
    let got: Vec<String> = checkpoint.tensors().map(|t| t.spec().name.clone()).collect();
    assert_eq!(got, want);
    for tensor in checkpoint.tensors() {
        let (single, double) = (tensor.to_f32().unwrap(), tensor.to_f64().unwrap());
        assert_eq!(single.len() as u64, tensor.spec().elements());
        assert!(single.iter().zip(&double).all(|(&s, &d)| f64::from(s) == d), "{tensor:?}");
    }
}
