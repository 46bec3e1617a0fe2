//! The random decisions for one picture, and their stored form: a list with one slot for each transformation that has parameters.

use serde_json::{Value, json};

use super::{Config, Error};
use crate::Rect;

/// What was done to a picture before a teacher saw it. Transformations that are not in the configuration have no parameters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// What was done to the picture itself.
    pub picture: PictureParameters,
    /// The id of the sample it was then mixed with (a number or a text), and what was done to that one's picture before.
    pub partner: Option<(Value, PictureParameters)>,
    /// The weight of the picture against its partner's.
    pub mixup: Option<f64>,
    /// The part that was taken from the partner.
    pub cutmix: Option<CutMix>,
}

/// What was done to one picture. `None`: skipped, or not in the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PictureParameters {
    /// The size that was asked for. Replay takes the configuration's.
    pub resize: Option<Size>,
    /// Top and left of the crop, in pixels of the padded picture.
    pub random_crop: Option<[i64; 2]>,
    /// The part that was cut out and resized, in pixels of the picture; what lies outside is black.
    pub random_resized_crop: Option<Rect>,
    /// Whether it was mirrored.
    pub random_horizontal_flip: Option<bool>,
    /// RandAugment's operations in their order.
    pub rand_augment: Option<Vec<Transform>>,
    /// The part that was blackened, in pixels of the result; nothing if `top` is -1.
    pub random_erase: Option<Rect>,
}

/// A part of a mixed picture that is the partner's: rows `top..bottom` and columns `left..right`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // The names say it.
pub struct CutMix {
    /// The share of the picture that was drawn; the part's borders are rounded.
    pub lambda: f64,
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

/// A size in torchvision's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// One number: the shorter side, or both where a picture is made square.
    Side(u64),
    /// A list of one such number, or of height and width.
    Sides(Vec<u64>),
}

/// One operation of RandAugment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transform {
    /// The operation.
    pub operation: Operation,
    /// Its final magnitude, sign included: shear factor, pixels, degrees, offset of an enhancement's factor from 1, bits kept, threshold.
    pub magnitude: f64,
}

/// RandAugment's operations, by their stored numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// All, each at the place of its number.
    pub const ALL: [Operation; 14] = [
        Operation::Identity,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
        Operation::Rotate,
        Operation::Brightness,
        Operation::Color,
        Operation::Contrast,
        Operation::Sharpness,
        Operation::Posterize,
        Operation::Solarize,
        Operation::AutoContrast,
        Operation::Equalize,
    ];

    /// The number that is stored.
    #[must_use]
    pub fn number(self) -> u64 {
        self as u64
    }

    /// torchvision's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Operation::Identity => "Identity",
            Operation::ShearX => "ShearX",
            Operation::ShearY => "ShearY",
            Operation::TranslateX => "TranslateX",
            Operation::TranslateY => "TranslateY",
            Operation::Rotate => "Rotate",
            Operation::Brightness => "Brightness",
            Operation::Color => "Color",
            Operation::Contrast => "Contrast",
            Operation::Sharpness => "Sharpness",
            Operation::Posterize => "Posterize",
            Operation::Solarize => "Solarize",
            Operation::AutoContrast => "AutoContrast",
            Operation::Equalize => "Equalize",
        }
    }
}

impl Size {
    /// A number or a list of one or two.
    pub(super) fn read(value: &Value) -> Option<Size> {
        match value {
            Value::Array(list) if matches!(list.len(), 1 | 2) => {
                list.iter().map(Value::as_u64).collect::<Option<_>>().map(Size::Sides)
            }
            value => value.as_u64().map(Size::Side),
        }
    }

    pub(super) fn values(&self) -> &[u64] {
        match self {
            Size::Side(side) => std::slice::from_ref(side),
            Size::Sides(sides) => sides,
        }
    }

    fn write(&self) -> Value {
        match self {
            Size::Side(side) => json!(side),
            Size::Sides(sides) => json!(sides),
        }
    }
}

/// Reading a list slot by slot.
struct Slots<'a> {
    key: &'a str,
    left: std::slice::Iter<'a, Value>,
}

impl<'a> Slots<'a> {
    fn next(&mut self, name: &str) -> Result<&'a Value, Error> {
        self.left.next().ok_or_else(|| wrong(self.key, name, "the slot is missing".to_owned()))
    }
}

fn wrong(key: &str, name: &str, reason: String) -> Error {
    Error::Parameters { key: format!("{key}.{name}"), reason }
}

