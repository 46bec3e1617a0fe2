//! What torch.save wrote before PyTorch 1.6: five pickles (magic number, protocol, system, the object, storage keys), then the
//! storages in the order of the keys, each as an i64 count of elements and the elements.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use super::state_dict;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::file::{Parsed, Storage};
use crate::limits::Limits;
use crate::pickle::{self, Pickle, Value};

/// 0x1950a86a20f9469cfc6c, as the file has it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Reads the pickles one after another.
struct Pickles<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    limits: &'a Limits,
}

impl<'a> Pickles<'a> {
    fn next(&mut self, what: &str) -> Result<Pickle<'a>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let pickle = pickle::run(rest, self.limits).map_err(|(offset, source)| Error::Pickle {
            path: self.path.to_path_buf(),
            pickle: what.to_string(),
            offset: self.at + offset,
            source,
        })?;
        self.at += pickle.consumed;
        Ok(pickle)
    }
}

pub(crate) fn read(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Parsed> {
    let bad = |reason: String| Error::Legacy { path: path.to_path_buf(), reason };
    let mut pickles = Pickles { path, bytes, at: 0, limits };
    let magic = pickles.next("the first pickle")?;
    if !matches!(magic.root(), Value::BigInt(digits) if *digits == MAGIC) {
        return Err(bad(format!(
            "a bare pickle of {}; torch.save begins with its magic number",
            magic.root().kind()
        )));
    }
    let protocol = pickles.next("the pickle of the protocol")?;
    if !matches!(protocol.root(), Value::Int(PROTOCOL)) {
        return Err(bad(format!("its protocol is not {PROTOCOL}")));
    }
    let system = pickles.next("the pickle of the system")?;
    if big_endian(&system) {
        return Err(bad("the weights are big-endian; save them on a little-endian machine".into()));
    }
    let object = pickles.next("the pickle of the object")?;
    let keys = pickles.next("the pickle of the storage keys")?;
    let Value::List(keys_list) = keys.root() else {
        return Err(bad(format!("{} where the storage keys must stand", keys.root().kind())));
    };

    // The keys say the order, the pickle the types.
    let mut types: HashMap<&str, Dtype> = HashMap::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for value in &object.values {
        if let Value::Storage(storage) = value {
            if *types.entry(storage.key).or_insert(storage.dtype) != storage.dtype {
                return Err(bad(format!("storage {} has two types", storage.key)));
            }
            counts.insert(storage.key, storage.elements);
        }
    }
    let mut at = pickles.at;
    let mut parsed = Parsed::default();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for &id in keys_list {
        let Value::Str(key) = keys.get(id) else {
            return Err(bad(format!("{} where a storage key must stand", keys.get(id).kind())));
        };
        let (Some(dtype), Some(&count)) = (types.get(key), counts.get(key)) else {
            return Err(bad(format!("storage {key} is listed but no tensor uses it")));
        };
        let cut = || bad(format!("the file ends in the middle of storage {key}: it was cut short"));
        let (head, _) = bytes.get(at..).and_then(|rest| rest.split_first_chunk()).ok_or_else(cut)?;
        let elements = i64::from_le_bytes(*head);
        if usize::try_from(elements) != Ok(count) {
            return Err(bad(format!("storage {key} has {elements} elements, the pickle says {count}")));
        }
        let start = at + head.len();
        let end = count.checked_mul(dtype.bytes()).and_then(|n| start.checked_add(n)).ok_or_else(cut)?;
        if end > bytes.len() {
            return Err(cut());
        }
        if known.insert(key, parsed.storages.len()).is_some() {
            return Err(bad(format!("storage {key} is listed twice")));
        }
        parsed.storages.push(Storage { range: start..end, check: None, verified: OnceLock::new() });
        at = end;
    }
    if at != bytes.len() {
        return Err(bad(format!("{} bytes are left over after the last storage", bytes.len() - at)));
    }

    let dict =
        state_dict::find(&object).map_err(|found| Error::NoStateDict { path: path.to_path_buf(), found })?;
    parsed.notes = dict.notes;
    for (name, tensor) in dict.tensors {
        let reject = |reason| Error::Tensor { path: path.to_path_buf(), key: name.into(), reason };
        let storage = tensor.storage;
        let Some(&index) = known.get(storage.key) else {
            return Err(reject(format!("its storage {} is not in the file", storage.key)));
        };
        let mut offset = tensor.offset;
        if let Some((first, elements)) = storage.part {
            // A view of a storage, from before PyTorch 0.4: a window, and the tensor's offset counts from its start.
            if first.checked_add(elements).is_none_or(|end| end > storage.elements) {
                return Err(reject(format!("its part of storage {} lies outside of it", storage.key)));
            }
            offset = offset.checked_add(first).ok_or_else(|| reject("its offset overflows".into()))?;
        }
        let (shape, strides) = (tensor.shape.clone(), Some(tensor.strides.clone()));
        parsed.push(name.into(), storage.dtype, shape, strides, offset, index, limits).map_err(reject)?;
    }
    Ok(parsed)
}

fn big_endian(system: &Pickle<'_>) -> bool {
    let Value::Dict(items) = system.root() else { return false };
    items.iter().any(|&(k, v)| {
        matches!(system.get(k), Value::Str("little_endian")) && matches!(system.get(v), Value::Bool(false))
    })
}
