//! What products read instead of their input: sums for a Strassen-Winograd level, or narrow numbers.
//!
//! Narrow numbers keep the blocked layout, 64 bytes for each pixel of a block, so that a lane of 32 bits holds neighbouring
//! channels:
//!
//! - bf16: chunk i is `[pixels][32]`, from the input blocks 2i and 2i + 1;
//! - bytes: chunk i has the pixels 8i to 8i + 7: their scales `[8]` and offsets `[8]`, then `[K/64][8][64]`. A channel is
//!   about `scale * byte + offset`; both follow from the pixel alone, from the least and the largest of its channels and zero.

use super::bytes::{CHUNK_PIXELS, chunk_len};
use super::{Operand, PackedGemm, winograd};
use crate::isa::{Isa, Kernel};
use crate::map::MapRef;
use crate::simd::{LANES, Simd};
use std::ops::Range;

impl PackedGemm {
    /// Whether rows of a call are combined, see [`PackedGemm::pack_winograd`].
    pub fn is_winograd(&self) -> bool {
        self.operand == Operand::Sums
    }

    /// Chunks of the operand for a call on so many pixels, each of [`PackedGemm::operand_chunk`] f32; 0 if the input itself is
    /// read.
    pub fn operand_chunks(&self, pixels: usize) -> usize {
        match self.operand {
            Operand::Input => 0,
            Operand::Sums | Operand::Bf16 => self.k.div_ceil(LANES).div_ceil(2),
            Operand::Bytes => pixels.div_ceil(CHUNK_PIXELS),
        }
    }

    /// f32 of a chunk of the operand for a call on so many pixels.
    pub fn operand_chunk(&self, pixels: usize) -> usize {
        match self.operand {
            Operand::Input => 0,
            Operand::Sums => winograd::sums_chunk(pixels),
            Operand::Bf16 => pixels * LANES,
            Operand::Bytes => chunk_len(self.k.div_ceil(LANES)),
        }
    }

    /// f32 of the whole operand for a call on so many pixels.
    pub fn operand_len(&self, pixels: usize) -> usize {
        self.operand_chunks(pixels) * self.operand_chunk(pixels)
    }

    /// Makes some chunks of the operand from an input, all of whose pixels the call on it will have.
    ///
    /// # Panics
    /// If lengths do not fit, or the input has a border and the products are Winograd's.
    pub fn make_operand(&self, input: MapRef<'_>, chunks: Range<usize>, out: &mut [f32]) {
        let pixels = input.pixels();
        assert!(chunks.start <= chunks.end && chunks.end <= self.operand_chunks(pixels), "chunks {chunks:?}");
        assert_eq!(input.blocks(), self.k.div_ceil(LANES), "blocks of the input");
        let chunk = self.operand_chunk(pixels);
        assert_eq!(out.len(), chunks.len() * chunk, "length of the operand");
        if out.is_empty() {
            return;
        }
        match self.operand {
            Operand::Input => {}
            Operand::Sums => winograd::sums(self.isa, input, chunks, out),
            Operand::Bf16 => {
                for (i, out) in chunks.zip(out.chunks_exact_mut(chunk)) {
                    pairs(self.isa, input, 2 * i, out);
                }
            }
            Operand::Bytes => {
                for (i, out) in chunks.zip(out.chunks_exact_mut(chunk)) {
                    let last = pixels.min((i + 1) * CHUNK_PIXELS);
                    bytes(self.isa, input.with_pixels(i * CHUNK_PIXELS..last), self.k, out);
                }
            }
        }
    }
}

/// Two blocks, or the last one, as bf16. The places of a block that does not exist are left as they are.
fn pairs(isa: Isa, input: MapRef<'_>, block: usize, out: &mut [f32]) {
    for (half, block) in (block..input.blocks().min(block + 2)).enumerate() {
        let mut i = 0;
        while i < input.pixels() {
            let n = input.run_length(i);
            let x = input.plane().wrapping_add(block * input.map().block_stride() + input.offset_of(i));
            let out = out[i * LANES..][..n * LANES].as_mut_ptr().wrapping_add(half * LANES / 2);
            // SAFETY: n pixels are in one piece from pixel i on, and `out` has their lines.
            unsafe { isa.run(ToBf16 { x, pixels: n, out: out.cast() }) }
            i += n;
        }
    }
}

