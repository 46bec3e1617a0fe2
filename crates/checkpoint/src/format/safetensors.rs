//! safetensors: the `safetensors` crate checks the header (offsets contiguous, sizes right, nothing left over).

use std::path::Path;
use std::sync::OnceLock;

use ::safetensors::{Dtype as StDtype, SafeTensorError, SafeTensors};

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::file::{Parsed, Storage};
use crate::limits::Limits;

pub(crate) fn read(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Parsed> {
    let invalid = |source| Error::Safetensors { path: path.to_path_buf(), source };
    // The crate's own limit is 100 MB of JSON; ours comes first.
    if let Some((&length, _)) = bytes.split_first_chunk() {
        let found = u64::from_le_bytes(length);
        let limit = limits.header_bytes as u64;
        if found > limit {
            return Err(Error::Limit {
                path: path.to_path_buf(),
                what: "the header's length".into(),
                found,
                limit,
            });
        }
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(invalid)?;
    let base = header.checked_add(8).ok_or_else(|| invalid(SafeTensorError::InvalidHeaderLength))?;
    let mut parsed = Parsed::default();
    for name in metadata.offset_keys() {
        let info =
            metadata.info(&name).ok_or_else(|| invalid(SafeTensorError::TensorNotFound(name.clone())))?;
        let reject = |reason| Error::Tensor { path: path.to_path_buf(), key: name.clone(), reason };
        let dtype = dtype(info.dtype).ok_or_else(|| {
            reject(format!("has the type {}, which no model of the family uses", info.dtype))
        })?;
        if info.shape.len() > limits.rank {
            return Err(reject(format!("has {} dimensions, the limit is {}", info.shape.len(), limits.rank)));
        }
        let (start, end) = info.data_offsets;
        let storage = parsed.storages.len();
        parsed.storages.push(Storage {
            range: base + start..base + end,
            check: None,
            verified: OnceLock::new(),
        });
        parsed.push(name.clone(), dtype, info.shape.clone(), None, 0, storage, limits).map_err(reject)?;
    }
    if let Some(text) = metadata.metadata() {
        parsed.metadata = text.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    }
    Ok(parsed)
}

fn dtype(dtype: StDtype) -> Option<Dtype> {
    Some(match dtype {
        StDtype::F64 => Dtype::F64,
        StDtype::F32 => Dtype::F32,
        StDtype::F16 => Dtype::F16,
        StDtype::BF16 => Dtype::Bf16,
        StDtype::I64 => Dtype::I64,
        StDtype::I32 => Dtype::I32,
        StDtype::I16 => Dtype::I16,
        StDtype::I8 => Dtype::I8,
        StDtype::U8 => Dtype::U8,
        StDtype::BOOL => Dtype::Bool,
        _ => return None,
    })
}
