//! Errors: each names the file, the key, what was expected and what was found.

use std::path::PathBuf;

use crate::dtype::Dtype;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },

    #[error("{path}: the file is empty")]
    Empty { path: PathBuf },

    #[error("{path}: neither safetensors nor a checkpoint of torch.save: {found}")]
    UnknownFormat { path: PathBuf, found: String },

    #[error(
        "{path}: is a TorchScript archive, as OpenAI published CLIP: it holds a program besides the weights. Save the weights \
         alone with Python: `torch.save(torch.jit.load(\"in.pt\", map_location=\"cpu\").state_dict(), \"out.pt\")`, or take the \
         same model in open_clip's layout from the hub"
    )]
    TorchScript { path: PathBuf },

    #[error("{path}: not a valid safetensors file: {source}")]
    Safetensors { path: PathBuf, source: safetensors::SafeTensorError },

    #[error("{path}: not a usable torch zip: {reason}")]
    Zip { path: PathBuf, reason: String },

    #[error("{path}: `{member}` in the zip: {reason}")]
    Member { path: PathBuf, member: String, reason: String },

    #[error("{path}: {pickle}, byte {offset}: {source}")]
    Pickle { path: PathBuf, pickle: String, offset: usize, source: PickleError },

    #[error("{path}: not a usable legacy checkpoint: {reason}")]
    Legacy { path: PathBuf, reason: String },

    #[error("{path}: no tensors by name in it, but {found}")]
    NoStateDict { path: PathBuf, found: String },

    #[error("{path}: tensor `{key}`: {reason}")]
    Tensor { path: PathBuf, key: String, reason: String },

    #[error("{path}: {what} is {found}, the limit is {limit}")]
    Limit { path: PathBuf, what: String, found: u64, limit: u64 },

    #[error("{path}: {reason}")]
    Config { path: PathBuf, reason: String },

    #[error(
        "{path}: no weights in this folder; open_clip_model.safetensors, open_clip_pytorch_model.bin and the like were looked for"
    )]
    NoWeights { path: PathBuf },

    #[error("{path}: several files in this folder may be the weights: {names}; name one of them")]
    SeveralWeights { path: PathBuf, names: Listing },

    #[error("{path}: does not hold {variant}: {misfit}")]
    Mismatch { path: PathBuf, variant: String, misfit: Box<Misfit> },

    #[error("{path}: holds no model of the family; its tensors are {names}")]
    UnknownModel { path: PathBuf, names: Listing },

    #[error(
        "{path}: the weights alone do not tell which of {} they are, which compute differently, and neither a configuration nor \
         the file's name does; name the variant",
        candidates.join(", ")
    )]
    Ambiguous { path: PathBuf, candidates: Vec<String> },

    #[error("{path}: tensor `{key}`: element {index} is {value}, not a finite number")]
    NotFinite { path: PathBuf, key: String, index: usize, value: f64 },

    #[error("{path}: tensor `{key}`: element {index} is {value}, too large for {dtype}")]
    TooLarge { path: PathBuf, key: String, index: usize, value: f32, dtype: Dtype },

    #[error("{path}: open_clip cannot hold this model: {reason}")]
    NotRepresentable { path: PathBuf, reason: String },
}

/// Why a pickle is refused. Nothing of it has been executed: the reader has no means to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // The messages say what each field is.
pub enum PickleError {
    #[error(
        "it wants `{module}.{name}`, which is not one of the few names that tensors need; nothing was executed. If the file is \
         yours and you trust it, save its `state_dict` alone with torch.save, or as safetensors"
    )]
    ForbiddenGlobal { module: String, name: String },

    #[error("opcode 0x{code:02x}, which no file of tensors needs")]
    ForbiddenOpcode { code: u8 },

    #[error("the data end in the middle of an instruction, or without the STOP instruction")]
    Truncated,

    #[error("an instruction takes more values than there are")]
    StackUnderflow,

    #[error("memo slot {slot} is read but was never written")]
    MemoMiss { slot: usize },

    #[error("{what} where {expected} must stand")]
    WrongType { what: &'static str, expected: &'static str },

    #[error("call of {callee} with arguments that it never gets from torch.save")]
    BadCall { callee: &'static str },

    #[error("pickle protocol {protocol}; at most 5 is known")]
    Protocol { protocol: u8 },

    #[error("a string is not UTF-8")]
    Utf8,

    #[error("{what}: {found}, the limit is {limit}")]
    Limit { what: &'static str, found: u64, limit: u64 },
}

/// `[16, 32] float32`, for messages.
pub(crate) fn describe(shape: &[usize], dtype: Dtype) -> String {
    format!("{shape:?} {dtype}")
}

/// What a checkpoint has too little, too much, or in another shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Canonical names of tensors that the model needs.
    pub missing: Listing,
    /// Names in the file that belong to no module.
    pub extra: Listing,
    /// Names in the file with the shape found and the shape needed.
    pub misshapen: Listing,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for (what, listing) in [
            ("missing", &self.missing),
            ("not of the model", &self.extra),
            ("of another shape", &self.misshapen),
        ] {
            if listing.total() > 0 {
                write!(f, "{separator}{} {what}: {listing}", listing.total())?;
                separator = "; ";
            }
        }
        Ok(())
    }
}

/// At most ten lines of a kind, and how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    first: Vec<String>,
    total: usize,
}

impl Listing {
    /// How many are kept for messages.
    pub const KEPT: usize = 10;

    /// Counts a line; it is made only if it is kept, since most variants that are tried do not fit in most of their tensors.
    pub(crate) fn push(&mut self, line: impl FnOnce() -> String) {
        self.total += 1;
        if self.first.len() < Self::KEPT {
            self.first.push(line());
        }
    }

    /// The first ones.
    pub fn first(&self) -> &[String] {
        &self.first
    }

    /// How many there were.
    pub fn total(&self) -> usize {
        self.total
    }
}

impl<S: Into<String>> FromIterator<S> for Listing {
    fn from_iter<I: IntoIterator<Item = S>>(lines: I) -> Listing {
        let mut listing = Listing::default();
        lines.into_iter().for_each(|line| listing.push(|| line.into()));
        listing
    }
}

impl std::fmt::Display for Listing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.first.join(", "))?;
        match self.total - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
