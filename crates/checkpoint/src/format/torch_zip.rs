//! The zip of torch.save (PyTorch 1.6 and later): `NAME/data.pkl` and a member `NAME/data/KEY` for each storage, uncompressed.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;
use std::sync::OnceLock;

use zip::{CompressionMethod, ZipArchive};

use super::state_dict;
use crate::error::{Error, Result};
use crate::file::{Parsed, Storage};
use crate::limits::Limits;
use crate::pickle;

/// Where one member's contents lie.
struct Member {
    start: usize,
    len: usize,
    crc: u32,
    stored: bool,
}

/// The directory of the zip. The `zip` crate finds and checks the headers; contents are taken from the map.
struct Archive<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    members: HashMap<String, Member>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, bytes: &'a [u8], limits: &Limits) -> Result<Archive<'a>> {
        let damaged = |reason: String| Error::Zip { path: path.to_path_buf(), reason };
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|e| {
            damaged(format!("its directory cannot be read ({e}); perhaps the file was cut short"))
        })?;
        if zip.len() > limits.zip_members {
            let (found, limit) = (zip.len() as u64, limits.zip_members as u64);
            return Err(Error::Limit {
                path: path.to_path_buf(),
                what: "the zip's members".into(),
                found,
                limit,
            });
        }
        // Two members of one name: readers disagree on which one counts, so somebody wants to be misread.
        if zip.has_duplicate_names() {
            return Err(damaged("two members have the same name".into()));
        }
        let mut members = HashMap::with_capacity(zip.len());
        for i in 0..zip.len() {
            let file = zip.by_index_raw(i).map_err(|e| damaged(format!("member {i}: {e}")))?;
            let name = file.name().map_err(|e| damaged(format!("member {i}: {e}")))?.into_owned();
            let start = file.data_start().and_then(|s| usize::try_from(s).ok());
            let len = usize::try_from(file.size()).ok();
            let (Some(start), Some(len)) = (start, len) else {
                return Err(damaged(format!("`{name}` lies outside the file")));
            };
            let stored = file.compression() == CompressionMethod::Stored && !file.encrypted();
            members.insert(name, Member { start, len, crc: file.crc32(), stored });
        }
        Ok(Archive { path, bytes, members })
    }

    fn member_error(&self, member: &str, reason: impl Into<String>) -> Error {
        Error::Member { path: self.path.to_path_buf(), member: member.into(), reason: reason.into() }
    }

    /// The place of a member that must exist, within the file and uncompressed.
    fn find(&self, name: &str) -> Result<(&Member, &'a [u8])> {
        let member = self.members.get(name).ok_or_else(|| self.member_error(name, "is missing"))?;
        if !member.stored {
            let reason = "is compressed or encrypted, which torch.save never does; was the file packed again by another tool?";
            return Err(self.member_error(name, reason));
        }
        let bytes = member
            .start
            .checked_add(member.len)
            .and_then(|end| self.bytes.get(member.start..end))
            .ok_or_else(|| self.member_error(name, "reaches beyond the end of the file"))?;
        Ok((member, bytes))
    }

    /// Contents of a small member, check sum compared.
    fn read(&self, name: &str) -> Result<&'a [u8]> {
        let (member, bytes) = self.find(name)?;
        if crc32fast::hash(bytes) != member.crc {
            return Err(
                self.member_error(name, "its check sum disagrees with its contents: the file is damaged")
            );
        }
        Ok(bytes)
    }
}

pub(crate) fn read(path: &Path, bytes: &[u8], limits: &Limits) -> Result<Parsed> {
    let archive = Archive::open(path, bytes, limits)?;
    let root = root(&archive)?;
    // TorchScript has code beside the data, and its data.pkl is the constants' sibling.
    let code = format!("{root}/code/");
    if archive.members.contains_key(&format!("{root}/constants.pkl"))
        || archive.members.keys().any(|name| name.starts_with(&code))
    {
        return Err(Error::TorchScript { path: path.to_path_buf() });
    }
    let order = format!("{root}/byteorder");
    if archive.members.contains_key(&order) && archive.read(&order)? != b"little" {
        return Err(
            archive.member_error(&order, "the weights are big-endian; save them on a little-endian machine")
        );
    }
    let name = format!("{root}/data.pkl");
    let data = archive.read(&name)?;
    let pickle = pickle::run(data, limits).map_err(|(offset, source)| Error::Pickle {
        path: path.to_path_buf(),
        pickle: name,
        offset,
        source,
    })?;
    let dict =
        state_dict::find(&pickle).map_err(|found| Error::NoStateDict { path: path.to_path_buf(), found })?;

    let mut parsed = Parsed { notes: dict.notes, ..Parsed::default() };
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (name, tensor) in dict.tensors {
        let reject = |reason| Error::Tensor { path: path.to_path_buf(), key: name.into(), reason };
        let storage = tensor.storage;
        if storage.part.is_some() {
            return Err(reject("names a part of its storage, which only legacy files do".into()));
        }
        let member = format!("{root}/data/{}", storage.key);
        let (place, contents) = archive.find(&member)?;
        if storage.elements.checked_mul(storage.dtype.bytes()) != Some(contents.len()) {
            return Err(reject(format!(
                "its storage `{member}` has {} bytes, the pickle says {} elements of {}",
                contents.len(),
                storage.elements,
                storage.dtype
            )));
        }
        let index = *known.entry(storage.key).or_insert_with(|| {
            parsed.storages.push(Storage {
                range: place.start..place.start + place.len,
                check: Some((place.crc, member)),
                verified: OnceLock::new(),
            });
            parsed.storages.len() - 1
        });
        let (shape, strides) = (tensor.shape.clone(), Some(tensor.strides.clone()));
        parsed
            .push(name.into(), storage.dtype, shape, strides, tensor.offset, index, limits)
            .map_err(reject)?;
    }
    Ok(parsed)
}

/// The one folder that everything lies in, named after the file that torch.save wrote.
fn root(archive: &Archive<'_>) -> Result<String> {
    let mut roots = archive
        .members
        .keys()
        .filter_map(|name| name.strip_suffix("/data.pkl"))
        .filter(|root| !root.contains('/'));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.to_string()),
        (Some(_), Some(_)) => {
            Err(Error::Zip { path: archive.path.to_path_buf(), reason: "holds several `data.pkl`".into() })
        }
        (None, _) => {
            let reason = "holds no `data.pkl`: a zip, but not one of torch.save".into();
            Err(Error::Zip { path: archive.path.to_path_buf(), reason })
        }
    }
}
