//! Arrays within JSON lines, as the published generator has them: base64 of gzip of a pickle (protocol 5) of a NumPy array.
//!
//! A pickle is a program. This reader knows the instructions that such pickles have, and of all functions the two that make an array; nothing is ever
//! called. ([`mobileclip_checkpoint`]'s reader is one for PyTorch's files.)

use std::collections::HashMap;
use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use crate::matrix::Matrix;
use crate::npy;

/// What an array's pickle has on its stack at most, and remembers; a multiple of that.
const DEPTH: usize = 64;

/// The array in a text; of one dimension, a row.
pub(crate) fn read(text: &str, limit: u64) -> Result<Matrix, String> {
    let packed = STANDARD.decode(text).map_err(|error| format!("base64: {error}"))?;
    let mut pickle = Vec::new();
    let unpacked = MultiGzDecoder::new(&packed[..]).take(limit.saturating_add(1)).read_to_end(&mut pickle);
    unpacked.map_err(|error| format!("gzip: {error}"))?;
    if pickle.len() as u64 > limit {
        return Err(format!("the array is larger than the limit of {limit} bytes"));
    }
    Machine { rest: &pickle, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
        .run()
        .map_err(|reason| format!("pickle: {reason}"))
}

/// An array as a text; equal arrays give equal texts.
pub(crate) fn write(matrix: &Matrix) -> io::Result<String> {
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    gzip.write_all(&pickle(matrix)?)?;
    Ok(STANDARD.encode(gzip.finish()?))
}

/// What `pickle.dumps(array, protocol=5)` gives with NumPy 1, whose names NumPy 2 knows as well.
fn pickle(matrix: &Matrix) -> io::Result<Vec<u8>> {
    let side = |n: usize| {
        let n = i32::try_from(n).map_err(|_| io::Error::other(format!("an array of {n} rows or columns")))?;
        Ok::<_, io::Error>([b"J", &n.to_le_bytes()[..]].concat())
    };
    let data: Vec<u8> = matrix.values().iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut body = Vec::with_capacity(data.len() + 256);
    body.extend_from_slice(b"\x8c\x12numpy.core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94(\x96");
    body.extend_from_slice(&(data.len() as u64).to_le_bytes());
    body.extend_from_slice(&data);
    body.extend_from_slice(
        b"\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02f4\x94\x89\x88\x87\x94R\x94",
    );
    body.extend_from_slice(b"(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t\x94b");
    body.extend_from_slice(&side(matrix.rows())?);
    body.extend_from_slice(&side(matrix.columns())?);
    body.extend_from_slice(b"\x86\x94\x8c\x01C\x94t\x94R\x94.");
    let frame = (body.len() as u64).to_le_bytes();
    Ok([b"\x80\x05\x95", &frame[..], &body].concat())
}

/// What stands on the machine's stack.
#[derive(Clone, Debug, PartialEq)]
enum Object<'a> {
    None,
    Truth,
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<Object<'a>>),
    /// The functions that are known.
    FromBuffer,
    MakeType,
    /// The kind of numbers, `f4`, and whether the most significant byte comes first.
    Type(&'a str, bool),
    Array(Matrix),
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Object<'a>>,
    /// Lengths of the stack where tuples begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Object<'a>>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Result<Matrix, String> {
        loop {
            let [instruction] = self.take()?;
            match instruction {
                0x80 => _ = self.take::<1>()?,
                0x95 => _ = self.take::<8>()?,
                b'N' => self.stack.push(Object::None),
                0x88 | 0x89 => self.stack.push(Object::Truth),
                b'J' => {
                    let number = i32::from_le_bytes(self.take()?);
                    self.stack.push(Object::Integer(number.into()));
                }
                b'K' => {
                    let [number] = self.take()?;
                    self.stack.push(Object::Integer(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.take()?);
                    self.stack.push(Object::Integer(number.into()));
                }
                0x8c | b'X' => {
                    let length = if instruction == b'X' { self.length4()? } else { self.length1()? };
                    let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| "a text is not UTF-8")?;
                    self.stack.push(Object::Text(text));
                }
                b'C' | b'B' | 0x8e | 0x96 => {
                    let length = match instruction {
                        b'C' => self.length1()?,
                        b'B' => self.length4()?,
                        _ => u64::from_le_bytes(self.take()?),
                    };
                    let bytes = self.bytes(length)?;
                    self.stack.push(Object::Bytes(bytes));
                }
                0x94 => {
                    let top = self.stack.last().ok_or("nothing to remember")?.clone();
                    let place = u32::try_from(self.memo.len()).map_err(|_| "too much to remember")?;
                    // Nothing that is long lies there twice: bytes and texts are borrowed, tuples are short.
                    if !matches!(top, Object::Array(_)) {
                        self.memo.insert(place, top);
                    }
                }
                b'h' | b'j' => {
                    let place = if instruction == b'j' { self.length4()? } else { self.length1()? };
                    let known = u32::try_from(place).ok().and_then(|place| self.memo.get(&place));
                    let known = known.ok_or("something is recalled that is not known")?.clone();
                    self.stack.push(known);
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    self.stack.push(function(&module, &name)?);
                }
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.stack.push(Object::Tuple(Vec::new())),
                b't' => {
                    let mark = self.marks.pop().ok_or("a tuple without a beginning")?;
                    self.tuple(mark)?;
                }
                0x85..=0x87 => {
                    let length = usize::from(instruction - 0x84);
                    let start = self.stack.len().checked_sub(length).ok_or("a tuple of what is not there")?;
                    self.tuple(start)?;
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.stack.push(call(&function, arguments)?);
                }
                b'b' => {
                    let (state, object) = (self.pop()?, self.pop()?);
                    self.stack.push(set_order(object, &state)?);
                }
                b'.' => {
                    return match self.stack.pop() {
                        Some(Object::Array(matrix)) => Ok(matrix),
                        _ => Err("it is no array".to_owned()),
                    };
                }
                other => return Err(format!("instruction {other:#04x}, which arrays do not have")),
            }
            if self.stack.len() > DEPTH || self.marks.len() > DEPTH || self.memo.len() > DEPTH {
                return Err("it is longer than an array's".to_owned());
            }
        }
    }

    fn tuple(&mut self, start: usize) -> Result<(), String> {
        if start > self.stack.len() {
            return Err("a tuple of what is not there".to_owned());
        }
        let members = self.stack.split_off(start);
        if members.iter().any(|member| matches!(member, Object::Tuple(inner) if inner.iter().any(|m| matches!(m, Object::Tuple(_))))) {
            return Err("tuples within each other, which arrays do not have".to_owned());
        }
        self.stack.push(Object::Tuple(members));
        Ok(())
    }

    fn pop(&mut self) -> Result<Object<'a>, String> {
        self.stack.pop().ok_or_else(|| "something is taken that is not there".to_owned())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or("it is cut off")?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn length1(&mut self) -> Result<u64, String> {
        self.take::<1>().map(|[length]| length.into())
    }

    fn length4(&mut self) -> Result<u64, String> {
        self.take().map(|length| u32::from_le_bytes(length).into())
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], String> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = split.ok_or("it is cut off")?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn function<'a>(module: &Object<'a>, name: &Object<'a>) -> Result<Object<'a>, String> {
    match (module, name) {
        (Object::Text("numpy.core.numeric" | "numpy._core.numeric"), Object::Text("_frombuffer")) => {
            Ok(Object::FromBuffer)
        }
        (Object::Text("numpy"), Object::Text("dtype")) => Ok(Object::MakeType),
        (Object::Text(module), Object::Text(name)) => {
            let shorten = |text: &str| text.chars().take(60).collect::<String>();
            Err(format!("asks for `{}.{}`, which is refused", shorten(module), shorten(name)))
        }
        _ => Err("a function's name is no text".to_owned()),
    }
}

fn call<'a>(function: &Object<'a>, arguments: Object<'a>) -> Result<Object<'a>, String> {
    let Object::Tuple(arguments) = arguments else { return Err("arguments that are no tuple".to_owned()) };
    match (function, arguments.as_slice()) {
        (Object::MakeType, [Object::Text(kind), ..]) => Ok(Object::Type(kind, false)),
        (
            Object::FromBuffer,
            [
                Object::Bytes(data),
                Object::Type(kind, is_big_endian),
                Object::Tuple(shape),
                Object::Text(order),
            ],
        ) => {
            let side = |side: &Object| match side {
                Object::Integer(side) => usize::try_from(*side).map_err(|_| "a side below 0"),
                _ => Err("a side that is no number"),
            };
            let shape: Vec<usize> = shape.iter().map(side).collect::<Result<_, _>>()?;
            npy::array(kind, *is_big_endian, *order == "F", shape, data).map(Object::Array)
        }
        _ => Err("a call that makes no array".to_owned()),
    }
}

/// A type's state: its version, then `<` or `>`, then what plain numbers do not have.
fn set_order<'a>(object: Object<'a>, state: &Object<'a>) -> Result<Object<'a>, String> {
    match (object, state) {
        (Object::Type(kind, _), Object::Tuple(state)) => match state.as_slice() {
            [_, Object::Text(order), Object::None, Object::None, ..] => Ok(Object::Type(kind, *order == ">")),
            _ => Err("a type that is not plain numbers".to_owned()),
        },
        _ => Err("a state of what has none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(pickle: &[u8]) -> String {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(pickle).unwrap();
        STANDARD.encode(gzip.finish().unwrap())
    }

    #[test]
    fn arrays_come_back() {
        for matrix in [
            Matrix::new(2, 3, vec![1.0, -0.5, 0.1, f32::MIN_POSITIVE, 3e38, 0.0]).unwrap(),
            Matrix::new(0, 3, Vec::new()).unwrap(),
            Matrix::new(300, 300, (0..90_000).map(|i| i as f32).collect()).unwrap(),
        ] {
            let text = write(&matrix).unwrap();
            assert_eq!(read(&text, 1 << 20).unwrap(), matrix);
            assert_eq!(write(&matrix).unwrap(), text);
        }
    }

    #[test]
    fn nothing_else_is_read() {
        let whole = pickle(&Matrix::new(2, 2, vec![1.0, 2.0, 3.0, 4.0]).unwrap()).unwrap();
        let fails = |pickle: &[u8], words: &str| {
            let reason = read(&packed(pickle), 1 << 20).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        };
        fails(
            b"\x80\x05\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x85R.",
            "`os.system`, which is refused",
        );
        fails(b"cos\nsystem\n(S'id'\ntR.", "instruction 0x63");
        fails(b"\x80\x05N.", "no array");
        fails(b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", "cut off");
        fails(&b"(".repeat(100_000), "longer than an array's");
        fails(&b")".repeat(100_000), "longer than an array's");
        fails(&[&b")"[..], &b"\x85".repeat(100_000)].concat(), "within each other");
        fails(b"t", "without a beginning");
        fails(b"((t)", "cut off");
        fails(b"N(\x30", "instruction");
        // Where the data do not fit the shape.
        let shape = whole.windows(5).rposition(|bytes| bytes == b"J\x02\x00\x00\x00").unwrap();
        let mut other = whole.clone();
        other[shape + 1] = 3;
        fails(&other, "16 bytes of data for a shape of 2 x 3");
        for cut in 0..whole.len() - 1 {
            assert!(read(&packed(&whole[..cut]), 1 << 20).is_err());
        }
        assert!(read(&packed(&whole), 20).unwrap_err().contains("larger than the limit"));
        assert!(read("§", 20).unwrap_err().contains("base64"));
        assert!(read("AAAA", 20).unwrap_err().contains("gzip"));
    }
}
