//! `tf.train.Example`: a protobuf message of named lists. Own code because it is three messages of one shape; what is not known is passed over,
//! as protobuf wants it.

use std::collections::BTreeMap;

/// Values of a feature.
const VALUES_MAX: usize = 1 << 24;

/// The values of a feature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Feature<'a> {
    Bytes(Vec<&'a [u8]>),
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// A field's value.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Float([u8; 4]),
    Double,
}

/// The features of an example by name; of two of one name the last counts.
pub(crate) fn read(message: &[u8]) -> Result<BTreeMap<&str, Feature<'_>>, String> {
    let mut named = BTreeMap::new();
    // Example.features; Features.feature, a map's entries of key and value.
    for features in messages(message, 1)? {
        for entry in messages(features, 1)? {
            let name = messages(entry, 1)?.last().copied().unwrap_or_default();
            let name = std::str::from_utf8(name).map_err(|_| "the name of a feature is not UTF-8")?;
            let value = messages(entry, 2)?.last().copied().unwrap_or_default();
            named.insert(name, feature(value).map_err(|reason| format!("`{name}`: {reason}"))?);
        }
    }
    Ok(named)
}

fn feature(message: &[u8]) -> Result<Feature<'_>, String> {
    let mut found = Feature::Bytes(Vec::new());
    for field in Fields(message) {
        let (number, Field::Bytes(list)) = field? else { continue };
        found = match number {
            1 => Feature::Bytes(messages(list, 1)?),
            2 => Feature::Floats(floats(list)?),
            3 => Feature::Integers(integers(list)?),
            _ => continue,
        };
    }
    Ok(found)
}

/// One after the other, or packed.
fn floats(list: &[u8]) -> Result<Vec<f32>, String> {
    let mut floats = Vec::new();
    for field in Fields(list) {
        match field? {
            (1, Field::Float(bytes)) => floats.push(f32::from_le_bytes(bytes)),
            (1, Field::Bytes(packed)) => {
                let (each, rest) = packed.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err("packed floats end in the middle of one".to_owned());
                }
                check(each.len())?;
                floats.extend(each.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            }
            _ => {}
        }
        check(floats.len())?;
    }
    Ok(floats)
}

fn integers(list: &[u8]) -> Result<Vec<i64>, String> {
    let mut integers = Vec::new();
    for field in Fields(list) {
        match field? {
            (1, Field::Number(value)) => integers.push(value.cast_signed()),
            (1, Field::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    integers.push(varint(&mut packed)?.cast_signed());
                    check(integers.len())?;
                }
            }
            _ => {}
        }
        check(integers.len())?;
    }
    Ok(integers)
}

/// All fields of this number that are bytes.
fn messages(message: &[u8], wanted: u64) -> Result<Vec<&[u8]>, String> {
    let mut found = Vec::new();
    for field in Fields(message) {
        if let (number, Field::Bytes(bytes)) = field?
            && number == wanted
        {
            found.push(bytes);
            check(found.len())?;
        }
    }
    Ok(found)
}

fn check(values: usize) -> Result<(), String> {
    match values > VALUES_MAX {
        true => Err(format!("more than {VALUES_MAX} values")),
        false => Ok(()),
    }
}

/// A message's fields by number.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        let field = (!self.0.is_empty()).then(|| field(&mut self.0))?;
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Field<'a>), String> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => Field::Number(varint(rest)?),
        1 => take::<8>(rest).map(|_| Field::Double)?,
        2 => {
            let length = varint(rest)?;
            let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let (bytes, after) = split.ok_or_else(|| {
                format!("a field says that it has {length} bytes, of which {} are there", rest.len())
            })?;
            *rest = after;
            Field::Bytes(bytes)
        }
        5 => Field::Float(take(rest)?),
        kind => return Err(format!("a field of kind {kind}, which does not exist")),
    };
    Ok((tag >> 3, field))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or("a number is cut off")?;
    *rest = after;
    Ok(*bytes)
}

/// Seven bits a byte, the least ones first; at most ten bytes.
fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take::<1>(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number has more than ten bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128);
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn example(value: &[u8]) -> Vec<u8> {
        bytes(1, &bytes(1, &[bytes(1, b"x"), bytes(2, value)].concat()))
    }

    #[test]
    fn lists_packed_or_not_and_fields_that_are_not_known() {
        let cases: [(Vec<u8>, Feature); 7] = [
            (bytes(1, &[bytes(1, b"a"), bytes(1, b"")].concat()), Feature::Bytes(vec![b"a", b""])),
            (bytes(2, &bytes(1, &[0, 0, 128, 63, 0, 0, 0, 192])), Feature::Floats(vec![1.0, -2.0])),
            (bytes(2, &[0x0d, 0, 0, 128, 63]), Feature::Floats(vec![1.0])),
            (bytes(3, &bytes(1, &[1, 0xac, 0x02])), Feature::Integers(vec![1, 300])),
            (bytes(3, &[&[8], &[0xff; 9][..], &[1]].concat()), Feature::Integers(vec![-1])),
            (bytes(3, b""), Feature::Integers(vec![])),
            (
                [vec![0x20, 5, 0x29, 0, 0, 0, 0, 0, 0, 0, 0], bytes(9, b"new"), bytes(1, &bytes(1, b"a"))]
                    .concat(),
                Feature::Bytes(vec![b"a"]),
            ),
        ];
        for (value, expected) in cases {
            let example = example(&value);
            assert_eq!(read(&example).unwrap(), BTreeMap::from([("x", expected)]));
            // Whatever it is cut to is an error or less, never more.
            for cut in 0..example.len() {
                let _ = read(&example[..cut]);
            }
        }
        assert_eq!(read(b"").unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for (message, words) in [
            (&[0x0a, 100][..], "100 bytes, of which 0"),
            (&[0x0b], "kind 3"),
            (&[0xff; 11], "more than ten bytes"),
            (&[0x0d, 1, 2], "cut off"),
        ] {
            let error = read(message).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert!(read(&example(&bytes(2, &bytes(1, &[1, 2, 3])))).unwrap_err().contains("`x`: packed floats"));
    }
}
