//! `mobileclip train`.

use super::common::{Place, TINY};

fn reinforced() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards/npz-list/00000000.tar").to_owned()
}

/// A recipe over the golden shard: five samples, two teachers of width 24.
fn recipe(place: &Place) -> String {
    let toml = format!(
        "[model]\nvariant = {TINY:?}\n[data]\nshards = [{:?}]\naugment = \"recorded\"\n\
         [loss]\ncontrastive_weight = 0.0\ndistill_weight = 1.0\nteacher_widths = [24, 24]\nteacher_scales = [70.0]\n\
         [optimiser]\nlr = 1e-3\nclip = 1.0\n[run]\nbatch = 4\nsteps = 3\ncheckpoint_every = 2\n",
        reinforced()
    );
    place.write("run.toml", toml).display().to_string()
}

#[test]
fn a_run_ends_with_a_model_that_classifies() {
    let place = Place::new();
    let recipe = recipe(&place);
    let ran = place.run_plain(&["train", &recipe, "--run-out", "out", "--json"]).ends(0);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((report["step"].as_u64(), report["interrupted"].as_bool()), (Some(3), Some(false)));
    let lines = std::fs::read_to_string(place.path("out/log.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3);
    let weights = place.path("out/checkpoints/step-00000003/student.safetensors");
    let photo = place.photo("china.jpg", "a.jpg");
    let (weights, photo) = (weights.display().to_string(), photo.display().to_string());
    place.run(&["classify", &photo, "--labels", "a,b", "--model", &weights]).ends(0);

    // The folder holds a run now.
    place.run_plain(&["train", &recipe, "--run-out", "out"]).fails(&["--resume latest"]);
    let on = ["train", &recipe, "--run-out", "out", "--resume", "latest", "--run-steps", "4"];
    place.run_plain(&on).ends(0).says(&["not the one"]);
    assert_eq!(std::fs::read_to_string(place.path("out/log.jsonl")).unwrap().lines().count(), 4);
}

#[test]
fn a_dry_run_counts() {
    let place = Place::new();
    let ran = place.run_plain(&["train", &recipe(&place), "--dry-run", "--run-batch", "5"]).ends(0);
    assert!(ran.out.contains("3 of 5 samples: 15 seen, 3.00 epochs"), "{}", ran.out);
    assert!(!place.path("run").exists());
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    let recipe = recipe(&place);
    for (flags, part) in [
        (["--loss-teacher-scales", "1,2,3"], "3 logit scales for 2 teachers"),
        (["--run-epochs", "2"], "exactly one must be given"),
        (["--loss-teacher-widths", "24,8"], "48 columns, the teachers [24, 8] have 32"),
        (["--data-shards", "none.tar"], "none.tar"),
        (["--model-variant", "S9"], "`S9` is no variant's name"),
    ] {
        let ran = place.run_plain(&["--quiet", "train", &recipe, flags[0], flags[1]]);
        ran.fails(&[part]);
    }
    let bad = place.write("bad.toml", "[run]\nbach = 3\n").display().to_string();
    place.run_plain(&["train", &bad]).fails(&["bad.toml", "bach"]);
}

/// The published settings parse, and say how long they go on.
#[test]
fn recipes_of_the_repository_are_sound() {
    let place = Place::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let path = path.display().to_string();
            // Without the data, the first thing that is missing are the shards.
            place.run_plain(&["train", &path, "--dry-run"]).fails(&["of the shards are not there"]);
            seen += 1;
        }
    }
    assert!(seen >= 5);
}
