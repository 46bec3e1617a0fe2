//! NumPy's array files, as far as embeddings and labels need them: numbers, at most two dimensions, either order and either byte order.
//!
//! Own code because the header is one line of fixed form; `npyz` would bring a parser of Python's whole literal syntax (30 crates).

use half::f16;

use crate::matrix::Matrix;

/// Kinds of numbers, as NumPy names them: floats.
pub(crate) const FLOATS: &[u8] = b"f";
/// Floats, signed and unsigned integers, truth values.
pub(crate) const NUMBERS: &[u8] = b"fiub";

/// Reads a `.npy` file's bytes as f32, if its numbers are of one of the kinds; one dimension becomes one row.
pub(crate) fn read(bytes: &[u8], kinds: &[u8]) -> Result<Matrix, String> {
    let (header, data) = split(bytes)?;
    Header::parse(header, kinds)?.matrix(data)
}

/// An array of floats, `f4` and so on, of which the parts are known.
pub(crate) fn array(
    kind: &str,
    is_big_endian: bool,
    is_by_columns: bool,
    shape: Vec<usize>,
    data: &[u8],
) -> Result<Matrix, String> {
    let (kind, width) = match kind.as_bytes() {
        [kind, width @ b'1'..=b'8'] if FLOATS.contains(kind) => (*kind, usize::from(width - b'0')),
        _ => {
            return Err(format!(
                "an array of `{}`, where floats are expected",
                kind.chars().take(20).collect::<String>()
            ));
        }
    };
    Header { kind, width, is_big_endian, is_by_columns, shape }.matrix(data)
}

/// The header's text, and what comes after it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), String> {
    let cut = || "the array's header is cut off".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or("not an array of NumPy")?;
    let (&[major, _], rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(cut)?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        _ => return Err(format!("an array file of version {major}")),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok((std::str::from_utf8(header).map_err(|_| "the array's header is no text")?, data))
}

