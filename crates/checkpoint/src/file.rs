//! `TensorFile`: one file of weights, whatever its container.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::bytes::Bytes;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::format;
use crate::limits::Limits;
use crate::view::TensorView;

/// The kind of file that tensors came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// A safetensors file.
    Safetensors,
    /// The zip that torch.save writes since PyTorch 1.6.
    TorchZip,
    /// The run of pickles that torch.save wrote before.
    TorchLegacy,
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Container::Safetensors => "safetensors",
            Container::TorchZip => "torch zip",
            Container::TorchLegacy => "torch legacy pickle",
        })
    }
}

/// A contiguous run of bytes that tensors are views of.
pub(crate) struct Storage {
    /// Where it lies in the file.
    pub range: Range<usize>,
    /// The check sum the container gives for it, and the name of the member that holds it.
    pub check: Option<(u32, String)>,
    /// Whether the check sum agreed, once somebody looked.
    pub verified: OnceLock<bool>,
}

/// One tensor: a view of a storage, with all bounds checked by [`Parsed::push`].
pub(crate) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Product of `shape`.
    pub elements: usize,
    /// In elements; `None` where the view is contiguous in row-major order.
    pub strides: Option<Vec<usize>>,
    /// In elements from the start of the storage.
    pub offset: usize,
    /// Index into the storages.
    pub storage: usize,
}

/// What a container's reader found.
#[derive(Default)]
pub(crate) struct Parsed {
    pub storages: Vec<Storage>,
    pub entries: Vec<Entry>,
    pub metadata: BTreeMap<String, String>,
    pub notes: Vec<String>,
}

impl Parsed {
    /// Adds a tensor after checking that it stays within its storage; the reason why not otherwise.
    /// `strides` of `None` means contiguous.
    pub(crate) fn push(
        &mut self,
        name: String,
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Option<Vec<usize>>,
        offset: usize,
        storage: usize,
        limits: &Limits,
    ) -> Result<(), String> {
        let held = self.storages.get(storage).map_or(0, |s| s.range.len() / dtype.bytes());
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .ok_or_else(|| format!("the product of its shape {shape:?} overflows"))?;
        if elements > held.max(limits.expanded_elements) {
            return Err(format!(
                "shape {shape:?} has {elements} elements, its storage only {held} (limit for such views: {})",
                limits.expanded_elements
            ));
        }
        let strides = strides.and_then(|s| simplify(&shape, s));
        // One past the last element that the view touches.
        let end = match (&strides, elements) {
            (_, 0) => Some(offset),
            (None, _) => offset.checked_add(elements),
            (Some(strides), _) => shape
                .iter()
                .zip(strides)
                .try_fold(offset, |at, (&d, &s)| at.checked_add(s.checked_mul(d - 1)?))
                .and_then(|last| last.checked_add(1)),
        };
        if end.is_none_or(|end| end > held) {
            return Err(format!(
                "shape {shape:?} at element {offset} reaches beyond its storage of {held} elements ({dtype})"
            ));
        }
        let strides = if elements == 0 { None } else { strides };
        self.entries.push(Entry { name, dtype, shape, elements, strides, offset, storage });
        Ok(())
    }
}

/// Strides that matter, `None` if they are those of a contiguous tensor. The stride of a dimension of one is arbitrary.
fn simplify(shape: &[usize], mut strides: Vec<usize>) -> Option<Vec<usize>> {
    let mut contiguous = true;
    let mut expected = 1usize;
    for (&dim, stride) in shape.iter().zip(strides.iter_mut()).rev() {
        if dim == 1 {
            *stride = 0;
        } else {
            contiguous &= *stride == expected;
            expected = expected.saturating_mul(dim);
        }
    }
    (!contiguous).then_some(strides)
}

/// The tensors of one file, by name.
///
/// A training checkpoint is unwrapped (its `state_dict`), and a prefix that data-parallel training or compilation put before
/// every name (`module.`, `_orig_mod.`) is taken off.
pub struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    container: Container,
    parsed: Parsed,
    index: HashMap<String, usize>,
}

