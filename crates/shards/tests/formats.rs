//! JSON lines and TFRecord: read as the goldens say, written and read back, damaged.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip_shards::{
    Cache, Dataset, Error, Fault, Limits, Reinforcement, ReinforcementSpec, Repack, Sample, SampleStream,
    Shard, ShardWriter, repack,
};
use mobileclip_testing::golden;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn shard(name: &str) -> PathBuf {
    golden::path(&format!("shards/{name}"))
}

fn stream(path: &Path) -> Vec<Result<Sample, Fault>> {
    SampleStream::open(path, Limits::default()).unwrap().collect()
}

fn whole(path: &Path) -> Vec<Sample> {
    stream(path).into_iter().collect::<Result<_, _>>().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn spec() -> ReinforcementSpec {
    ReinforcementSpec { teacher_dims: vec![24, 24], ..ReinforcementSpec::default() }
}

/// One line or record, as the golden has it.
fn check(sample: &Sample, expected: &Value) {
    assert_eq!(sample.key(), expected["key"]);
    assert_eq!(sample.text().unwrap(), expected["text"]);
    assert_eq!(sample.utf8("url.txt").unwrap(), expected["url"]);
    assert_eq!(sample.json::<Value>("json").unwrap(), expected["json"]);
    assert_eq!(sample.json::<Value>("syn.json").unwrap(), expected["synthetic"]);
    assert_eq!(hex(&sample.picture().unwrap().bytes), expected["image"]["sha256"]);
    let found = Reinforcement::read(sample, 1, &spec()).unwrap();
    assert_eq!(found.augmentations.len(), expected["param_aug"].as_array().unwrap().len());
    for (name, expected) in expected["embeddings"].as_object().unwrap() {
        let matrix = match name.as_str() {
            "image_emb" => &found.image_embeddings,
            "text_emb" => &found.text_embeddings,
            name => {
                &found.synthetic.iter().find(|set| format!("{}_emb", set.name) == name).unwrap().embeddings
            }
        };
        let bytes: Vec<u8> = matrix.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(json!([matrix.rows(), matrix.columns()]), expected["shape"]);
        assert_eq!(hex(&bytes), expected["sha256_of_le_bytes"], "{name}");
    }
}

#[test]
fn json_lines_are_read_bit_by_bit_in_every_packing() {
    let expected = golden::json("shards/jsonl/expected.json");
    for (name, numbers) in expected["files"].as_object().unwrap() {
        let samples = whole(&shard(&format!("jsonl/{name}")));
        let numbers = numbers.as_array().unwrap();
        assert_eq!(samples.len(), numbers.len(), "{name}");
        for (sample, number) in samples.iter().zip(numbers) {
            check(sample, &expected["samples"][number.as_u64().unwrap() as usize]);
        }
    }
    // `caption` in place of `text`, and nothing else.
    let plain = whole(&shard("jsonl/00000004.jsonl"));
    assert!(plain[0].text().unwrap().starts_with("blurry bowl") && plain[0].get("syn.json").is_none());
}

#[test]
fn records_are_read_as_they_were_written() {
    let expected = golden::json("shards/tfrecord/expected.json");
    let samples = whole(&shard("tfrecord/00000000.tfrecord"));
    assert_eq!(samples.len(), 3);
    for (sample, expected) in samples.iter().zip(expected["samples"].as_array().unwrap()) {
        assert_eq!(
            (sample.key(), sample.text().unwrap()),
            (expected["uid"].as_str().unwrap(), expected["text"].as_str().unwrap())
        );
        assert_eq!(hex(&sample.picture().unwrap().bytes), expected["image_sha256"]);
        let fields: Value = sample.json("json").unwrap();
        for field in ["uid", "width", "score", "delta"] {
            assert_eq!(fields[field], expected[field], "{field}");
        }
        for (found, expected) in
            fields["emb"].as_array().unwrap().iter().zip(expected["emb"].as_array().unwrap())
        {
            assert!(
                (found.as_f64().unwrap() - expected.as_f64().unwrap()).abs() < 1e-8,
                "{found} for {expected}"
            );
        }
    }
    // Written by the Python package `tfrecord` (compat/formats.py --make).
    let package = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/package.tfrecord"));
    let samples = whole(package);
    assert_eq!(samples.len(), 3);
    for (i, sample) in samples.iter().enumerate() {
        assert_eq!(
            (sample.key(), sample.text().unwrap()),
            (&format!("{i:032x}")[..], &format!("a café, {i} times")[..])
        );
        assert_eq!(sample.decode(&Default::default()).unwrap().width(), 17);
        let fields: Value = sample.json("json").unwrap();
        assert_eq!(
            (&fields["shift"], &fields["score"]),
            (&json!(-5 - i as i64), &json!([0.25 * i as f64, -1.5]))
        );
    }
}

#[test]
fn damage_is_told_and_what_is_whole_is_read() {
    let read = |name: &str| -> (Vec<String>, Vec<String>) {
        let (good, bad): (Vec<_>, Vec<_>) =
            stream(&shard(&format!("broken/{name}"))).into_iter().partition(Result::is_ok);
        let keys = good.into_iter().map(|sample| sample.unwrap().key().to_owned()).collect();
        (keys, bad.into_iter().map(|sample| sample.unwrap_err().cause()).collect())
    };
    let expected = golden::json("shards/broken/expected.json");
    let (good, bad) = read("bad-lines.jsonl");
    assert_eq!(json!(good), expected["bad-lines.jsonl"]["good"]);
    assert!(bad.len() >= 4 && bad.iter().all(|cause| cause == "bad line"), "{bad:?}");
    let (good, bad) = read("truncated.jsonl.gz");
    assert!(good.len() < 3 && bad == ["damaged shard"], "{good:?} {bad:?}");
    let (good, bad) = read("bad-crc.tfrecord");
    assert_eq!((good.len(), bad), (2, vec!["bad record".to_owned()]));
}

/// Every good sample of the goldens through JSON lines: the same members, of arrays the same numbers.
#[test]
fn json_lines_give_back_what_tar_shards_have() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["npz-list", "npz-string", "per-key", "bf16", "tolerant", "join/images"] {
        let samples = whole(&shard(&format!("{name}/00000000.tar")));
        for ending in [".jsonl", ".jsonl.gz", ".jsonl.zst"] {
            let path = folder.path().join(format!("0{ending}"));
            let mut writer = ShardWriter::create(&path).unwrap();
            samples.iter().for_each(|sample| writer.write(sample).unwrap());
            writer.publish().unwrap();
            let back = whole(&path);
            assert_eq!(back.len(), samples.len());
            for (sample, back) in samples.iter().zip(&back) {
                assert_eq!(sample.key(), back.key());
                for member in sample.members() {
                    let found = back.get(&member.suffix);
                    match member.suffix.as_str() {
                        // `npz` counts where both are.
                        "npz" | "pth.gz" => {}
                        suffix if suffix.ends_with("json") => {
                            assert_eq!(
                                back.json::<Value>(suffix).unwrap(),
                                sample.json::<Value>(suffix).unwrap()
                            );
                        }
                        suffix => assert_eq!(found, Some(&member.bytes[..]), "{name}: {suffix}"),
                    }
                }
                if sample.get("paug.json").is_some() {
                    let read = |sample: &Sample| Reinforcement::read(sample, 1, &spec()).unwrap();
                    assert_eq!(read(sample), read(back), "{name}: {}", sample.key());
                }
            }
        }
    }
}

