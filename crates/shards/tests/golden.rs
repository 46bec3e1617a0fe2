//! Against `golden/shards`: every good shard, every tolerated oddity, every fault.

use std::collections::BTreeMap;
use std::path::Path;

use mobileclip_image::DecodeOptions;
use mobileclip_shards::{
    Augmentation, Fault, Limits, Matrix, Reinforcement, ReinforcementSpec, Sample, SampleStream, Shard,
};
use mobileclip_testing::golden;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn shard(name: &str) -> std::path::PathBuf {
    golden::path(&format!("shards/{name}"))
}

fn stream(path: &Path) -> Vec<Result<Sample, Fault>> {
    SampleStream::open(path, Limits::default()).unwrap().collect()
}

fn spec(teacher_dims: &Value) -> ReinforcementSpec {
    let teacher_dims =
        teacher_dims.as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap() as usize).collect();
    ReinforcementSpec { teacher_dims, ..ReinforcementSpec::default() }
}

/// What a trainer needs: picture, caption and reinforcement, crops inside the picture.
fn train(sample: &Sample, spec: &ReinforcementSpec) -> Result<Reinforcement, Fault> {
    sample.text()?;
    let reinforcement = Reinforcement::read(sample, 1, spec)?;
    let picture = sample.decode(&DecodeOptions::default())?;
    let outside =
        |augmentation: &&Augmentation| !augmentation.crop.is_inside(picture.width(), picture.height());
    match reinforcement.augmentations.iter().find(outside) {
        Some(augmentation) => {
            Err(sample.bad("paug.json", format!("{:?} leaves the picture", augmentation.crop)))
        }
        None => Ok(reinforcement),
    }
}

/// The parameters as the golden's `param_aug` has them.
fn expanded(augmentation: &Augmentation) -> Value {
    let crop = augmentation.crop;
    let transforms = augmentation.transforms.as_ref().map(|transforms| {
        let pair = |t: &mobileclip_shards::Transform| json!([format!("{:?}", t.operation), t.magnitude]);
        transforms.iter().map(pair).collect::<Vec<_>>()
    });
    json!({
        "random_resized_crop": {"top": crop.top, "left": crop.left, "height": crop.height, "width": crop.width},
        "rand_augment": transforms,
    })
}

/// Numbers of the golden have nine digits.
fn assert_close(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).for_each(|(a, b)| assert_close(a, b, place));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-8 * b.abs(), "{place}: {a} for {b}");
        }
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            b.iter().for_each(|(key, b)| assert_close(&a[key], b, place));
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

