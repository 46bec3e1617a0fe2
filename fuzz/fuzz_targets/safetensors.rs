//! safetensors files, the container of plain weights and of deploy files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_checkpoint::{Limits, TensorFile};

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = TensorFile::from_bytes("fuzz.safetensors", data.to_vec(), &Limits::default()) {
        for tensor in file.tensors() {
            assert_eq!(tensor.to_f32().expect("nothing can fail after opening").len(), tensor.elements());
        }
    }
});
