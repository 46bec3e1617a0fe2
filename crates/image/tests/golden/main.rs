//! The goldens of `golden/images`: every decode, resize, crop and preprocess case, byte for byte, in both orders of the passes.

use std::fs;
use std::path::{Path, PathBuf};

use mobileclip_image::{
    DecodeOptions, Error, Filter, PassOrder, Preprocess, Rect, ResizeMode, RgbImage, crop_resize, decode,
    decode_file, resize,
};
use serde::Deserialize;
use sha2::{Digest, Sha256};

mod augment;
mod formula;

/// Both orders and the suffix of the fields that hold what differs in the older one.
const ORDERS: [(PassOrder, &str); 2] = [(PassOrder::Pillow13, ""), (PassOrder::HorizontalFirst, "_pillow12")];

/// Grey samples of 16 bits, where the reference clips them all to white and we keep the high byte.
const EXCUSED: [&str; 2] = ["photos/astronaut_gray16.png", "photos/astronaut_gray16_dark.png"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/images")
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn photo(file: &str) -> RgbImage {
    decode_file(folder().join(file), &DecodeOptions::default()).unwrap()
}

/// Compares the hash; where it differs, says which of the sampled pixels differ.
fn compare(what: &str, image: &RgbImage, expected: &str, samples: &[Vec<usize>]) -> Result<(), String> {
    if sha(image.pixels()) == expected {
        return Ok(());
    }
    let wrong = samples.iter().find_map(|sample| {
        let &[x, y, r, g, b] = &sample[..] else { return None };
        let found = image.pixel(x, y).map(|p| p.map(usize::from));
        (found != Some([r, g, b])).then(|| format!("({x}, {y}) is {found:?}, expected {:?}", [r, g, b]))
    });
    let size = (image.width(), image.height());
    Err(format!(
        "{what} {size:?}: {}",
        wrong.unwrap_or_else(|| "another hash, no sampled pixel differs".to_owned())
    ))
}

fn report(failures: Vec<String>, cases: usize) {
    assert!(
        cases > 0 && failures.is_empty(),
        "{} of {cases} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[derive(Deserialize)]
struct DecodeFile {
    images: Vec<DecodeCase>,
    bad: Vec<BadCase>,
}

#[derive(Deserialize)]
struct DecodeCase {
    file: String,
    width: usize,
    height: usize,
    rgb_sha256: String,
    pixels: Vec<Vec<usize>>,
    transposed: Option<Transposed>,
}

#[derive(Deserialize)]
struct Transposed {
    width: usize,
    height: usize,
    rgb_sha256: String,
}

#[derive(Deserialize)]
struct BadCase {
    file: String,
}

#[test]
fn photos_decode_to_the_reference_bytes() {
    let cases = read::<DecodeFile>("decode.json").images;
    let mut failures = Vec::new();
    for case in &cases {
        let image = photo(&case.file);
        assert_eq!((image.width(), image.height()), (case.width, case.height), "{}", case.file);
        if !EXCUSED.contains(&&case.file[..]) {
            failures.extend(compare(&case.file, &image, &case.rgb_sha256, &case.pixels).err());
        }
        if let Some(turned) = &case.transposed {
            let image = decode_file(folder().join(&case.file), &DecodeOptions::upright()).unwrap();
            assert_eq!((image.width(), image.height()), (turned.width, turned.height), "{}", case.file);
            failures.extend(compare(&format!("{} turned", case.file), &image, &turned.rgb_sha256, &[]).err());
        }
    }
    report(failures, cases.len());
}

#[test]
fn grey_of_16_bits_keeps_the_high_byte() {
    let wide = photo("photos/astronaut_gray16.png");
    let narrow = photo("photos/astronaut_gray8.png");
    let far = wide.pixels().iter().zip(narrow.pixels()).filter(|(a, b)| a.abs_diff(**b) > 1).count();
    assert_eq!(far, 0, "the same photo in 16 bits is another one");
}

#[test]
fn bad_files_are_errors() {
    for case in read::<DecodeFile>("decode.json").bad {
        let error = decode_file(folder().join(&case.file), &DecodeOptions::default()).unwrap_err();
        let Error::File { path, source } = error else { panic!("{}: {error}", case.file) };
        assert!(path.ends_with(&case.file));
        let found = match case.file.as_str() {
            "bad/empty.jpg" => matches!(*source, Error::Empty),
            "bad/text.jpg" => matches!(*source, Error::UnknownFormat { .. }),
            _ => matches!(*source, Error::Broken { .. }),
        };
        assert!(found, "{}: {source}", case.file);
    }
}

#[derive(Deserialize)]
struct CaseFile {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    source: formula::Source,
    op: String,
    size: Option<usize>,
    width: Option<usize>,
    height: Option<usize>,
    #[serde(rename = "box")]
    area: Option<[i64; 4]>,
    filter: Option<Filter>,
    resized_width: Option<usize>,
    resized_height: Option<usize>,
    out_width: usize,
    out_height: usize,
    sha256: String,
    pixels: Vec<Vec<usize>>,
    sha256_pillow12: Option<String>,
    pixels_pillow12: Option<Vec<Vec<usize>>>,
}

impl Case {
    fn run(&self, image: &RgbImage, pass_order: PassOrder) -> RgbImage {
        let filter = self.filter.unwrap_or(Filter::Nearest);
        let target = || (self.width.unwrap(), self.height.unwrap());
        match self.op.as_str() {
            "shortest" => {
                // A crop as large as the resized image is no crop.
                let (width, height) = (self.resized_width.unwrap(), self.resized_height.unwrap());
                resize(image, width, height, filter, pass_order).unwrap()
            }
            "shortest_crop" => {
                let size = self.size.unwrap();
                let preprocess = Preprocess {
                    size: (size, size),
                    interpolation: filter,
                    pass_order,
                    ..Preprocess::default()
                };
                preprocess.crop(image).unwrap()
            }
            "resize" => resize(image, target().0, target().1, filter, pass_order).unwrap(),
            "center_crop" => mobileclip_image::center_crop(image, target().0, target().1),
            "crop_resize" => {
                let [top, left, height, width] = self.area.unwrap();
                let area =
                    Rect { left, top, width: width.try_into().unwrap(), height: height.try_into().unwrap() };
                crop_resize(image, area, target().0, target().1, filter, pass_order).unwrap()
            }
            other => panic!("unknown operation {other}"),
        }
    }
}

#[test]
fn resizes_and_crops_are_the_reference_bytes() {
    let cases = read::<CaseFile>("cases.json").cases;
    let mut failures = Vec::new();
    for case in &cases {
        let image = case.source.image();
        for (order, _) in ORDERS {
            if case.source.channels == 4 {
                assert_eq!(case.op, "resize");
                let out = case
                    .source
                    .rgba()
                    .resize(case.out_width, case.out_height, case.filter.unwrap(), order)
                    .unwrap();
                assert_eq!(sha(&out.to_pixels()), case.sha256, "{}", case.id);
                continue;
            }
            let out = case.run(&image, order);
            if case.source.channels == 1 {
                let grey: Vec<u8> = out.pixels().iter().step_by(3).copied().collect();
                assert_eq!(sha(&grey), case.sha256, "{}", case.id);
                continue;
            }
            assert_eq!((out.width(), out.height()), (case.out_width, case.out_height), "{}", case.id);
            let older = order == PassOrder::HorizontalFirst;
            let hash = case.sha256_pillow12.as_ref().filter(|_| older).unwrap_or(&case.sha256);
            let samples = case.pixels_pillow12.as_ref().filter(|_| older).unwrap_or(&case.pixels);
            failures
                .extend(compare(&format!("{} {} {order:?}", case.id, case.op), &out, hash, samples).err());
        }
    }
    report(failures, cases.len() * 2);
}

#[test]
fn the_shorter_side_gets_the_size() {
    for case in read::<CaseFile>("cases.json").cases.iter().filter(|case| case.op == "shortest") {
        let image = case.source.image();
        let size = case.size.unwrap();
        assert_eq!(case.resized_width.unwrap().min(case.resized_height.unwrap()), size, "{}", case.id);
        assert_eq!(
            mobileclip_image::shortest_size(image.width(), image.height(), size),
            (case.resized_width.unwrap(), case.resized_height.unwrap()),
            "{}",
            case.id
        );
    }
}

#[derive(Deserialize)]
struct PreprocessFile {
    configs: Vec<Config>,
    rows: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Config {
    name: String,
    size: usize,
    interpolation: Filter,
    #[serde(default)]
    resize_mode: ResizeMode,
    mean: [f32; 3],
    std: [f32; 3],
    positions_cyx: Vec<[usize; 3]>,
}

fn preprocess_rows(name: &str) {
    let file: PreprocessFile = read(name);
    let mut failures = Vec::new();
    for row in &file.rows {
        let photo_name = row["file"].as_str().unwrap();
        if EXCUSED.contains(&photo_name) {
            continue;
        }
        let image = photo(photo_name);
        let config = file.configs.iter().find(|c| row["config"] == c.name).unwrap();
        for (pass_order, suffix) in ORDERS {
            let preprocess = Preprocess {
                size: (config.size, config.size),
                resize_mode: config.resize_mode,
                interpolation: config.interpolation,
                mean: config.mean,
                std: config.std,
                pass_order,
                ..Preprocess::default()
            };
            let expected = |key: &str| row.get(format!("{key}{suffix}")).unwrap_or(&row[key]);
            let what = format!("{photo_name} {} {pass_order:?}", config.name);
            let crop = preprocess.crop(&image).unwrap();
            failures.extend(compare(&what, &crop, expected("crop_sha256").as_str().unwrap(), &[]).err());
            let tensor = preprocess.apply(&image).unwrap();
            for (&[c, y, x], value) in config.positions_cyx.iter().zip(expected("values").as_array().unwrap())
            {
                let (found, wanted) =
                    (tensor[(c * config.size + y) * config.size + x], value.as_f64().unwrap() as f32);
                if found.to_bits() != wanted.to_bits() {
                    failures.push(format!("{what}: value ({c}, {y}, {x}) is {found}, expected {wanted}"));
                    break;
                }
            }
            let bytes: Vec<u8> = tensor.iter().flat_map(|v| v.to_le_bytes()).collect();
            if sha(&bytes) != *expected("f32_sha256") {
                failures.push(format!("{what}: another hash of the f32 values"));
            }
        }
    }
    report(failures, file.rows.len());
}

#[test]
fn preprocessing_gives_the_reference_bits() {
    preprocess_rows("preprocess.json");
}

#[test]
fn squashing_gives_the_reference_bits() {
    preprocess_rows("preprocess_squash.json");
}

#[test]
fn jpegs_are_reduced_as_far_as_asked_for_and_nothing_else_is() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let file = |name: &str| std::fs::read(golden.join(name)).unwrap();
    let size = |bytes: &[u8], side: usize| {
        let photo = decode(bytes, &DecodeOptions::default().with_reduction_to(side, side)).unwrap();
        (photo.width(), photo.height())
    };
    let whole = decode(&file("images/photos/china.jpg"), &DecodeOptions::default()).unwrap();
    let (width, height) = (whole.width(), whole.height());
    let shortest = width.min(height);
    for (side, divisor) in
        [(shortest, 1), (shortest / 2 + 1, 1), (shortest / 2, 2), (shortest / 4, 4), (1, 8)]
    {
        let expected = (width.div_ceil(divisor), height.div_ceil(divisor));
        assert_eq!(size(&file("images/photos/china.jpg"), side), expected, "{side}");
    }
    assert_eq!(size(&file("images_small/astronaut.png"), 1), (512, 512));
}
