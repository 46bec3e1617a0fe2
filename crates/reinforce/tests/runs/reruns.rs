//! The same bytes however they are made; reruns, interruptions, folders of other runs.

use std::ops::ControlFlow;

use super::common::{PHOTOS, Place, photo, read, write};
use mobileclip_reinforce::{Effort, Event, Naming, Note, Output, Packing, run};
use mobileclip_shards::ArrayType;

#[test]
fn bytes_depend_on_nothing_but_samples_and_settings() {
    let place = Place::new();
    let mut stage = place.stage();
    let expected = {
        place.run(&stage, "first").unwrap();
        place.shards("first")
    };
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["0.tar", "1.tar"]);
    for (threads, chunk) in [(1, 1), (1, 100), (5, 1)] {
        let folder = format!("{threads}-{chunk}");
        let output = Output::new(place.path(&folder), Effort { threads, chunk });
        let mut inputs = place.inputs();
        inputs.reverse();
        run(&stage, &inputs, &output, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(place.shards(&folder) == expected, "{threads} threads, {chunk} samples at a time");
    }
    // Another seed is another draw.
    stage.augmentations.seed = 8;
    place.run(&stage, "seed").unwrap();
    assert!(place.shards("seed")["0.tar"] != expected["0.tar"]);
    // A stage goes over its own output.
    stage.augmentations.seed = 7;
    let inputs = [place.path("seed/0.tar"), place.path("seed/1.tar")];
    run(&stage, &inputs, &place.output("again"), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(place.shards("again") == expected);
}

#[test]
fn reruns_make_what_is_missing() {
    let place = Place::new();
    let stage = place.stage();
    place.run(&stage, "out").unwrap();
    let expected = place.shards("out");
    let report = place.run(&stage, "out").unwrap();
    assert_eq!((report.made, report.found, report.counts.read), (0, 2, 0));
    std::fs::remove_file(place.path("out/1.tar")).unwrap();
    std::fs::write(place.path("out/.1.tar.partial-left"), "half").unwrap();
    let report = place.run(&stage, "out").unwrap();
    assert_eq!((report.made, report.found, report.counts.read), (1, 1, 2));
    assert!(place.shards("out") == expected);
    let manifest = std::fs::read_to_string(place.path("out/manifest.jsonl")).unwrap();
    let notes: Vec<Note> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        notes.iter().map(|note| (&note.shard[..], note.num_uids)).collect::<Vec<_>>(),
        [("0.tar", 5), ("1.tar", 2)]
    );
    assert_eq!(notes[0].settings["teachers"][1]["width"], 8);
    assert_eq!(
        (notes[0].bytes, notes[1].settings["seed"].as_u64()),
        (expected["0.tar"].len() as u64, Some(7))
    );
}

#[test]
fn interruptions_leave_nothing_half_done() {
    let place = Place::new();
    let stage = place.stage();
    let mut events = 0;
    let report = run(&stage, &place.inputs(), &place.output("out"), &mut |event| {
        events += usize::from(matches!(event, Event::Made(_)));
        match event {
            Event::Made(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert_eq!((report.unwrap().is_interrupted, events), (true, 1));
    assert_eq!(place.shards("out").keys().collect::<Vec<_>>(), ["0.tar"]);
    let break_at_once = run(&stage, &place.inputs(), &place.output("none"), &mut |_| ControlFlow::Break(()));
    assert!(break_at_once.unwrap().is_interrupted);
    assert!(place.shards("none").is_empty());
    assert!(!place.run(&stage, "out").unwrap().is_interrupted);
}

#[test]
fn folders_of_other_runs_are_refused() {
    let place = Place::new();
    let mut stage = place.stage();
    place.run(&stage, "out").unwrap();
    stage.augmentations.seed = 8;
    let error = place.run(&stage, "out").unwrap_err().to_string();
    assert!(error.contains("another `seed`: 7 there, 8 now"), "{error}");
    stage.augmentations.seed = 7;
    stage.dtype = ArrayType::Bf16;
    assert!(place.run(&stage, "out").unwrap_err().to_string().contains("another `dtype`"));
    stage.dtype = ArrayType::F32;
    write(&place.path("in/0.tar"), &[photo("x", PHOTOS[0])]);
    let error = place.run(&stage, "out").unwrap_err().to_string();
    assert!(error.contains("0.tar: was made from an input of"), "{error}");
    std::fs::write(place.path("out/config.json"), "{").unwrap();
    assert!(place.run(&stage, "out").unwrap_err().to_string().contains("config.json"));
}

#[test]
fn names_do_not_collide() {
    let place = Place::new();
    let stage = place.stage();
    std::fs::create_dir(place.path("other")).unwrap();
    write(&place.path("other/1.tar"), &[photo("x", PHOTOS[3])]);
    let inputs = [place.inputs(), vec![place.path("other/1.tar")]].concat();
    let mut output = place.output("out");
    let error = run(&stage, &inputs, &output, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string();
    assert!(error.contains("would both become") && error.contains("number the shards"), "{error}");
    output.naming = Naming::Count;
    output.packing = Packing::Zstd;
    run(&stage, &inputs, &output, &mut |_| ControlFlow::Continue(())).unwrap();
    let names = ["00000000.tar.zst", "00000001.tar.zst", "00000002.tar.zst"];
    assert_eq!(place.shards("out").keys().collect::<Vec<_>>(), names);
    assert_eq!(read(&place.path("out/00000002.tar.zst"))[0].key(), "x");
}

#[test]
fn inputs_and_folders_that_are_not_there() {
    let place = Place::new();
    let stage = place.stage();
    let none = [place.path("in/none.tar")];
    let error = run(&stage, &none, &place.output("out"), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("none.tar"), "{error}");
    std::fs::write(place.path("file"), "").unwrap();
    assert!(place.run(&stage, "file").unwrap_err().to_string().contains("file"));
}
