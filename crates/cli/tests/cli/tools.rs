//! The small commands, end to end.

use crate::common::{Place, TINY};

#[test]
fn tokens_are_rows_of_ids() {
    let place = Place::new();
    let ran = place.run_plain(&["tokens", "a photo of a cat", "", "--model", "no such model"]).ends(0);
    let lines = ran.lines();
    let ids =
        |i: usize| lines[i].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((ids(0).len(), &ids(0)[..8]), (77, &[49406, 320, 1125, 539, 320, 2368, 49407, 0][..]));
    assert_eq!(&ids(1)[..3], &[49406, 49407, 0]);
    let long = "word ".repeat(2000);
    let lines = place.run_plain(&["tokens", &long, "--context", "9"]).ends(0).lines();
    let row = lines[0].as_array().unwrap();
    assert_eq!((row.len(), row[8].as_u64()), (9, Some(49407)));
}

#[test]
fn bench_times_every_step() {
    let place = Place::new();
    let report = place
        .run(&["bench", "--runs", "2", "--json", "--profile", "--threads", "2"])
        .ends(0)
        .lines()
        .remove(0);
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["decode", "preprocess", "tokenise", "image tower", "text tower", "whole"]);
    for step in steps {
        assert!(0.0 < step["p50_ms"].as_f64().unwrap() && step["p50_ms"].as_f64() <= step["p95_ms"].as_f64());
        assert_eq!(step["gflop"].is_number(), step["step"].as_str().unwrap().ends_with("tower"));
    }
    assert_eq!(
        (&report["threads"], &report["runs"], &report["model"]),
        (&2.into(), &2.into(), &"tiny".into())
    );
    let profile = report["profile"].as_array().unwrap();
    assert!(profile.iter().any(|node| node["tower"] == "image" && node["gflop"].as_f64() > Some(0.0)));
    assert!(
        profile.iter().any(|node| node["tower"] == "text"
            && node["names"][0].as_str() == Some("text.token_embedding.weight"))
    );
    let table = place.run(&["bench", "--runs", "1", "--profile"]).ends(0).out;
    for words in ["image tower", "GFLOP/s", "made from", "visual.trunk.stem"] {
        assert!(table.contains(words), "no `{words}` in {table}");
    }
    place.run(&["bench", "--runs", "0"]).ends(2).says(&["--runs", "at least 1"]);
}

#[test]
fn help_completions_and_manual_exist_for_every_command() {
    let place = Place::new();
    let help = place.run_plain(&["--help"]).ends(0).out;
    for words in ["Examples:", "Exit status:", "MOBILECLIP_MODEL", "--model PATH"] {
        assert!(help.contains(words), "no `{words}` in {help}");
    }
    let commands = [
        "classify",
        "embed",
        "index",
        "search",
        "inspect",
        "tokens",
        "convert",
        "bench",
        "models",
        "download",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.run_plain(&["completions", shell]).ends(0).out;
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    assert!(place.run_plain(&["man"]).ends(0).out.contains(".TH mobileclip 1"));
    place.run_plain(&["man", "--out", "man/man1"]).ends(0);
    for command in commands {
        assert!(place.path(&format!("man/man1/mobileclip-{command}.1")).exists(), "{command}");
        let help = place.run_plain(&[command, "--help"]).ends(0).out;
        assert!(help.contains(&format!("Usage: mobileclip {command}")), "{help}");
    }
    let version = place.run_plain(&["--version"]).ends(0).out;
    assert_eq!(version, format!("mobileclip {}\n", env!("CARGO_PKG_VERSION")));
    place.run_plain(&[]).ends(2).says(&["Usage: mobileclip"]);
}

#[test]
fn a_variant_is_named_or_described() {
    let place = Place::new();
    place.run_plain(&["inspect", "--variant", "NoSuch"]).fails(&["--variant NoSuch", "MobileCLIP2-S0"]);
    place.run_plain(&["inspect", "--variant", "missing.toml"]).fails(&["missing.toml", "No such file"]);
    place.write("bad.toml", "name = \"x\"\ncolour = \"red\"\n");
    place.run_plain(&["inspect", "--variant", "bad.toml"]).fails(&["bad.toml", "colour"]);
    place.run_plain(&["inspect", "--variant", "MobileCLIP2-S0"]).fails(&[
        "tiny.safetensors",
        "MobileCLIP2-S0",
        "missing",
    ]);
    place.run_plain(&["inspect", "--variant", TINY]).ends(0);
}