/// Halves of lines of 64 bytes.
struct ToBf16 {
    x: *const f32,
    pixels: usize,
    out: *mut u16,
}

impl Kernel for ToBf16 {
    const DOTS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for i in 0..self.pixels {
            // SAFETY: by the promise of `pairs`.
            unsafe { s.store_bf16(self.out.add(i * 2 * LANES), s.load(self.x.add(i * LANES))) }
        }
    }
}

/// A chunk of at most 8 pixels as bytes.
fn bytes(isa: Isa, input: MapRef<'_>, k: usize, out: &mut [f32]) {
    let mut i = 0;
    while i < input.pixels() {
        let n = input.run_length(i);
        let x = input.plane().wrapping_add(input.offset_of(i));
        let (x_stride, out) = (input.map().block_stride(), out.as_mut_ptr());
        // SAFETY: n pixels are in one piece from pixel i on in all blocks, and the chunk has their places.
        unsafe { isa.run(ToBytes { x, x_stride, k, first: i, pixels: n, out }) }
        i += n;
    }
}

struct ToBytes {
    x: *const f32,
    x_stride: usize,
    k: usize,
    /// Place of the first pixel in the chunk.
    first: usize,
    pixels: usize,
    out: *mut f32,
}

impl Kernel for ToBytes {
    const DOTS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        // SAFETY: by the promise of `bytes`.
        unsafe {
            while i + 4 <= self.pixels {
                self.some::<S, 4>(s, i);
                i += 4;
            }
            while i < self.pixels {
                self.some::<S, 1>(s, i);
                i += 1;
            }
        }
    }
}

impl ToBytes {
    /// N pixels side by side.
    ///
    /// # Safety
    /// N pixels from pixel i on exist.
    #[inline(always)]
    unsafe fn some<S: Simd, const N: usize>(&self, s: S, i: usize) {
        let (full, tail) = (self.k / LANES, self.k % LANES);
        let blocks = full + usize::from(tail > 0);
        // SAFETY: by the caller; the chunk has a line of 64 bytes for each pixel and 4 blocks.
        unsafe {
            let x = self.x.add(i * LANES);
            let (mut least, mut largest, mut poison) = ([s.zero(); N], [s.zero(); N], [s.zero(); N]);
            for b in 0..blocks {
                for j in 0..N {
                    let mut v = s.load(x.add(b * self.x_stride + j * LANES));
                    if b == full {
                        v = s.first(tail, v, s.zero());
                    }
                    least[j] = s.min(v, least[j]);
                    largest[j] = s.max(v, largest[j]);
                    // The comparisons lose NaN.
                    poison[j] = s.fma(v, s.zero(), poison[j]);
                }
            }
            let (mut offset, mut inverse) = ([s.zero(); N], [s.zero(); N]);
            for j in 0..N {
                let low = -s.max_lane(s.sub(s.zero(), least[j]));
                let scale = (s.max_lane(largest[j]) - low) / STEPS;
                *self.out.add(self.first + i + j) = scale + s.sum(poison[j]);
                *self.out.add(CHUNK_PIXELS + self.first + i + j) = low;
                offset[j] = s.splat(low);
                // A pixel of zeros (or so small that the inverse is none) gives bytes 0, which stand for `low`.
                let inverse_scale = 1.0 / scale;
                inverse[j] = s.splat(if inverse_scale.is_finite() { inverse_scale } else { 0.0 });
            }
            let lines = self.out.add(2 * CHUNK_PIXELS + (self.first + i) * LANES).cast::<u8>();
            for b in 0..blocks {
                for j in 0..N {
                    let v = s.load(x.add(b * self.x_stride + j * LANES));
                    let steps = s.mul(s.sub(v, offset[j]), inverse[j]);
                    let line = lines.add((b / 4 * CHUNK_PIXELS + j) * 4 * LANES);
                    s.store_bytes(line.add(b % 4 * LANES), s.min(s.splat(STEPS), s.max(s.zero(), steps)));
                }
            }
        }
    }
}

/// Largest byte.
const STEPS: f32 = 255.0;
