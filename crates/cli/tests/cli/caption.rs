//! `mobileclip caption`, end to end.

use mobileclip::Variant;
use mobileclip_testing::formula;

use crate::common::{Place, Ran};

const COCA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_coca.toml");

/// A place with a captioner in it.
fn place() -> Place {
    let place = Place::new();
    let variant = Variant::parse(&std::fs::read_to_string(COCA).unwrap()).unwrap();
    formula::write_checkpoint(&variant, &place.path("coca.safetensors")).unwrap();
    place.photo("china.jpg", "a.jpg");
    place.photo("coffee_444.jpg", "b.jpg");
    place
}

fn run(place: &Place, args: &[&str]) -> Ran {
    let model = ["--model", "coca.safetensors", "--variant", COCA];
    place.run_plain(&[&["caption"], args, &model].concat())
}

fn captions(line: &serde_json::Value) -> Vec<&str> {
    line["captions"].as_array().unwrap().iter().map(|caption| caption.as_str().unwrap()).collect()
}

#[test]
fn captions_have_the_documented_form_and_depend_on_no_company() {
    let place = place();
    place.write("c.jpg", "no photo");
    let all = run(&place, &["a.jpg", "b.jpg", "c.jpg", "-n", "3", "--json"]).ends(1);
    let lines = all.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["path"], captions(&lines[0]).len()), (&"a.jpg".into(), 3));
    assert!(lines[2]["error"].as_str().unwrap().contains("c.jpg"), "{}", all.out);
    // With these weights nearly every word is as likely as another.
    let first = captions(&lines[0]);
    assert!(first[0] != first[1] && captions(&lines[1]) != first, "{}", all.out);
    let alone = run(&place, &["a.jpg", "-n", "3", "--json", "--batch", "1", "-j", "1"]).ends(0);
    assert_eq!(alone.lines()[0], lines[0]);
    let other = run(&place, &["a.jpg", "-n", "3", "--json", "--seed", "1"]).ends(0);
    assert!(captions(&other.lines()[0]) != first);
    // The same for people: names only where there are several photos.
    let plain = run(&place, &["a.jpg", "-n", "3"]).ends(0);
    assert_eq!(plain.out.lines().collect::<Vec<_>>(), first);
    let table = run(&place, &["a.jpg", "b.jpg", "--method", "greedy"]).ends(0);
    let rows: Vec<&str> = table.out.lines().collect();
    assert_eq!((rows.len(), rows[0], rows[2]), (4, "a.jpg", "b.jpg"));
    assert!(rows[1].starts_with("  "));
}

#[test]
fn methods_lengths_and_beginnings_are_obeyed() {
    let place = place();
    let words = |args: &[&str]| run(&place, &[&["a.jpg", "--whole"], args].concat()).ends(0).out;
    let begun = words(&["--method", "greedy", "--beginning", "a close-up of"]);
    assert!(begun.starts_with("a close - up of "), "{begun}");
    let (short, long) = (words(&["--max-ids", "8"]), words(&["--max-ids", "77"]));
    assert!(long.len() > 3 * short.len(), "{short} {long}");
    let drawn = |seed| words(&["--method", "top-k", "--top-k", "1", "--seed", seed]);
    assert_eq!(drawn("1"), words(&["--method", "greedy"]));
    assert_eq!(drawn("2"), drawn("1"));
    assert!(!words(&["--method", "beam", "--beams", "3"]).trim().is_empty());
}

#[test]
fn what_cannot_be_is_one_line() {
    let place = place();
    run(&place, &["a.jpg", "--max-ids", "78"]).fails(&["context of 76 allows 77"]);
    run(&place, &["a.jpg", "--top-p", "0"]).fails(&["top-p is 0"]);
    run(&place, &["a.jpg", "--max-ids", "5"]).fails(&["there must be room"]);
    place.run(&["caption", "a.jpg"]).fails(&["tiny writes no captions", "coca_ViT-L-14"]);
    place.run(&["convert", "tiny.safetensors", "fused.safetensors"]).ends(0);
    let fused = ["caption", "a.jpg", "--model", "fused.safetensors"];
    place.run_plain(&fused).fails(&["tiny writes no captions"]);
    let inspected = place.run_plain(&["inspect", "--model", "coca.safetensors", "--variant", COCA]).ends(0);
    assert!(inspected.out.contains("parameters of the decoder"), "{}", inspected.out);
}
