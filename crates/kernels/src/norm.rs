//! LayerNorm over the channels of each pixel.

use crate::buffer::Buffer;
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};

/// Weights of a LayerNorm: `(x - mean) / sqrt(variance + eps) * weight + bias`, per pixel, over its channels.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    isa: Isa,
    channels: usize,
    eps: f32,
    weight: Buffer,
    bias: Buffer,
}

impl LayerNorm {
    /// Takes weight and bias `[channels]`.
    ///
    /// # Panics
    /// If their lengths differ.
    pub fn new(isa: Isa, eps: f32, weight: &[f32], bias: &[f32]) -> LayerNorm {
        assert_eq!(weight.len(), bias.len(), "weight and bias");
        let channels = weight.len();
        let padded = channels.div_ceil(LANES) * LANES;
        let (mut w, mut b) = (Buffer::zeroed(padded), Buffer::zeroed(padded));
        w[..channels].copy_from_slice(weight);
        b[..channels].copy_from_slice(bias);
        LayerNorm { isa, channels, eps, weight: w, bias: b }
    }

    /// Normalises every pixel of the view; lanes beyond the channels become 0.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run(&self, input: MapRef<'_>, mut out: MapMut<'_>) {
        let blocks = self.channels.div_ceil(LANES);
        assert_eq!((input.blocks(), out.blocks()), (blocks, blocks), "blocks");
        assert_eq!(input.pixels(), out.pixels(), "pixels");
        let mut i = 0;
        while i < input.pixels() {
            let n = input.run_length(i).min(out.run_length(i));
            // SAFETY: n pixels from pixel i on are in one piece in both views.
            unsafe {
                self.isa.run(Rows {
                    norm: self,
                    x: input.plane().add(input.offset_of(i)),
                    x_stride: input.map().block_stride(),
                    out: out.plane().add(out.offset_of(i)),
                    out_stride: out.map().block_stride(),
                    pixels: n,
                });
            }
            i += n;
        }
    }
}

struct Rows<'a> {
    norm: &'a LayerNorm,
    x: *const f32,
    x_stride: usize,
    out: *mut f32,
    out_stride: usize,
    pixels: usize,
}

impl Kernel for Rows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        // SAFETY: by the promise of `LayerNorm::run`.
        unsafe {
            while i + 4 <= self.pixels {
                self.some::<S, 4>(s, i * LANES);
                i += 4;
            }
            while i < self.pixels {
                self.some::<S, 1>(s, i * LANES);
                i += 1;
            }
        }
    }
}

impl Rows<'_> {
    /// N pixels side by side; two passes, since one pass would subtract large squares.
    ///
    /// # Safety
    /// N pixels from offset `at` on exist.
    #[inline(always)]
    unsafe fn some<S: Simd, const N: usize>(&self, s: S, at: usize) {
        let norm = self.norm;
        let (channels, full) = (norm.channels, norm.channels / LANES);
        let tail = channels % LANES;
        // SAFETY: by the caller.
        unsafe {
            let mut sum = [s.zero(); N];
            for b in 0..full {
                for i in 0..N {
                    sum[i] = s.add(sum[i], s.load(self.x.add(b * self.x_stride + at + i * LANES)));
                }
            }
            if tail > 0 {
                for i in 0..N {
                    let x = s.load(self.x.add(full * self.x_stride + at + i * LANES));
                    sum[i] = s.add(sum[i], s.first(tail, x, s.zero()));
                }
            }
            let mut mean = [s.zero(); N];
            for i in 0..N {
                mean[i] = s.splat(s.sum(sum[i]) / channels as f32);
            }
            let mut squares = [s.zero(); N];
            for b in 0..full {
                for i in 0..N {
                    let d = s.sub(s.load(self.x.add(b * self.x_stride + at + i * LANES)), mean[i]);
                    squares[i] = s.fma(d, d, squares[i]);
                }
            }
            if tail > 0 {
                for i in 0..N {
                    let x = s.load(self.x.add(full * self.x_stride + at + i * LANES));
                    let d = s.first(tail, s.sub(x, mean[i]), s.zero());
                    squares[i] = s.fma(d, d, squares[i]);
                }
            }
            let mut factor = [s.zero(); N];
            for i in 0..N {
                let variance = s.sum(squares[i]) / channels as f32;
                factor[i] = s.splat(1.0 / (variance + norm.eps).sqrt());
            }
            for b in 0..full + usize::from(tail > 0) {
                let w = s.load(norm.weight.as_ptr().add(b * LANES));
                let bias = s.load(norm.bias.as_ptr().add(b * LANES));
                for i in 0..N {
                    let x = s.load(self.x.add(b * self.x_stride + at + i * LANES));
                    let d = s.mul(s.sub(x, mean[i]), factor[i]);
                    s.store(self.out.add(b * self.out_stride + at + i * LANES), s.fma(d, w, bias));
                }
            }
        }
    }
}