/// Sample by sample, from a cache; and again to tar.
#[test]
fn lines_and_records_are_read_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path().join("cache"), 1 << 30);
    let paths = [
        "jsonl/00000000.jsonl",
        "jsonl/00000002.jsonl.zst",
        "tfrecord/00000000.tfrecord",
        "broken/bad-lines.jsonl",
    ];
    for path in paths.map(shard) {
        let refused = Shard::open(&path, None, &Limits::default());
        assert!(matches!(refused, Err(Error::NoCache { .. })));
        // The second time from the cache.
        for _ in 0..2 {
            let shard = Shard::open(&path, Some(&cache), &Limits::default()).unwrap();
            let (samples, faults): (Vec<_>, Vec<_>) = stream(&path).into_iter().partition(Result::is_ok);
            assert_eq!(
                (shard.len(), shard.faults().len()),
                (samples.len(), faults.len()),
                "{}",
                path.display()
            );
            for (i, sample) in samples.into_iter().enumerate().rev() {
                let (sample, found) = (sample.unwrap(), shard.sample(i).unwrap().unwrap());
                assert_eq!((sample.key(), sample.members().len()), (found.key(), found.members().len()));
                found
                    .members()
                    .iter()
                    .for_each(|member| assert_eq!(sample.get(&member.suffix), Some(&member.bytes[..])));
            }
        }
    }
    let dataset =
        Dataset::open(&[shard("jsonl/00000000.jsonl")], Some(&cache), &Limits::default(), &mut |_| {})
            .unwrap();
    let how = Repack { samples: 2, shuffle: None, uids: None, ending: ".tar".to_owned() };
    let out = folder.path().join("out");
    repack(&dataset, &how, &out, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((whole(&out.join("00000000.tar")).len(), whole(&out.join("00000001.tar")).len()), (2, 1));
}

#[test]
fn other_names_are_not_written() {
    for name in ["0.tfrecord", "0.zip", "0.gz", "0"] {
        let path = Path::new("/nonexistent").join(name);
        let error = ShardWriter::create(&path).err().unwrap().to_string();
        assert!(error.contains("ends in .tar or .jsonl"), "{error}");
    }
}
