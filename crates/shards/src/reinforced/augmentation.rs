//! Recorded augmentation parameters (`paug.json`), in the published configuration: a random resized crop, perhaps a flip, RandAugment.

use mobileclip_image::augment::{Config, Operation, Parameters, PictureParameters, Replay, Transform};
use mobileclip_image::{Rect, RgbImage};
use serde_json::Value;

/// What was done to a picture before a teacher saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// The part that was cut out, in pixels of the picture; what lies outside is black in the reference.
    pub crop: Crop,
    /// Whether it was mirrored, where the configuration has a flip.
    pub flip: Option<bool>,
    /// RandAugment's operations in their order; `None` if it was skipped.
    pub transforms: Option<Vec<Transform>>,
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct Crop {
    pub top: i64,
    pub left: i64,
    pub height: u32,
    pub width: u32,
}

impl Crop {
    /// Whether it lies within a picture of this size.
    pub fn is_inside(&self, width: usize, height: usize) -> bool {
        let fits = |start: i64, length: u32, size: usize| {
            start >= 0
                && i64::try_from(size).is_ok_and(|size| start.saturating_add(i64::from(length)) <= size)
        };
        fits(self.left, self.width, width) && fits(self.top, self.height, height)
    }
}

impl Augmentation {
    /// The picture as the teachers saw it, but in the size and by the filter that `how` says (224 pixels, bicubic, where it does not).
    ///
    /// # Errors
    /// As [`Config::replay`].
    pub fn replay(
        &self,
        picture: &RgbImage,
        how: &Replay,
    ) -> Result<RgbImage, mobileclip_image::augment::Error> {
        let Crop { top, left, height, width } = self.crop;
        let done = PictureParameters {
            random_resized_crop: Some(Rect { left, top, width: width as usize, height: height as usize }),
            random_horizontal_flip: self.flip,
            rand_augment: self.transforms.clone(),
            ..PictureParameters::default()
        };
        let parameters = Parameters { picture: done, ..Parameters::default() };
        Config::published().replay(&parameters, picture, how)
    }
}

/// Reads `param_aug`: a list, or a string that holds it as JSON.
pub(crate) fn parse(param_aug: &Value) -> Result<Vec<Augmentation>, String> {
    let parsed;
    let list = match param_aug {
        Value::String(text) => {
            parsed = serde_json::from_str::<Value>(text)
                .map_err(|error| format!("`param_aug` is a string, but no JSON: {error}"))?;
            &parsed
        }
        value => value,
    };
    let list = list.as_array().ok_or("`param_aug` is no list")?;
    let of = |(i, entry)| one(entry).map_err(|reason| format!("augmentation {i}: {reason}"));
    list.iter().enumerate().map(of).collect()
}

/// `[crop, transforms]` or `[crop, flip, transforms]`.
fn one(entry: &Value) -> Result<Augmentation, String> {
    let (crop, flip, transforms) = match entry.as_array().map(Vec::as_slice) {
        Some([crop, transforms]) if !transforms.is_boolean() => (crop, None, transforms),
        Some([crop, flip, transforms]) => {
            (crop, Some(flip.as_bool().ok_or("the flip is neither true nor false")?), transforms)
        }
        _ => return Err("expected [crop, operations] or [crop, flip, operations]".to_owned()),
    };
    let transforms = match transforms {
        Value::Null => None,
        Value::Array(list) => Some(list.iter().map(transform).collect::<Result<_, _>>()?),
        _ => return Err("the operations are no list".to_owned()),
    };
    Ok(Augmentation { crop: self::crop(crop)?, flip, transforms })
}

fn crop(value: &Value) -> Result<Crop, String> {
    let expected = "the crop must be [top, left, height, width], the last two above 0";
    let numbers: Option<Vec<i64>> = value.as_array().and_then(|list| list.iter().map(integer).collect());
    let Some(&[top, left, height, width]) = numbers.as_deref() else { return Err(expected.to_owned()) };
    let side = |side: i64| u32::try_from(side).ok().filter(|&side| side > 0).ok_or(expected);
    Ok(Crop { top, left, height: side(height)?, width: side(width)? })
}

