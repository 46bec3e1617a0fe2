//! Element types, and decoding to f32 and f64.

use std::borrow::Cow;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// The element type of a tensor as it stands in the file (little-endian there).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F64 | Dtype::I64 => 8,
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::I8 | Dtype::U8 | Dtype::Bool => 1,
        }
    }

    /// True for f64, f32, f16 and bf16.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16)
    }

    /// The name PyTorch uses (`float32`, `bfloat16`, `int64`, …).
    pub fn torch_name(self) -> &'static str {
        match self {
            Dtype::F64 => "float64",
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
            Dtype::I64 => "int64",
            Dtype::I32 => "int32",
            Dtype::I16 => "int16",
            Dtype::I8 => "int8",
            Dtype::U8 => "uint8",
            Dtype::Bool => "bool",
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.torch_name())
    }
}

/// Applies `f` to each little-endian element of `N` bytes. `bytes` is a whole number of elements by construction.
fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| f(b)).collect()
}

/// Row-major elements as f32, borrowed where the file already holds aligned f32. f64 and wide integers are rounded once.
#[allow(clippy::cast_possible_truncation)] // Rounding to f32 is the purpose.
pub(crate) fn to_f32(dtype: Dtype, bytes: Cow<'_, [u8]>) -> Cow<'_, [f32]> {
    if dtype == Dtype::F32
        && cfg!(target_endian = "little")
        && let Cow::Borrowed(b) = bytes
        && let Ok(floats) = bytemuck::try_cast_slice(b)
    {
        return Cow::Borrowed(floats);
    }
    let b = &*bytes;
    Cow::Owned(match dtype {
        Dtype::F32 => each(b, f32::from_le_bytes),
        Dtype::F64 => each(b, |e| f64::from_le_bytes(e) as f32),
        // The slice conversions use F16C; bytes that are not aligned (a zip repacked by others) take the slow path.
        Dtype::F16 => match bytemuck::try_cast_slice::<u8, f16>(b) {
            Ok(halves) if cfg!(target_endian = "little") => halves.to_f32_vec(),
            _ => each(b, |e| f16::from_le_bytes(e).to_f32()),
        },
        Dtype::Bf16 => each(b, |e| bf16::from_le_bytes(e).to_f32()),
        Dtype::I64 => each(b, |e| i64::from_le_bytes(e) as f32),
        Dtype::I32 => each(b, |e| i32::from_le_bytes(e) as f32),
        Dtype::I16 => each(b, |e| f32::from(i16::from_le_bytes(e))),
        Dtype::I8 => each(b, |e| f32::from(i8::from_le_bytes(e))),
        Dtype::U8 => each(b, |e| f32::from(u8::from_le_bytes(e))),
        Dtype::Bool => each(b, |[e]| f32::from(u8::from(e != 0))),
    })
}

/// Row-major elements as f64, exact for every type but integers above 2^53.
pub(crate) fn to_f64(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |e| f64::from(f32::from_le_bytes(e))),
        Dtype::F16 => each(bytes, |e| f16::from_le_bytes(e).to_f64()),
        Dtype::Bf16 => each(bytes, |e| bf16::from_le_bytes(e).to_f64()),
        Dtype::I64 => each(bytes, |e| i64::from_le_bytes(e) as f64),
        Dtype::I32 => each(bytes, |e| f64::from(i32::from_le_bytes(e))),
        Dtype::I16 => each(bytes, |e| f64::from(i16::from_le_bytes(e))),
        Dtype::I8 => each(bytes, |e| f64::from(i8::from_le_bytes(e))),
        Dtype::U8 => each(bytes, |e| f64::from(u8::from_le_bytes(e))),
        Dtype::Bool => each(bytes, |[e]| f64::from(u8::from(e != 0))),
    }
}
