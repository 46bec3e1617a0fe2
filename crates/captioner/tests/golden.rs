//! Generated ids against open_clip's.

use std::sync::Arc;

use mobileclip_arch::{Manifest, Variant};
use mobileclip_captioner::{Captioner, Error, Filter, Method, Picture, Request, Settings};
use mobileclip_engine::{Isa, Pool, Precision};
use mobileclip_testing::captioner::{Golden, golden};
use mobileclip_testing::formula::Formula;
use mobileclip_testing::golden::{array, count, number};
use mobileclip_testing::toys::toy;
use serde_json::Value;

fn captioner(variant: &Variant, threads: usize) -> Captioner {
    let weights = Arc::new(Formula::of(&Manifest::of(variant)));
    let size = (variant.image_size(), variant.image_size());
    let pool = Arc::new(Pool::new(threads));
    Captioner::new(variant, weights, Isa::detect(), pool, size, Precision::F32).unwrap()
}

fn pictures(captioner: &Captioner, golden: &Golden) -> Vec<Picture> {
    let look = |row: &mobileclip_testing::captioner::Row| {
        let pixels: Vec<f32> = row.pixels.iter().map(|&v| v as f32).collect();
        captioner.look((row.shape.height, row.shape.width), &pixels).unwrap()
    };
    golden.rows.iter().map(look).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    array(value).iter().map(|id| count(id) as u32).collect()
}

fn settings(case: &Value) -> Settings {
    let id = |key: &str| count(&case[key]) as u32;
    Settings {
        method: match case["kind"].as_str().unwrap() {
            "greedy" => Method::Greedy,
            _ => Method::Beam { width: count(&case["num_beams"]) / count(&case["num_beam_groups"]) },
        },
        max_ids: count(&case["seq_len"]),
        min_ids: count(&case["min_seq_len"]),
        repetition_penalty: case.get("repetition_penalty").map_or(1.0, number),
        start: id("sot"),
        end: id("eos"),
        pad: id("pad"),
        ..Settings::default()
    }
}

/// The golden's rows are filled up to the same length.
fn check(name: &str, captioner: &Captioner, pictures: &[Picture], case: &Value) {
    let rows: Vec<Vec<u32>> = array(&case["ids"]).iter().map(ids).collect();
    let which: Vec<usize> =
        case.get("images").map_or((0..rows.len()).collect(), |list| array(list).iter().map(count).collect());
    let prompts: Vec<Vec<u32>> =
        case.get("prompt").map_or(vec![Vec::new(); rows.len()], |list| array(list).iter().map(ids).collect());
    let requests: Vec<Request> = which
        .iter()
        .zip(&prompts)
        .map(|(&i, prompt)| Request { picture: &pictures[i], uid: "", sample: 0, prompt })
        .collect();
    let settings = settings(case);
    let written = captioner.write(&requests, &settings).unwrap();
    for (got, expected) in written.into_iter().zip(&rows) {
        let mut filled = got.clone();
        filled.resize(expected.len(), settings.pad);
        assert_eq!(&filled, expected, "{name}: {case}");
        let ends = got.iter().position(|id| [settings.end, settings.pad].contains(id));
        assert!(ends.is_none_or(|end| end + 1 == got.len()), "{name}: nothing follows the end");
    }
    // Texts that enter and leave the batch one by one are the same.
    let few = Settings { batch: 2, ..settings };
    assert_eq!(captioner.write(&requests, &few).unwrap(), captioner.write(&requests, &settings).unwrap());
}

#[test]
fn the_toy_writes_the_golden_ids() {
    let golden = golden("toy", None);
    for threads in [1, 2] {
        let captioner = captioner(&toy("toy_coca"), threads);
        let pictures = pictures(&captioner, &golden);
        let (sampled, beams) = (array(&golden.json["generate"]), array(&golden.json["beam_search"]));
        assert_eq!((sampled.len(), beams.len()), (10, 4));
        sampled.iter().chain(beams).for_each(|case| check("toy", &captioner, &pictures, case));
    }
}

#[test]
fn a_longer_context_writes_longer_captions() {
    let mut variant = toy("toy_coca");
    variant.text.context = 20;
    let golden = golden("toy", Some("longer_context"));
    let captioner = captioner(&variant, 1);
    let pictures = pictures(&captioner, &golden);
    for case in array(&golden.json["longer_context"]["generate"]) {
        assert_eq!(count(&case["seq_len"]), 21);
        check("toy of 20 ids", &captioner, &pictures, case);
    }
}

