//! `mobileclip index` and `mobileclip search`, end to end.

use crate::common::{Place, TINY, photo};

fn indexed() -> Place {
    let place = Place::new();
    place.photo("china.jpg", "photos/china.jpg");
    place.photo("flower.jpg", "photos/flower.jpg");
    place.photo("rocket.jpg", "photos/sub/rocket.jpg");
    let ran = place.run(&["index", "photos", "--out", "idx"]).ends(0);
    ran.says(&["idx: 3 photos; 3 new or changed, 0 unchanged, 0 removed, 0 failed"]);
    place
}

#[test]
fn only_what_changed_is_embedded_again() {
    let place = indexed();
    place.run(&["index", "photos", "--out", "idx"]).ends(0).says(&["0 new or changed, 3 unchanged"]);
    std::fs::remove_file(place.path("photos/flower.jpg")).unwrap();
    place.photo("coffee_444.jpg", "photos/china.jpg");
    place.write("photos/broken.jpg", "no photo");
    let ran = place.run(&["index", "photos", "--out", "idx"]).ends(1);
    ran.says(&["1 new or changed, 1 unchanged, 1 removed, 1 failed", "broken.jpg: not an image"]);
    let ran = place.run(&["index", "photos", "--out", "idx", "--quiet"]).ends(1);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    place.run(&["index", "photos", "--out", "idx", "--retry-failed"]).ends(1);
    place.run(&["index", "nowhere", "--out", "idx"]).fails(&["nowhere", "No such file"]);
    place.run(&["index", "photos", "--out", "photos"]).fails(&["photos", "a folder of its own"]);
}

#[test]
fn a_photo_finds_itself_and_a_text_finds_something() {
    let place = indexed();
    let flower = photo("flower.jpg");
    let ran = place.run(&["search", "idx", "--photo", flower.to_str().unwrap(), "--json"]).ends(0);
    let lines = ran.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines[0]["path"].as_str().unwrap().ends_with("photos/flower.jpg"));
    let score = |i: usize| lines[i]["score"].as_f64().unwrap();
    assert!((score(0) - 1.0).abs() < 2e-3 && score(0) > score(1) && score(1) >= score(2));

    let words = place.run(&["search", "idx", "a", "dog", "--top", "2", "--html", "found <1>.html"]).ends(0);
    assert_eq!(words.out.lines().count(), 2);
    words.says(&["found <1>.html: 2 of 3 photos"]);
    let quoted = place.run(&["search", "idx", "a dog", "--top", "2"]).ends(0);
    assert_eq!(words.out, quoted.out);
    let page = std::fs::read_to_string(place.path("found <1>.html")).unwrap();
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 2);
    assert!(page.contains("<h1>a dog</h1>"));
}

#[test]
fn the_index_knows_its_model() {
    let place = indexed();
    let deploy = place.path("half.safetensors");
    let deploy = deploy.to_str().unwrap();
    place.run(&["convert", place.model.to_str().unwrap(), deploy, "--dtype", "f16"]).ends(0);
    place.run_plain(&["search", "idx", "a dog", "--model", deploy]).fails(&[
        "idx",
        "was made with tiny",
        "use that model",
    ]);
    place.run(&["search", "idx", "a dog", "--no-exif"]).fails(&["photos as stored"]);
    place.run(&["index", "photos", "--out", "idx", "--no-exif"]).fails(&["photos as stored"]);
}

#[test]
fn damage_is_named_and_can_be_repaired() {
    let place = indexed();
    let segment = place.path("idx/segment-000001.parquet");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    place.run(&["search", "idx", "a dog"]).fails(&["segment-000001.parquet", "damaged", "--repair"]);
    place.run(&["index", "photos", "--out", "idx"]).fails(&["segment-000001.parquet", "--repair"]);
    place.run(&["index", "photos", "--out", "idx", "--repair"]).ends(0).says(&["3 new or changed"]);
    place.run(&["search", "idx", "a dog"]).ends(0);
    place.run(&["search", "void", "a dog"]).fails(&["void", "no index"]);
    place.write("idx/index.json", "{}");
    place.run(&["search", "idx", "a dog"]).fails(&["index.json"]);
}

#[test]
fn a_broken_pipe_is_success() {
    let place = indexed();
    let mut child = place
        .command(&["search", "idx", "a dog", "--variant", TINY, "--quiet"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = crate::common::Ran::of(child.wait_with_output().unwrap()).ends(0);
    assert_eq!(ran.err, "");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_keeps_what_it_has() {
    let place = Place::new();
    let first = place.photo("retina_large.jpg", "photos/first.jpg");
    for i in 1..400 {
        std::fs::hard_link(&first, place.path(&format!("photos/{i:03}.jpg"))).unwrap();
    }
    let mut child = place
        .command(&["index", "photos", "--out", "idx", "--variant", TINY, "--threads", "1"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The note is written before the first photo, and that is after the signals are watched.
    while !place.path("idx/index.json").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{err}");
    assert!(err.contains("interrupted; the same command goes on"), "{err}");
    // On a machine that is busy enough, nothing was done yet.
    let kept = place.run(&["search", "idx", "a dog", "--top", "400", "--json"]).ends(0).lines().len();
    assert!(kept < 400, "{kept}");
}
