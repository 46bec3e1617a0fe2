//! The arrays of a reinforced sample, from either of the two files that hold them.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use flate2::read::MultiGzDecoder;
use mobileclip_checkpoint::TensorFile;
use zip::ZipArchive;

use crate::error::{Fault, Result};
use crate::limits::Limits;
use crate::matrix::Matrix;
use crate::npy;
use crate::sample::Sample;

/// Arrays by name.
pub(crate) type Arrays = BTreeMap<String, Matrix>;

/// The suffix of the member that the arrays are read from, and the arrays: `npz` where it is there, else `pth.gz`.
pub(crate) fn read(sample: &Sample, limits: &Limits) -> Result<(&'static str, Arrays), Fault> {
    let (suffix, arrays) = match (sample.get("npz"), sample.get("pth.gz")) {
        (Some(bytes), _) => ("npz", npz(bytes, limits)),
        (None, Some(bytes)) => ("pth.gz", pth(bytes, limits)),
        (None, None) => return Err(sample.missing("npz or pth.gz")),
    };
    Ok((suffix, arrays.map_err(|reason| sample.bad(suffix, reason))?))
}

/// A zip of `.npy` files. Its check sums are compared.
fn npz(bytes: &[u8], limits: &Limits) -> Result<Arrays, String> {
    let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| error.to_string())?;
    let mut left = limits.array_bytes;
    let mut arrays = Arrays::new();
    for i in 0..zip.len() {
        let file = zip.by_index(i).map_err(|error| error.to_string())?;
        let name = file.name().map_err(|error| error.to_string())?.into_owned();
        let Some(array) = name.strip_suffix(".npy") else { continue };
        let contents = bounded(file, &mut left).map_err(|reason| format!("`{name}`: {reason}"))?;
        let matrix = npy::read(&contents, npy::FLOATS).map_err(|reason| format!("`{name}`: {reason}"))?;
        arrays.insert(array.to_owned(), matrix);
    }
    Ok(arrays)
}

/// A gzip'd dictionary of tensors as `torch.save` writes it, read by the reader that executes nothing.
fn pth(bytes: &[u8], limits: &Limits) -> Result<Arrays, String> {
    let mut left = limits.array_bytes;
    let unpacked =
        bounded(MultiGzDecoder::new(bytes), &mut left).map_err(|reason| format!("gzip: {reason}"))?;
    // The error names the file; the sample's fault names it better.
    let file = TensorFile::from_bytes("pth", unpacked, &mobileclip_checkpoint::Limits::default());
    let file = file.map_err(|error| error.to_string())?;
    let mut arrays = Arrays::new();
    for view in file.tensors() {
        let (rows, columns) = match view.shape() {
            [columns] => (1, *columns),
            [rows, columns] => (*rows, *columns),
            shape => {
                return Err(format!(
                    "`{}`: has {} dimensions, where 2 are expected",
                    view.name(),
                    shape.len()
                ));
            }
        };
        let values = view.to_f32().map_err(|error| error.to_string())?.into_owned();
        let matrix = Matrix::new(rows, columns, values);
        let matrix = matrix.ok_or_else(|| format!("`{}`: its shape does not fit its values", view.name()))?;
        arrays.insert(view.name().to_owned(), matrix);
    }
    Ok(arrays)
}

/// Reads to the end, unless that is beyond what is left.
fn bounded(reader: impl Read, left: &mut u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    reader.take(left.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    *left = left.checked_sub(bytes.len() as u64).ok_or("the arrays are larger than the limit")?;
    Ok(bytes)
}
