//! `--precision`, end to end.

use crate::common::{Place, photo};

fn embedding(place: &Place, precision: &str) -> Vec<f64> {
    let flower = photo("flower.jpg");
    let out = format!("{precision}.jsonl");
    let arguments = ["embed", flower.to_str().unwrap(), "--out", &out, "--precision", precision];
    place.run(&arguments).ends(0);
    let table = std::fs::read_to_string(place.path(&out)).unwrap();
    let row: serde_json::Value = serde_json::from_str(table.lines().last().unwrap()).unwrap();
    let row = row.as_object().unwrap().values().find_map(|value| value.as_array()).unwrap();
    row.iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn embeddings_are_near_those_of_f32_and_not_the_same() {
    let place = Place::new();
    let single = embedding(&place, "f32");
    for (precision, least) in [("bf16", 0.9995), ("int8", 0.995)] {
        let narrow = embedding(&place, precision);
        let cosine: f64 = single.iter().zip(&narrow).map(|(a, b)| a * b).sum();
        assert!(cosine >= least && narrow != single, "{precision}: cosine {cosine}");
    }
    let ran = place.run(&["embed", "--text", "a", "--out", "a.npy", "--precision", "f16"]).ends(2);
    ran.says(&["f16", "bf16, int8"]);
}

#[test]
fn an_index_is_of_one_precision() {
    let place = Place::new();
    place.photo("flower.jpg", "photos/flower.jpg");
    place.run(&["index", "photos", "--out", "idx", "--precision", "int8"]).ends(0);
    place.run(&["search", "idx", "a dog", "--precision", "int8"]).ends(0);
    for precision in ["f32", "bf16"] {
        let ran = place.run(&["search", "idx", "a dog", "--precision", precision]);
        ran.fails(&["was made with tiny, int8"]);
    }
}

/// The same labels in another precision are not taken from the cache.
#[test]
fn labels_are_cached_for_each_precision() {
    let place = Place::new();
    let flower = photo("flower.jpg");
    let logits = |precision: &str| {
        let labels = ["classify", flower.to_str().unwrap(), "--labels", "cat,dog", "--json"];
        let ran = place.run(&[&labels[..], &["--precision", precision]].concat()).ends(0);
        ran.lines()[0]["scores"].to_string()
    };
    let cold: Vec<String> = ["f32", "bf16", "int8"].into_iter().map(logits).collect();
    let warm: Vec<String> = ["f32", "bf16", "int8"].into_iter().map(logits).collect();
    assert_eq!(cold, warm);
    assert!(cold[0] != cold[1] && cold[1] != cold[2]);
}

#[test]
fn bench_and_inspect_say_what_runs() {
    let place = Place::new();
    let arguments = ["bench", "--runs", "1", "--json", "--profile", "--precision", "bf16"];
    let report = place.run(&arguments).ends(0).lines().remove(0);
    assert_eq!(report["precision"], "bf16");
    let facts = place.run(&["inspect", "--json"]).ends(0).lines().remove(0);
    let native = facts["native_precisions"].as_array().unwrap();
    assert_eq!(native[0], "f32");
    assert_eq!(native.iter().any(|name| name == "bf16"), report["is_precision_native"] == true);
    let precisions: Vec<&str> =
        report["profile"].as_array().unwrap().iter().filter_map(|node| node["precision"].as_str()).collect();
    assert!(precisions.contains(&"f32") && precisions.contains(&"bf16"), "{precisions:?}");
}
