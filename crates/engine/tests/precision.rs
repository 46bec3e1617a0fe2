//! Towers in bf16 and int8 against the reference implementations' numbers: near, and no nearer than the precision allows.

use std::sync::Arc;

use mobileclip_arch::{Dialect, Manifest, Tower as Which, Variant};
use mobileclip_engine::{Input, Isa, Pool, Precision, Tower};
use mobileclip_graph::Graph;
use mobileclip_testing::compare::relative_error;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden;
use mobileclip_testing::toys::{TOYS, toy};

fn tower(variant: &Variant, which: Which, isa: Isa, threads: usize, precision: Precision) -> Tower {
    let weights = Arc::new(Formula::of(&Manifest::of(variant)));
    let graph = Graph::trace(variant, which, weights.as_ref(), &[]);
    let shape = variant.input(which);
    let usual = (shape.height, shape.width);
    Tower::new(graph, weights, isa, Arc::new(Pool::new(threads)), usual, precision).unwrap()
}

fn pixels(label: &str, golden: &golden::Model) -> Vec<f32> {
    let shape = Which::Image.input(golden.size.0, golden.size.1);
    formula::pixels(label, shape, golden.mean, golden.std).iter().map(|&v| v as f32).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The least cosine that is promised.
fn least_cosine(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1.0 - 1e-9,
        Precision::Bf16 => 0.9995,
        Precision::Int8 => 0.995,
    }
}

fn check(
    name: &str,
    golden: &golden::Model,
    got: &[f32],
    expected: &[f64],
    precision: Precision,
    what: &str,
) {
    let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
    let (cosine, error) = (cosine(&got, expected), relative_error(&got, expected));
    println!("{name} {precision:?} {what}: 1 - cosine {:.2e}, relative error {error:.2e}", 1.0 - cosine);
    assert!(cosine >= least_cosine(precision), "{name} {precision:?} {what}: cosine {cosine}");
    // Else another precision ran than was asked for.
    assert!(error > 1e-4, "{name} {precision:?} {what} {:?}: error {error:e}", golden.size);
}

fn check_model(name: &str, variant: &Variant, golden: &golden::Model, isa: Isa, count: usize) {
    for precision in [Precision::Bf16, Precision::Int8] {
        let image = tower(variant, Which::Image, isa, 2, precision);
        let (height, width) = golden.size;
        for (label, expected) in golden.images.iter().zip(&golden.image_features).take(count) {
            let values = pixels(label, golden);
            let got = image.run(Input::Pixels { height, width, values: &values }).unwrap();
            check(name, golden, &got.features, expected, precision, &format!("image {label}"));
        }
        drop(image);
        let text = tower(variant, Which::Text, isa, 2, precision);
        for (ids, expected) in golden.token_rows.iter().zip(&golden.text_features).take(count) {
            let got = text.run(Input::Ids(ids)).unwrap();
            check(name, golden, &got.features, expected, precision, "text");
        }
    }
}

#[test]
fn toys_are_near_the_golden_features_on_every_instruction_set() {
    for name in TOYS {
        let variant = toy(name);
        if variant.dialect == Dialect::OpenClip {
            let golden = golden::model(&format!("toy/{name}"));
            for isa in Isa::with_each_extension() {
                check_model(name, &variant, &golden, isa, usize::MAX);
            }
        }
    }
}

#[test]
fn s0_is_near_the_golden_features() {
    let variant = mobileclip_arch::variant("MobileCLIP2-S0").unwrap();
    check_model("MobileCLIP2-S0", variant, &golden::model("MobileCLIP2-S0"), Isa::detect(), usize::MAX);
}

/// `cargo test --release -p mobileclip-engine --test precision -- --ignored --nocapture` prints the errors.
#[test]
#[ignore = "minutes in release, and 8 GB for ViT-H-14"]
fn every_variant_is_near_the_golden_features() {
    for variant in mobileclip_arch::variants() {
        let stored = golden::path(&format!("models/{}.safetensors", variant.name)).exists();
        if stored && variant.dialect == Dialect::OpenClip {
            let golden = golden::model(&variant.name);
            check_model(&variant.name, variant, &golden, Isa::detect(), usize::MAX);
        }
    }
}

#[test]
fn the_same_bits_for_any_threads_and_any_batch() {
    let variant = toy("toy5");
    let golden = golden::model("toy/toy5");
    let (height, width) = golden.size;
    let values: Vec<Vec<f32>> = ["a", "b", "c"].iter().map(|label| pixels(label, &golden)).collect();
    let inputs: Vec<Input> = values.iter().map(|values| Input::Pixels { height, width, values }).collect();
    for precision in [Precision::Bf16, Precision::Int8] {
        for isa in Isa::with_each_extension() {
            let one = tower(&variant, Which::Image, isa, 1, precision);
            let expected: Vec<_> = inputs.iter().map(|&input| one.run(input).unwrap()).collect();
            for threads in [2, 3] {
                let image = tower(&variant, Which::Image, isa, threads, precision);
                assert!(
                    image.run_batch(&inputs).unwrap() == expected,
                    "{precision:?} batch on {threads} threads"
                );
                for (input, expected) in inputs.iter().zip(&expected) {
                    assert!(image.run(*input).unwrap() == *expected, "{precision:?} on {threads} threads");
                }
            }
        }
    }
}