/// The digest over the numbers as they were stored: what was read must give every bit back.
fn digest(matrix: &Matrix, dtype: &str) -> String {
    let mut hash = Sha256::new();
    for &value in matrix.values() {
        match dtype {
            "float32" => hash.update(value.to_le_bytes()),
            "float64" => hash.update(f64::from(value).to_le_bytes()),
            "float16" => hash.update(half::f16::from_f32(value).to_le_bytes()),
            "bfloat16" => hash.update(half::bf16::from_f32(value).to_le_bytes()),
            other => panic!("{other}"),
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rows(parts: &[&Matrix]) -> Matrix {
    let values: Vec<f32> = parts.iter().flat_map(|part| part.values()).copied().collect();
    Matrix::new(parts.iter().map(|part| part.rows()).sum(), parts[0].columns(), values).unwrap()
}

fn check(sample: &Sample, expected: &Value, spec: &ReinforcementSpec) {
    let key = sample.key();
    assert_eq!(key, expected["key"]);
    assert_eq!(sample.text().unwrap(), expected["text"]);
    assert_eq!(sample.utf8("url.txt").unwrap(), expected["url"]);
    assert_eq!(sample.json::<Value>("json").unwrap(), expected["json"]);
    let picture = sample.decode(&DecodeOptions::default()).unwrap();
    assert_eq!(picture.width() as u64, expected["image"]["width"], "{key}");
    assert_eq!(picture.height() as u64, expected["image"]["height"], "{key}");
    let digest_of_file: String =
        Sha256::digest(&sample.picture().unwrap().bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest_of_file, expected["image"]["sha256"], "{key}");

    let found = Reinforcement::read(sample, 1, spec).unwrap();
    let augmentations: Vec<Value> = found.augmentations.iter().map(expanded).collect();
    assert_close(&augmentations.into(), &expected["param_aug"], key);
    let captions: BTreeMap<&str, &[String]> =
        found.synthetic.iter().map(|set| (set.name.as_str(), set.captions.as_slice())).collect();
    assert_eq!(json!(captions), expected["synthetic"], "{key}");

    for (name, expected) in expected["embeddings"].as_object().unwrap() {
        let set = |name: &str| {
            let of = |set: &&mobileclip_shards::CaptionSet| format!("{}_emb", set.name) == name;
            &found.synthetic.iter().find(of).unwrap().embeddings
        };
        let stored = match name.as_str() {
            "image_emb" => found.image_embeddings.clone(),
            // The older layout has the synthetic captions' rows below.
            "text_emb" if expected["shape"][0] != 1 => rows(&[&found.text_embeddings, set("syn_text_emb")]),
            "text_emb" => found.text_embeddings.clone(),
            name => set(name).clone(),
        };
        assert_eq!(json!([stored.rows(), stored.columns()]), expected["shape"], "{key}: {name}");
        for value in expected["values"].as_array().unwrap() {
            let (row, column) = (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize);
            assert_close(
                &json!(stored.row(row)[column]),
                &value[2],
                &format!("{key}: {name}[{row}][{column}]"),
            );
        }
        let dtype = expected["dtype"].as_str().unwrap();
        assert_eq!(digest(&stored, dtype), expected["sha256_of_le_bytes"], "{key}: {name}");
    }
}

#[test]
fn both_dialects_are_read_bit_by_bit() {
    for folder in ["npz-list", "npz-string", "bf16", "per-key", "full-size", "tolerant"] {
        let expected = golden::json(&format!("shards/{folder}/expected.json"));
        let spec = spec(&expected["teacher_dims"]);
        let samples = stream(&shard(&format!("{folder}/00000000.tar")));
        let expected = expected["samples"].as_array().unwrap();
        assert_eq!(samples.len(), expected.len(), "{folder}");
        samples
            .iter()
            .zip(expected)
            .for_each(|(sample, expected)| check(sample.as_ref().unwrap(), expected, &spec));
    }
}

#[test]
fn gnu_long_names_are_read_and_the_last_sample_is_known_to_be_incomplete() {
    let expected = golden::json("shards/tolerant/expected.json");
    let spec = spec(&expected["teacher_dims"]);
    let samples = stream(&shard("tolerant/00000001.tar"));
    assert_eq!(samples.len(), 3);
    for (sample, expected) in samples.iter().zip(expected["samples"].as_array().unwrap()).take(2) {
        check(sample.as_ref().unwrap(), expected, &spec);
    }
    let last = samples[2].as_ref().unwrap();
    assert!(last.key().ends_with(&"k".repeat(70)), "{}", last.key());
    assert_eq!(Reinforcement::read(last, 1, &spec).unwrap_err().cause(), "no paug.json");
}

#[test]
fn the_published_half_has_neither_picture_nor_caption() {
    let expected = golden::json("shards/join/expected.json");
    let spec = spec(&expected["teacher_dims"]);
    let samples = stream(&shard("join/noimage/00000000.tar"));
    assert_eq!(samples.len(), 4);
    for sample in samples {
        let sample = sample.unwrap();
        Reinforcement::read(&sample, 1, &spec).unwrap();
        assert_eq!(train(&sample, &spec).unwrap_err().cause(), "no txt");
    }
}

/// For each broken shard: the samples that can be used, in order, and what the others' faults are counted as.
#[test]
fn broken_shards_give_what_is_whole_and_name_the_rest() {
    let spec = ReinforcementSpec { teacher_dims: vec![24, 24], ..ReinforcementSpec::default() };
    let faults: [(&str, &[&str]); 15] = [
        ("truncated-member.tar", &["no npz or pth.gz", "damaged shard"]),
        ("truncated-header.tar", &["no npz or pth.gz", "damaged shard"]),
        ("no-end-blocks.tar", &[]),
        ("bad-header-checksum.tar", &["damaged shard"]),
        ("duplicate-key-apart.tar", &[]),
        ("duplicate-member.tar", &[]),
        ("interleaved.tar", &["no txt", "no txt"]),
        ("wrong-shapes.tar", &["bad npz", "bad npz", "bad npz"]),
        ("bad-json.tar", &["bad syn.json", "bad paug.json", "bad syn.json"]),
        ("bad-npz.tar", &["bad npz", "bad npz", "bad npz"]),
        ("bad-pth.tar", &["bad pth.gz", "bad pth.gz", "bad pth.gz"]),
        ("bad-values.tar", &["bad npz", "bad npz"]),
        ("bad-image.tar", &["bad jpg", "bad jpg", "bad jpg"]),
        ("bad-params.tar", &["bad paug.json", "bad paug.json", "bad paug.json"]),
        (
            "missing-members.tar",
            &["no jpg, png or webp", "no txt", "no syn.json", "no paug.json", "no npz or pth.gz"],
        ),
    ];
    let expected = golden::json("shards/broken/expected.json");
    for (name, causes) in faults {
        let mut good = Vec::new();
        let mut found = Vec::new();
        for sample in stream(&shard(&format!("broken/{name}"))) {
            match sample.and_then(|sample| train(&sample, &spec).map(|_| sample.key().to_owned())) {
                Ok(key) => good.push(key),
                Err(fault) => {
                    assert!(fault.to_string().contains(name), "{fault}");
                    found.push(fault.cause());
                }
            }
        }
        match expected[name].get("good") {
            Some(keys) => assert_eq!(json!(good), *keys, "{name}"),
            None => {
                let samples = expected[name]["samples"].as_object().unwrap();
                let usable =
                    samples.iter().filter(|(_, sample)| sample["usable_for_reinforced_training"] == true);
                assert_eq!(good, usable.map(|(key, _)| key.as_str()).collect::<Vec<_>>(), "{name}");
            }
        }
        if name == "interleaved.tar" {
            assert!(found.len() == 14 && found.iter().all(|cause| cause.starts_with("no ")), "{found:?}");
        } else {
            assert_eq!(found, causes, "{name}");
        }
    }
}

#[test]
fn a_refused_pickle_and_a_changed_byte_are_told_apart() {
    let spec = ReinforcementSpec { teacher_dims: vec![24, 24], ..ReinforcementSpec::default() };
    let reasons = |name: &str| -> Vec<String> {
        let samples = stream(&shard(&format!("broken/{name}")));
        samples
            .into_iter()
            .filter_map(|sample| train(&sample.unwrap(), &spec).err())
            .map(|f| f.to_string())
            .collect()
    };
    let pth = reasons("bad-pth.tar");
    assert!(pth[0].contains("os.getcwd"), "{}", pth[0]);
    assert!(pth[1].contains("gzip") && pth[2].contains("gzip"), "{pth:?}");
    let npz = reasons("bad-npz.tar");
    assert!(npz[1].contains("`image_emb.npy`") && npz[1].contains("|O"), "{}", npz[1]);
    assert!(npz[2].to_lowercase().contains("checksum"), "{}", npz[2]);
}

#[test]
fn samples_by_number_are_those_of_the_stream() {
    for entry in walk(&golden::path("shards")) {
        let shard = Shard::open(&entry, None, &Limits::default()).unwrap();
        let (samples, faults): (Vec<_>, Vec<_>) = stream(&entry).into_iter().partition(Result::is_ok);
        assert_eq!(shard.len(), samples.len(), "{}", entry.display());
        for (i, sample) in samples.into_iter().enumerate().rev() {
            let sample = sample.unwrap();
            assert_eq!(shard.key(i), Some(sample.key()));
            assert_eq!(shard.sample(i).unwrap().unwrap(), sample);
        }
        let faults: Vec<Fault> = faults.into_iter().filter_map(Result::err).collect();
        assert_eq!(
            shard.faults().iter().map(Fault::cause).collect::<Vec<_>>(),
            faults.iter().map(Fault::cause).collect::<Vec<_>>()
        );
        assert!(shard.sample(shard.len()).is_none());
    }
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut walk(&path));
        } else if path.extension().is_some_and(|extension| extension == "tar") {
            found.push(path);
        }
    }
    found
}
