//! Reading the options of one transformation, so that every error names its key.

use serde_json::{Map, Value};

use super::Error;
use super::parameters::Size;
use crate::Filter;

/// The longest side that a configuration can ask for.
const MAX_SIZE: u64 = 16_384;

/// The options of a transformation that have not been read yet.
pub(super) struct Fields {
    transformation: &'static str,
    left: Map<String, Value>,
}

impl Fields {
    pub(super) fn new(transformation: &'static str, left: Map<String, Value>) -> Fields {
        Fields { transformation, left }
    }

    pub(super) fn wrong(&self, field: &str, expected: &str, found: &Value) -> Error {
        let reason = format!("expected {expected}, found {found}");
        Error::Config { key: format!("{}.{field}", self.transformation), reason }
    }

    /// The option `field` as `read` understands it, or `default` where it is missing.
    fn take<T>(
        &mut self,
        field: &str,
        default: T,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, Error> {
        match self.left.remove(field) {
            Some(value) => read(&value).ok_or_else(|| self.wrong(field, expected, &value)),
            None => Ok(default),
        }
    }

    /// A number in `from ..= to`.
    pub(super) fn number(&mut self, field: &str, default: f64, from: f64, to: f64) -> Result<f64, Error> {
        let expected = format!("a number from {from} to {to}");
        self.take(field, default, &expected, |value| value.as_f64().filter(|v| (from..=to).contains(v)))
    }

    /// A probability.
    pub(super) fn probability(&mut self, default: f64) -> Result<f64, Error> {
        self.number("p", default, 0.0, 1.0)
    }

    /// A whole number in `from ..= to`.
    pub(super) fn count(&mut self, field: &str, default: usize, from: u64, to: u64) -> Result<usize, Error> {
        let expected = format!("a whole number from {from} to {to}");
        self.take(field, default, &expected, |value| {
            value.as_u64().filter(|v| (from..=to).contains(v)).and_then(|v| usize::try_from(v).ok())
        })
    }

    pub(super) fn flag(&mut self, field: &str, default: bool) -> Result<bool, Error> {
        self.take(field, default, "true or false", Value::as_bool)
    }

    /// Two numbers above 0, the second not below the first, neither above `most`.
    pub(super) fn range(&mut self, field: &str, default: [f64; 2], most: f64) -> Result<[f64; 2], Error> {
        let expected = format!("[low, high] with 0 < low <= high <= {most}");
        self.take(field, default, &expected, |value| {
            let [low, high] = value.as_array()?.as_slice() else { return None };
            let (low, high) = (low.as_f64()?, high.as_f64()?);
            (0.0 < low && low <= high && high <= most).then_some([low, high])
        })
    }

    /// The size, which has no default.
    pub(super) fn size(&mut self) -> Result<Size, Error> {
        let expected = "a side or [height, width], each from 1 to 16384";
        let size = self.take("size", None, expected, |value| {
            let size = Size::read(value)?;
            size.values().iter().all(|side| (1..=MAX_SIZE).contains(side)).then_some(Some(size))
        })?;
        size.ok_or_else(|| self.wrong("size", expected, &Value::Null))
    }

    /// A filter by torchvision's name, or by Pillow's number as older configurations have it.
    pub(super) fn interpolation(&mut self, default: Filter) -> Result<Filter, Error> {
        let expected = "nearest, bilinear, bicubic, box, hamming or lanczos";
        self.take("interpolation", default, expected, |value| match (value.as_str(), value.as_u64()) {
            (Some("nearest" | "nearest-exact"), _) | (_, Some(0)) => Some(Filter::Nearest),
            (Some("lanczos"), _) | (_, Some(1)) => Some(Filter::Lanczos),
            (Some("bilinear"), _) | (_, Some(2)) => Some(Filter::Bilinear),
            (Some("bicubic" | "cubic"), _) | (_, Some(3)) => Some(Filter::Bicubic),
            (Some("box"), _) | (_, Some(4)) => Some(Filter::Box),
            (Some("hamming"), _) | (_, Some(5)) => Some(Filter::Hamming),
            _ => None,
        })
    }

    /// A colour: null for black, one value for all channels, or three.
    pub(super) fn colour(&mut self) -> Result<[u8; 3], Error> {
        let expected = "null, a value from 0 to 255, or three of them";
        self.take("fill", [0; 3], expected, |value| {
            // Fractions are cut off, as torchvision does.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let sample = |value: &Value| value.as_f64().filter(|v| (0.0..256.0).contains(v)).map(|v| v as u8);
            match value {
                Value::Null => Some([0; 3]),
                Value::Array(list) => match list.as_slice() {
                    [v] => sample(v).map(|v| [v; 3]),
                    [r, g, b] => Some([sample(r)?, sample(g)?, sample(b)?]),
                    _ => None,
                },
                value => sample(value).map(|v| [v; 3]),
            }
        })
    }

    /// What is added around a picture: null, one number, [horizontal, vertical] or [left, top, right, bottom].
    pub(super) fn padding(&mut self) -> Result<[usize; 4], Error> {
        let expected = "null, a side, [horizontal, vertical] or [left, top, right, bottom], none above 16384";
        self.take("padding", [0; 4], expected, |value| {
            let side = |value: &Value| {
                value.as_u64().filter(|&v| v <= MAX_SIZE).and_then(|v| usize::try_from(v).ok())
            };
            match value {
                Value::Null => Some([0; 4]),
                Value::Array(list) => match list.iter().map(side).collect::<Option<Vec<_>>>()?[..] {
                    [all] => Some([all; 4]),
                    [across, down] => Some([across, down, across, down]),
                    [left, top, right, bottom] => Some([left, top, right, bottom]),
                    _ => None,
                },
                value => side(value).map(|all| [all; 4]),
            }
        })
    }

    /// Takes options that do not change a picture, whatever they say.
    pub(super) fn ignore(&mut self, fields: &[&str]) {
        for field in fields {
            self.left.remove(*field);
        }
    }

    /// Takes an option of which only one value is supported.
    pub(super) fn only(&mut self, field: &str, supported: &Value) -> Result<(), Error> {
        self.take(field, (), &format!("{supported} (others are not supported)"), |value| {
            (value == supported).then_some(())
        })
    }

    /// Nothing must be left.
    pub(super) fn end(self) -> Result<(), Error> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(field) => {
                let key = format!("{}.{field}", self.transformation);
                Err(Error::Config { key, reason: "there is no such option".to_owned() })
            }
        }
    }
}
