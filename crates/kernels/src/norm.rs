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

impl LayerNorm {
    /// The gradients for `x`, the input of [`LayerNorm::run`]: `dx` in the output (which may hold `dy` before the call, if
    /// that is `None`), and sums over the view's pixels added to `dweight` and `dbias`.
    ///
    /// # Panics
    /// If shapes do not fit each other; `dweight` and `dbias` have 16 numbers for each block.
    pub fn gradient(
        &self,
        x: MapRef<'_>,
        dy: Option<MapRef<'_>>,
        mut dx: MapMut<'_>,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) {
        let blocks = self.channels.div_ceil(LANES);
        for view in [Some(x), dy].into_iter().flatten() {
            assert_eq!((view.blocks(), view.pixels()), (dx.blocks(), dx.pixels()), "shapes of the views");
        }
        assert_eq!(dx.blocks(), blocks, "blocks");
        assert_eq!(
            (dweight.len(), dbias.len()),
            (blocks * LANES, blocks * LANES),
            "one sum for each channel"
        );
        let mut i = 0;
        while i < x.pixels() {
            let n = x.run_length(i).min(dx.run_length(i)).min(dy.map_or(usize::MAX, |m| m.run_length(i)));
            let out = dx.plane().wrapping_add(dx.offset_of(i));
            let place = |m: MapRef<'_>| (m.plane().wrapping_add(m.offset_of(i)), m.map().block_stride());
            let dx_stride = dx.map().block_stride();
            let ((x, x_stride), (dy, dy_stride)) =
                (place(x), dy.map_or((out.cast_const(), dx_stride), place));
            let job = Gradient {
                norm: self,
                x,
                x_stride,
                dy,
                dy_stride,
                dx: out,
                dx_stride,
                pixels: n,
                dweight: dweight.as_mut_ptr(),
                dbias: dbias.as_mut_ptr(),
            };
            // SAFETY: n pixels from pixel i on are in one piece in all views, the sums have `blocks` vectors.
            unsafe { self.isa.run(job) };
            i += n;
        }
    }
}

struct Gradient<'a> {
    norm: &'a LayerNorm,
    x: *const f32,
    x_stride: usize,
    /// May be `dx`.
    dy: *const f32,
    dy_stride: usize,
    dx: *mut f32,
    dx_stride: usize,
    pixels: usize,
    dweight: *mut f32,
    dbias: *mut f32,
}

impl Kernel for Gradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let mut i = 0;
        // SAFETY: by the promise of `LayerNorm::gradient`.
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

impl Gradient<'_> {
    /// N pixels side by side. With g = weight · dy and the normalised x: `dx = factor (g - mean(g) - x mean(g x))`.
    ///
    /// # Safety
    /// N pixels from offset `at` on exist.
    #[inline(always)]
    unsafe fn some<S: Simd, const N: usize>(&self, s: S, at: usize) {
        let norm = self.norm;
        let (mean, factor) = {
            let rows = Rows {
                norm,
                x: self.x,
                x_stride: self.x_stride,
                out: self.dx,
                out_stride: self.dx_stride,
                pixels: self.pixels,
            };
            // SAFETY: by the caller.
            unsafe { rows.statistics::<S, N>(s, at) }
        };
        let tail = norm.channels % LANES;
        let blocks = norm.channels.div_ceil(LANES);
        // SAFETY: by the caller.
        unsafe {
            let mut sum = [s.zero(); N];
            let mut product = [s.zero(); N];
            for b in 0..blocks {
                let w = s.load(norm.weight.as_ptr().add(b * LANES));
                for i in 0..N {
                    let mut g = s.mul(s.load(self.dy.add(b * self.dy_stride + at + i * LANES)), w);
                    if b + 1 == blocks && tail > 0 {
                        g = s.first(tail, g, s.zero());
                    }
                    let d = s.sub(s.load(self.x.add(b * self.x_stride + at + i * LANES)), mean[i]);
                    sum[i] = s.add(sum[i], g);
                    product[i] = s.fma(g, s.mul(d, factor[i]), product[i]);
                }
            }
            for i in 0..N {
                sum[i] = s.splat(s.sum(sum[i]) / norm.channels as f32);
                product[i] = s.splat(s.sum(product[i]) / norm.channels as f32);
            }
            for b in 0..blocks {
                let w = s.load(norm.weight.as_ptr().add(b * LANES));
                let (dweight, dbias) = (self.dweight.add(b * LANES), self.dbias.add(b * LANES));
                let (mut of_weight, mut of_bias) = (s.load(dweight), s.load(dbias));
                for i in 0..N {
                    let dy = s.load(self.dy.add(b * self.dy_stride + at + i * LANES));
                    let d = s.sub(s.load(self.x.add(b * self.x_stride + at + i * LANES)), mean[i]);
                    let d = s.mul(d, factor[i]);
                    of_weight = s.fma(dy, d, of_weight);
                    of_bias = s.add(of_bias, dy);
                    let mut dx = s.fnma(d, product[i], s.sub(s.mul(dy, w), sum[i]));
                    dx = s.mul(dx, factor[i]);
                    if b + 1 == blocks && tail > 0 {
                        dx = s.first(tail, dx, s.zero());
                    }
                    s.store(self.dx.add(b * self.dx_stride + at + i * LANES), dx);
                }
                s.store(dweight, of_weight);
                s.store(dbias, of_bias);
            }
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
    /// Mean and 1 / deviation of N pixels side by side; two passes, since one would subtract large squares.
    ///
    /// # Safety
    /// N pixels from offset `at` on exist.
    #[inline(always)]
    unsafe fn statistics<S: Simd, const N: usize>(&self, s: S, at: usize) -> ([S::V; N], [S::V; N]) {
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
            (mean, factor)
        }
    }

    /// N pixels side by side.
    ///
    /// # Safety
    /// N pixels from offset `at` on exist.
    #[inline(always)]
    unsafe fn some<S: Simd, const N: usize>(&self, s: S, at: usize) {
        let norm = self.norm;
        // SAFETY: by the caller.
        unsafe {
            let (mean, factor) = self.statistics::<S, N>(s, at);
            for b in 0..norm.channels.div_ceil(LANES) {
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
