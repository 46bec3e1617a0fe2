//! `mobileclip embed`, end to end.

use std::io::Write;
use std::process::Stdio;

use crate::common::{Place, Ran, TINY};

const WIDTH: usize = 16;

/// The rows of an .npy file.
fn rows(bytes: &[u8]) -> Vec<Vec<f32>> {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(header.contains("'descr': '<f4'") && header.contains(&format!(", {WIDTH})")), "{header}");
    let numbers: Vec<f32> =
        bytes[start..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    numbers.chunks(WIDTH).map(<[f32]>::to_vec).collect()
}

fn norm(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum::<f32>().sqrt()
}

fn four_photos(place: &Place) {
    place.photo("china.jpg", "photos/b.jpg");
    place.photo("flower.jpg", "photos/deep/a.JPG");
    place.photo("coffee_lossy.webp", "photos/c.webp");
    place.photo("two_frames.gif", "other.bin");
    place.write("photos/notes.txt", "no photo");
    place.write("photos/.hidden.jpg", "no photo");
}

#[test]
fn folders_files_and_lists_become_rows_in_order() {
    let place = Place::new();
    four_photos(&place);
    place.write("photos/broken.jpg", "no photo");
    let ran = place
        .run(&["embed", "other.bin", "photos", "missing.jpg", "--out", "a.npy", "--list", "a.txt"])
        .ends(1);
    ran.says(&[
        "photos/broken.jpg: not an image",
        "missing.jpg: No such file",
        "a.npy: 4 rows of 16 numbers, 2 failed",
    ]);
    assert_eq!(ran.out, "");
    let list = std::fs::read_to_string(place.path("a.txt")).unwrap();
    assert_eq!(list, "other.bin\nphotos/b.jpg\nphotos/c.webp\nphotos/deep/a.JPG\n");
    let all = rows(&std::fs::read(place.path("a.npy")).unwrap());
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|row| (norm(row) - 1.0).abs() < 1e-5));

    // The same through the standard input, one twice.
    let mut child = place
        .command(&["embed", "-", "--out", "b.npy", "--variant", TINY, "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"photos/b.jpg\nother.bin\r\n\nphotos/b.jpg\n").unwrap();
    let ran = Ran::of(child.wait_with_output().unwrap()).ends(0);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""));
    let some = rows(&std::fs::read(place.path("b.npy")).unwrap());
    assert_eq!(some, [&all[1], &all[0], &all[1]].map(Clone::clone));

    // Features have the embedding's direction.
    place.run(&["embed", "photos/b.jpg", "--out", "raw.npy", "--raw"]).ends(0);
    let raw = rows(&std::fs::read(place.path("raw.npy")).unwrap()).remove(0);
    assert!((norm(&raw) - 1.0).abs() > 1e-3);
    let dot: f32 = raw.iter().zip(&all[1]).map(|(a, b)| a * b).sum();
    assert!((dot / norm(&raw) - 1.0).abs() < 1e-5);
    place.run(&["embed", "photos/broken.jpg", "missing.jpg", "--out", "c.npy"]).ends(2);
    place.run(&["embed", "missing.jpg", "--out", "d.npy"]).ends(2);
    assert!(!place.path("d.npy").exists());
}

#[test]
fn texts_become_rows_too() {
    let place = Place::new();
    place.run(&["embed", "--text", "a cat", "a dog", "--out", "a.jsonl"]).ends(0).says(&["2 rows"]);
    let lines = std::fs::read_to_string(place.path("a.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| &line["text"]).collect::<Vec<_>>(), ["a cat", "a dog"]);
    assert!(lines.iter().all(|line| line["embedding"].as_array().unwrap().len() == WIDTH));
    let long = "word ".repeat(2000);
    place.write("captions.txt", format!("a cat\r\n{long}\n\na dog\n"));
    place.run(&["embed", "--text-file", "captions.txt", "--out", "a.npy", "--threads", "1"]).ends(0);
    let one = rows(&std::fs::read(place.path("a.npy")).unwrap());
    assert_eq!(one.len(), 4);
    for (row, line) in [0, 3].into_iter().zip(&lines) {
        let expected: Vec<f32> = serde_json::from_value(line["embedding"].clone()).unwrap();
        assert_eq!(one[row], expected);
    }
    // More threads give the same bits.
    place.run(&["embed", "--text-file", "captions.txt", "--out", "b.npy", "--threads", "3"]).ends(0);
    assert_eq!(rows(&std::fs::read(place.path("b.npy")).unwrap()), one);
    place.run(&["embed", "--text", "a", "--out", "t.parquet"]).ends(0);
    assert!(std::fs::read(place.path("t.parquet")).unwrap().starts_with(b"PAR1"));
}

#[test]
fn an_interrupted_run_goes_on() {
    let place = Place::new();
    four_photos(&place);
    // A batch that cannot be written is what an interruption leaves: here the table's place is taken by a folder.
    std::fs::create_dir(place.path("t.npy")).unwrap();
    place.run(&["embed", "photos", "--out", "t.npy"]).fails(&["t.npy"]);
    assert!(place.path("t.npy.partial").exists());
    std::fs::remove_dir(place.path("t.npy")).unwrap();
    place.photo("rocket.jpg", "photos/d.jpg");
    let ran = place.run(&["embed", "photos", "--out", "t.npy", "--resume"]).ends(0);
    ran.says(&["3 photos done already", "4 rows"]);
    place.run(&["embed", "photos", "--out", "u.npy"]).ends(0);
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert_eq!(read("t.npy"), read("u.npy"));
    assert!(!place.path("t.npy.partial").exists());
}

#[test]
fn contradictions_are_usage_errors() {
    let place = Place::new();
    place.run(&["embed", "--out", "a.npy"]).ends(2).says(&["Usage: mobileclip embed"]);
    place.run(&["embed", "a.jpg", "--text", "a", "--out", "a.npy"]).ends(2).says(&["cannot be used with"]);
    place.run(&["embed", "a.jpg", "--out", "a.csv"]).fails(&["a.csv", ".npy, .jsonl or .parquet"]);
    place.run(&["embed", "a.jpg", "--out", "nowhere/a.npy"]).fails(&["nowhere/a.npy", "no folder `nowhere`"]);
    place.write("none.txt", "");
    place.run(&["embed", "--text-file", "none.txt", "--out", "a.npy"]).fails(&["no text to embed"]);
    std::fs::create_dir(place.path("void")).unwrap();
    place.run(&["embed", "void", "--out", "a.npy"]).fails(&["no photo to embed"]);
}
