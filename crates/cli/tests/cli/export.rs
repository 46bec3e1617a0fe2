//! `mobileclip export`, end to end; what the models compute is tested where they are written and by `compat/`.

use crate::common::Place;

fn files(place: &Place, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(place.path(folder)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn both_towers_go_to_a_folder_and_one_to_a_file() {
    let place = Place::new();
    let model = place.model.to_str().unwrap();
    let ran = place.run(&["export", model, "--onnx", "--out", "a/b"]).ends(0);
    ran.says(&["a/b/image.onnx: ", "a/b/text.onnx: ", "MB, tiny"]);
    assert_eq!(files(&place, "a/b"), ["image.onnx", "text.onnx"]);

    place.run(&["export", "--tower", "text", "--out", "one.onnx", "--quiet"]).ends(0);
    assert_eq!(
        std::fs::read(place.path("one.onnx")).unwrap(),
        std::fs::read(place.path("a/b/text.onnx")).unwrap()
    );
    place.run(&["export", "--tower", "image", "--out", "c", "--with-preprocess", "--external-data"]).ends(0);
    assert_eq!(files(&place, "c"), ["image.onnx", "image.onnx.data"]);
    let holds = |path: &str, word: &str| {
        std::fs::read(place.path(path)).unwrap().windows(word.len()).any(|window| window == word.as_bytes())
    };
    assert!(holds("c/image.onnx", "image.onnx.data") && holds("c/image.onnx", "antialias"));
    assert!(!holds("a/b/image.onnx", "antialias") && holds("a/b/image.onnx", "preprocess_cfg"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| std::fs::metadata(place.path(path)).unwrap().permissions().mode();
        std::fs::write(place.path("other"), "").unwrap();
        assert_eq!(mode("one.onnx"), mode("other"));
    }
}

#[test]
fn a_deploy_file_gives_the_same_model() {
    let place = Place::new();
    place.run(&["convert", place.model.to_str().unwrap(), "fused.safetensors"]).ends(0);
    place.run(&["export", "--out", "a"]).ends(0);
    place.run_plain(&["export", "fused.safetensors", "--out", "b"]).ends(0);
    for tower in ["image.onnx", "text.onnx"] {
        let read = |folder: &str| std::fs::read(place.path(folder).join(tower)).unwrap();
        assert!(read("a") == read("b"), "{tower}");
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    place.write("full/text.onnx", "mine");
    place.run(&["export", "--out", "full"]).fails(&["full/text.onnx", "is there already", "--force"]);
    assert_eq!(files(&place, "full"), ["text.onnx"]);
    place.run(&["export", "--out", "full", "--force"]).ends(0);
    place.run(&["export", "--out", "x.onnx"]).fails(&["x.onnx", "--tower"]);
    place.run(&["export", "--out", "tiny.safetensors"]).fails(&["tiny.safetensors", "is a file"]);
    place
        .run(&["export", "--out", "d", "--image-size", "20000"])
        .fails(&["Image tower takes no pixels of 20000 x 20000"]);
    place.run(&["export", "--out", "d", "--text-length", "1000"]).fails(&["1000"]);
    place
        .run(&["export", "--out", "d", "--tower", "text", "--with-preprocess"])
        .fails(&["--with-preprocess"]);
    place.run(&["export", "--out", "d", "--tower", "image", "--text-length", "9"]).fails(&["--text-length"]);
    for size in ["0", "x", "256x", "1e3"] {
        place.run(&["export", "--out", "d", "--image-size", size]).ends(2).says(&["--image-size"]);
    }
    place.run(&["export", "--out", "d", "--pixel-order", "nchw"]).ends(2).says(&["--with-preprocess"]);
    place.run(&["export", "nothing-here.pt", "--out", "d"]).ends(2);
    place.write("file", "");
    place.run(&["export", "--out", "file/under"]).fails(&["file"]);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to_is_named_and_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let folder = place.path("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere.
    if std::fs::write(folder.join("probe"), "").is_err() {
        place.run(&["export", "--out", "locked"]).fails(&["locked/image.onnx"]);
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!folder.join("image.onnx").exists());
}
