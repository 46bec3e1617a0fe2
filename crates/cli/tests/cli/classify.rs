//! `mobileclip classify`, end to end.

use crate::common::{Place, photo};

#[test]
fn json_has_the_documented_form_best_first() {
    let place = Place::new();
    let coffee = photo("coffee_444.jpg");
    let coffee = coffee.to_str().unwrap();
    let ran = place.run(&["classify", coffee, "--labels", "cup, dog ,cat", "--json"]).ends(0);
    let lines = ran.lines();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["path"], coffee);
    let scores = lines[0]["scores"].as_array().unwrap();
    let mut labels: Vec<&str> = scores.iter().map(|score| score["label"].as_str().unwrap()).collect();
    let number = |i: usize, key: &str| scores[i][key].as_f64().unwrap();
    let sum: f64 = (0..3).map(|i| number(i, "probability")).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    for i in 0..2 {
        assert!(number(i, "logit") >= number(i + 1, "logit"));
        let ratio = (number(i, "logit") - number(i + 1, "logit")).exp();
        assert!((number(i, "probability") / number(i + 1, "probability") / ratio - 1.0).abs() < 1e-4);
    }
    labels.sort();
    assert_eq!(labels, ["cat", "cup", "dog"]);
    assert_eq!(ran.err, "");
    // The same in whatever company a photo and a label are.
    let again = place
        .run(&["classify", coffee, coffee, coffee, "--labels", "cat,cup,dog", "--json", "--top", "1"])
        .ends(0);
    for line in again.lines() {
        assert_eq!(line["scores"].as_array().unwrap().len(), 1);
        assert_eq!(line["scores"][0]["logit"], scores[0]["logit"]);
    }
}

#[test]
fn the_table_has_a_line_a_label() {
    let place = Place::new();
    let labels = place.write("labels.txt", "\u{feff}a cat\r\na dog\r\n日本語\r\nbird\nfish\nhorse\n");
    place.photo("china.jpg", "a.jpg");
    let ran = place.run(&["classify", "a.jpg", "--labels-file", labels.to_str().unwrap()]).ends(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, "a.jpg"));
    assert!(lines[1..].iter().all(|line| line.contains(" %  ")), "{}", ran.out);
    let all = place.run(&["classify", "a.jpg", "--labels-file", "labels.txt", "--top", "9"]).ends(0);
    assert_eq!(all.out.lines().count(), 7);
    assert!(all.out.contains("  日本語\n"));
}

#[test]
fn templates_are_averaged() {
    let place = Place::new();
    place.photo("china.jpg", "a.jpg");
    let logit = |templates: &[&str]| {
        let mut args = vec!["classify", "a.jpg", "--labels", "cat,dog", "--json"];
        args.extend(templates.iter().flat_map(|template| ["--template", template]));
        let line = place.run(&args).ends(0).lines().remove(0);
        let scores = line["scores"].as_array().unwrap().clone();
        scores.iter().find(|score| score["label"] == "cat").unwrap()["logit"].as_f64().unwrap()
    };
    let (default, a, b) = (logit(&[]), logit(&["a photo of a {}"]), logit(&["a sketch of a {}"]));
    assert_eq!(default, a);
    assert_ne!(a, b);
    let both = logit(&["a photo of a {}", "a sketch of a {}"]);
    assert_ne!(both, a);
    // Their order is nothing but another order of the sum.
    assert!((both - logit(&["a sketch of a {}", "a photo of a {}"])).abs() < 1e-3);
    place.run(&["classify", "a.jpg", "--labels", "cat", "--template", "a photo"]).fails(&["a photo", "{}"]);
}

#[test]
fn photos_that_fail_are_lines_of_their_own() {
    let place = Place::new();
    place.photo("china.jpg", "good.jpg");
    place.write("text.jpg", "not a photo");
    place.write("empty.png", "");
    let photos = ["good.jpg", "text.jpg", "missing.jpg", "empty.png", "good.jpg"];
    let args: Vec<&str> = ["classify", "--labels", "cat,dog", "--json"].into_iter().chain(photos).collect();
    let ran = place.run(&args).ends(1);
    let lines = ran.lines();
    assert_eq!(lines.iter().map(|line| line["path"].as_str().unwrap()).collect::<Vec<_>>(), photos);
    for (line, reason) in
        lines.iter().zip([None, Some("not an image"), Some("cannot read"), Some("empty"), None])
    {
        assert_eq!(line["scores"].is_array(), reason.is_none());
        if let Some(reason) = reason {
            assert!(line["error"].as_str().unwrap().contains(reason), "{line}");
            assert_eq!(line.as_object().unwrap().len(), 2);
        }
    }
    let table = place.run(&["classify", "--labels", "cat,dog", "text.jpg", "good.jpg"]).ends(1);
    table.says(&["mobileclip: text.jpg: not an image"]);
    assert!(table.out.starts_with("good.jpg\n"), "{}", table.out);
    place
        .run(&["classify", "--labels", "cat", "text.jpg", "missing.jpg"])
        .ends(2)
        .says(&["text.jpg", "missing.jpg"]);
}

#[test]
fn photos_are_turned_unless_told_otherwise() {
    let place = Place::new();
    // Eight files of the same pixels with eight orientations.
    let logits = |extra: &[&str]| -> Vec<f64> {
        let names: Vec<String> =
            (1..=8).map(|i| photo(&format!("exif_{i}.jpg")).to_str().unwrap().to_owned()).collect();
        let args: Vec<&str> = (["classify", "--labels", "cat", "--json"].into_iter())
            .chain(names.iter().map(String::as_str))
            .chain(extra.iter().copied())
            .collect();
        place
            .run(&args)
            .ends(0)
            .lines()
            .iter()
            .map(|line| line["scores"][0]["logit"].as_f64().unwrap())
            .collect()
    };
    let (turned, stored) = (logits(&[]), logits(&["--no-exif"]));
    assert_eq!(stored, [turned[0]; 8]);
    assert!(turned[1..].iter().all(|logit| *logit != turned[0]), "{turned:?}");
}

#[test]
fn a_limit_of_megapixels_can_be_set() {
    let place = Place::new();
    let large = photo("retina_large.jpg");
    let large = large.to_str().unwrap();
    place.run(&["classify", large, "--labels", "cat", "--max-megapixels", "2"]).ends(0);
    let ran = place.run(&["classify", large, "--labels", "cat", "--max-megapixels", "1"]).ends(2);
    ran.says(&["1411 x 1411", "limit", "1000000"]);
}

#[test]
fn labels_are_kept_for_the_next_run() {
    let place = Place::new();
    place.photo("china.jpg", "a.jpg");
    let run = |args: &[&str]| {
        let all: Vec<&str> = ["classify", "a.jpg", "--labels", "cat,dog", "--json"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        place.run(&all).ends(0).out
    };
    let plain = run(&["--no-cache"]);
    assert!(!place.path("cache").exists());
    assert_eq!(run(&[]), plain);
    assert_eq!(std::fs::read_dir(place.path("cache")).unwrap().count(), 1);
    assert_eq!(run(&[]), plain);
    // What is stored is what is used: a forged cache shows.
    let file = std::fs::read_dir(place.path("cache")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len() - 4;
    bytes[end - 64..end].fill(0);
    let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&crc);
    std::fs::write(&file, &bytes).unwrap();
    assert_ne!(run(&[]), plain);
    assert_eq!(run(&["--no-cache"]), plain);
    // A damaged one does not.
    bytes.truncate(100);
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(run(&[]), plain);
}