impl Parameters {
    /// Reads one entry of `param_aug`, whose name is `key`.
    ///
    /// The reference takes missing slots as skipped and ignores what is left over; both are faults here.
    pub(super) fn read(config: &Config, entry: &Value, key: &str) -> Result<Parameters, Error> {
        let list = entry.as_array().ok_or_else(|| Error::Parameters {
            key: key.to_owned(),
            reason: format!("expected a list, found {entry}"),
        })?;
        let mut slots = Slots { key, left: list.iter() };
        let mut parameters = Parameters::default();
        if config.mixes() {
            let id = slots.next("partner")?;
            match id {
                Value::Null => {}
                Value::Number(_) | Value::String(_) => {
                    parameters.partner = Some((id.clone(), PictureParameters::default()));
                }
                other => return Err(wrong(key, "partner", format!("expected null or an id, found {other}"))),
            }
        }
        for slot in SLOTS.iter().filter(|slot| (slot.is_in)(config)) {
            let value = slots.next(slot.name)?;
            let expected =
                |value: &Value| wrong(key, slot.name, format!("expected {}, found {value}", slot.expected));
            let read = |of: &mut PictureParameters, value: &Value| match value {
                Value::Null => Ok(()),
                value => (slot.read)(of, value).ok_or_else(|| expected(value)),
            };
            match (&mut parameters.partner, value) {
                (_, Value::Null) => {}
                (None, value) => read(&mut parameters.picture, value)?,
                (Some((_, partner)), Value::Array(pair)) if pair.len() == 2 => {
                    read(&mut parameters.picture, &pair[0])?;
                    read(partner, &pair[1])?;
                }
                (Some(_), other) => {
                    let reason = format!("expected a pair of {}, found {other}", slot.expected);
                    return Err(wrong(key, slot.name, reason));
                }
            }
        }
        if config.mixup {
            parameters.mixup = match slots.next("mixup")? {
                Value::Null => None,
                value => Some(lambda(value).ok_or_else(|| wrong(key, "mixup", not_lambda(value)))?),
            };
        }
        if config.cutmix {
            parameters.cutmix = match slots.next("cutmix")? {
                Value::Null => None,
                value => Some(CutMix::read(value).ok_or_else(|| {
                    let expected = "[lambda from 0 to 1, top, left, bottom, right]";
                    wrong(key, "cutmix", format!("expected {expected}, found {value}"))
                })?),
            };
        }
        if parameters.partner.is_none() && (parameters.mixup.is_some() || parameters.cutmix.is_some()) {
            return Err(wrong(key, "partner", "is null, but the picture was mixed".to_owned()));
        }
        match slots.left.len() {
            0 => Ok(parameters),
            more => Err(Error::Parameters {
                key: key.to_owned(),
                reason: format!("the list has {more} more than the configuration has slots"),
            }),
        }
    }

    /// The entry of `param_aug`, as the reference compresses it.
    pub(super) fn write(&self, config: &Config) -> Value {
        let mut list = Vec::new();
        if config.mixes() {
            list.push(self.partner.as_ref().map_or(Value::Null, |(id, _)| id.clone()));
        }
        for slot in SLOTS.iter().filter(|slot| (slot.is_in)(config)) {
            let own = (slot.write)(&self.picture);
            list.push(match &self.partner {
                None => own,
                Some((_, partner)) => json!([own, (slot.write)(partner)]),
            });
        }
        if config.mixup {
            list.push(json!(self.mixup));
        }
        if config.cutmix {
            list.push(
                self.cutmix.map_or(Value::Null, |c| json!([c.lambda, c.top, c.left, c.bottom, c.right])),
            );
        }
        list.into()
    }
}

fn lambda(value: &Value) -> Option<f64> {
    value.as_f64().filter(|v| (0.0..=1.0).contains(v))
}

fn not_lambda(value: &Value) -> String {
    format!("expected a number from 0 to 1, found {value}")
}

impl CutMix {
    fn read(value: &Value) -> Option<CutMix> {
        let (first, corners) = value.as_array()?.split_first()?;
        let corner = |value| usize::try_from(whole(value)?).ok();
        let [top, left, bottom, right] = corners.iter().map(corner).collect::<Option<Vec<_>>>()?[..] else {
            return None;
        };
        Some(CutMix { lambda: lambda(first)?, top, left, bottom, right })
    }
}