struct Header {
    /// As NumPy names it: `f`, `i`, `u` or `b`.
    kind: u8,
    /// Bytes of one number.
    width: usize,
    is_big_endian: bool,
    is_by_columns: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (4, 48), }`, in any order.
    fn parse(text: &str, kinds: &[u8]) -> Result<Self, String> {
        let field = |name: &str| {
            let place = text.find(&format!("'{name}'"));
            let place = place.ok_or_else(|| format!("the array's header has no `{name}`"))?;
            let after =
                text.get(place..).and_then(|text| text.split_once(':')).map_or("", |(_, after)| after);
            Ok::<_, String>(after.trim_start())
        };
        let descr = field("descr")?;
        let descr =
            descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map_or(descr, |(descr, _)| descr);
        let (kind, width, is_big_endian) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|'), kind, width @ (b'1' | b'2' | b'4' | b'8')]
                if kinds.contains(kind) =>
            {
                (*kind, usize::from(width - b'0'), *order == b'>')
            }
            _ => {
                let found: String = descr.chars().take(20).collect();
                return Err(format!(
                    "an array of `{found}`, where numbers of kind {} are expected",
                    names(kinds)
                ));
            }
        };
        let order = field("fortran_order")?;
        let shape = field("shape")?;
        let inside = shape.strip_prefix('(').and_then(|shape| shape.split_once(')'));
        let (inside, _) = inside.ok_or("the array's `shape` is no tuple")?;
        let dimensions = inside.split(',').map(str::trim).filter(|dimension| !dimension.is_empty());
        let shape: Result<Vec<usize>, _> =
            dimensions.map(|dimension| dimension.trim_end_matches('L').parse()).collect();
        let shape = shape.map_err(|error| format!("the array's `shape`: {error}"))?;
        Ok(Self { kind, width, is_big_endian, is_by_columns: order.starts_with("True"), shape })
    }

    fn matrix(&self, data: &[u8]) -> Result<Matrix, String> {
        let (rows, columns) = match self.shape.as_slice() {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            shape => return Err(format!("an array of {} dimensions, where 2 are expected", shape.len())),
        };
        let expected = rows.checked_mul(columns).and_then(|n| n.checked_mul(self.width));
        if expected != Some(data.len()) {
            return Err(format!("{} bytes of data for a shape of {rows} x {columns}", data.len()));
        }
        let values = self.numbers(data).ok_or("an array of numbers of a width that does not exist")?;
        let values = match self.is_by_columns {
            false => values,
            true => (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows.max(1)).copied()).collect(),
        };
        Matrix::new(rows, columns, values).ok_or_else(|| "the shape does not fit the data".to_owned())
    }

    /// `None` for widths that the kind does not have.
    #[allow(clippy::cast_possible_truncation)] // Rounding to f32 is the purpose.
    fn numbers(&self, data: &[u8]) -> Option<Vec<f32>> {
        let big = self.is_big_endian;
        Some(match (self.kind, self.width) {
            (b'f', 2) => each(data, big, |b| f16::from_le_bytes(b).to_f32()),
            (b'f', 4) => each(data, big, f32::from_le_bytes),
            (b'f', 8) => each(data, big, |b| f64::from_le_bytes(b) as f32),
            (b'i', 1) => each(data, big, |b| f32::from(i8::from_le_bytes(b))),
            (b'i', 2) => each(data, big, |b| f32::from(i16::from_le_bytes(b))),
            (b'i', 4) => each(data, big, |b| i32::from_le_bytes(b) as f32),
            (b'i', 8) => each(data, big, |b| i64::from_le_bytes(b) as f32),
            (b'u' | b'b', 1) => each(data, big, |[b]| f32::from(b)),
            (b'u', 2) => each(data, big, |b| f32::from(u16::from_le_bytes(b))),
            (b'u', 4) => each(data, big, |b| u32::from_le_bytes(b) as f32),
            (b'u', 8) => each(data, big, |b| u64::from_le_bytes(b) as f32),
            _ => return None,
        })
    }
}

fn names(kinds: &[u8]) -> String {
    kinds.iter().map(|&kind| format!("`{}`", char::from(kind))).collect::<Vec<_>>().join(", ")
}

fn each<const N: usize>(data: &[u8], is_big_endian: bool, number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let chunks = data.as_chunks::<N>().0.iter();
    chunks
        .map(|&(mut chunk)| {
            if is_big_endian {
                chunk.reverse();
            }
            number(chunk)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn data<const N: usize, T>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(bytes).collect()
    }

    #[test]
    fn orders_and_widths() {
        let f4 = data(&[1f32, 2., 3., 4., 5., 6.], |v| v.to_le_bytes());
        let rows = |bytes: &[u8]| {
            let matrix = read(bytes, NUMBERS).unwrap();
            (0..matrix.rows()).map(|row| matrix.row(row).to_vec()).collect::<Vec<_>>()
        };
        let c = file("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n", &f4);
        assert_eq!(rows(&c), [[1., 2., 3.], [4., 5., 6.]]);
        let f = file("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", &f4);
        assert_eq!(rows(&f), [[1., 3., 5.], [2., 4., 6.]]);
        let one = file(
            "{'shape': (3,), 'fortran_order': False, 'descr': '>f8'}",
            &data(&[1f64, 2., 3.], |v| v.to_be_bytes()),
        );
        assert_eq!(rows(&one), [[1., 2., 3.]]);
        let half = data(&[f16::from_f32(0.5), f16::from_f32(-2.0)], |v| v.to_le_bytes());
        assert_eq!(
            rows(&file("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 1)}", &half)),
            [[0.5], [-2.0]]
        );
        let labels = file(
            "{'descr': '<i8', 'fortran_order': False, 'shape': (2,)}",
            &data(&[1i64, -3], |v| v.to_le_bytes()),
        );
        assert_eq!(rows(&labels), [[1.0, -3.0]]);
        assert!(read(&labels, FLOATS).is_err());
        let flags = file("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", &[1, 0, 1]);
        assert_eq!(rows(&flags), [[1.0, 0.0, 1.0]]);
        assert!(
            read(&file("{'descr': '<b4', 'fortran_order': False, 'shape': (1,)}", &[1, 0, 1, 0]), NUMBERS)
                .is_err()
        );
        let none = file("{'descr': '<f2', 'fortran_order': True, 'shape': (0, 7)}", b"");
        assert_eq!(rows(&none), [[0f32; 0]; 0]);
    }

    #[test]
    fn what_is_no_array_of_floats_is_refused() {
        let reason = |header: &str, data: &[u8]| read(&file(header, data), FLOATS).unwrap_err();
        let float = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
        assert!(reason("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"pickle").contains("`|O`"));
        assert!(reason(&format!("{float}(2, 2)}}"), b"1234").contains("4 bytes of data"));
        assert!(reason(&format!("{float}(1, 1, 1)}}"), b"1234").contains("3 dimensions"));
        assert!(reason(&format!("{float}(18446744073709551615, 2)}}"), b"1234").contains("bytes of data"));
        assert!(reason(&format!("{float}(-1, 1)}}"), b"1234").contains("`shape`"));
        assert!(reason("{}", b"").contains("no `descr`"));
        assert!(read(b"\x93NUMPY\x01\x00\xff\xff", FLOATS).unwrap_err().contains("cut off"));
        assert!(read(b"PK", FLOATS).is_err());
    }
}
