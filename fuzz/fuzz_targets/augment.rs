//! A configuration of augmentations and a `paug.json`, one after the other with a zero byte between them: what is accepted is written
//! back to the same parameters, and replayed or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mobileclip_image::RgbImage;
use mobileclip_image::augment::{Config, Replay};

/// Small, so that an entry of a thousand operations costs no time.
fn picture(width: usize, height: usize) -> RgbImage {
    let pixels = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
    RgbImage::new(width, height, pixels).expect("as many bytes as it needs")
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |&b| b == 0);
    let (Some(config), Some(paug)) = (parts.next(), parts.next()) else { return };
    let Ok(config) = std::str::from_utf8(config) else { return };
    let Ok(config) = Config::parse(config) else { return };
    if let Ok(drawn) = config.sample(1, "uid", 0, (17, 11)) {
        let bytes = config.write_paug(&[drawn.clone()], Default::default());
        assert_eq!(config.read_paug(bytes.as_bytes()).expect("what was drawn").0, [drawn]);
    }
    let Ok((parameters, dialect)) = config.read_paug(paug) else { return };
    let bytes = config.write_paug(&parameters, dialect);
    assert_eq!(config.read_paug(bytes.as_bytes()).expect("what was written"), (parameters.clone(), dialect));
    let how = Replay { size: Some((13, 19)), ..Replay::default() };
    for parameters in parameters.iter().take(4) {
        for (width, height) in [(17, 11), (1, 1)] {
            let picture = picture(width, height);
            match parameters.partner {
                None => _ = config.replay(parameters, &picture, &how),
                Some(_) => _ = config.replay_mixed(parameters, &picture, &picture, &how),
            }
        }
    }
});
