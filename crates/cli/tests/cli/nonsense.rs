//! Inputs that make no sense: the right answer or one line that says what and where, never a panic.

use mobileclip_testing::golden;

use crate::common::Place;

#[test]
fn empty_labels_are_errors() {
    let place = Place::new();
    place.photo("china.jpg", "a.jpg");
    for (labels, number) in [("", "1 of 1"), ("cat,,dog", "2 of 3"), ("cat, ", "2 of 2")] {
        place
            .run(&["classify", "a.jpg", "--labels", labels])
            .fails(&["--labels", &format!("label {number} is empty")]);
    }
    place.write("labels.txt", "cat\n  \ndog\n");
    place
        .run(&["classify", "a.jpg", "--labels-file", "labels.txt"])
        .fails(&["labels.txt", "line 2 is empty"]);
    place.write("none.txt", "");
    place.run(&["classify", "a.jpg", "--labels-file", "none.txt"]).fails(&["none.txt", "no labels"]);
    place.write("latin1.txt", b"caf\xe9\n");
    place.run(&["classify", "a.jpg", "--labels-file", "latin1.txt"]).fails(&["latin1.txt", "UTF-8"]);
    place.run(&["classify", "a.jpg", "--labels-file", "missing.txt"]).fails(&["missing.txt", "No such file"]);
    place.run(&["classify", "a.jpg"]).ends(2).says(&["--labels"]);
}

#[test]
fn long_captions_are_cut_and_still_scored() {
    let place = Place::new();
    place.photo("china.jpg", "a.jpg");
    let long = "x".repeat(10_000);
    let lines =
        place.run(&["classify", "a.jpg", "--labels", &format!("{long},cat"), "--json"]).ends(0).lines();
    assert_eq!(lines[0]["scores"].as_array().unwrap().len(), 2);
}

#[test]
fn photos_of_every_kind_of_damage_fail_one_by_one() {
    let place = Place::new();
    let mut args: Vec<String> = ["classify", "--labels", "cat", "--json"].map(str::to_owned).to_vec();
    let bad = golden::path("images/bad");
    let mut names: Vec<_> = std::fs::read_dir(&bad).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.extend(
        ["one_pixel.png", "tall_7x300.jpg"].map(|name| golden::path(&format!("images/photos/{name}"))),
    );
    args.extend(names.iter().map(|path| path.to_str().unwrap().to_owned()));
    // A folder is no photo.
    args.push(bad.to_str().unwrap().to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = place.run(&args).ends(1);
    for line in ran.lines() {
        let path = line["path"].as_str().unwrap();
        assert_eq!(line["error"].is_string(), path.contains("/bad"), "{line}");
    }
}

#[test]
fn models_that_are_none_are_named() {
    let place = Place::new();
    let inspect = |model: &str| place.run_plain(&["inspect", model]);
    std::fs::create_dir(place.path("void")).unwrap();
    inspect("./void").fails(&["void", "no weights in this folder"]);
    place.write("empty.pt", "");
    inspect("empty.pt").fails(&["empty.pt", "empty"]);
    place.write("text.safetensors", "hello, this is no model");
    inspect("text.safetensors").fails(&["text.safetensors"]);
    let whole = std::fs::read(&place.model).unwrap();
    place.write("cut.safetensors", &whole[..whole.len() / 2]);
    inspect("cut.safetensors").fails(&["cut.safetensors"]);
    // The weights of an unknown model, for nobody said which variant of one's own they are.
    inspect("tiny.safetensors").fails(&["tiny.safetensors", "no model of the family"]);
    let evil = golden::path("checkpoints");
    let expected = golden::json("checkpoints/expected.json");
    let mut checked = 0;
    for (file, facts) in expected["files"].as_object().unwrap() {
        if facts["features"].is_null() {
            let ran = inspect(evil.join(file).to_str().unwrap()).ends(2);
            assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
            ran.says(&[file]);
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} files");
}

#[test]
fn damaged_weights_are_one_error_and_no_photo_is_blamed() {
    let place = Place::new();
    place.photo("china.jpg", "photos/a.jpg");
    place.photo("flower.jpg", "photos/b.jpg");
    let mut bytes = std::fs::read(&place.model).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let entries: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = entries["visual.trunk.head.fc.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + header + start..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&place.model, bytes).unwrap();
    let words = ["tiny.safetensors", "visual.trunk.head.fc.bias"];
    place.run(&["classify", "photos/a.jpg", "photos/b.jpg", "--labels", "cat", "--json"]).fails(&words);
    place.run(&["embed", "photos", "--out", "a.npy"]).fails(&words);
    place.run(&["index", "photos", "--out", "idx"]).fails(&words);
    assert!(!place.path("idx").exists() && !place.path("a.npy").exists());
}