impl TensorFile {
    /// Maps and parses `path` with the default [`Limits`]. Weights are not read yet.
    ///
    /// The file must not be cut short by others while it is open (replacing it by rename is fine): as with every mapped
    /// file, the system ends a process that reads beyond its end.
    ///
    /// # Errors
    /// The file cannot be read, is of no known container, damaged, or wants to execute something.
    pub fn open(path: impl AsRef<Path>) -> Result<TensorFile> {
        TensorFile::open_with(path, &Limits::default())
    }

    /// As [`TensorFile::open`], with other limits.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<TensorFile> {
        let path = path.as_ref();
        TensorFile::parse(path.to_path_buf(), Bytes::map(path)?, limits)
    }

    /// Parses bytes in memory, or in the program itself; `path` is used for messages, and its extension tells a damaged safetensors file from a damaged
    /// pickle.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn from_bytes(
        path: impl Into<PathBuf>,
        bytes: impl Into<Cow<'static, [u8]>>,
        limits: &Limits,
    ) -> Result<TensorFile> {
        TensorFile::parse(path.into(), Bytes::Held(bytes.into()), limits)
    }

    fn parse(path: PathBuf, bytes: Bytes, limits: &Limits) -> Result<TensorFile> {
        let container = format::sniff(&path, &bytes)?;
        let mut parsed = match container {
            Container::Safetensors => format::safetensors::read(&path, &bytes, limits)?,
            Container::TorchZip => format::torch_zip::read(&path, &bytes, limits)?,
            Container::TorchLegacy => format::torch_legacy::read(&path, &bytes, limits)?,
        };
        if parsed.entries.len() > limits.tensors {
            let (found, limit) = (parsed.entries.len() as u64, limits.tensors as u64);
            return Err(Error::Limit { path, what: "the number of tensors".into(), found, limit });
        }
        strip_prefixes(&mut parsed.entries);
        let mut index = HashMap::with_capacity(parsed.entries.len());
        for (i, entry) in parsed.entries.iter().enumerate() {
            if index.insert(entry.name.clone(), i).is_some() {
                let reason = "stands in the file twice".into();
                return Err(Error::Tensor { path, key: entry.name.clone(), reason });
            }
        }
        Ok(TensorFile { path, bytes, container, parsed, index })
    }

    /// The path given to `open`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of file.
    pub fn container(&self) -> Container {
        self.container
    }

    /// How many tensors it holds.
    pub fn len(&self) -> usize {
        self.parsed.entries.len()
    }

    /// True if it holds no tensor.
    pub fn is_empty(&self) -> bool {
        self.parsed.entries.is_empty()
    }

    /// The names in the order of the file (of the data in safetensors, of the dict in a pickle).
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.parsed.entries.iter().map(|e| e.name.as_str())
    }

    /// All tensors, in the order of [`TensorFile::names`].
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.parsed.entries.iter().map(|e| TensorView::new(self, e))
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<TensorView<'_>> {
        let entry = self.parsed.entries.get(*self.index.get(name)?)?;
        Some(TensorView::new(self, entry))
    }

    /// The elements of an f32 tensor where they lie in the map; `None` if there is no such tensor, it has another type, or it
    /// cannot be read as it is (strides, an odd boundary).
    pub fn shared_f32(self: &Arc<Self>, name: &str) -> Option<Arc<dyn AsRef<[f32]> + Send + Sync>> {
        let shared = SharedF32 { file: Arc::clone(self), entry: *self.index.get(name)? };
        (shared.elements().len() == self.get(name)?.elements()).then(|| Arc::new(shared) as _)
    }

    /// The free text of a safetensors header (`__metadata__`); empty for pickles.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.parsed.metadata
    }

    /// What was left aside on the way: values beside the tensors, parts of a training checkpoint.
    pub fn notes(&self) -> &[String] {
        &self.parsed.notes
    }

    /// Says that what was read so far will hardly be read again: a mapped file gives its memory back to the system.
    pub fn release(&self) {
        self.bytes.release();
    }

    /// Bytes of an entry's storage, after its check sum was found right.
    pub(crate) fn storage(&self, entry: &Entry) -> Result<&[u8]> {
        let lost = || self.tensor_error(&entry.name, "its storage lies outside the file".into());
        let storage = self.parsed.storages.get(entry.storage).ok_or_else(lost)?;
        let bytes = self.bytes.get(storage.range.clone()).ok_or_else(lost)?;
        if let Some((crc, member)) = &storage.check
            && !storage.verified.get_or_init(|| crc32fast::hash(bytes) == *crc)
        {
            let reason = format!(
                "the check sum of `{member}` in the zip disagrees with its contents: the file is damaged"
            );
            return Err(self.tensor_error(&entry.name, reason));
        }
        Ok(bytes)
    }

    pub(crate) fn tensor_error(&self, key: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), key: key.to_string(), reason }
    }
}

