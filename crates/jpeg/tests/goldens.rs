//! The JPEG files among the image goldens and those in `files`, byte for byte.

use mobileclip_jpeg::{Error, Image, Limits, Reduction, decode, decode_reduced, read_header};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/images")
}

fn rows(kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(images().join("decode.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let rows = all[kind].as_array().unwrap().iter();
    rows.filter(|row| row["file"].as_str().unwrap().ends_with(".jpg")).cloned().collect()
}

fn rgb(image: &Image) -> Vec<u8> {
    match image.channels {
        1 => image.pixels.iter().flat_map(|&v| [v; 3]).collect(),
        _ => image.pixels.clone(),
    }
}

#[test]
fn photos_equal_pillow() {
    let photos = rows("images");
    assert!(photos.len() >= 20, "only {} JPEG photos", photos.len());
    for row in photos {
        let file = row["file"].as_str().unwrap();
        let bytes = std::fs::read(images().join(file)).unwrap();
        let image = decode(&bytes, Limits::default()).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!((image.width, image.height), size(&row), "{file}");
        let rgb = rgb(&image);
        for sample in row["pixels"].as_array().unwrap() {
            let v: Vec<usize> =
                sample.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
            let at = 3 * (v[1] * image.width + v[0]);
            let got: Vec<usize> = rgb[at..at + 3].iter().map(|&v| v.into()).collect();
            assert_eq!(got, v[2..5], "{file} at ({}, {})", v[0], v[1]);
        }
        assert_eq!(sha256(&rgb), row["rgb_sha256"], "{file}");
    }
}

#[test]
fn headers_tell_size_and_orientation() {
    for row in rows("images") {
        let file = row["file"].as_str().unwrap();
        let header = read_header(&std::fs::read(images().join(file)).unwrap()).unwrap();
        assert_eq!((header.width, header.height), size(&row), "{file}");
        let mode = match header.components {
            1 => "L",
            3 => "RGB",
            _ => "CMYK",
        };
        assert_eq!(mode, row["pil_mode"], "{file}");
        assert_eq!(header.progressive, file.contains("progressive"), "{file}");
        assert_eq!(header.orientation.map(u64::from), row["exif_orientation"].as_u64(), "{file}");
    }
}

#[test]
fn bad_files_are_errors() {
    for row in rows("bad") {
        let file = row["file"].as_str().unwrap();
        let result = decode(&std::fs::read(images().join(file)).unwrap(), Limits::default());
        let expected = match file {
            "bad/empty.jpg" | "bad/text.jpg" => Err(Error::NotJpeg),
            "bad/header_only.jpg" => Err(Error::Truncated { inside: "the header" }),
            _ => Err(Error::Truncated { inside: "the image data" }),
        };
        assert_eq!(result, expected, "{file}");
    }
}

/// Every structure of the format, wrong ones too: `files/make_files.py` tells how the files were made.
#[test]
fn structures_equal_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    for row in &rows {
        let file = row["file"].as_str().unwrap();
        let result = decode(&std::fs::read(folder.join(file)).unwrap(), Limits::default());
        let note = &row["note"];
        if row["error"].is_string() {
            assert!(result.is_err(), "{file} ({note}): Pillow refuses it: {}", row["error"]);
            continue;
        }
        let image = result.unwrap_or_else(|error| panic!("{file} ({note}): {error}"));
        assert_eq!((image.width, image.height), size(row), "{file} ({note})");
        assert_eq!(image.channels as u64, row["channels"], "{file} ({note})");
        assert_eq!(sha256(&image.pixels), row["sha256"], "{file} ({note})");
    }
    assert_eq!(rows.len(), 55);
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn size(row: &Value) -> (usize, usize) {
    (row["width"].as_u64().unwrap() as usize, row["height"].as_u64().unwrap() as usize)
}

#[test]
fn reduced_photos_equal_pillows_drafts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(images().join("reduced.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut compared = 0;
    for (file, rows) in all.as_object().unwrap() {
        let bytes = std::fs::read(root.join(file)).unwrap();
        for (divisor, reduction) in
            [("2", Reduction::Half), ("4", Reduction::Quarter), ("8", Reduction::Eighth)]
        {
            let Some(row) = rows.get(divisor) else { continue };
            let image = decode_reduced(&bytes, Limits::default(), reduction)
                .unwrap_or_else(|error| panic!("{file} / {divisor}: {error}"));
            let size = (row[0].as_u64().unwrap() as usize, row[1].as_u64().unwrap() as usize);
            assert_eq!((image.width, image.height), size, "{file} / {divisor}");
            compared += 1;
            if sha256(&rgb(&image)) != row[2] {
                wrong.push(format!("{file} / {divisor}"));
            }
        }
    }
    assert!(compared > 60, "only {compared}");
    assert!(wrong.is_empty(), "{} of {compared} differ: {wrong:#?}", wrong.len());
}
