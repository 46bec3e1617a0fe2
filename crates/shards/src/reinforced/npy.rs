//! NumPy's array files, as far as embeddings need them: floats, at most two dimensions, either order and either byte order.
//!
//! Own code because the header is one line of fixed form; `npyz` would bring a parser of Python's whole literal syntax (30 crates).

use half::f16;

use super::matrix::Matrix;

/// Reads a `.npy` file's bytes as f32; one dimension becomes one row.
pub(crate) fn read(bytes: &[u8]) -> Result<Matrix, String> {
    let (header, data) = split(bytes)?;
    let header = Header::parse(header)?;
    let (rows, columns) = match header.shape.as_slice() {
        [columns] => (1, *columns),
        [rows, columns] => (*rows, *columns),
        shape => return Err(format!("an array of {} dimensions, where 2 are expected", shape.len())),
    };
    let expected = rows.checked_mul(columns).and_then(|n| n.checked_mul(header.width));
    if expected != Some(data.len()) {
        return Err(format!("{} bytes of data for a shape of {rows} x {columns}", data.len()));
    }
    let values = header.floats(data);
    let values = match header.is_by_columns {
        false => values,
        true => (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows.max(1)).copied()).collect(),
    };
    Matrix::new(rows, columns, values).ok_or_else(|| "the shape does not fit the data".to_owned())
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
    /// Bytes of one number.
    width: usize,
    is_big_endian: bool,
    is_by_columns: bool,
    shape: Vec<usize>,
}

impl Header {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (4, 48), }`, in any order.
    fn parse(text: &str) -> Result<Self, String> {
        let field = |name: &str| {
            let place = text
                .find(&format!("'{name}'"))
                .ok_or_else(|| format!("the array's header has no `{name}`"))?;
            let after =
                text.get(place..).and_then(|text| text.split_once(':')).map_or("", |(_, after)| after);
            Ok::<_, String>(after.trim_start())
        };
        let descr = field("descr")?;
        let descr =
            descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map_or(descr, |(descr, _)| descr);
        let (is_big_endian, width) = match descr {
            "<f2" | "<f4" | "<f8" => (false, descr),
            ">f2" | ">f4" | ">f8" => (true, descr),
            _ => {
                let found: String = descr.chars().take(20).collect();
                return Err(format!("an array of `{found}`, where floats are expected"));
            }
        };
        let width = match width.as_bytes().last() {
            Some(b'2') => 2,
            Some(b'4') => 4,
            _ => 8,
        };
        let order = field("fortran_order")?;
        let shape = field("shape")?;
        let inside = shape.strip_prefix('(').and_then(|shape| shape.split_once(')'));
        let (inside, _) = inside.ok_or("the array's `shape` is no tuple")?;
        let dimensions = inside.split(',').map(str::trim).filter(|dimension| !dimension.is_empty());
        let shape: Result<Vec<usize>, _> =
            dimensions.map(|dimension| dimension.trim_end_matches('L').parse()).collect();
        let shape = shape.map_err(|error| format!("the array's `shape`: {error}"))?;
        Ok(Self { width, is_big_endian, is_by_columns: order.starts_with("True"), shape })
    }

    #[allow(clippy::cast_possible_truncation)] // Rounding to f32 is the purpose.
    fn floats(&self, data: &[u8]) -> Vec<f32> {
        match self.width {
            2 => each(data, self.is_big_endian, |b| f16::from_le_bytes(b).to_f32()),
            4 => each(data, self.is_big_endian, f32::from_le_bytes),
            _ => each(data, self.is_big_endian, |b| f64::from_le_bytes(b) as f32),
        }
    }
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
            let matrix = read(bytes).unwrap();
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
        let none = file("{'descr': '<f2', 'fortran_order': True, 'shape': (0, 7)}", b"");
        assert_eq!(rows(&none), [[0f32; 0]; 0]);
    }

    #[test]
    fn what_is_no_array_of_floats_is_refused() {
        let reason = |header: &str, data: &[u8]| read(&file(header, data)).unwrap_err();
        let float = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
        assert!(reason("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"pickle").contains("`|O`"));
        assert!(reason(&format!("{float}(2, 2)}}"), b"1234").contains("4 bytes of data"));
        assert!(reason(&format!("{float}(1, 1, 1)}}"), b"1234").contains("3 dimensions"));
        assert!(reason(&format!("{float}(18446744073709551615, 2)}}"), b"1234").contains("bytes of data"));
        assert!(reason(&format!("{float}(-1, 1)}}"), b"1234").contains("`shape`"));
        assert!(reason("{}", b"").contains("no `descr`"));
        assert!(read(b"\x93NUMPY\x01\x00\xff\xff").unwrap_err().contains("cut off"));
        assert!(read(b"PK").is_err());
    }
}