#[test]
#[ignore = "a minute in release, and 5 GB"]
fn the_published_sizes_write_the_golden_ids() {
    for name in ["coca_ViT-B-32", "coca_ViT-L-14"] {
        let golden = golden(name, None);
        let captioner = captioner(mobileclip_arch::variant(name).unwrap(), 2);
        let pictures = pictures(&captioner, &golden);
        array(&golden.json["generate"]).iter().for_each(|case| check(name, &captioner, &pictures, case));
    }
}

fn toy_settings() -> Settings {
    Settings { max_ids: 13, start: 62, end: 63, temperature: 3.0, ..Settings::default() }
}

#[test]
fn chance_depends_on_seed_picture_and_sample_alone() {
    let golden = golden("toy", None);
    let one = captioner(&toy("toy_coca"), 1);
    let pictures = pictures(&one, &golden);
    let request = |i: usize, uid, sample| Request { picture: &pictures[i], uid, sample, prompt: &[] };
    let requests: Vec<Request> = (0..20).map(|i| request(i % 4, ["a", "b"][i % 2], i / 4)).collect();
    let all = one.write(&requests, &toy_settings()).unwrap();
    for batch in [1, 3] {
        let settings = Settings { batch, ..toy_settings() };
        assert_eq!(one.write(&requests, &settings).unwrap(), all, "{batch} at a time");
    }
    let three = captioner(&toy("toy_coca"), 3);
    assert_eq!(three.write(&requests, &toy_settings()).unwrap(), all, "three threads");
    let alone: Vec<_> =
        requests.iter().rev().map(|r| one.write(std::slice::from_ref(r), &toy_settings()).unwrap()).collect();
    assert!(alone.into_iter().rev().flatten().eq(all.iter().cloned()));
    let mut samples: Vec<_> = all.iter().step_by(4).collect();
    samples.sort();
    samples.dedup();
    assert_eq!(samples.len(), 5, "five samples of one picture differ");
    let other = one.write(&requests, &Settings { seed: 1, ..toy_settings() }).unwrap();
    assert!(other.iter().zip(&all).filter(|(a, b)| a != b).count() > 15);
    // With one id left there is no chance.
    let narrow = Settings { method: Method::Sample(Filter::TopK(1)), ..toy_settings() };
    let greedy = Settings { method: Method::Greedy, ..toy_settings() };
    assert_eq!(one.write(&requests, &narrow).unwrap(), one.write(&requests, &greedy).unwrap());
}

#[test]
fn settings_that_cannot_be_are_errors() {
    let golden = golden("toy", None);
    let captioner = captioner(&toy("toy_coca"), 1);
    let pictures = pictures(&captioner, &golden);
    let write = |settings: Settings, prompt: &[u32]| {
        let request = Request { picture: &pictures[0], uid: "", sample: 0, prompt };
        captioner.write(&[request], &settings).map_err(|e| e.to_string())
    };
    let base = toy_settings();
    for (settings, says) in [
        (Settings { max_ids: 5, ..base }, "there must be room"),
        (Settings { max_ids: 1, min_ids: 0, ..base }, "end mark"),
        (Settings { max_ids: 14, ..base }, "context of 12 allows 13"),
        (Settings { temperature: 0.0, ..base }, "temperature is 0"),
        (Settings { temperature: f64::NAN, ..base }, "temperature is NaN"),
        (Settings { repetition_penalty: -1.0, ..base }, "penalty is -1"),
        (Settings { batch: 0, ..base }, "no text"),
        (Settings { end: 64, ..base }, "id 64"),
        (Settings { method: Method::Sample(Filter::TopP(0.0)), ..base }, "top-p is 0"),
        (Settings { method: Method::Sample(Filter::TopK(0)), ..base }, "top-k is 0"),
        (Settings { method: Method::Beam { width: 0 }, ..base }, "0 beams"),
        (Settings { method: Method::Beam { width: 33 }, ..base }, "33 beams, must be 1 to 32"),
    ] {
        let error = write(settings, &[]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    assert!(write(base, &[62; 13]).unwrap_err().contains("13 ids leaves no room"));
    assert!(write(base, &[62, 64]).unwrap_err().contains("token id 64"));
    // The last place is the end mark's.
    assert_eq!(write(base, &[7; 12]).unwrap()[0], [vec![7; 12], vec![63]].concat());
    assert_eq!(write(base, &[7, 63]).unwrap()[0], [7, 63]);
    let plain = mobileclip_arch::variant("MobileCLIP2-S0").unwrap();
    let weights = Arc::new(Formula::of(&Manifest::of(plain)));
    let pool = Arc::new(Pool::new(1));
    let error =
        Captioner::new(plain, weights, Isa::detect(), pool, (256, 256), Precision::F32).err().unwrap();
    assert!(matches!(error, Error::NoCaptioner { .. }) && error.to_string().contains("MobileCLIP2-S0"));
}
