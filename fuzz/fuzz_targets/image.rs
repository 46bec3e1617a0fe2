//! Image files of every format, and what a model does with those that can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_image::{DecodeOptions, Preprocess, decode};

fuzz_target!(|data: &[u8]| {
    // Small enough that a file which promises more than it holds costs no time.
    let options = DecodeOptions::upright().with_max_pixels(1 << 20);
    if let Ok(image) = decode(data, &options) {
        assert!(image.width() * image.height() <= 1 << 20);
        let preprocess = Preprocess { size: (32, 32), ..Preprocess::default() };
        assert_eq!(preprocess.apply(&image).expect("an image of allowed size").len(), preprocess.tensor_len());
    }
});
