//! Checkpoints of torch.save: the input as a file (zip or legacy), and as the object of a legacy file with valid pickles around.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_checkpoint::{Limits, TensorFile};

/// Magic number, protocol 1001, an empty system.
const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fn decode(bytes: Vec<u8>) {
    if let Ok(file) = TensorFile::from_bytes("fuzz.pt", bytes, &Limits::default()) {
        for tensor in file.tensors() {
            if let Ok(values) = tensor.to_f32() {
                assert_eq!(values.len(), tensor.elements());
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    decode(data.to_vec());
    decode([HEAD, data].concat());
});
