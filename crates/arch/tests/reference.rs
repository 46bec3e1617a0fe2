//! The reference reading and the manifest against the reference implementations' numbers.

use std::collections::BTreeMap;

use mobileclip_arch::{Array, Dialect, Form, Manifest, Reference, Role, Tower, Variant, Weights};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden::{self, array, count, number, numbers};
use mobileclip_testing::toys::{TOYS, toy};

/// Both sides compute in double precision; the goldens are stored with nine digits.
const TOLERANCE: f64 = 1e-7;

/// At another resolution a table of positions is resampled first, which the reference implementations do at load time and
/// round to single precision (5.4e-7 in L-14 at 280).
const RESAMPLED_TOLERANCE: f64 = 2e-6;

fn canonical_toys() -> impl Iterator<Item = (&'static str, Variant)> {
    TOYS.iter().map(|&name| (name, toy(name))).filter(|(_, v)| v.dialect == Dialect::OpenClip)
}

fn image(golden: &golden::Model, index: usize) -> Array {
    let shape = Tower::Image.input(golden.size.0, golden.size.1);
    Array::new(shape, formula::pixels(&golden.images[index], shape, golden.mean, golden.std))
}

#[test]
fn toys_give_the_golden_features() {
    for (name, variant) in canonical_toys() {
        let golden = golden::model(&format!("toy/{name}"));
        let reference = Reference::new(Formula::of(&Manifest::of(&variant)));
        for (i, expected) in golden.image_features.iter().enumerate() {
            let got = variant.encode_image(&reference, &image(&golden, i));
            assert_close(&format!("{name} image {i}"), &got.values, expected, TOLERANCE);
        }
        for (i, expected) in golden.text_features.iter().enumerate() {
            let got = variant.encode_text(&reference, &Array::ids(&golden.token_rows[i]));
            assert_close(&format!("{name} text {i}"), &got.values, expected, TOLERANCE);
        }
    }
}

#[test]
fn every_tapped_scope_of_the_toys_gives_the_golden_activations() {
    for (name, variant) in canonical_toys() {
        let golden = golden::model(&format!("toy/{name}"));
        let reference = Reference::new(Formula::of(&Manifest::of(&variant)));
        variant.encode_image(&reference, &image(&golden, 0));
        variant.encode_text(&reference, &Array::ids(&golden.token_rows[0]));
        check_taps(name, &golden, &reference.into_taps());
    }
}

fn check_taps(name: &str, golden: &golden::Model, taps: &BTreeMap<String, Array>) {
    let list = &golden.json["taps"];
    // Toys have one list, full-size models one for each tower.
    let list: Vec<_> = match list.is_array() {
        true => array(list).iter().collect(),
        false => ["image", "text"].iter().flat_map(|&tower| array(&list[tower])).collect(),
    };
    let mut checked = 0;
    for tap in list {
        let scope = tap["name"].as_str().unwrap();
        let Some(got) = taps.get(scope) else { continue };
        let item = &tap["items"][0];
        let shape: Vec<usize> = array(&tap["shape"]).iter().map(count).collect();
        let got = in_golden_layout(got, shape.len() == 2);
        assert_eq!(got.len(), shape.iter().product::<usize>(), "{name} {scope}");
        let expected = numbers(&item["values"]);
        let step = (got.len() / expected.len()).max(1);
        let sampled: Vec<f64> = (0..expected.len()).map(|i| got[i * step]).collect();
        assert_close(&format!("{name} {scope}"), &sampled, &expected, TOLERANCE);
        let mean = got.iter().sum::<f64>() / got.len() as f64;
        let tolerance = 1e-6 * number(&item["std"]).max(1e-3);
        assert!((mean - number(&item["mean"])).abs() < tolerance, "{name} {scope}: mean {mean}");
        checked += 1;
    }
    assert!(checked >= 6, "{name}: only {checked} taps compared");
}

/// Row-major C × H × W, or tokens × width.
fn in_golden_layout(x: &Array, is_tokens: bool) -> Vec<f64> {
    if !is_tokens {
        return x.values.clone();
    }
    let (width, tokens) = (x.shape.channels, x.shape.pixels());
    (0..tokens * width).map(|i| x.values[i % width * tokens + i / width]).collect()
}

#[test]
fn manifests_have_the_golden_keys_and_parameter_counts() {
    let published = mobileclip_arch::variants().iter().cloned().map(|v| (v.name.clone(), v));
    let toys = canonical_toys().map(|(name, v)| (format!("toy/{name}"), v));
    let mut checked = 0;
    for (name, variant) in published.chain(toys) {
        if variant.dialect != Dialect::OpenClip || !golden::path(&format!("models/{name}.keys.json")).exists()
        {
            continue;
        }
        let manifest = Manifest::of(&variant);
        let keys = golden::json(&format!("models/{name}.keys.json"));
        for (form, list) in [(Form::Train, "train"), (Form::Deploy, "reparameterised")] {
            // A model without branches says so in words instead of a second list.
            let list = if keys[list].is_array() { &keys[list] } else { &keys["train"] };
            let mut expected: Vec<(String, Vec<usize>)> = array(list)
                .iter()
                .map(|row| (row[0].as_str().unwrap().into(), array(&row[1]).iter().map(count).collect()))
                .collect();
            let mut got: Vec<_> = manifest.of_form(form).map(|t| (t.name.clone(), t.shape.clone())).collect();
            expected.sort();
            got.sort();
            assert_eq!(got, expected, "{name} {form:?}");
            checked += 1;
        }
        let json = golden::json(&format!("models/{name}.json"));
        let parameters = &json["parameters"];
        if let Some(total) = parameters.get("total") {
            assert_eq!(manifest.parameters(Form::Train, None), count(total) as u64, "{name}");
            assert_eq!(
                manifest.parameters(Form::Train, Some(Tower::Image)),
                count(&parameters["image"]) as u64
            );
            assert_eq!(manifest.parameters(Form::Deploy, None), count(&parameters["deploy_total"]) as u64);
        }
    }
    assert!(checked > 20, "only {checked} key lists compared");
}

