//! Arrows between crates point downwards only: the table in ARCHITECTURE.md, enforced.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Every crate and what it may use of the others (tests may use `testing` besides).
const ALLOWED: &[(&str, &[&str])] = &[
    ("mobileclip-kernels", &[]),
    ("mobileclip-text", &[]),
    ("mobileclip-arch", &[]),
    ("mobileclip-hub", &[]),
    ("mobileclip-jpeg", &["mobileclip-kernels"]),
    ("mobileclip-image", &["mobileclip-kernels", "mobileclip-jpeg"]),
    ("mobileclip-autodiff", &["mobileclip-arch", "mobileclip-kernels"]),
    (
        "mobileclip-train",
        &[
            "mobileclip-arch",
            "mobileclip-autodiff",
            "mobileclip-checkpoint",
            "mobileclip-image",
            "mobileclip-kernels",
            "mobileclip-shards",
            "mobileclip-text",
        ],
    ),
    ("mobileclip-checkpoint", &["mobileclip-arch"]),
    ("mobileclip-graph", &["mobileclip-arch"]),
    ("mobileclip-onnx", &["mobileclip-arch", "mobileclip-graph"]),
    ("mobileclip-engine", &["mobileclip-arch", "mobileclip-graph", "mobileclip-kernels"]),
    ("mobileclip-captioner", &["mobileclip-arch", "mobileclip-engine", "mobileclip-graph"]),
    (
        "mobileclip",
        &[
            "mobileclip-arch",
            "mobileclip-captioner",
            "mobileclip-checkpoint",
            "mobileclip-engine",
            "mobileclip-graph",
            "mobileclip-hub",
            "mobileclip-image",
            "mobileclip-onnx",
            "mobileclip-text",
        ],
    ),
    ("mobileclip-store", &[]),
    ("mobileclip-shards", &["mobileclip-checkpoint", "mobileclip-image", "mobileclip-store"]),
    ("mobileclip-eval", &["mobileclip", "mobileclip-shards"]),
    ("mobileclip-reinforce", &["mobileclip", "mobileclip-shards", "mobileclip-store"]),
    (
        "mobileclip-cli",
        &["mobileclip", "mobileclip-eval", "mobileclip-reinforce", "mobileclip-shards", "mobileclip-train"],
    ),
    ("mobileclip-testing", &["mobileclip-arch"]),
];

#[test]
fn crates_use_only_what_stands_below_them() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            let other = dependency["name"].as_str().expect("a name");
            let is_ours = other.starts_with("mobileclip");
            let is_test = dependency["kind"] == "dev" && other == "mobileclip-testing";
            assert!(!is_ours || is_test || allowed.contains(&other), "{name} must not use {other}");
        }
    }
    assert!(packages.len() >= 11, "only {} packages", packages.len());
}
