//! The captioner against open_clip's numbers.

use mobileclip_arch::{Array, Coca, Manifest, Reference, Variant};
use mobileclip_testing::captioner::{Golden, check_rows, golden};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::Formula;
use mobileclip_testing::golden::{self as goldens, array, count, number};
use mobileclip_testing::toys::toy;

/// Both sides compute in double precision; the goldens are stored with nine digits.
const TOLERANCE: f64 = 1e-7;

fn check(name: &str, variant: &Variant, golden: &Golden, images: usize) {
    let reference = Reference::new(Formula::of(&Manifest::of(variant)));
    let coca: Coca = variant.coca().unwrap();
    for (b, row) in golden.rows.iter().enumerate().take(images) {
        let image = coca.image(&reference, &Array::new(row.shape, row.pixels.clone()));
        row.image_features.check(&format!("{name} image {b}"), &image.features.values, TOLERANCE);
        check_rows(&format!("{name} image tokens {b}"), &image.tokens, &row.image_tokens, TOLERANCE);
        let text = coca.text(&reference, &Array::ids(&row.ids));
        row.text_features.check(&format!("{name} text {b}"), &text.features.values, TOLERANCE);
        check_rows(&format!("{name} text tokens {b}"), &text.tokens, &row.text_tokens, TOLERANCE);
        let memory = coca.memory(&reference, &image.tokens);
        let logits = coca.logits(&reference, &text.tokens.trim(0, row.ids.len() - row.length), &memory);
        check_rows(&format!("{name} logits {b}"), &logits, &row.logits, TOLERANCE);
        for (place, &best) in row.argmax.iter().enumerate() {
            let of = |c: usize| logits.values[c * row.length + place];
            let got = (0..logits.shape.channels).fold(0, |best, c| if of(c) > of(best) { c } else { best });
            assert_eq!(got, best, "{name} {b} at {place}");
        }
    }
}

#[test]
fn the_toy_gives_the_golden_numbers() {
    check("toy", &toy("toy_coca"), &golden("toy", None), 4);
}

#[test]
fn the_toy_with_a_longer_context_gives_the_golden_numbers() {
    let mut variant = toy("toy_coca");
    variant.text.context = 20;
    check("toy, 20 ids", &variant, &golden("toy", Some("longer_context")), 4);
}

#[test]
#[ignore = "some minutes in double precision"]
fn the_published_sizes_give_the_golden_numbers() {
    for name in ["coca_ViT-B-32", "coca_ViT-L-14"] {
        check(name, mobileclip_arch::variant(name).unwrap(), &golden(name, None), 2);
    }
}

#[test]
fn manifests_have_the_golden_keys() {
    let toy = toy("toy_coca");
    let published =
        ["coca_ViT-B-32", "coca_ViT-L-14"].map(|name| (name, mobileclip_arch::variant(name).unwrap()));
    for (name, variant) in published.into_iter().chain([("toy", &toy)]) {
        let json = goldens::json(&format!("captioner/{name}.json"));
        let manifest = Manifest::of(variant);
        let mut got: Vec<_> = manifest.tensors.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
        let mut expected: Vec<_> = array(&json["keys"])
            .iter()
            .map(|row| {
                (row[0].as_str().unwrap().to_owned(), array(&row[1]).iter().map(count).collect::<Vec<_>>())
            })
            .collect();
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{name}");
        if let Some(total) = json.get("parameters") {
            assert_eq!(
                manifest.parameters(mobileclip_arch::Form::Train, None),
                count(total) as u64,
                "{name}"
            );
        }
    }
}

#[test]
fn other_context_lengths_get_the_golden_positions() {
    let cases = goldens::json("captioner/positions.json");
    for case in array(&cases["cases"]) {
        let shape: Vec<usize> = array(&case["shape"]).iter().map(count).collect();
        let rows = count(&case["new_shape"][0]);
        let key = case["key"].as_str().unwrap();
        let table = mobileclip_testing::formula::tensor(key, &shape);
        let table: Vec<f64> = table.iter().map(|&v| f64::from(v)).collect();
        let got = mobileclip_arch::resize_text_positions(&table, shape[1], rows);
        let norm = got.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((norm / number(&case["norm"]) - 1.0).abs() < TOLERANCE, "{key} {shape:?} to {rows}: {norm}");
        for row in array(&case["rows"]) {
            let at = count(&row["row"]);
            let expected = goldens::numbers(&row["values"]);
            assert_close(
                &format!("{rows} rows, row {at}"),
                &got[at * shape[1]..][..shape[1]],
                &expected,
                TOLERANCE,
            );
        }
    }
}

#[test]
fn captioners_that_contradict_themselves_are_refused() {
    let toml =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/variants/toy_coca.toml"));
    let toml = toml.unwrap();
    for (from, to, says) in [
        ("queries = 9", "queries = 1", "queries is 1"),
        ("pooler_heads = 4", "pooler_heads = 5", "do not divide"),
        ("embed_dim = 24", "embed_dim = 25", "embed_dim is 25"),
        ("causal = true", "causal = false", "causal"),
    ] {
        assert!(toml.contains(from));
        let error = Variant::parse(&toml.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
