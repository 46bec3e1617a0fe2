//! Distributions and borders of what is drawn.

use super::*;

fn config(json: &str) -> Config {
    Config::parse(json).unwrap()
}

/// The magnitude of every bin on a crop of `width` x `height`.
fn magnitudes(operation: Operation, bins: usize, width: usize, height: usize) -> Vec<f64> {
    let of = |bin| {
        let json = format!(r#"{{"rand_augment": {{"magnitude": {bin}, "num_magnitude_bins": {bins}}}}}"#);
        config(&json).rand_augment.unwrap().magnitude(operation, width, height).0
    };
    (0..bins).map(of).collect()
}

/// From PyTorch 2.11 and torchvision 0.26.
#[test]
fn magnitudes_are_torchvisions() {
    let sparse = |operation, width, height| -> Vec<f64> {
        magnitudes(operation, 31, width, height).into_iter().step_by(3).collect()
    };
    assert_eq!(sparse(Operation::TranslateX, 224, 160), TRANSLATE_X_224);
    assert_eq!(sparse(Operation::TranslateY, 257, 333), TRANSLATE_Y_333);
    assert_eq!(sparse(Operation::Color, 224, 160), ENHANCE);
    assert_eq!(magnitudes(Operation::ShearY, 31, 1, 1)[9], 0.09000000357627869);
    assert_eq!(magnitudes(Operation::Rotate, 31, 1, 1)[9], 9.0);
    assert_eq!(magnitudes(Operation::Solarize, 31, 1, 1)[9], 178.5);
    let bits = magnitudes(Operation::Posterize, 31, 1, 1);
    let runs: Vec<(f64, usize)> = bits.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
    assert_eq!(runs, [(8.0, 4), (7.0, 8), (6.0, 7), (5.0, 8), (4.0, 4)]);
    assert_eq!(magnitudes(Operation::Posterize, 7, 1, 1), [8.0, 7.0, 7.0, 6.0, 5.0, 5.0, 4.0]);
}

const TRANSLATE_X_224: [f64; 11] = [
    0.0,
    10.151057243347168,
    20.302114486694336,
    30.45317268371582,
    40.60422897338867,
    50.755287170410156,
    60.90634536743164,
    71.05740356445312,
    81.20845794677734,
    91.3595199584961,
    101.51057434082031,
];
const TRANSLATE_Y_333: [f64; 11] = [
    0.0,
    15.0906343460083,
    30.1812686920166,
    45.27190399169922,
    60.3625373840332,
    75.45317077636719,
    90.54380798339844,
    105.63443756103516,
    120.7250747680664,
    135.81570434570312,
    150.90634155273438,
];
const ENHANCE: [f64; 11] = [
    0.0,
    0.08999999612569809,
    0.17999999225139618,
    0.26999998092651367,
    0.35999998450279236,
    0.44999998807907104,
    0.5399999618530273,
    0.6299999952316284,
    0.7199999690055847,
    0.8100000023841858,
    0.8999999761581421,
];

/// The same seed, uid and index give the same parameters on every platform and in every version: sets that are half made depend on it.
#[test]
fn draws_stay_what_they_are() {
    let config = config(
        r#"{"random_resized_crop": {"size": 224}, "random_horizontal_flip": {}, "rand_augment": {}, "random_erase": {"p": 1.0}}"#,
    );
    let drawn = |index| config.sample(42, "a195295cb62ac5f76bc328c83a0718aa", index, (640, 480)).unwrap();
    let stored = config.write_paug(&[drawn(0), drawn(1)], crate::augment::Dialect::List);
    assert_eq!(stored, PINNED);
}

const PINNED: &str = r#"{"param_aug": [[[38, 106, 414, 323], false, [[12, 0.0], [7, -0.26999998092651367]], [23, 122, 115, 71]], [[23, 194, 371, 380], true, [[1, -0.09000000357627869], [1, -0.09000000357627869]], [21, 55, 71, 124]]]}"#;

#[test]
fn crops_lie_inside_and_have_the_configured_area_and_shape() {
    let config = config(r#"{"random_resized_crop": {"size": 64, "scale": [0.25, 0.5]}}"#);
    let mut areas = Vec::new();
    for index in 0..2_000 {
        let crop = config.sample(1, "x", index, (400, 300)).unwrap().picture.random_resized_crop.unwrap();
        assert!(crop.is_inside(400, 300), "{crop:?}");
        let (share, ratio) =
            ((crop.width * crop.height) as f64 / 120_000.0, crop.width as f64 / crop.height as f64);
        // Sides are rounded: by less than a hundredth here.
        assert!((0.2475..=0.505).contains(&share) && (0.742..=1.347).contains(&ratio), "{crop:?}");
        areas.push(share);
    }
    // Even from a quarter to a half: five standard deviations.
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    assert!((mean - 0.375).abs() < 5.0 * 0.0722 / (areas.len() as f64).sqrt(), "{mean}");
}

#[test]
fn thin_pictures_get_the_central_crop() {
    let config = config(r#"{"random_resized_crop": {"size": 8, "scale": [1.0, 1.0]}}"#);
    let crop = |width, height| {
        config.sample(1, "x", 0, (width, height)).unwrap().picture.random_resized_crop.unwrap()
    };
    assert_eq!(crop(30, 400), Rect { left: 0, top: 180, width: 30, height: 40 });
    assert_eq!(crop(401, 30), Rect { left: 180, top: 0, width: 40, height: 30 });
    assert_eq!(crop(1, 1), Rect { left: 0, top: 0, width: 1, height: 1 });
}

#[test]
fn operations_and_signs_are_even_and_half_are_flipped() {
    let config = config(r#"{"random_horizontal_flip": {}, "rand_augment": {"p": 0.75}}"#);
    let n = 4_000u32;
    let (mut operations, mut negative, mut signed, mut flipped, mut skipped) = ([0u32; 14], 0, 0, 0, 0);
    for index in 0..n {
        let drawn = config.sample(9, "y", index, (32, 32)).unwrap().picture;
        flipped += u32::from(drawn.random_horizontal_flip.unwrap());
        let Some(transforms) = drawn.rand_augment else {
            skipped += 1;
            continue;
        };
        assert_eq!(transforms.len(), 2);
        for t in transforms {
            operations[t.operation as usize] += 1;
            let can_be_negative = (1..=9).contains(&(t.operation as usize));
            signed += u32::from(can_be_negative);
            negative += u32::from(t.magnitude < 0.0);
            assert!(can_be_negative || t.magnitude >= 0.0);
        }
    }
    // Within five standard deviations of what is expected.
    let near = |count: u32, of: u32, p: f64| {
        let (mean, deviation) = (f64::from(of) * p, (f64::from(of) * p * (1.0 - p)).sqrt());
        assert!((f64::from(count) - mean).abs() < 5.0 * deviation, "{count} of {of}, expected {mean}");
    };
    near(flipped, n, 0.5);
    near(skipped, n, 0.25);
    near(negative, signed, 0.5);
    operations.iter().for_each(|&count| near(count, 2 * (n - skipped), 1.0 / 14.0));
}

#[test]
fn erased_parts_lie_inside_and_nothing_is_erased_where_none_fits() {
    let erase = config(r#"{"random_erase": {"p": 1.0}}"#);
    for index in 0..500 {
        let area = erase.sample(1, "x", index, (60, 40)).unwrap().picture.random_erase.unwrap();
        assert!(area.is_inside(60, 40) && area.width < 60 && area.height < 40);
    }
    let whole = config(r#"{"random_erase": {"p": 1.0, "scale": [1.0, 1.0], "ratio": [1.0, 1.0]}}"#);
    assert_eq!(whole.sample(1, "x", 0, (40, 40)).unwrap().picture.random_erase, None);
}

#[test]
fn crops_without_a_resize_lie_in_the_padded_picture() {
    let padded = config(r#"{"random_crop": {"size": [20, 30], "padding": [2, 3, 4, 5]}}"#);
    for index in 0..200 {
        let [top, left] = padded.sample(1, "x", index, (26, 15)).unwrap().picture.random_crop.unwrap();
        assert!((0..=3).contains(&top) && (0..=2).contains(&left), "{top} {left}");
    }
    assert!(matches!(padded.sample(1, "x", 0, (23, 15)), Err(Error::Picture { key: "random_crop", .. })));
    assert!(matches!(padded.sample(1, "x", 0, (0, 15)), Err(Error::Picture { key: "size", .. })));
    let needed = config(r#"{"random_crop": {"size": 20, "pad_if_needed": true}}"#);
    let [top, left] = needed.sample(1, "x", 0, (15, 40)).unwrap().picture.random_crop.unwrap();
    assert!(top >= 0 && (0..=20).contains(&left));
}
