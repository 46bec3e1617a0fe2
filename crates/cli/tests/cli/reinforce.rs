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

const COCA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny_coca.toml");

/// Captions, then what a teacher makes of them, then the teacher asked again.
#[test]
fn captions_are_written_then_embedded_then_verified() {
    let place = Place::new();
    let variant = mobileclip::Variant::parse(&std::fs::read_to_string(COCA).unwrap()).unwrap();
    mobileclip_testing::formula::write_checkpoint(&variant, &place.path("coca.safetensors")).unwrap();
    // The golden's own embeddings are in the way of captions.
    let captioner = format!("coca.safetensors={COCA}");
    let captions = |input: &str, output: &str, more: &[&str]| {
        let fixed = [
            "reinforce",
            "captions",
            "--input",
            input,
            "--output",
            output,
            "--captioner",
            &captioner,
            "--json",
        ];
        place.run_plain(&[&fixed, more].concat())
    };
    let ran = captions(&shard(), "none", &["-n", "2"]).ends(2);
    assert_eq!(ran.lines()[0]["faults"], serde_json::json!({"bad npz": 5}));
    let images = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards/join/images/00000000.tar");
    let first = captions(images, "captioned", &["-n", "2"]).ends(0);
    let made = first.lines()[0]["made"].as_u64().unwrap();
    captions(images, "alone", &["-n", "2", "-j", "1", "--batch", "1"]).ends(0);
    let read = |folder: &str| std::fs::read(place.path(&format!("{folder}/00000000.tar"))).unwrap();
    assert!(read("captioned") == read("alone"));
    // A second set beside the first.
    captions("captioned", "both", &["-n", "1", "--set", "syn_text_greedy", "--method", "greedy"]).ends(0);
    captions(images, "other", &["--set", "captions"]).ends(2).says(&["must begin with syn_text"]);

    run(&place, &embeddings(&place, "both", "out", &[])).ends(0);
    let teacher = format!("{}={TINY}", place.model.display());
    let verify = ["reinforce", "verify", "--input", "out", "--teacher", &teacher, "--json"];
    let found = place.run_plain(&verify).ends(0);
    let found = &found.lines()[0];
    assert_eq!((found["samples"].as_u64(), found["images"]["count"].as_u64()), (Some(made), Some(2 * made)));
    assert_eq!(found["texts"]["count"].as_u64(), Some(4 * made));
    assert!(found["images"]["min"].as_f64().unwrap() > 0.999_999);
    // Other parameters are not those that the teacher saw.
    let config = std::fs::read_to_string(place.path("out/config.json")).unwrap();
    place.write("out/config.json", config.replace("bicubic", "nearest"));
    let ran = place.run_plain(&[&verify[..], &["--least", "0.9999999"]].concat()).ends(1);
    assert!(ran.lines()[0]["images"]["min"].as_f64().unwrap() < 0.999_999_9);
}

#[test]
fn the_best_samples_are_kept() {
    let place = Place::new();
    let judge = format!("{}={TINY}", place.model.display());
    let filter = |output: &str, more: &[&str]| {
        let shard = shard();
        let fixed =
            ["reinforce", "filter", "--input", &shard, "--output", output, "--judge", &judge, "--json"];
        place.run_plain(&[&fixed, more].concat())
    };
    let ran = filter("best", &["--share", "0.4", "--uids", "kept.npy"]).ends(0);
    let report = &ran.lines()[0];
    assert_eq!((report["made"].as_u64(), report["rejected"].as_u64()), (Some(2), Some(3)));
    ran.says(&["the best 0.4 of the samples have a cosine of"]);
    let uids = std::fs::read(place.path("kept.npy")).unwrap();
    assert_eq!(uids.len(), 128 + 2 * 16);
    let all = filter("all", &["--threshold", "-1"]).ends(0);
    assert_eq!(all.lines()[0]["made"].as_u64(), Some(5));
    filter("none", &["--threshold", "nan"]).ends(2).says(&["must be from -1 to 1"]);
    filter("none", &["--share", "1.5"]).ends(2).says(&["above 0 and at most 1"]);
    // The list chooses the same samples from the set.
    place.run_plain(&["shards", "repack", &shard(), "--output", "chosen", "--uids", "kept.npy"]).ends(0);
    let keys = |folder: &str| -> Vec<String> {
        let ran = place.run_plain(&["shards", "head", folder, "--json"]).ends(0);
        ran.lines().iter().map(|line| line["key"].as_str().unwrap()[..32].to_owned()).collect()
    };
    assert_eq!(keys("chosen"), keys("best"));
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

#[test]
fn a_page_is_written_and_other_forms_are_read_again() {
    let place = Place::new();
    let more = [
        "--format",
        "jsonl",
        "--compress",
        "gz",
        "--preview",
        "page.html",
        "--preview-count",
        "2",
        "--quiet",
    ];
    run(&place, &embeddings(&place, &shard(), "out", &more)).ends(0);
    let page = std::fs::read_to_string(place.path("page.html")).unwrap();
    assert_eq!((page.matches("<section>").count(), page.matches("<img ").count()), (2, 2 * 3));
    let teacher = format!("{}={TINY}", place.model.display());
    let verify = ["reinforce", "verify", "--input", "out", "--teacher", &teacher, "--json"];
    assert_eq!(place.run_plain(&verify).ends(0).lines()[0]["samples"], serde_json::json!(5));
    let head = ["shards", "head", "out", "-n", "1", "--preview", "head.html"];
    place.run_plain(&head).ends(0);
    assert!(std::fs::read_to_string(place.path("head.html")).unwrap().matches("<img ").count() == 3);
    run(&place, &embeddings(&place, &shard(), "other", &["--preview", "none/page.html"])).fails(&["none"]);
    assert!(!place.path("other").exists());
    run(&place, &embeddings(&place, &shard(), "other", &["--synthetic", "("])).ends(2).says(&["--synthetic"]);
}

/// A disk that takes no more: the shell's limit of a file's size stands for it.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_the_rerun_goes_on() {
    let place = Place::new();
    let args = embeddings(&place, &shard(), "out", &["--quiet"]);
    let binary = env!("CARGO_BIN_EXE_mobileclip");
    let mut command = std::process::Command::new("sh");
    // 16 blocks of 512 bytes.
    command.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh", binary]).args(&args);
    let full = super::common::Ran::of(command.current_dir(place.folder.path()).output().unwrap());
    full.fails(&["out/00000000.tar: File too large"]);
    let left = std::fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains(".tar")));
    run(&place, &args).ends(0);
}
