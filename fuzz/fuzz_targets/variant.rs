//! The TOML of a variant: what is accepted has a manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_arch::{Form, Manifest, Variant};

fuzz_target!(|data: &[u8]| {
    let Ok(toml) = std::str::from_utf8(data) else { return };
    let Ok(variant) = Variant::parse(toml) else { return };
    let manifest = Manifest::of(&variant);
    assert!(manifest.parameters(Form::Train, None) > 0);
});
