//! From the golden checkpoint files to the reference implementations' features, through the whole library.

use mobileclip::{
    DeployOptions, Error, FloatType, Form, LoadOptions, Manifest, Model, Variant, open_checkpoint,
    write_deploy, write_deploy_with,
};
use mobileclip_arch::Role;
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula;
use mobileclip_testing::golden::{self, array, numbers};
use mobileclip_testing::toys::toy;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};

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
fn a_text_tower_with_a_cut_vocabulary_gets_its_own_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nano.safetensors");
    let nano = mobileclip::variant("MobileCLIP-nano").unwrap();
    formula::write_checkpoint(nano, &path).unwrap();
    let options = LoadOptions { variant: Some(nano.clone()), threads: 1, ..LoadOptions::default() };
    let model = Model::open(&path, &options).unwrap();
    let ids = model.tokenize("a pomegranate");
    assert_eq!(ids.iter().max().map(|&id| id as usize), Some(nano.text.vocabulary - 1));
    assert_eq!(model.text_features("a pomegranate").unwrap(), model.token_features(&ids).unwrap());
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

/// The header of a safetensors file, and where its data start.
fn header(bytes: &[u8]) -> (serde_json::Value, usize) {
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), end)
}

/// The file with another header.
fn with_header(bytes: &[u8], header_value: &serde_json::Value) -> Vec<u8> {
    let text = header_value.to_string();
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[header(bytes).1..]].concat()
}

#[test]
fn packed_compact_and_first_version_give_the_bits_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Wide enough that some products have a Strassen-Winograd level.
    let mut variant = toy("nano4");
    variant.text.context = 40;
    let blocks = &mut variant.text.blocks;
    (blocks.width, blocks.heads, blocks.hidden) = (64, 4, 224);
    let from = path("from.safetensors");
    write_formula(&variant, &from);
    let checkpoint = open_checkpoint(&from, Some(&variant)).unwrap();
    write_deploy(&checkpoint, &path("packed"), FloatType::F32).unwrap();
    let options = DeployOptions { float: FloatType::F32, is_compact: true };
    write_deploy_with(&checkpoint, &path("compact"), &options).unwrap();
    let compact = std::fs::read(path("compact")).unwrap();
    let mut first = header(&compact).0;
    first["__metadata__"]["version"] = "1".into();
    first["__metadata__"].as_object_mut().unwrap().remove("packed");
    std::fs::write(path("first"), with_header(&compact, &first)).unwrap();
    first["__metadata__"]["version"] = "3".into();
    std::fs::write(path("later"), with_header(&compact, &first)).unwrap();

    let packed = std::fs::read(path("packed")).unwrap();
    let (packed_header, start) = header(&packed);
    let names: serde_json::Value =
        serde_json::from_str(packed_header["__metadata__"]["packed"].as_str().unwrap()).unwrap();
    let with_sums =
        names.as_object().unwrap().values().filter(|has_sums| has_sums.as_bool().unwrap()).count();
    assert!(with_sums > 0 && names.as_object().unwrap().len() > 10, "{names}");
    for name in names.as_object().unwrap().keys() {
        let at = start as u64 + packed_header[name]["data_offsets"][0].as_u64().unwrap();
        assert_eq!(at % 64, 0, "`{name}` starts inside a line");
    }

    let features = |path: &std::path::Path| {
        let is_checkpoint = path == from;
        let variant = is_checkpoint.then(|| variant.clone());
        let model = Model::open(path, &LoadOptions { variant, ..LoadOptions::default() }).unwrap();
        let image = model.pixel_features(&formula::image("p", 64, 64)).unwrap();
        let ids: Vec<u32> = (0..40).map(|i| if i == 30 { 63 } else { i % 61 }).collect();
        (image, model.token_features(&ids).unwrap())
    };
    let expected = features(&from);
    for name in ["packed", "compact", "first"] {
        assert!(features(&path(name)) == expected, "`{name}` gives other bits");
    }
    let later = Model::open(&path("later"), &LoadOptions::default()).err().unwrap().to_string();
    assert!(later.contains("version 3"), "{later}");
}

#[test]
fn packed_tensors_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deploy.safetensors");
    let from = golden::path("checkpoints/f32.safetensors");
    write_deploy(&open_checkpoint(&from, Some(&toy("nano4"))).unwrap(), &path, FloatType::F32).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (good, start) = header(&whole);
    let packed: serde_json::Value =
        serde_json::from_str(good["__metadata__"]["packed"].as_str().unwrap()).unwrap();
    let name = packed.as_object().unwrap().keys().next().unwrap().clone();
    let error = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let model = Model::open(&path, &LoadOptions::default());
        let failed = model.and_then(|model| {
            model.pixel_features(&formula::image("p", 64, 64))?;
            model.token_features(&[62, 5, 17, 33, 63, 0, 0, 0])
        });
        failed.unwrap_err().to_string()
    };

    let mut as_rows = good.clone();
    as_rows["__metadata__"].as_object_mut().unwrap().remove("packed");
    assert!(error(&with_header(&whole, &as_rows)).contains("should have shape"));
    let mut other_type = good.clone();
    other_type[&name]["dtype"] = "I32".into();
    let message = error(&with_header(&whole, &other_type));
    assert!(message.contains(&format!("no f32 tensor `{name}`")), "{message}");
    let mut other_form = packed.clone();
    other_form[&name] = true.into();
    let mut bad = good.clone();
    bad["__metadata__"]["packed"] = other_form.to_string().into();
    let message = error(&with_header(&whole, &bad));
    assert!(message.contains(&name) && message.contains("sums"), "{message}");

    let mut not_finite = whole.clone();
    let at = start + good[&name]["data_offsets"][0].as_u64().unwrap() as usize;
    not_finite[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let message = error(&not_finite);
    assert!(message.contains(&name) && message.contains("inf"), "{message}");
}

/// A checkpoint in train form, filled by formula.
fn write_formula(variant: &Variant, path: &std::path::Path) {
    let manifest = Manifest::of(variant);
    let specs = manifest.of_form(Form::Train).filter(|spec| spec.role != Role::Counter);
    let tensors: Vec<(&str, &[usize], Vec<u8>)> = specs
        .map(|spec| {
            let values = formula::tensor(&spec.name, &spec.shape);
            (&*spec.name, &*spec.shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
    serialize_to_file(views, None, path).unwrap();
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
    let mut header = header(&bytes).0;
    let text = &mut header["__metadata__"]["image"];
    let mut graph = serde_json::from_str(text.as_str().unwrap()).unwrap();
    change(&mut graph);
    *text = graph.to_string().into();
    std::fs::write(&path, with_header(&bytes, &header)).unwrap();
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

#[test]
fn embeddings_of_reduced_photos_count_as_another_models() {
    use mobileclip::index::Embed;
    let path = golden::path("checkpoints/f32.safetensors");
    let whole = Model::open(&path, &options("nano4")).unwrap();
    let fast = Model::open(&path, &LoadOptions { fast_decode: true, ..options("nano4") }).unwrap();
    assert_ne!(whole.model().fingerprint, fast.model().fingerprint);
    assert!(fast.model().name.contains("fast decoding"), "{}", fast.model().name);
    let size = fast.preprocess().size;
    assert_eq!(fast.decode_options().reduce_to, Some(size));
}
