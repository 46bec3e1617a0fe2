//! A pickle reader that can execute nothing.
//!
//! A pickle is a program for a stack machine whose instructions may import and call anything. This machine has no imports and
//! no calls: it knows the instructions that plain data and tensors need, turns the ten or so names on its list
//! ([`Global`]) into data of its own, and refuses everything else by name. The values live in one arena and refer to each
//! other by number, so cycles and depth cost nothing and nothing recurses.

mod globals;
mod machine;

pub(crate) use globals::Global;
pub(crate) use machine::run;

use crate::dtype::Dtype;

/// The number of a value in [`Pickle::values`].
pub(crate) type Id = u32;

/// A value; strings borrow from the file.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian two's complement.
    BigInt(&'a [u8]),
    Float,
    Str(&'a str),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef<'a>),
    Tensor(Box<TensorRef<'a>>),
    /// An object kept for its place only, such as an argparse.Namespace.
    Inert,
}

impl Value<'_> {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::BigInt(_) => "an integer",
            Value::Float => "a float",
            Value::Str(_) => "a string",
            Value::Bytes => "bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a class or function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
            Value::Inert => "an object",
        }
    }
}

/// A storage by its key in the container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorageRef<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    /// Elements of the whole storage.
    pub elements: usize,
    /// Old files only: first element of the part that is meant, and how many.
    pub part: Option<(usize, usize)>,
}

/// The arguments of `torch._utils._rebuild_tensor_v2`.
#[derive(Debug)]
pub(crate) struct TensorRef<'a> {
    pub storage: StorageRef<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A pickle that was read.
pub(crate) struct Pickle<'a> {
    pub values: Vec<Value<'a>>,
    pub root: Id,
    /// Bytes up to and with STOP.
    pub consumed: usize,
}

impl<'a> Pickle<'a> {
    pub(crate) fn get(&self, id: Id) -> &Value<'a> {
        // The machine hands out only ids it made; `None` stands in so that no index can panic.
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    pub(crate) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }
}
