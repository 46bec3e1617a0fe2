//! What is written is what teachers make of the pictures as they are replayed.

use super::common::{PHOTOS, Place, member, photo, read, sample, write};
use mobileclip::image::augment::{Config, Replay};
use mobileclip_reinforce::{Augmentations, Captions, OnBad};
use mobileclip_shards::{ArrayType, Reinforcement, ReinforcementSpec};

fn spec() -> ReinforcementSpec {
    ReinforcementSpec { teacher_dims: vec![16, 8], ..ReinforcementSpec::default() }
}

#[test]
fn rows_are_what_teachers_make_of_replayed_pictures() {
    let place = Place::new();
    let report = place.run(&place.stage(), "out").unwrap();
    assert_eq!((report.made, report.counts.read, report.counts.made), (2, 7, 7));
    let models = [place.model("a"), place.model("b")];
    let config = Config::published();
    let mut seen = Vec::new();
    for name in ["out/0.tar", "out/1.tar"] {
        for sample in read(&place.path(name)) {
            let reinforcement = Reinforcement::read(&sample, 1, &spec()).unwrap();
            assert_eq!(reinforcement.augmentations.len(), 3);
            let picture = sample.decode(&Default::default()).unwrap();
            let uid = sample.uid().unwrap();
            for (i, augmentation) in reinforcement.augmentations.iter().enumerate() {
                let drawn = Config::from_value(&Augmentations::published(64)).unwrap();
                let drawn = drawn.sample(7, &uid, i as u32, (picture.width(), picture.height())).unwrap();
                let stored = config.write_paug(&[drawn], Default::default());
                let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
                let paug: serde_json::Value = sample.json("paug.json").unwrap();
                assert_eq!(paug["param_aug"][i], stored["param_aug"][0]);
                let mut row = Vec::new();
                for model in &models {
                    let how = Replay { size: Some(model.preprocess().size), ..Replay::default() };
                    let replayed = augmentation.replay(&picture, &how).unwrap();
                    row.extend(model.encode_image(&replayed).unwrap());
                }
                assert_eq!(reinforcement.image_embeddings.row(i), row);
            }
            let text =
                |caption: &str| models.each_ref().map(|model| model.encode_text(caption).unwrap()).concat();
            assert_eq!(reinforcement.text_embeddings.row(0), text(sample.text().unwrap()));
            for set in &reinforcement.synthetic {
                let rows = set.captions.iter().enumerate();
                rows.for_each(|(i, caption)| assert_eq!(set.embeddings.row(i), text(caption)));
            }
            seen.push((sample.key().to_owned(), reinforcement.synthetic.len()));
        }
    }
    let keys: Vec<&str> = seen.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["000", "001", "002", "003", "004", "rich", "last"]);
    assert_eq!(seen.iter().map(|(_, sets)| sets).sum::<usize>(), 2);
}

#[test]
fn what_a_sample_had_it_keeps() {
    let place = Place::new();
    place.run(&place.stage(), "out").unwrap();
    for (input, output) in [("in/0.tar", "out/0.tar"), ("in/1.tar.gz", "out/1.tar")] {
        for (before, after) in read(&place.path(input)).iter().zip(read(&place.path(output))) {
            assert_eq!(before.key(), after.key());
            for member in before.members() {
                assert_eq!(after.get(&member.suffix), Some(member.bytes.as_slice()), "{}", member.suffix);
            }
            let mut suffixes: Vec<&str> =
                after.members().iter().map(|member| member.suffix.as_str()).collect();
            suffixes.retain(|suffix| before.get(suffix).is_none());
            let added: &[&str] = match before.get("syn.json") {
                Some(_) => &["npz", "paug.json"],
                None => &["npz", "paug.json", "syn.json"],
            };
            assert_eq!(suffixes, added);
        }
    }
}

#[test]
fn several_true_captions_have_a_row_each() {
    let place = Place::new();
    let mut stage = place.stage();
    stage.captions = Captions::parse("json:captions").unwrap();
    stage.dtype = ArrayType::Bf16;
    let report = place.run(&stage, "out").unwrap();
    let faults: Vec<_> = report.counts.faults.counts().collect();
    assert_eq!((report.counts.made, report.counts.kept, faults), (1, 6, vec![("no json", 6)]));
    let rich = &read(&place.path("out/1.tar"))[0];
    let reinforcement = Reinforcement::read(rich, 2, &spec()).unwrap();
    let model = place.model("b");
    for (i, caption) in ["one", "two"].into_iter().enumerate() {
        let row = &reinforcement.text_embeddings.row(i)[16..];
        let expected = model.encode_text(caption).unwrap();
        // Half of the last of bf16's 8 bits.
        let is_near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 256.0;
        assert!(row.iter().zip(&expected).all(is_near), "{row:?} {expected:?}");
    }
}

