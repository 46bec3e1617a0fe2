//! `mobileclip reinforce`.

use super::common::{Place, TINY};

/// A golden shard, whose own embeddings give way.
fn shard() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards/npz-list/00000000.tar").to_owned()
}

fn embeddings<'a>(place: &Place, input: &'a str, output: &'a str, more: &[&'a str]) -> Vec<String> {
    let teacher = format!("{}={TINY}", place.model.display());
    let fixed =
        ["reinforce", "embeddings", "--input", input, "--output", output, "-k", "2", "--teacher", &teacher];
    fixed.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn run(place: &Place, args: &[String]) -> super::common::Ran {
    place.run_plain(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn reinforced_shards_are_trained_on() {
    let place = Place::new();
    let ran = run(&place, &embeddings(&place, &shard(), "out", &["--json", "--seed", "3"])).ends(0);
    let report = &ran.lines()[0];
    assert_eq!((report["shards_made"].as_u64(), report["made"].as_u64()), (Some(1), Some(5)));
    ran.says(&["widths of the teachers' embeddings: [16]", "1 shard made"]);
    let manifest = std::fs::read_to_string(place.path("out/manifest.jsonl")).unwrap();
    let note: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((note["shard"].as_str(), note["num_uids"].as_u64()), (Some("00000000.tar"), Some(5)));

    let again = run(&place, &embeddings(&place, &shard(), "out", &["--json", "--seed", "3"])).ends(0);
    assert_eq!(again.lines()[0]["shards_found"].as_u64(), Some(1));
    run(&place, &embeddings(&place, &shard(), "out", &["--quiet"]))
        .fails(&["config.json", "another `seed`: 3 there, 0 now"]);

    let recipe = format!(
        "[model]\nvariant = {TINY:?}\n[data]\nshards = [\"out\"]\naugment = \"recorded\"\n\
         [loss]\ncontrastive_weight = 0.0\ndistill_weight = 1.0\nteacher_widths = [16]\nteacher_scales = [100.0]\n\
         [run]\nbatch = 4\nsteps = 2\n"
    );
    let recipe = place.write("run.toml", recipe).display().to_string();
    let ran = place.run_plain(&["train", &recipe, "--run-out", "run", "--json"]).ends(0);
    assert_eq!(ran.lines()[0]["skipped"], serde_json::json!({}));
}

#[test]
fn sets_without_synthetic_captions_are_trained_on() {
    let place = Place::new();
    let photo = std::fs::read(super::common::photo("china.jpg")).unwrap();
    let mut tar = Vec::new();
    for (name, bytes) in
        [("a.jpg", &photo[..]), ("a.txt", b"a temple"), ("b.jpg", &photo), ("b.txt", b"a temple")]
    {
        tar.extend(member(name, bytes));
    }
    tar.extend([0; 1024]);
    let input = place.write("in/0.tar", tar).display().to_string();
    run(&place, &embeddings(&place, &input, "out", &["--dtype", "bf16"])).ends(0);
    let recipe = format!(
        "[model]\nvariant = {TINY:?}\n[data]\nshards = [\"out\"]\naugment = \"recorded\"\nmix_synthetic = 0.0\n\
         [loss]\ncontrastive_weight = 0.0\ndistill_weight = 1.0\nteacher_widths = [16]\nteacher_scales = [100.0]\n\
         [run]\nbatch = 2\nsteps = 1\n"
    );
    let recipe = place.write("run.toml", recipe).display().to_string();
    let ran = place.run_plain(&["train", &recipe, "--run-out", "run", "--json"]).ends(0);
    assert_eq!(ran.lines()[0]["skipped"], serde_json::json!({}));
}

/// A member of a tar file, in the least that a reader wants.
fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    header[156] = b'0';
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut member = [&header[..], bytes].concat();
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    let shard = shard();
    for (more, words) in [
        (vec!["--captions", "text"], vec!["neither txt nor json:FIELD"]),
        (vec!["--augment", "none.json"], vec!["none.json"]),
        (vec!["--teacher", "none.safetensors=tiny"], vec!["--variant tiny: no variant has this name"]),
    ] {
        let ran = run(&place, &embeddings(&place, &shard, "out", &more)).ends(2);
        ran.says(&words);
    }
    run(&place, &embeddings(&place, "none/{0..1}.tar", "out", &[])).fails(&["2 of the shards are not there"]);
    assert!(!place.path("out").exists());
}
