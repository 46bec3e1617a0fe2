//! Writes a checkpoint of formula weights, for scripts that compare or time whole models.
//!
//! `cargo run --release -p mobileclip-testing --example formula_checkpoint -- VARIANT|FILE.toml OUT.safetensors`

use std::path::Path;

use mobileclip_arch::Variant;
use mobileclip_testing::formula;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, out] = arguments.as_slice() else { panic!("VARIANT|FILE.toml OUT.safetensors") };
    let variant = match mobileclip_arch::variant(name) {
        Some(variant) => variant.clone(),
        None => {
            let toml = std::fs::read_to_string(name).unwrap_or_else(|e| panic!("{name}: {e}"));
            Variant::parse(&toml).unwrap_or_else(|e| panic!("{name}: {e}"))
        }
    };
    formula::write_checkpoint(&variant, Path::new(out)).unwrap_or_else(|e| panic!("{out}: {e}"));
}
