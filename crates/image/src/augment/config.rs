//! Which transformations there are: the JSON object of the published generator and trainer.

use serde_json::{Map, Value, json};

use super::Error;
use super::fields::Fields;
use super::parameters::Size;
use crate::Filter;

/// Transformations that change no byte of a replayed picture. (Normalisation belongs to the model that sees it.)
const WITHOUT_EFFECT: [&str; 4] = ["uint8", "to_rgb", "to_tensor", "normalize"];

/// The transformations of a reinforced set, each with its options. They are applied in a fixed order, that of the fields.
///
/// The JSON is that of the published configurations: `{"random_resized_crop": {"size": 224, "interpolation": "bicubic"}, "rand_augment":
/// {"p": 1.0}, …}`, also inside `{"reinforce": {"image_augmentation": …}}`. A transformation with `"enable": false` does not exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub(super) resize: Option<Resize>,
    pub(super) center_crop: Option<Size>,
    pub(super) random_crop: Option<RandomCrop>,
    pub(super) random_resized_crop: Option<RandomResizedCrop>,
    /// The probability.
    pub(super) random_horizontal_flip: Option<f64>,
    pub(super) rand_augment: Option<RandAugment>,
    pub(super) random_erase: Option<RandomErase>,
    pub(super) mixup: bool,
    pub(super) cutmix: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resize {
    pub(super) size: Size,
    pub(super) interpolation: Filter,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RandomCrop {
    pub(super) size: Size,
    /// Left, top, right, bottom.
    pub(super) padding: [usize; 4],
    pub(super) pad_if_needed: bool,
    pub(super) fill: [u8; 3],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RandomResizedCrop {
    pub(super) size: Size,
    pub(super) interpolation: Filter,
    /// Least and largest share of the picture's area.
    pub(super) scale: [f64; 2],
    /// Least and largest width over height.
    pub(super) ratio: [f64; 2],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RandAugment {
    pub(super) probability: f64,
    pub(super) num_ops: usize,
    pub(super) magnitude: usize,
    pub(super) num_magnitude_bins: usize,
    pub(super) interpolation: Filter,
    pub(super) fill: [u8; 3],
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RandomErase {
    pub(super) probability: f64,
    pub(super) scale: [f64; 2],
    pub(super) ratio: [f64; 2],
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, if the text is no such object, a transformation or an option is unknown, or a value is out of range.
    pub fn parse(json: &str) -> Result<Config, Error> {
        let value: Value = serde_json::from_str(json).map_err(|error| Error::Config {
            key: "(whole)".to_owned(),
            reason: format!("no JSON: {error}"),
        })?;
        Config::from_value(&value)
    }

    /// As [`Config::parse`], of parsed JSON.
    ///
    /// # Errors
    /// As there.
    pub fn from_value(value: &Value) -> Result<Config, Error> {
        let inner = match value.get("reinforce") {
            Some(reinforce) => reinforce.get("image_augmentation").ok_or_else(|| Error::Config {
                key: "reinforce.image_augmentation".to_owned(),
                reason: "is missing".to_owned(),
            })?,
            None => value,
        };
        let mut enabled = Map::new();
        for (name, options) in object("(whole)", inner)? {
            let mut options = object(name, options)?.clone();
            match options.remove("enable") {
                None | Some(Value::Bool(true)) => _ = enabled.insert(name.clone(), options.into()),
                Some(Value::Bool(false)) => {}
                Some(other) => {
                    let reason = format!("expected true or false, found {other}");
                    return Err(Error::Config { key: format!("{name}.enable"), reason });
                }
            }
        }
        let mut take = |name: &'static str| match enabled.remove(name) {
            Some(Value::Object(options)) => Some(Fields::new(name, options)),
            _ => None,
        };
        let config = Config {
            resize: take("resize").map(resize).transpose()?,
            center_crop: take("center_crop").map(center_crop).transpose()?,
            random_crop: take("random_crop").map(random_crop).transpose()?,
            random_resized_crop: take("random_resized_crop").map(random_resized_crop).transpose()?,
            random_horizontal_flip: take("random_horizontal_flip").map(random_horizontal_flip).transpose()?,
            rand_augment: take("rand_augment").map(rand_augment).transpose()?,
            random_erase: take("random_erase").map(random_erase).transpose()?,
            mixup: take("mixup").map(mixup).transpose()?.is_some(),
            cutmix: take("cutmix").map(cutmix).transpose()?.is_some(),
        };
        match enabled.keys().find(|name| !WITHOUT_EFFECT.contains(&name.as_str())) {
            None => Ok(config),
            Some(name) => {
                Err(Error::Config { key: name.clone(), reason: "there is no such transformation".to_owned() })
            }
        }
    }

    /// The configuration of DataCompDR-12M and -1B: a bicubic random resized crop of 224 pixels, then RandAugment.
    #[must_use]
    pub fn published() -> Config {
        Config {
            resize: None,
            center_crop: None,
            random_crop: None,
            random_resized_crop: Some(RandomResizedCrop {
                size: Size::Side(224),
                interpolation: Filter::Bicubic,
                scale: CROP_SCALE,
                ratio: CROP_RATIO,
            }),
            random_horizontal_flip: None,
            rand_augment: Some(RandAugment {
                probability: 1.0,
                num_ops: 2,
                magnitude: 9,
                num_magnitude_bins: 31,
                interpolation: Filter::Nearest,
                fill: [0; 3],
            }),
            random_erase: None,
            mixup: false,
            cutmix: false,
        }
    }

    /// Whether two pictures can be mixed into one.
    #[must_use]
    pub fn mixes(&self) -> bool {
        self.mixup || self.cutmix
    }
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| Error::Config {
        key: key.to_owned(),
        reason: format!("expected an object, found {value}"),
    })
}

// torchvision's defaults.
const CROP_SCALE: [f64; 2] = [0.08, 1.0];
const CROP_RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
const ERASE_SCALE: [f64; 2] = [0.02, 0.33];
const ERASE_RATIO: [f64; 2] = [0.3, 3.3];
/// The thinnest box that can be asked for.
const MOST_RATIO: f64 = 1000.0;

fn resize(mut fields: Fields) -> Result<Resize, Error> {
    let (size, interpolation) = (fields.size()?, fields.interpolation(Filter::Bilinear)?);
    fields.only("max_size", &Value::Null)?;
    fields.ignore(&["antialias"]);
    fields.end()?;
    Ok(Resize { size, interpolation })
}

fn center_crop(mut fields: Fields) -> Result<Size, Error> {
    let size = fields.size()?;
    fields.end()?;
    Ok(size)
}

fn random_crop(mut fields: Fields) -> Result<RandomCrop, Error> {
    let crop = RandomCrop {
        size: fields.size()?,
        padding: fields.padding()?,
        pad_if_needed: fields.flag("pad_if_needed", false)?,
        fill: fields.colour()?,
    };
    fields.only("padding_mode", &json!("constant"))?;
    fields.end()?;
    Ok(crop)
}

fn random_resized_crop(mut fields: Fields) -> Result<RandomResizedCrop, Error> {
    let crop = RandomResizedCrop {
        size: fields.size()?,
        interpolation: fields.interpolation(Filter::Bilinear)?,
        scale: fields.range("scale", CROP_SCALE, 1.0)?,
        ratio: fields.range("ratio", CROP_RATIO, MOST_RATIO)?,
    };
    fields.ignore(&["antialias"]);
    fields.end()?;
    Ok(crop)
}

fn random_horizontal_flip(mut fields: Fields) -> Result<f64, Error> {
    let probability = fields.probability(0.5)?;
    fields.end()?;
    Ok(probability)
}

fn rand_augment(mut fields: Fields) -> Result<RandAugment, Error> {
    let probability = fields.probability(1.0)?;
    let num_ops = fields.count("num_ops", 2, 0, 64)?;
    let num_magnitude_bins = fields.count("num_magnitude_bins", 31, 2, 1000)?;
    let highest = num_magnitude_bins as u64 - 1;
    let magnitude = fields.count("magnitude", 9.min(num_magnitude_bins - 1), 0, highest)?;
    let interpolation = fields.interpolation(Filter::Nearest)?;
    if !matches!(interpolation, Filter::Nearest | Filter::Bilinear | Filter::Bicubic) {
        let found = serde_json::to_value(interpolation).unwrap_or_default();
        return Err(fields.wrong("interpolation", "nearest, bilinear or bicubic", &found));
    }
    let fill = fields.colour()?;
    fields.end()?;
    Ok(RandAugment { probability, num_ops, magnitude, num_magnitude_bins, interpolation, fill })
}

fn random_erase(mut fields: Fields) -> Result<RandomErase, Error> {
    let erase = RandomErase {
        probability: fields.probability(0.5)?,
        scale: fields.range("scale", ERASE_SCALE, 1.0)?,
        ratio: fields.range("ratio", ERASE_RATIO, MOST_RATIO)?,
    };
    // The reference erases to 0, whatever `value` says.
    fields.ignore(&["value", "inplace"]);
    fields.end()?;
    Ok(erase)
}

/// Mixed pictures are replayed, never drawn: the partner is another sample of the shard, which the caller would have to choose.
fn mixup(mut fields: Fields) -> Result<(), Error> {
    fields.number("alpha", 1.0, 0.0, f64::MAX)?;
    fields.probability(1.0)?;
    fields.number("div_by", 1.0, 1.0, f64::MAX)?;
    fields.end()
}

fn cutmix(mut fields: Fields) -> Result<(), Error> {
    fields.number("alpha", 1.0, 0.0, f64::MAX)?;
    fields.probability(1.0)?;
    fields.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(json: &str, key: &str, part: &str) {
        match Config::parse(json).unwrap_err() {
            Error::Config { key: found, reason } => {
                assert_eq!(found, key, "{json}: {reason}");
                assert!(reason.contains(part), "{json}: {reason}");
            }
            other => panic!("{json}: {other}"),
        }
    }

    #[test]
    fn the_published_file_is_the_published_configuration() {
        let augmentation = r#"{"normalize": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]},
            "rand_augment": {"enable": true, "p": 1.0}, "random_resized_crop": {"interpolation": "bicubic", "size": 224},
            "random_erase": {"enable": false, "p": 0.25}, "to_rgb": {"enable": true}, "to_tensor": {"enable": true}}"#;
        assert_eq!(Config::parse(augmentation).unwrap(), Config::published());
        let whole =
            format!(r#"{{"num_samples": 30, "reinforce": {{"image_augmentation": {augmentation}}}}}"#);
        assert_eq!(Config::parse(&whole).unwrap(), Config::published());
    }

    #[test]
    fn sizes_fills_and_filters_in_their_forms() {
        let of = |options: &str| {
            Config::parse(&format!(r#"{{"random_crop": {{"size": 8, {options}}}}}"#))
                .unwrap()
                .random_crop
                .unwrap()
        };
        assert_eq!(of(r#""padding": [1, 2]"#).padding, [1, 2, 1, 2]);
        assert_eq!(of(r#""padding": 3"#).padding, [3; 4]);
        assert_eq!(of(r#""fill": 127.9"#).fill, [127; 3]);
        assert_eq!(of(r#""fill": [1, 2, 3]"#).fill, [1, 2, 3]);
        let code =
            Config::parse(r#"{"resize": {"size": [3, 4], "interpolation": 3}}"#).unwrap().resize.unwrap();
        assert_eq!(code, Resize { size: Size::Sides(vec![3, 4]), interpolation: Filter::Bicubic });
    }

    #[test]
    fn faults_name_their_key() {
        fails("{", "(whole)", "no JSON");
        fails("[]", "(whole)", "expected an object, found []");
        fails(r#"{"reinforce": {}}"#, "reinforce.image_augmentation", "missing");
        fails(r#"{"resise": {}}"#, "resise", "no such transformation");
        fails(r#"{"resize": 224}"#, "resize", "expected an object");
        fails(r#"{"resize": {"enable": 1, "size": 3}}"#, "resize.enable", "true or false");
        fails(r#"{"resize": {}}"#, "resize.size", "expected a side");
        fails(r#"{"resize": {"size": 0}}"#, "resize.size", "found 0");
        fails(r#"{"resize": {"size": [1, 2, 3]}}"#, "resize.size", "found [1,2,3]");
        fails(r#"{"resize": {"size": 8, "max_size": 9}}"#, "resize.max_size", "not supported");
        fails(
            r#"{"random_resized_crop": {"size": 8, "interpolation": "cubik"}}"#,
            "random_resized_crop.interpolation",
            "cubik",
        );
        fails(
            r#"{"random_resized_crop": {"size": 8, "scale": [0.5, 0.2]}}"#,
            "random_resized_crop.scale",
            "low <= high",
        );
        fails(
            r#"{"random_resized_crop": {"size": 8, "ratio": [0.0, 0.2]}}"#,
            "random_resized_crop.ratio",
            "0 < low",
        );
        fails(r#"{"rand_augment": {"num_op": 2}}"#, "rand_augment.num_op", "no such option");
        fails(r#"{"rand_augment": {"magnitude": 31}}"#, "rand_augment.magnitude", "0 to 30");
        fails(r#"{"rand_augment": {"p": 1.5}}"#, "rand_augment.p", "from 0 to 1, found 1.5");
        fails(r#"{"rand_augment": {"interpolation": "lanczos"}}"#, "rand_augment.interpolation", "lanczos");
        fails(r#"{"rand_augment": {"fill": [1, 2]}}"#, "rand_augment.fill", "three of them");
        fails(
            r#"{"random_crop": {"size": 8, "padding_mode": "edge"}}"#,
            "random_crop.padding_mode",
            "constant",
        );
        fails(r#"{"random_horizontal_flip": {"p": "x"}}"#, "random_horizontal_flip.p", "found \"x\"");
        fails(r#"{"mixup": {"alpha": -1}}"#, "mixup.alpha", "found -1");
    }
}