#[test]
fn aliased_variants_compute_what_their_goldens_name() {
    for variant in mobileclip_arch::variants() {
        let path = golden::path(&format!("models/{}.json", variant.name));
        if !path.exists() {
            continue;
        }
        let json = golden::json(&format!("models/{}.json", variant.name));
        let preprocess = &json["facts"]["preprocess"];
        let expected = |key: &str| golden::triple(&preprocess[key]).map(|v| v as f32);
        let got = (variant.preprocess.mean, variant.preprocess.std);
        assert_eq!(got, (expected("mean"), expected("std")), "{}", variant.name);
        let interpolation = serde_json::to_value(variant.preprocess.interpolation).unwrap();
        assert_eq!(interpolation, preprocess["interpolation"], "{}", variant.name);
        if let Some(same) = json.get("same_network_keys_and_goldens_as") {
            let other = mobileclip_arch::variant(same.as_str().unwrap()).unwrap();
            assert_eq!((&variant.image, &variant.text), (&other.image, &other.text), "{}", variant.name);
        }
    }
}

#[test]
fn other_resolutions_give_the_golden_features() {
    resolutions(|name, size| {
        name.starts_with("toy") || (name == "MobileCLIP2-S0" && size.0 * size.1 < 60_000)
    });
}

#[test]
#[ignore = "some five minutes in double precision"]
fn all_other_resolutions_give_the_golden_features() {
    resolutions(|_, _| true);
}

fn resolutions(wanted: impl Fn(&str, (usize, usize)) -> bool) {
    let mut checked = 0;
    for case in array(&golden::json("models/resolutions.json")["cases"]) {
        let name = case["model"].as_str().unwrap();
        let size = (count(&case["height_width"][0]), count(&case["height_width"][1]));
        let variant = match name.starts_with("toy") {
            true => toy(name),
            false => match mobileclip_arch::variant(name) {
                Some(variant) => variant.clone(),
                None => continue,
            },
        };
        if variant.dialect != Dialect::OpenClip || !wanted(name, size) {
            continue;
        }
        let key = case["key"].as_str().unwrap();
        let (mean, std) = (golden::triple(&case["mean"]), golden::triple(&case["std"]));
        let shape = Tower::Image.input(size.0, size.1);
        let input = Array::new(shape, formula::pixels(case["label"].as_str().unwrap(), shape, mean, std));
        let reference = Reference::new(Formula::of(&Manifest::of(&variant)));
        let got = variant.encode_image(&reference, &input).values;
        let expected = numbers(&case["features"]["values"]);
        let step = if got.len() < 32 { 1 } else { got.len() / 32 };
        let sampled: Vec<f64> = (0..expected.len()).map(|i| got[i * step]).collect();
        assert_close(key, &sampled, &expected, RESAMPLED_TOLERANCE);
        checked += 1;
    }
    assert!(checked > 2, "only {checked} cases");
}

#[test]
fn s0_gives_the_golden_features() {
    full_size("MobileCLIP2-S0", 1, 1);
}

#[test]
#[ignore = "some ten minutes in double precision, 8 GB for ViT-H-14"]
fn every_variant_gives_the_golden_features() {
    for variant in mobileclip_arch::variants() {
        let stored = golden::path(&format!("models/{}.safetensors", variant.name)).exists();
        if stored && variant.dialect == Dialect::OpenClip {
            full_size(&variant.name, 2, 3);
        }
    }
}

fn full_size(name: &str, images: usize, texts: usize) {
    let variant = mobileclip_arch::variant(name).unwrap();
    let golden = golden::model(name);
    let reference = Reference::new(Formula::of(&Manifest::of(variant)));
    for i in 0..images {
        let got = variant.encode_image(&reference, &image(&golden, i));
        assert_close(&format!("{name} image {i}"), &got.values, &golden.image_features[i], TOLERANCE);
    }
    for i in 0..texts {
        let got = variant.encode_text(&reference, &Array::ids(&golden.token_rows[i]));
        assert_close(&format!("{name} text {i}"), &got.values, &golden.text_features[i], TOLERANCE);
    }
    if images == 1 {
        check_taps(name, &golden, &reference.into_taps());
    }
}

#[test]
fn counters_are_scalars_and_statistics_are_no_parameters() {
    let manifest = Manifest::of(&toy("toy4"));
    let weights = Formula::of(&manifest);
    for tensor in manifest.of_form(Form::Train) {
        match tensor.role {
            Role::Counter => assert!(tensor.shape.is_empty() && tensor.name.ends_with("num_batches_tracked")),
            Role::Statistic => assert!(tensor.name.contains(".running_")),
            Role::Parameter => assert!(!tensor.name.contains(".running_")),
        }
        assert_eq!(weights.f32(&tensor.name).len() as u64, tensor.elements(), "{}", tensor.name);
    }
}