fn transform(value: &Value) -> Result<Transform, String> {
    let pair = value.as_array().map(Vec::as_slice);
    let Some([number, magnitude]) = pair else {
        return Err("an operation must be [number, magnitude]".to_owned());
    };
    let known = integer(number).and_then(|number| usize::try_from(number).ok());
    let operation = known.and_then(|number| Operation::ALL.get(number)).copied();
    let operation = operation.ok_or_else(|| format!("there is no operation {number}"))?;
    let magnitude = magnitude.as_f64().ok_or("a magnitude is no number")?;
    Ok(Transform { operation, magnitude })
}

/// A whole number, also where it was written as `7.0`.
#[allow(clippy::cast_possible_truncation)] // The range is checked.
fn integer(value: &Value) -> Option<i64> {
    let is_whole = |v: &f64| v.fract() == 0.0 && v.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(is_whole).map(|v| v as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn list_and_string_say_the_same() {
        let list = json!([[[7, 64.0, 121, 151], [[2, -0.09], [10, 7.0]]], [[0, 0, 8, 8], true, null]]);
        let augmentations = parse(&list).unwrap();
        assert_eq!(parse(&Value::String(list.to_string())).unwrap(), augmentations);
        assert_eq!(augmentations[0].crop, Crop { top: 7, left: 64, height: 121, width: 151 });
        let transforms = augmentations[0].transforms.as_ref().unwrap();
        assert_eq!(transforms[0], Transform { operation: Operation::ShearY, magnitude: -0.09 });
        assert_eq!(transforms[1].operation, Operation::Posterize);
        assert_eq!((augmentations[1].flip, &augmentations[1].transforms), (Some(true), &None));
    }

    #[test]
    fn faults_are_named() {
        let fails = |value: Value, part: &str| {
            let reason = parse(&value).unwrap_err();
            assert!(reason.contains(part), "{value}: {reason}");
        };
        fails(json!("[[1, 2"), "no JSON");
        fails(json!({}), "no list");
        fails(json!([[[1, 2, 3, 4]]]), "augmentation 0: expected");
        fails(json!([[[1, 2, 3, 4], true]]), "expected");
        fails(json!([[[1, 2, 0, 4], null]]), "above 0");
        fails(json!([[[1, 2, 3, 1e300], null]]), "above 0");
        fails(json!([[[1, 2, 3, 4], [[99, 1.0]]]]), "no operation 99");
        fails(json!([[[1, 2, 3, 4], [[-1, 1.0]]]]), "no operation -1");
        fails(json!([[[1, 2, 3, 4], [[1, "x"]]]]), "no number");
        fails(json!([[[1, 2, 3, 4], 1, null]]), "neither true nor false");
    }

    #[test]
    fn pictures_are_replayed_with_flip_and_operations() {
        let picture = RgbImage::new(4, 2, (0..24).collect()).unwrap();
        let how = Replay { size: Some((1, 2)), ..Replay::default() };
        let row = |entry: Value| {
            let found = parse(&json!([entry])).unwrap()[0].replay(&picture, &how).unwrap();
            found.pixels().to_vec()
        };
        // A crop of the target's size is not resized.
        assert_eq!(row(json!([[1, 2, 1, 2], null])), [18, 19, 20, 21, 22, 23]);
        assert_eq!(row(json!([[1, 2, 1, 2], true, null])), [21, 22, 23, 18, 19, 20]);
        assert_eq!(row(json!([[1, 2, 1, 2], [[11, 20.0], [0, 0.0]]])), [18, 19, 235, 234, 233, 232]);
    }

    #[test]
    fn crops_leave_the_picture_or_do_not() {
        let crop = |top, left, height, width| Crop { top, left, height, width };
        assert!(crop(0, 0, 64, 96).is_inside(96, 64));
        assert!(!crop(0, 1, 64, 96).is_inside(96, 64));
        assert!(!crop(-1, 0, 8, 8).is_inside(96, 64));
        assert!(!crop(i64::MAX, 0, u32::MAX, 8).is_inside(96, 64));
    }
}
