//! `augment.json`: stored parameters to pictures, byte for byte, in both orders of the passes; and the parameters back to their bytes.

use mobileclip_image::augment::{Config, Dialect, Mixed, PictureParameters, Replay};
use mobileclip_image::{Filter, PassOrder, RgbImage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ORDERS, compare, formula::Source, read, report};

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    config: Value,
    source: Source,
    source2: Option<Source>,
    size: Option<(usize, usize)>,
    stored: Value,
    expanded: Value,
    out_width: usize,
    out_height: usize,
    #[serde(flatten)]
    rest: Value,
}

impl Case {
    fn config(&self) -> Config {
        Config::from_value(&self.config).unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }

    /// Field `key`, in the order of passes that `suffix` says.
    fn expected(&self, key: &str, suffix: &str) -> &Value {
        self.rest.get(format!("{key}{suffix}")).unwrap_or(&self.rest[key])
    }
}

fn compare_mixed(what: &str, found: &Mixed, values: &Value) -> Vec<String> {
    let rows: Vec<[f64; 5]> = serde_json::from_value(values.clone()).unwrap();
    let mut failures = Vec::new();
    for [x, y, expected @ ..] in rows {
        let place = y as usize * found.width + x as usize;
        for (c, expected) in expected.into_iter().enumerate() {
            let value = found.values[c * found.width * found.height + place];
            // Nine digits say which f32 it is.
            if value != expected as f32 {
                failures.push(format!("{what}: ({x}, {y}) of channel {c} is {value}, expected {expected}"));
            }
        }
    }
    assert_eq!(found.values.len(), 3 * found.width * found.height);
    failures
}

#[test]
fn replayed_pictures_are_the_reference_bytes() {
    let cases = read::<File>("augment.json").cases;
    assert_eq!(cases.len(), 188);
    let mut failures = Vec::new();
    for case in &cases {
        let config = case.config();
        let (parameters, _) = config.read_param_aug(&json!([case.stored])).unwrap();
        let picture = case.source.image();
        for (pass_order, suffix) in ORDERS {
            let how = Replay { size: case.size, pass_order, ..Replay::default() };
            let what = format!("{} {} {pass_order:?}", case.id, case.stored);
            let size = match &case.source2 {
                None => {
                    let found = config.replay(&parameters[0], &picture, &how).unwrap();
                    let hash = case.expected("sha256", suffix).as_str().unwrap();
                    let samples: Vec<Vec<usize>> =
                        serde_json::from_value(case.expected("pixels", suffix).clone()).unwrap();
                    failures.extend(compare(&what, &found, hash, &samples).err());
                    (found.width(), found.height())
                }
                Some(partner) => {
                    let found =
                        config.replay_mixed(&parameters[0], &picture, &partner.image(), &how).unwrap();
                    failures.extend(compare_mixed(&what, &found, case.expected("values", suffix)));
                    (found.width, found.height)
                }
            };
            assert_eq!(size, (case.out_width, case.out_height), "{what}");
        }
    }
    report(failures, cases.len() * 2);
}

#[test]
fn parameters_are_written_in_the_reference_bytes() {
    // The numbers stand as Python's `json.dumps` wrote them, but without the spaces after commas that `paug.json` has.
    let text = std::fs::read_to_string(super::folder().join("augment.json")).unwrap();
    let lists: Vec<&str> =
        text.split("\"stored\":").skip(1).map(|rest| rest.split_once(",\"expanded\"").unwrap().0).collect();
    let cases = read::<File>("augment.json").cases;
    assert_eq!(lists.len(), cases.len());
    for (case, list) in cases.iter().zip(lists) {
        let config = case.config();
        let list = list.replace(',', ", ");
        let file = format!(r#"{{"param_aug": [{list}]}}"#);
        let (parameters, dialect) = config.read_paug(file.as_bytes()).unwrap();
        assert_eq!(dialect, Dialect::List);
        assert_eq!(config.write_paug(&parameters, dialect), file, "{}", case.id);
        let nested = json!({ "param_aug": format!("[{list}]") });
        let (same, dialect) = config.read_param_aug(&nested["param_aug"]).unwrap();
        assert_eq!((&same, dialect), (&parameters, Dialect::String), "{}", case.id);
        assert_eq!(config.write_paug(&same, dialect), nested.to_string().replace("\":\"", "\": \""));
    }
}

/// The reference's expanded form of what was read.
fn expand(parameters: &PictureParameters) -> Vec<(&'static str, Value)> {
    let corners = |area: mobileclip_image::Rect| json!([area.top, area.left, area.height, area.width]);
    let operations = parameters
        .rand_augment
        .as_ref()
        .map(|list| list.iter().map(|t| json!([t.operation.name(), t.magnitude])).collect::<Value>());
    [
        ("random_crop", parameters.random_crop.map(|corner| json!(corner))),
        ("random_resized_crop", parameters.random_resized_crop.map(corners)),
        ("random_horizontal_flip", parameters.random_horizontal_flip.map(Value::from)),
        ("rand_augment", operations),
        ("random_erase", parameters.random_erase.map(corners)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

#[test]
fn parameters_mean_what_the_reference_expands_them_to() {
    for case in read::<File>("augment.json").cases {
        let (parameters, _) = case.config().read_param_aug(&json!([case.stored])).unwrap();
        let partner = parameters[0].partner.as_ref();
        let pictures = [Some(&parameters[0].picture), partner.map(|(_, picture)| picture)];
        for (i, picture) in pictures.into_iter().enumerate() {
            for (name, value) in picture.map(expand).unwrap_or_default() {
                assert_eq!(case.expanded[name][i], value, "{} {name}", case.id);
            }
        }
        assert_eq!(json!(partner.map(|(id, _)| id)), case.expanded["id2"], "{}", case.id);
        assert_eq!(json!(parameters[0].mixup), case.expanded["mixup"], "{}", case.id);
    }
}

#[test]
fn size_and_filter_can_be_the_students() {
    let config = Config::parse(r#"{"random_resized_crop": {"size": 64}}"#).unwrap();
    let other =
        Config::parse(r#"{"random_resized_crop": {"size": [24, 48], "interpolation": "lanczos"}}"#).unwrap();
    let picture = RgbImage::new(90, 70, (0..90 * 70 * 3).map(|i| (i * 7 % 251) as u8).collect()).unwrap();
    let parameters = config.sample(3, "a", 0, (90, 70)).unwrap();
    let how = Replay {
        size: Some((24, 48)),
        interpolation: Some(Filter::Lanczos),
        pass_order: PassOrder::HorizontalFirst,
    };
    let expected = Replay { size: None, interpolation: None, ..how };
    assert_eq!(
        config.replay(&parameters, &picture, &how).unwrap(),
        other.replay(&parameters, &picture, &expected).unwrap()
    );
}
