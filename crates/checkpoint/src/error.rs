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
