//! The stack machine: bytes in, values out.

use std::collections::HashMap;

use super::{Global, Id, Pickle, StorageRef, TensorRef, Value};
use crate::error::PickleError;
use crate::limits::Limits;

type Outcome<T> = Result<T, PickleError>;

/// Reads one pickle from the start of `bytes`. The error comes with the offset of the instruction at fault.
pub(crate) fn run<'a>(bytes: &'a [u8], limits: &'a Limits) -> Result<Pickle<'a>, (usize, PickleError)> {
    let mut machine = Machine {
        rest: bytes,
        limits,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = bytes.len() - machine.rest.len();
        if at > limits.pickle_bytes {
            let (found, limit) = (at as u64, limits.pickle_bytes as u64);
            return Err((at, PickleError::Limit { what: "bytes read of the pickle", found, limit }));
        }
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle {
                    values: machine.values,
                    root,
                    consumed: bytes.len() - machine.rest.len(),
                });
            }
            Err(source) => return Err((at, source)),
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    limits: &'a Limits,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// One instruction; the root value at STOP. Numbers are those of CPython's `pickletools`.
    fn step(&mut self) -> Outcome<Option<Id>> {
        let [op] = self.array()?;
        match op {
            0x80 => {
                let [protocol] = self.array()?;
                if protocol > 5 {
                    return Err(PickleError::Protocol { protocol });
                }
            }
            0x95 => {
                self.array::<8>()?; // FRAME: a hint for buffered reading
            }
            b'.' => return self.pop().map(Some),
            b'(' => {
                self.room(self.marks.len(), "open marks")?;
                self.marks.push(self.stack.len());
            }

            // Plain values.
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()))?;
            }
            b'K' => {
                let [v] = self.array()?;
                self.push(Value::Int(v.into()))?;
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()))?;
            }
            0x8a => {
                let [n] = self.array()?;
                let digits = self.take(n.into())?;
                self.push(integer(digits))?;
            }
            0x8b => {
                let n = self.length_u32()?;
                let digits = self.take(n)?;
                self.push(integer(digits))?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Float)?;
            }
            b'X' => {
                let n = self.length_u32()?;
                self.string(n)?;
            }
            0x8c => {
                let [n] = self.array()?;
                self.string(n.into())?;
            }
            0x8d => {
                let n = u64::from_le_bytes(self.array()?);
                self.string(usize::try_from(n).map_err(|_| PickleError::Truncated)?)?;
            }
            // Bytes, and the 8-bit strings of Python 2, which are text wherever a checkpoint uses them.
            b'U' | b'T' => {
                let n =
                    if op == b'T' { self.length_u32()? } else { self.array().map(|[n]| usize::from(n))? };
                let bytes = self.take(n)?;
                self.push(std::str::from_utf8(bytes).map_or(Value::Bytes, Value::Str))?;
            }
            b'C' | b'B' => {
                let n =
                    if op == b'B' { self.length_u32()? } else { self.array().map(|[n]| usize::from(n))? };
                self.take(n)?;
                self.push(Value::Bytes)?;
            }

            // Collections.
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(op - 0x84))?;
                self.push(Value::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(pairs(&items)?))?;
            }
            b'a' => {
                let items = self.pop_n(1)?;
                self.append(items)?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }

            // The memo.
            b'q' => {
                let [slot] = self.array()?;
                self.memoize(slot.into())?;
            }
            b'r' => {
                let slot = self.length_u32()?;
                self.memoize(slot)?;
            }
            0x94 => self.memoize(self.memo.len())?,
            b'h' => {
                let [slot] = self.array()?;
                self.recall(slot.into())?;
            }
            b'j' => {
                let slot = self.length_u32()?;
                self.recall(slot)?;
            }

            // Names, and the calls that are data.
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let items = self.pop_n(2)?;
                match items.as_slice() {
                    &[module, name] => self.global(self.text(module)?, self.text(name)?)?,
                    _ => return Err(PickleError::StackUnderflow),
                }
            }
            b'R' | 0x81 => {
                let items = self.pop_n(2)?;
                match items.as_slice() {
                    &[callee, arguments] => self.call(callee, arguments)?,
                    _ => return Err(PickleError::StackUnderflow),
                }
            }
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))?;
            }
            // INST and OBJ import too: say what they wanted.
            b'i' => {
                let module = self.line()?;
                let name = self.line()?;
                return Err(forbidden(module, name));
            }
            code => return Err(PickleError::ForbiddenOpcode { code }),
        }
        Ok(None)
    }

    // Reading.

    fn take(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(PickleError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn length_u32(&mut self) -> Outcome<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PickleError::Truncated)
    }

    fn utf8(&self, bytes: &'a [u8]) -> Outcome<&'a str> {
        if bytes.len() > self.limits.string_bytes {
            let (found, limit) = (bytes.len() as u64, self.limits.string_bytes as u64);
            return Err(PickleError::Limit { what: "bytes of a string", found, limit });
        }
        std::str::from_utf8(bytes).map_err(|_| PickleError::Utf8)
    }

    fn string(&mut self, n: usize) -> Outcome<()> {
        let bytes = self.take(n)?;
        let text = self.utf8(bytes)?;
        self.push(Value::Str(text))
    }

    fn line(&mut self) -> Outcome<&'a str> {
        // A name is short; looking further would make each GLOBAL cost the whole file.
        let window = self.rest.get(..1024).unwrap_or(self.rest);
        let end = window.iter().position(|&b| b == b'\n').ok_or(PickleError::Truncated)?;
        let line = self.take(end)?;
        self.take(1)?;
        self.utf8(line)
    }

    // The stack.

    fn room(&self, len: usize, what: &'static str) -> Outcome<()> {
        if len >= self.limits.pickle_values {
            let (found, limit) = (len as u64 + 1, self.limits.pickle_values as u64);
            return Err(PickleError::Limit { what, found, limit });
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) -> Outcome<()> {
        self.room(self.values.len(), "values in the pickle")?;
        let id = Id::try_from(self.values.len()).map_err(|_| PickleError::StackUnderflow)?;
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Outcome<()> {
        self.room(self.stack.len(), "values on the pickle's stack")?;
        self.stack.push(id);
        Ok(())
    }

    /// Nothing may be taken from below the last MARK.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop_n(&mut self, n: usize) -> Outcome<Vec<Id>> {
        let start = self.stack.len().checked_sub(n).filter(|&s| s >= self.floor());
        Ok(self.stack.split_off(start.ok_or(PickleError::StackUnderflow)?))
    }

    fn pop(&mut self) -> Outcome<Id> {
        self.pop_n(1)?.pop().ok_or(PickleError::StackUnderflow)
    }

    fn pop_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().ok_or(PickleError::StackUnderflow)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&mut self) -> Outcome<&mut Value<'a>> {
        let floor = self.floor();
        let id = self.stack.get(floor..).and_then(|s| s.last()).ok_or(PickleError::StackUnderflow)?;
        self.values.get_mut(*id as usize).ok_or(PickleError::StackUnderflow)
    }

    fn value(&self, id: Id) -> Outcome<&Value<'a>> {
        self.values.get(id as usize).ok_or(PickleError::StackUnderflow)
    }

    fn memoize(&mut self, slot: usize) -> Outcome<()> {
        self.room(self.memo.len(), "memo slots")?;
        let id = self.stack.last().ok_or(PickleError::StackUnderflow)?;
        self.memo.insert(slot, *id);
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Outcome<()> {
        let id = *self.memo.get(&slot).ok_or(PickleError::MemoMiss { slot })?;
        self.push_id(id)
    }

    fn append(&mut self, mut items: Vec<Id>) -> Outcome<()> {
        match self.top()? {
            Value::List(list) => list.append(&mut items),
            other => return Err(wrong(other, "a list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Outcome<()> {
        let mut new = pairs(items)?;
        match self.top()? {
            Value::Dict(dict) => dict.append(&mut new),
            other => return Err(wrong(other, "a dict")),
        }
        Ok(())
    }

    // Names and calls.

    fn text(&self, id: Id) -> Outcome<&'a str> {
        match self.value(id)? {
            Value::Str(text) => Ok(text),
            other => Err(wrong(other, "a string")),
        }
    }

    fn tuple(&self, id: Id) -> Outcome<&[Id]> {
        match self.value(id)? {
            Value::Tuple(items) => Ok(items),
            other => Err(wrong(other, "a tuple")),
        }
    }

    fn size(&self, id: Id) -> Outcome<usize> {
        match self.value(id)? {
            Value::Int(n) => usize::try_from(*n)
                .map_err(|_| PickleError::WrongType { what: "a negative number", expected: "a size" }),
            other => Err(wrong(other, "a size")),
        }
    }

    fn sizes(&self, id: Id) -> Outcome<Vec<usize>> {
        let items = self.tuple(id)?;
        if items.len() > self.limits.rank {
            let (found, limit) = (items.len() as u64, self.limits.rank as u64);
            return Err(PickleError::Limit { what: "dimensions of a tensor", found, limit });
        }
        items.iter().map(|&i| self.size(i)).collect()
    }

    fn global(&mut self, module: &str, name: &str) -> Outcome<()> {
        let global = Global::resolve(module, name).ok_or_else(|| forbidden(module, name))?;
        self.push(Value::Global(global))
    }

    fn call(&mut self, callee: Id, arguments: Id) -> Outcome<()> {
        let callee = match self.value(callee)? {
            Value::Global(global) => *global,
            other => return Err(wrong(other, "a class or function")),
        };
        let bad = PickleError::BadCall { callee: callee.name() };
        let arguments = self.tuple(arguments)?;
        match (callee, arguments) {
            (Global::OrderedDict, []) => self.push(Value::Dict(Vec::new())),
            (Global::Namespace, []) => self.push(Value::Inert),
            // storage, offset, size, stride, requires_grad, backward_hooks, and metadata in some files.
            (
                Global::RebuildTensor,
                &[storage, offset, shape, strides, _, _] | &[storage, offset, shape, strides, _, _, _],
            ) => {
                let storage = match self.value(storage)? {
                    Value::Storage(storage) => *storage,
                    other => return Err(wrong(other, "a storage")),
                };
                let (offset, shape, strides) = (self.size(offset)?, self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() {
                    return Err(bad);
                }
                self.push(Value::Tensor(Box::new(TensorRef { storage, offset, shape, strides })))
            }
            (Global::RebuildParameter, &[tensor, _, _]) => match self.value(tensor)? {
                Value::Tensor(_) => self.push_id(tensor),
                other => Err(wrong(other, "a tensor")),
            },
            _ => Err(bad),
        }
    }

    /// BUILD sets attributes. Dicts have them in `_metadata` (versions of modules), inert objects are not looked into: both
    /// are dropped.
    fn build(&mut self) -> Outcome<()> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) | Value::Inert => Ok(()),
            other => Err(wrong(other, "an object that has attributes")),
        }
    }

    /// `("storage", class, key, location, elements[, part])`, the only persistent id that torch.save writes.
    fn storage(&self, id: Id) -> Outcome<StorageRef<'a>> {
        let items = self.tuple(id)?;
        let (&[kind, class, key, _, elements], part) = items
            .split_first_chunk()
            .ok_or(PickleError::WrongType { what: "another tuple", expected: "the tuple of a storage" })?;
        if self.text(kind)? != "storage" {
            return Err(PickleError::WrongType {
                what: "another kind of persistent id",
                expected: "`storage`",
            });
        }
        let dtype = match self.value(class)? {
            Value::Global(Global::Storage(dtype)) => *dtype,
            other => return Err(wrong(other, "a torch storage")),
        };
        let part = match part {
            [] => None,
            [part, ..] => match self.value(*part)? {
                Value::None => None,
                Value::Tuple(items) => match items.as_slice() {
                    &[_, offset, elements] => Some((self.size(offset)?, self.size(elements)?)),
                    _ => return Err(PickleError::BadCall { callee: "the part of a storage" }),
                },
                other => return Err(wrong(other, "None or a tuple")),
            },
        };
        Ok(StorageRef { key: self.text(key)?, dtype, elements: self.size(elements)?, part })
    }
}

fn forbidden(module: &str, name: &str) -> PickleError {
    PickleError::ForbiddenGlobal { module: module.into(), name: name.into() }
}

fn wrong(found: &Value<'_>, expected: &'static str) -> PickleError {
    PickleError::WrongType { what: found.kind(), expected }
}

fn pairs(items: &[Id]) -> Outcome<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(PickleError::StackUnderflow);
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// Little-endian two's complement.
fn integer(digits: &[u8]) -> Value<'_> {
    if digits.len() > 8 {
        return Value::BigInt(digits);
    }
    let fill = if digits.last().is_some_and(|&b| b >= 0x80) { 0xff } else { 0 };
    let mut bytes = [fill; 8];
    for (to, from) in bytes.iter_mut().zip(digits) {
        *to = *from;
    }
    Value::Int(i64::from_le_bytes(bytes))
}
