//! The goldens' toy models as variants.

use mobileclip_arch::Variant;

/// Names of the toys, as under `golden/models/toy`.
pub const TOYS: [&str; 11] = [
    "nano4",
    "toy4",
    "toy5",
    "toy_vit_mci",
    "toy_vit_l",
    "toy_clip_quickgelu",
    "toy_clip_head80",
    "nano_v1_mct",
    "toy_v1_mct",
    "toy_v1_base_causal",
    "toy_v1_b",
];

/// The toy of this name.
///
/// # Panics
/// If there is none, or its file is no variant.
pub fn toy(name: &str) -> Variant {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("variants").join(format!("{name}.toml"));
    let toml = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Variant::parse(&toml).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