/// How the parameters of one transformation are stored.
struct Slot {
    name: &'static str,
    expected: &'static str,
    is_in: fn(&Config) -> bool,
    /// Reads what is not null.
    read: fn(&mut PictureParameters, &Value) -> Option<()>,
    write: fn(&PictureParameters) -> Value,
}

/// In the order of their slots, which is that in which the transformations are applied.
const SLOTS: [Slot; 6] = [
    Slot {
        name: "resize",
        expected: "a side or [height, width]",
        is_in: |config| config.resize.is_some(),
        read: |of, value| {
            of.resize = Some(Size::read(value)?);
            Some(())
        },
        write: |of| of.resize.as_ref().map_or(Value::Null, Size::write),
    },
    Slot {
        name: "random_crop",
        expected: "[top, left]",
        is_in: |config| config.random_crop.is_some(),
        read: |of, value| {
            let [top, left] = value.as_array()?.as_slice() else { return None };
            of.random_crop = Some([whole(top)?, whole(left)?]);
            Some(())
        },
        write: |of| json!(of.random_crop),
    },
    Slot {
        name: "random_resized_crop",
        expected: "[top, left, height, width], the last two above 0",
        is_in: |config| config.random_resized_crop.is_some(),
        read: |of, value| {
            of.random_resized_crop = Some(rectangle(value).filter(|area| area.height > 0 && area.width > 0)?);
            Some(())
        },
        write: |of| of.random_resized_crop.map_or(Value::Null, corners),
    },
    Slot {
        name: "random_horizontal_flip",
        expected: "true or false",
        is_in: |config| config.random_horizontal_flip.is_some(),
        read: |of, value| {
            of.random_horizontal_flip = Some(value.as_bool()?);
            Some(())
        },
        write: |of| json!(of.random_horizontal_flip),
    },
    Slot {
        name: "rand_augment",
        expected: "a list of [number of an operation from 0 to 13, magnitude that it can have]",
        is_in: |config| config.rand_augment.is_some(),
        read: |of, value| {
            of.rand_augment = Some(value.as_array()?.iter().map(transform).collect::<Option<_>>()?);
            Some(())
        },
        write: |of| {
            let pair = |t: &Transform| json!([t.operation.number(), t.magnitude]);
            of.rand_augment.as_ref().map_or(Value::Null, |list| list.iter().map(pair).collect())
        },
    },
    Slot {
        name: "random_erase",
        expected: "[top, left, height, width], none below 0 except a top of -1",
        is_in: |config| config.random_erase.is_some(),
        read: |of, value| {
            of.random_erase = Some(rectangle(value).filter(|area| area.top >= -1 && area.left >= 0)?);
            Some(())
        },
        write: |of| of.random_erase.map_or(Value::Null, corners),
    },
];

fn rectangle(value: &Value) -> Option<Rect> {
    let numbers = value.as_array()?.iter().map(whole).collect::<Option<Vec<_>>>()?;
    let [top, left, height, width] = numbers[..] else { return None };
    Some(Rect { left, top, width: usize::try_from(width).ok()?, height: usize::try_from(height).ok()? })
}

fn corners(area: Rect) -> Value {
    json!([area.top, area.left, area.height, area.width])
}

fn transform(value: &Value) -> Option<Transform> {
    let [number, magnitude] = value.as_array()?.as_slice() else { return None };
    let number = usize::try_from(whole(number)?).ok()?;
    let transform = Transform { operation: *Operation::ALL.get(number)?, magnitude: magnitude.as_f64()? };
    transform.is_possible().then_some(transform)
}

/// A whole number, also where it was written as `7.0`.
fn whole(value: &Value) -> Option<i64> {
    let is_whole = |v: &f64| v.fract() == 0.0 && v.abs() < 9e15;
    value.as_i64().or_else(|| value.as_f64().filter(is_whole).map(|v| v as i64))
}

impl Transform {
    /// Whether the reference can carry it out.
    pub(super) fn is_possible(&self) -> bool {
        match self.operation {
            Operation::Posterize => (0.0..9.0).contains(&self.magnitude.trunc()),
            Operation::Brightness | Operation::Color | Operation::Contrast | Operation::Sharpness => {
                self.factor().is_finite()
            }
            _ => self.magnitude.is_finite(),
        }
    }

    /// The factor of an enhancement, as Pillow keeps it.
    pub(super) fn factor(&self) -> f32 {
        (1.0 + self.magnitude) as f32
    }
}
