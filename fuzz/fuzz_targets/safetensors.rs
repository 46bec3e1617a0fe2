//! safetensors files, the container of plain weights and of deploy files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_checkpoint::{Container, Limits, TensorFile};

fuzz_target!(|data: &[u8]| {
    let Ok(file) = TensorFile::from_bytes("fuzz.safetensors", data.to_vec(), &Limits::default()) else { return };
    // The container is told by the contents: seeds may be zips, which the target `pickle` looks at.
    if file.container() == Container::Safetensors {
        for tensor in file.tensors() {
            assert_eq!(tensor.to_f32().expect("nothing can fail after opening").len(), tensor.elements());
        }
    }
});