/// Broken samples: a caption and no picture, a picture and no caption, and so on.
fn broken(place: &Place) {
    let samples = [
        sample("a", vec![member("txt", "no picture")]),
        photo("b", PHOTOS[0]).without(&["txt"]),
        sample("c", vec![member("txt", "no photo"), member("jpg", "\u{0}no photo")]),
        photo("d", PHOTOS[1]).with(vec![member("txt", " \n")]),
        photo("e", PHOTOS[1]).with(vec![member("txt", [0xff, 0xfe])]),
        photo("f", PHOTOS[1]).with(vec![member("json", "{")]),
        photo("g", PHOTOS[1]).with(vec![member("syn.json", "[1]")]),
        photo("h", PHOTOS[1]).with(vec![member("syn.json", r#"{"text": ["taken"]}"#)]),
        photo("i", PHOTOS[1]).with(vec![member("txt", "long ".repeat(200_000))]),
        photo("j", PHOTOS[1]).with(vec![
            member("npz", "old"),
            member("pth.gz", "old"),
            member("paug.json", "old"),
        ]),
        photo("k", PHOTOS[1]).without(&["txt"]).with(vec![member("npz", "old"), member("paug.json", "old")]),
    ];
    write(&place.path("in/0.tar"), &samples);
}

#[test]
fn broken_samples_are_kept_or_dropped_and_counted() {
    let place = Place::new();
    broken(&place);
    let mut stage = place.stage();
    let causes = [
        ("bad jpg", 1),
        ("bad json", 1),
        ("bad syn.json", 2),
        ("bad txt", 2),
        ("no jpg, png or webp", 1),
        ("no txt", 2),
    ];
    for (on_bad, folder) in [(OnBad::Keep, "kept"), (OnBad::Drop, "dropped")] {
        stage.on_bad = on_bad;
        let report = place.run(&stage, folder).unwrap();
        let counts = &report.counts;
        assert_eq!(counts.faults.counts().collect::<Vec<_>>(), causes);
        assert_eq!((counts.read, counts.made, counts.kept + counts.dropped), (13, 4, 9));
        let keys: Vec<String> = read(&place.path(&format!("{folder}/0.tar")))
            .iter()
            .map(|sample| sample.key().to_owned())
            .collect();
        match on_bad {
            OnBad::Keep => assert_eq!(keys.concat(), "abcdefghijk"),
            OnBad::Drop => assert_eq!(keys.concat(), "ij"),
        }
    }
    // Of another run's reinforcement nothing is left, not even where there is no new one.
    let kept = read(&place.path("kept/0.tar"));
    assert_eq!(kept[9].members().len(), 5);
    assert_eq!(kept[10].members().iter().map(|member| &member.suffix[..]).collect::<Vec<_>>(), ["webp"]);
}

#[test]
fn what_does_not_fit_is_told_before_the_work() {
    let place = Place::new();
    let mut stage = place.stage();
    let mut rehearse = |json: &str| {
        let json = serde_json::from_str(json).unwrap();
        stage.augmentations = Augmentations::new(json, "a.json".as_ref(), 1, 0, Default::default()).unwrap();
        stage.rehearse().map_err(|error| error.to_string())
    };
    rehearse(r#"{"random_resized_crop": {"size": 64}, "random_horizontal_flip": {}, "rand_augment": {}}"#)
        .unwrap();
    let error = rehearse(r#"{"center_crop": {"size": 24}}"#).unwrap_err();
    assert!(error.contains("do not end with the size that a teacher takes"), "{error}");
    // No reader would know which of the lists is what.
    let error = rehearse(r#"{"random_resized_crop": {"size": 64}}"#).unwrap_err();
    assert!(error.contains("do not fit") && error.contains("expected [crop, operations]"), "{error}");
    let new = |json: &str, count| {
        let json = serde_json::from_str(json).unwrap();
        Augmentations::new(json, "a.json".as_ref(), count, 0, Default::default()).unwrap_err().to_string()
    };
    assert!(new(r#"{"resise": {}}"#, 1).contains("a.json: augmentation configuration: `resise`"));
    assert!(new(r#"{"mixup": {}}"#, 1).contains("a.json: mixup and cutmix are replayed, not drawn"));
    assert!(new("{}", 0).contains("no augmentations"));
}

#[test]
fn configurations_are_json_or_toml() {
    let place = Place::new();
    let (json, toml) = (place.path("a.json"), place.path("a.toml"));
    std::fs::write(&json, r#"{"rand_augment": {"p": 0.5}}"#).unwrap();
    std::fs::write(&toml, "[rand_augment]\np = 0.5\n").unwrap();
    assert_eq!(Augmentations::read(&json).unwrap(), Augmentations::read(&toml).unwrap());
    std::fs::write(&json, "{").unwrap();
    assert!(Augmentations::read(&json).unwrap_err().to_string().contains("a.json: no JSON"));
    assert!(Augmentations::read(&place.path("none.json")).unwrap_err().to_string().contains("none.json"));
}
