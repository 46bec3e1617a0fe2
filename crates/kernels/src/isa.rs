//! Which instruction set runs a kernel: a token that only exists where the processor has the instructions.

use crate::simd::Simd;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::simd::avx512;
use crate::simd::scalar::Scalar;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Scalar,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx2,
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Avx512(Dots),
}

/// What AVX-512 has for products of narrow numbers.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Dots {
    None,
    Vnni,
    /// And VNNI, which every processor with BF16 has.
    Bf16,
}

/// What numbers products are made of. Sums, and all that is no product, are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// The upper half of an f32: 8 bits of precision.
    Bf16,
    /// Bytes: weights with one scale for each output channel, inputs with scale and offset for each pixel.
    Int8,
}

impl Precision {
    /// `f32`, `bf16` or `int8`.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An instruction set that this processor has.
///
/// The token cannot be forged: the only ways to get one are [`Isa::scalar`], [`Isa::detect`] and
/// [`Isa::available`], so holding it proves that its instructions may be executed.
///
/// ```
/// use mobileclip_kernels::Isa;
/// assert!(Isa::available().contains(&Isa::detect()));
/// assert_eq!(Isa::scalar().name(), "scalar");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Kind);

impl Isa {
    /// Plain Rust: runs on every processor, the twin that the others are tested against.
    pub const fn scalar() -> Isa {
        Isa(Kind::Scalar)
    }

    /// The fastest instruction set of this processor.
    pub fn detect() -> Isa {
        *Isa::available().last().unwrap_or(&Isa::scalar())
    }

    /// Every instruction set of this processor, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = Isa::with_each_extension();
        // Of the same set with fewer extensions and more, the one with more comes later.
        all.reverse();
        all.dedup_by_key(|isa| isa.name());
        all.reverse();
        all
    }

    /// As [`Isa::available`], and AVX-512 also without the extensions that the processor has: for tests of the products of
    /// narrow numbers.
    pub fn with_each_extension() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::scalar()];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                all.push(Isa(Kind::Avx2));
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                {
                    all.push(Isa(Kind::Avx512(Dots::None)));
                    if std::arch::is_x86_feature_detected!("avx512vnni") {
                        all.push(Isa(Kind::Avx512(Dots::Vnni)));
                        if std::arch::is_x86_feature_detected!("avx512bf16") {
                            all.push(Isa(Kind::Avx512(Dots::Bf16)));
                        }
                    }
                }
            }
        }
        all
    }

    /// `scalar`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx2 => "avx2",
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx512(_) => "avx512",
        }
    }

    /// Whether there are instructions for products of this precision. Where not, other instructions give the same results (but
    /// for the rounding of sums in bf16), at about the speed of f32.
    pub const fn has(self, precision: Precision) -> bool {
        match (self.0, precision) {
            (_, Precision::F32) => true,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            (Kind::Avx512(Dots::Bf16), _) | (Kind::Avx512(Dots::Vnni), Precision::Int8) => true,
            _ => false,
        }
    }

    /// Runs the kernel with this instruction set, in a function of its own.
    ///
    /// # Safety
    /// What the kernel's own type demands of its fields (pointers, lengths) must hold.
    #[inline]
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: K) {
        // SAFETY: the token proves the processor's features; the kernel's demands are the caller's.
        unsafe {
            match self.0 {
                Kind::Scalar => run_scalar(kernel),
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                Kind::Avx2 => run_avx2(kernel),
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                Kind::Avx512(dots) => {
                    // A constant condition: other kernels are compiled once for all of them.
                    if const { !K::DOTS } {
                        return run_avx512(kernel);
                    }
                    match dots {
                        Dots::None => run_avx512(kernel),
                        Dots::Vnni => run_avx512_vnni(kernel),
                        Dots::Bf16 => run_avx512_bf16(kernel),
                    }
                }
            }
        }
    }

    /// What the register file of this instruction set asks of the tiles.
    #[inline]
    pub(crate) const fn shape(self) -> TileShape {
        match self.0 {
            Kind::Scalar => Scalar::SHAPE,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx2 => crate::simd::avx2::Avx2::SHAPE,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx512(_) => avx512::Avx512::<{ avx512::PLAIN }>::SHAPE,
        }
    }

    /// As [`Isa::shape`], for products of narrow numbers.
    #[inline]
    pub(crate) const fn dot_shape(self) -> TileShape {
        match self.0 {
            Kind::Scalar => Scalar::DOT_SHAPE,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx2 => crate::simd::avx2::Avx2::DOT_SHAPE,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Kind::Avx512(_) => avx512::Avx512::<{ avx512::PLAIN }>::DOT_SHAPE,
        }
    }
}

/// Register tile sizes of an instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileShape {
    /// Pixels of a GEMM tile.
    pub rows: usize,
    /// Blocks of 16 output channels of a GEMM tile; an odd last panel may be one wider where this is 2.
    pub blocks: usize,
    /// Output pixels of a depthwise segment.
    pub segment: usize,
    /// Panels that a GEMM of a single pixel reads side by side, at most `rows`.
    pub streams: usize,
}

impl TileShape {
    /// Whether GEMM tiles of so many pixels and vectors are used. Kernels return at once where not, in a constant
    /// condition: the rest is then not compiled.
    pub const fn has_tile(&self, rows: usize, width: usize) -> bool {
        rows <= self.rows && (width <= self.blocks || width == 3 && self.blocks == 2)
    }
}

/// A kernel, written once over [`Simd`].
pub(crate) trait Kernel {
    /// Whether it makes products of narrow numbers: it is then compiled for each extension that has instructions for them.
    const DOTS: bool = false;

    /// The text of the kernel. Implementations are `#[inline(always)]`, else the code that the compiler makes
    /// of them would lack the instruction set of the function that they are called from.
    ///
    /// # Safety
    /// The processor has the instructions of `S`, and the demands of the implementing type on its fields hold.
    unsafe fn run<S: Simd>(self, simd: S);
}

// Each kernel is compiled once per instruction set into its own function: inlined into their callers they would be
// compiled differently in each place, which has cost half of the speed before.
#[inline(never)]
pub(crate) unsafe fn run_scalar<K: Kernel>(kernel: K) {
    // SAFETY: plain Rust needs no features; the rest is the caller's promise.
    unsafe { kernel.run(Scalar) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn run_avx2<K: Kernel>(kernel: K) {
    // SAFETY: this function's own features; the rest is the caller's promise.
    unsafe { kernel.run(crate::simd::avx2::Avx2::new()) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
pub(crate) unsafe fn run_avx512<K: Kernel>(kernel: K) {
    // SAFETY: this function's own features; the rest is the caller's promise.
    unsafe { kernel.run(avx512::Avx512::<{ avx512::PLAIN }>::new()) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(crate) unsafe fn run_avx512_vnni<K: Kernel>(kernel: K) {
    // SAFETY: this function's own features; the rest is the caller's promise.
    unsafe { kernel.run(avx512::Avx512::<{ avx512::VNNI }>::new()) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(crate) unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) {
    // SAFETY: this function's own features; the rest is the caller's promise.
    unsafe { kernel.run(avx512::Avx512::<{ avx512::BF16 }>::new()) }
}
