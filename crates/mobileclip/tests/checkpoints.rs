//! From the golden checkpoint files to the reference implementations' features, through the whole library.

use mobileclip::{Error, FloatType, LoadOptions, Model, open_checkpoint, write_deploy};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula;
use mobileclip_testing::golden::{self, array, numbers};
use mobileclip_testing::toys::toy;

/// What the architecture promises of single precision.
const TOLERANCE: f64 = 2e-5;

fn options(name: &str) -> LoadOptions {
    LoadOptions { variant: Some(toy(name)), threads: 1, ..LoadOptions::default() }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Compares a file's features with what `expected.json` says of this set.
fn check(what: &str, model: &Model, features: &serde_json::Value, tolerance: f64) {
    let inputs = &golden::json("checkpoints/expected.json")["inputs"];
    for (label, expected) in ["p", "t"].iter().zip(array(&features["image"])) {
        let got = model.pixel_features(&formula::image(label, 64, 64)).unwrap();
        assert_close(&format!("{what} image {label}"), &wide(&got), &numbers(expected), tolerance);
    }
    for (row, expected) in array(&inputs["token_rows"]).iter().zip(array(&features["text"])) {
        let ids: Vec<u32> = numbers(row).iter().map(|&id| id as u32).collect();
        let got = model.token_features(&ids).unwrap();
        assert_close(&format!("{what} text"), &wide(&got), &numbers(expected), tolerance);
    }
}

#[test]
fn every_good_file_gives_its_features() {
    let expected = golden::json("checkpoints/expected.json");
    let mut checked = 0;
    for (file, facts) in expected["files"].as_object().unwrap() {
        let Some(set) = facts["features"].as_str() else { continue };
        let variant = if set.starts_with("v1") { "nano_v1_mct" } else { "nano4" };
        let path = golden::path(&format!("checkpoints/{file}"));
        let model = Model::open(&path, &options(variant)).unwrap_or_else(|e| panic!("{file}: {e}"));
        check(file, &model, &expected["features"][set], TOLERANCE);
        checked += 1;
    }
    assert!(checked >= 12, "only {checked} files");
}

#[test]
fn directories_give_their_features() {
    let expected = golden::json("checkpoints/expected.json");
    for folder in ["dir_safetensors", "dir_bin"] {
        let path = golden::path(&format!("checkpoints/{folder}"));
        let model = Model::open(&path, &options("nano4")).unwrap();
        check(folder, &model, &expected["features"]["f32"], TOLERANCE);
    }
}

#[test]
fn a_deploy_file_gives_the_features_of_what_it_was_made_from() {
    let expected = golden::json("checkpoints/expected.json");
    let folder = tempfile::tempdir().unwrap();
    // A half-precision file is as far off as its eleven (eight) bits, from either form.
    let cases = [
        ("f32.safetensors", "nano4", "f32", FloatType::F32, TOLERANCE),
        ("zip.pt", "nano4", "f32", FloatType::F16, 5e-3),
        ("legacy.pt", "nano4", "f32", FloatType::Bf16, 3e-2),
        ("reparameterised.pt", "nano4", "reparameterised", FloatType::F32, TOLERANCE),
        ("v1.pt", "nano_v1_mct", "v1", FloatType::F32, TOLERANCE),
    ];
    for (file, variant, set, float, tolerance) in cases {
        let checkpoint =
            open_checkpoint(&golden::path(&format!("checkpoints/{file}")), Some(&toy(variant))).unwrap();
        let path = folder.path().join("deploy.safetensors");
        write_deploy(&checkpoint, &path, float).unwrap();
        let model = Model::open(&path, &LoadOptions::default()).unwrap();
        assert_eq!(model.variant(), &toy(variant));
        check(&format!("{file} as {float:?}"), &model, &expected["features"][set], tolerance);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "temporary files are left");
}

#[test]
fn a_damaged_deploy_file_is_an_error_or_still_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deploy.safetensors");
    let from = golden::path("checkpoints/f32.safetensors");
    write_deploy(&open_checkpoint(&from, Some(&toy("nano4"))).unwrap(), &path, FloatType::F32).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let broken = folder.path().join("broken.safetensors");
    for step in 0..400 {
        let mut bytes = whole.clone();
        let at = step * 7919 % header;
        bytes[at] ^= 1 << (step % 8);
        std::fs::write(&broken, bytes).unwrap();
        // Whatever the change did, nothing may panic.
        if let Ok(model) = Model::open(&broken, &options("nano4")) {
            let _ = model.pixel_features(&formula::image(
                "p",
                model.preprocess().size.0,
                model.preprocess().size.1,
            ));
            let _ = model.token_features(&[62, 5, 17, 33, 63, 0, 0, 0]);
        }
    }
    for end in [0, 7, 8, 100, header, header + 1, whole.len() - 1] {
        std::fs::write(&broken, &whole[..end]).unwrap();
        assert!(Model::open(&broken, &options("nano4")).is_err(), "{end} of {} bytes", whole.len());
    }
}

