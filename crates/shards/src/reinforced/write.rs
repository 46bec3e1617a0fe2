//! Arrays to the member that holds them, in either published dialect.

use std::io::{self, Cursor, Write};

use flate2::{Compression, GzBuilder};
use half::bf16;
use serde::{Deserialize, Serialize};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::matrix::Matrix;
use crate::sample::Member;

/// How arrays are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArrayType {
    /// NumPy's f32 in `npz`.
    #[default]
    F32,
    /// Tensors of bfloat16 in `pth.gz`, rounded to the nearest, ties to even.
    Bf16,
}

impl ArrayType {
    /// The suffix of the member.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "npz",
            Self::Bf16 => "pth.gz",
        }
    }
}

/// The member that holds arrays by name. Equal arrays give equal bytes.
///
/// # Errors
/// If an array is too large for its file format.
pub fn array_member(arrays: &[(&str, &Matrix)], dtype: ArrayType) -> io::Result<Member> {
    let bytes = match dtype {
        ArrayType::F32 => npz(arrays),
        ArrayType::Bf16 => pth(arrays),
    };
    Ok(Member { suffix: dtype.suffix().to_owned(), bytes: bytes? })
}

/// Numbers of embeddings have no pattern that packing could use, so files are stored as they are.
fn stored(files: impl Iterator<Item = io::Result<(String, Vec<u8>)>>) -> io::Result<Vec<u8>> {
    // The time of a file is 1980, unless it is given.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        let (name, bytes) = file?;
        zip.start_file(name, options)?;
        zip.write_all(&bytes)?;
    }
    Ok(zip.finish()?.into_inner())
}

fn npz(arrays: &[(&str, &Matrix)]) -> io::Result<Vec<u8>> {
    stored(arrays.iter().map(|(name, matrix)| Ok((format!("{name}.npy"), npy(matrix)))))
}

/// NumPy's array file, version 1.0: the header's text ends where 64 bytes end.
fn npy(matrix: &Matrix) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let (rows, columns) = (matrix.rows(), matrix.columns());
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let length = (MAGIC.len() + 2 + text.len() + 1).next_multiple_of(64) - MAGIC.len() - 2;
    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + length + 4 * matrix.values().len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(format!("{text:<width$}\n", width = length - 1).as_bytes());
    bytes.extend(matrix.values().iter().flat_map(|v| v.to_le_bytes()));
    bytes
}

/// What `torch.save` writes, gzip'd.
fn pth(arrays: &[(&str, &Matrix)]) -> io::Result<Vec<u8>> {
    let file = |name: String, bytes: Vec<u8>| Ok((format!("archive/{name}"), bytes));
    let storage = |(i, (_, matrix)): (usize, &(&str, &Matrix))| {
        let halves = matrix.values().iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes());
        file(format!("data/{i}"), halves.collect())
    };
    let pickle = std::iter::once_with(|| file("data.pkl".to_owned(), pickle(arrays)?));
    let notes = [("byteorder", "little"), ("version", "3\n")];
    let notes = notes.into_iter().map(|(name, text)| file(name.to_owned(), text.into()));
    let zip = stored(pickle.chain(arrays.iter().enumerate().map(storage)).chain(notes))?;
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    gzip.write_all(&zip)?;
    gzip.finish()
}

/// Pickle, protocol 2: a dictionary of names to calls of `_rebuild_tensor_v2`, each on a storage of its own.
fn pickle(arrays: &[(&str, &Matrix)]) -> io::Result<Vec<u8>> {
    let mut out = vec![0x80, 2, b'}', b'('];
    for (i, (name, matrix)) in arrays.iter().enumerate() {
        let number = |n: usize| {
            let n = i32::try_from(n).map_err(|_| io::Error::other(format!("`{name}` has {n} numbers")))?;
            let [a, b, c, d] = n.to_le_bytes();
            Ok::<_, io::Error>([b'J', a, b, c, d])
        };
        let (rows, columns) = (number(matrix.rows())?, number(matrix.columns())?);
        text(&mut out, name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend_from_slice(b"ctorch\nBFloat16Storage\n");
        text(&mut out, &i.to_string());
        text(&mut out, "cpu");
        out.extend_from_slice(&number(matrix.values().len())?);
        // The storage as a persistent id, then offset 0, shape, strides, no gradient, no hooks.
        out.extend_from_slice(b"tQK\x00");
        [rows, columns].iter().for_each(|n| out.extend_from_slice(n));
        out.push(0x86);
        out.extend_from_slice(&columns);
        out.extend_from_slice(b"K\x01\x86\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend_from_slice(b"u.");
    Ok(out)
}

#[allow(clippy::cast_possible_truncation)] // Names of arrays.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::limits::Limits;
    use crate::reinforced::arrays;
    use crate::sample::Sample;

    #[test]
    fn arrays_come_back_from_both_dialects() {
        let values = [1.0, -0.5, 0.1, f32::MIN_POSITIVE, 3e38, 0.0];
        let image = Matrix::new(2, 3, values.to_vec()).unwrap();
        let text = Matrix::new(1, 1, vec![1.0 / 3.0]).unwrap();
        let none = Matrix::new(0, 3, Vec::new()).unwrap();
        let given = [("image_emb", &image), ("syn_text_emb", &none), ("text_emb", &text)];
        for dtype in [ArrayType::F32, ArrayType::Bf16] {
            let member = array_member(&given, dtype).unwrap();
            assert_eq!(array_member(&given, dtype).unwrap(), member);
            let sample = Sample::new(Path::new("0.tar").into(), "k".into(), vec![member]);
            let (suffix, found) = arrays::read(&sample, &Limits::default()).unwrap();
            assert_eq!(suffix, dtype.suffix());
            assert_eq!(found.len(), 3);
            for (name, matrix) in given {
                let stored = match dtype {
                    ArrayType::F32 => matrix.clone(),
                    ArrayType::Bf16 => {
                        let rounded = matrix.values().iter().map(|&v| bf16::from_f32(v).to_f32()).collect();
                        Matrix::new(matrix.rows(), matrix.columns(), rounded).unwrap()
                    }
                };
                assert_eq!(found[name], stored, "{name}");
            }
        }
    }

    #[test]
    fn array_files_begin_as_numpy_writes_them() {
        let bytes = npy(&Matrix::new(4, 48, vec![0.0; 192]).unwrap());
        let header = "\u{1}\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (4, 48), }";
        assert_eq!(&bytes[6..6 + header.len()], header.as_bytes());
        assert_eq!((bytes[127], bytes.len()), (b'\n', 128 + 4 * 192));
    }
}