/// A tensor that keeps its file open.
struct SharedF32 {
    file: Arc<TensorFile>,
    entry: usize,
}

impl SharedF32 {
    /// Empty if they are no f32 that can be borrowed.
    fn elements(&self) -> &[f32] {
        let view = self.file.parsed.entries.get(self.entry).map(|entry| TensorView::new(&self.file, entry));
        match view.map(|view| view.to_f32()) {
            Some(Ok(Cow::Borrowed(elements))) => elements,
            _ => &[],
        }
    }
}

impl AsRef<[f32]> for SharedF32 {
    fn as_ref(&self) -> &[f32] {
        self.elements()
    }
}

impl std::fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorFile({}, {}, {} tensors)", self.path.display(), self.container, self.len())
    }
}

/// Takes `module.` (DistributedDataParallel) and `_orig_mod.` (torch.compile) off, in any order, while all names have it.
fn strip_prefixes(entries: &mut [Entry]) {
    let prefixes = ["module.", "_orig_mod."];
    while let Some(prefix) =
        prefixes.iter().find(|&&p| !entries.is_empty() && entries.iter().all(|e| e.name.starts_with(p)))
    {
        for entry in entries.iter_mut() {
            entry.name.drain(..prefix.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed_with(bytes: usize) -> Parsed {
        let mut parsed = Parsed::default();
        parsed.storages.push(Storage { range: 0..bytes, check: None, verified: OnceLock::new() });
        parsed
    }

    #[test]
    fn bounds_are_exact() {
        let limits = Limits::default();
        let mut p = parsed_with(24);
        let mut push = |shape: &[usize], strides: &[usize], offset| {
            p.push("t".into(), Dtype::F32, shape.to_vec(), Some(strides.to_vec()), offset, 0, &limits)
        };
        assert!(push(&[2, 3], &[3, 1], 0).is_ok());
        assert!(push(&[2, 3], &[3, 1], 1).is_err());
        assert!(push(&[3, 2], &[1, 3], 0).is_ok());
        assert!(push(&[3, 2], &[1, 4], 0).is_err());
        assert!(push(&[1, 6], &[usize::MAX, 1], 0).is_ok());
        assert!(push(&[2], &[usize::MAX], 0).is_err());
        assert!(push(&[usize::MAX, 2], &[0, 0], 0).is_err());
        assert!(push(&[1 << 20, 1 << 20], &[0, 0], 0).is_err(), "a view may not grow without bound");
        assert!(push(&[0], &[1], 6).is_ok());
        assert!(push(&[0], &[1], 7).is_err());
        assert!(push(&[], &[], 5).is_ok());
        assert!(push(&[], &[], 6).is_err());
        let strided: Vec<bool> = p.entries.iter().map(|e| e.strides.is_some()).collect();
        assert_eq!(strided, [false, true, false, false, false]);
    }

    #[test]
    fn prefixes_go_only_when_all_have_them() {
        let names = |names: &[&str]| {
            let mut p = parsed_with(4);
            for n in names {
                p.push(n.to_string(), Dtype::F32, vec![], None, 0, 0, &Limits::default()).unwrap();
            }
            strip_prefixes(&mut p.entries);
            p.entries.into_iter().map(|e| e.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&["module.a", "module.b"]), ["a", "b"]);
        assert_eq!(names(&["module._orig_mod.a"]), ["a"]);
        assert_eq!(names(&["module.a", "b"]), ["module.a", "b"]);
    }
}