/// A deploy file of the nano toy, one tower's graph changed.
fn deploy_with(folder: &std::path::Path, change: impl Fn(&mut serde_json::Value)) -> std::path::PathBuf {
    let path = folder.join("made_up.safetensors");
    let from = golden::path("checkpoints/f32.safetensors");
    write_deploy(&open_checkpoint(&from, Some(&toy("nano4"))).unwrap(), &path, FloatType::F32).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    let text = &mut header["__metadata__"]["image"];
    let mut graph = serde_json::from_str(text.as_str().unwrap()).unwrap();
    change(&mut graph);
    *text = graph.to_string().into();
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(&path, [&length[..], header.as_bytes(), &bytes[end..]].concat()).unwrap();
    path
}

#[test]
fn made_up_deploy_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let open = |change: &dyn Fn(&mut serde_json::Value)| {
        Model::open(&deploy_with(folder.path(), change), &LoadOptions::default()).map(|_| ())
    };
    open(&|_| ()).unwrap();
    let error = |change: &dyn Fn(&mut serde_json::Value)| open(change).unwrap_err().to_string();
    let shared = error(&|graph| {
        // Each constant is packed: a small file could ask for any amount of memory.
        let node = graph["nodes"][1].clone();
        graph["nodes"].as_array_mut().unwrap().push(node);
    });
    assert!(shared.contains("`image.1.weight` is used twice"), "{shared}");
    let tapped = error(&|graph| graph["taps"] = serde_json::json!([["x", 1]]));
    assert!(tapped.contains("inner nodes"), "{tapped}");
    let cut = error(&|graph| graph["output"] = 1.into());
    assert!(cut.contains("`image` should give"), "{cut}");
}

#[test]
fn a_weight_too_large_for_f16_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    std::fs::write(&path, with_value("text.text_projection", 1e6)).unwrap();
    let checkpoint = open_checkpoint(&path, Some(&toy("nano4"))).unwrap();
    let deploy = folder.path().join("deploy.safetensors");
    let error = write_deploy(&checkpoint, &deploy, FloatType::F16).unwrap_err().to_string();
    assert!(error.contains("large.safetensors") && error.contains("text.text_projection"), "{error}");
    assert!(!deploy.exists());
    write_deploy(&checkpoint, &deploy, FloatType::Bf16).unwrap();
}

/// `f32.safetensors` with another first value in a tensor.
fn with_value(tensor: &str, value: f32) -> Vec<u8> {
    let mut bytes = std::fs::read(golden::path("checkpoints/f32.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = entries[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + header + start..][..4].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn not_finite_weights_are_an_error_that_names_file_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.safetensors");
    std::fs::write(&path, with_value("text.ln_final.bias", f32::NAN)).unwrap();
    let model = Model::open(&path, &options("nano4")).unwrap();
    let error = model.token_features(&[62, 5, 17, 33, 63, 0, 0, 0]).unwrap_err().to_string();
    assert!(error.contains("nan.safetensors") && error.contains("text.ln_final.bias"), "{error}");
}

#[test]
fn stage_maps_are_reachable() {
    let path = golden::path("checkpoints/f32.safetensors");
    let model = Model::open(&path, &options("nano4")).unwrap();
    let scopes = model.feature_scopes();
    let names: Vec<&str> = scopes.iter().map(String::as_str).collect();
    let image = mobileclip::RgbImage::new(64, 64, vec![100; 64 * 64 * 3]).unwrap();
    let maps = model.feature_maps(&image, &names).unwrap();
    let shapes: Vec<_> = maps.iter().map(|m| (m.shape.channels, m.shape.height, m.shape.width)).collect();
    assert_eq!(shapes, [(8, 16, 16), (8, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2), (64, 2, 2)]);
    let error = model.feature_maps(&image, &["visual.trunk.stages.9"]).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownScope { scope, .. } if scope == "visual.trunk.stages.9"),
        "{error}"
    );
}

#[test]
fn a_short_row_is_refused_where_padding_counts() {
    let path = golden::path("checkpoints/f32.safetensors");
    let model = Model::open(&path, &options("nano4")).unwrap();
    assert!(matches!(model.token_features(&[62, 63]), Err(Error::TokenRow { found: 2, expected: 8 })));
}
