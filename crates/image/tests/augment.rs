//! Properties of recorded augmentations on random configurations, parameters and pictures.

use mobileclip_image::augment::{
    Config, Dialect, Error, MAX_PIXELS, Operation, Parameters, PictureParameters, Replay, Transform,
};
use mobileclip_image::{PassOrder, Rect, RgbImage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn noise(width: usize, height: usize) -> RgbImage {
    let byte = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    RgbImage::new(width, height, (0..(width * height * 3) as u64).map(byte).collect()).unwrap()
}

/// Everything that can be drawn, with sizes that fit any picture.
fn config() -> impl Strategy<Value = Value> {
    let names = ["nearest", "bilinear", "bicubic", "lanczos"];
    (1..40u64, 1..40u64, 0..4usize, 0..3usize, 0..31u64, any::<[bool; 6]>()).prop_map(
        move |(height, width, crop, augment, bin, enable)| {
            json!({
                "resize": {"size": width, "enable": enable[0]},
                "center_crop": {"size": [height, width], "enable": enable[1]},
                "random_crop": {"size": [width, height], "pad_if_needed": true, "fill": 50, "enable": enable[2]},
                "random_resized_crop": {"size": [height, width], "interpolation": names[crop], "scale": [0.01, 1.0]},
                "random_horizontal_flip": {"enable": enable[3]},
                "rand_augment": {"magnitude": bin, "num_ops": 3, "interpolation": names[augment], "fill": [1, 2, 3]},
                "random_erase": {"enable": enable[4]},
                "mixup": {"enable": enable[5]},
            })
        },
    )
}

fn picture_parameters() -> impl Strategy<Value = PictureParameters> {
    let area = || {
        (-30..40i64, -30..40i64, 1..60usize, 1..60usize).prop_map(|(top, left, height, width)| Rect {
            left,
            top,
            width,
            height,
        })
    };
    let transform = (0..14usize, prop_oneof![-1.0..9.0f64, -400.0..400.0f64, any::<f64>()])
        .prop_map(|(number, magnitude)| Transform { operation: Operation::ALL[number], magnitude });
    (
        prop::option::of((-30..40i64, -30..40i64)),
        prop::option::of(area()),
        prop::option::of(any::<bool>()),
        prop::option::of(prop::collection::vec(transform, 0..5)),
        prop::option::of(area()),
    )
        .prop_map(|(corner, crop, flip, transforms, erase)| PictureParameters {
            resize: None,
            random_crop: corner.map(|(top, left)| [top, left]),
            random_resized_crop: crop,
            random_horizontal_flip: flip,
            rand_augment: transforms,
            random_erase: erase.map(|area| Rect { top: area.top.max(-1), left: area.left.max(0), ..area }),
        })
}

proptest! {
    /// Whatever is drawn can be written, read and replayed, and gives the size that was asked for.
    #[test]
    fn what_is_drawn_can_be_stored_and_replayed(
        json in config(), width in 1..90usize, height in 1..90usize, seed: u64, uid: String, index: u32, is_old: bool,
    ) {
        let config = Config::from_value(&json).unwrap();
        let parameters = config.sample(seed, &uid, index, (width, height)).unwrap();
        let stored = vec![parameters];
        for dialect in [Dialect::List, Dialect::String] {
            let bytes = config.write_paug(&stored, dialect);
            prop_assert_eq!(config.read_paug(bytes.as_bytes()).unwrap(), (stored.clone(), dialect));
        }
        let pass_order = if is_old { PassOrder::HorizontalFirst } else { PassOrder::Pillow13 };
        let how = Replay { pass_order, ..Replay::default() };
        let picture = noise(width, height);
        let found = config.replay(&stored[0], &picture, &how).unwrap();
        let size = &json["random_resized_crop"]["size"];
        prop_assert_eq!(json!([found.height(), found.width()]), size.clone());
        prop_assert_eq!(config.replay(&stored[0], &picture, &how).unwrap(), found);
    }

    /// Made-up parameters are carried out or refused, never worse.
    #[test]
    fn made_up_parameters_are_replayed_or_refused(
        json in config(), width in 1..50usize, height in 1..50usize, own in picture_parameters(), other in picture_parameters(),
        lambda in 0.0..1.0f64,
    ) {
        let config = Config::from_value(&json).unwrap();
        let picture = noise(width, height);
        let is_possible = own.rand_augment.as_ref().is_none_or(|list| list.len() >= 3 && list.iter().all(|t| t.magnitude.abs() < 8.0 && t.magnitude > -1.0));
        let alone = Parameters { picture: own.clone(), ..Parameters::default() };
        let found = config.replay(&alone, &picture, &Replay::default());
        prop_assert!(found.is_ok() || !is_possible, "{:?}", found);
        let mixed = Parameters { partner: Some((json!(3), other)), mixup: Some(lambda), ..alone };
        prop_assert!(config.replay(&mixed, &picture, &Replay::default()).is_err());
        if let Ok(found) = config.replay_mixed(&mixed, &picture, &noise(height, width), &Replay::default()) {
            prop_assert!(found.values.iter().all(|v| (0.0..=1.0).contains(v)));
        }
    }
}

#[test]
fn drawing_depends_on_seed_uid_and_index_alone() {
    let config = Config::published();
    let all: Vec<Parameters> = (0..20).map(|i| config.sample(5, "a", i, (640, 480)).unwrap()).collect();
    for (i, parameters) in all.iter().enumerate().rev() {
        assert_eq!(config.sample(5, "a", i as u32, (640, 480)).unwrap(), *parameters);
        assert!(all[..i].iter().all(|other| other != parameters));
    }
    assert_ne!(config.sample(6, "a", 0, (640, 480)).unwrap(), all[0]);
    assert_ne!(config.sample(5, "b", 0, (640, 480)).unwrap(), all[0]);
}

#[test]
fn pictures_that_would_be_too_large_are_refused() {
    let picture = noise(1, 300);
    let is_too_large = |config: &str, entry: Value| {
        let config = Config::parse(config).unwrap();
        let (parameters, _) = config.read_param_aug(&json!([entry])).unwrap();
        matches!(
            config.replay(&parameters[0], &picture, &Replay::default()),
            Err(Error::Picture { reason, .. }) if reason.contains(&MAX_PIXELS.to_string())
        )
    };
    assert!(is_too_large(r#"{"random_resized_crop": {"size": 8}}"#, json!([[0, 0, 1 << 20, 1 << 20]])));
    assert!(is_too_large(r#"{"random_resized_crop": {"size": 16384}}"#, json!([[0, 0, 1, 1]])));
    assert!(is_too_large(r#"{"resize": {"size": 16384}}"#, json!([16384])));
    assert!(is_too_large(r#"{"random_crop": {"size": 16384}}"#, json!([[0, 0]])));
    assert!(is_too_large(r#"{"center_crop": {"size": 16384}}"#, json!([])));
    assert!(!is_too_large(r#"{"random_resized_crop": {"size": 8}}"#, json!([[-3, 0, 1 << 10, 1 << 10]])));
}

#[test]
fn too_few_operations_are_refused_and_too_many_left_out() {
    let config = Config::published();
    let crop = json!([0, 0, 30, 30]);
    let replayed = |operations: Value| {
        let (parameters, _) = config.read_param_aug(&json!([[crop, operations]])).unwrap();
        config.replay(&parameters[0], &noise(30, 30), &Replay::default())
    };
    let error = replayed(json!([[6, 0.3]])).unwrap_err().to_string();
    assert!(error.contains("`rand_augment`: 1 operations, `num_ops` is 2"), "{error}");
    let two = replayed(json!([[6, 0.3], [1, 0.1]])).unwrap();
    assert_eq!(replayed(json!([[6, 0.3], [1, 0.1], [11, 3.0]])).unwrap(), two);
    assert_ne!(replayed(json!([[6, 0.3], [11, 3.0]])).unwrap(), two);
}

#[test]
fn borders_of_padded_crops_have_their_fill() {
    let picture = RgbImage::new(2, 2, vec![200; 12]).unwrap();
    let config = Config::parse(r#"{"random_crop": {"size": [1, 6], "padding": 1, "fill": 9}}"#).unwrap();
    let (parameters, _) = config.read_param_aug(&json!([[[1, 0]], [[0, 2]]])).unwrap();
    let row = |i: usize| -> Vec<u8> {
        let found = config.replay(&parameters[i], &picture, &Replay::default()).unwrap();
        found.pixels().iter().step_by(3).copied().collect()
    };
    // A border of one, the picture, a border of one; beyond, black.
    assert_eq!(row(0), [9, 200, 200, 9, 0, 0]);
    assert_eq!(row(1), [9, 9, 0, 0, 0, 0]);
}
