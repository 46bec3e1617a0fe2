//! `mobileclip shards`.

use super::common::Place;
use serde_json::json;

fn golden(name: &str) -> String {
    format!("{}/../../golden/shards/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn shards_are_counted_and_shown() {
    let place = Place::new();
    let ran = place.run_plain(&["shards", "stat", &golden("npz-list"), "--json"]).ends(0);
    let stat = &ran.lines()[0];
    assert_eq!(
        (&stat["samples"], &stat["members"]["npz"][0], &stat["faults"]),
        (&json!(5), &json!(5), &json!({}))
    );
    let head = place.run_plain(&["shards", "head", &golden("npz-list"), "-n", "2", "--json"]).ends(0);
    assert_eq!(head.lines().len(), 2);
    assert!(head.lines()[0]["members"]["jpg"].as_u64().unwrap() > 0 && head.lines()[0]["text"].is_string());
    let table = place.run_plain(&["shards", "head", &golden("npz-list"), "-n", "1"]).ends(0);
    assert!(table.out.lines().count() == 2 && table.out.contains("paug.json ("), "{}", table.out);
}

#[test]
fn faults_are_told() {
    let place = Place::new();
    let broken = golden("broken/bad-image.tar");
    place.run_plain(&["shards", "stat", &broken]).ends(0);
    place.run_plain(&["shards", "verify", &broken]).ends(1).says(&["bad-image.tar"]);
    let whole = std::fs::read(golden("npz-list/00000000.tar")).unwrap();
    let cut = place.write("cut.tar", &whole[..whole.len() / 2]).display().to_string();
    let ran = place.run_plain(&["shards", "stat", &cut, "--json"]).ends(1);
    assert_eq!(ran.lines()[0]["faults"], json!({"damaged shard": 1}));
    place.run_plain(&["shards", "stat", "none.tar"]).fails(&["none.tar"]);
    place.run_plain(&["shards", "stat", "ftp://host/0.tar"]).fails(&["ftp://host/0.tar", "s3://"]);
    // With stores: compat/stores.py.
    #[cfg(not(feature = "stores"))]
    place.run_plain(&["shards", "stat", "s3://b/{0..1}.tar"]).fails(&["s3://b/0.tar", "--features stores"]);
}

#[test]
fn halves_are_joined_and_sets_repacked() {
    let place = Place::new();
    let (images, others) = (golden("join/images"), golden("join/noimage"));
    let ran = place.run_plain(&["shards", "join", &images, &others, "--output", "joined", "--json"]).ends(1);
    let report = &ran.lines()[0];
    assert_eq!(report["only_first"], json!({"count": 1, "first": ["ea224cc6949304055775b57fddc1d319"]}));
    assert_eq!(report["only_second"], json!({"count": 1, "first": ["0ed64689ff57a852e1b7e4d7d5bd2f5f"]}));
    let repack = [
        "shards",
        "repack",
        "joined",
        "--output",
        "packed",
        "-n",
        "2",
        "--shuffle",
        "1",
        "--compress",
        "zst",
    ];
    place.run_plain(&repack).ends(0);
    let count = |folder: &str| {
        let ran = place.run_plain(&["shards", "stat", folder, "--json"]).ends(0);
        ran.lines()[0]["samples"].as_u64()
    };
    assert_eq!((count("joined"), count("packed")), (report["samples"].as_u64(), report["samples"].as_u64()));
    place.run_plain(&repack).ends(2).says(&["is there already; take an empty folder"]);
    let compressed = ["shards", "repack", "packed", "--output", "again", "--quiet"];
    place.run_plain(&compressed).fails(&["--cache DIR"]);
    place.run_plain(&[&compressed[..], &["--cache", "cache"]].concat()).ends(0);
    assert_eq!(count("again"), count("packed"));
}
