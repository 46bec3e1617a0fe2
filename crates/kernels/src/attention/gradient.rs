//! Attention for training: any head width, and gradients. A sample's heads are done one after the other by one thread.
//!
//! Scores are made again for the gradient, not kept. With P the softmax of the scaled scores, O = P v and D = dO · O (a
//! number for each query): `dv = Pᵀ dO`, `dS = P (dO vᵀ - D) scale`, `dq = dS k`, `dk = dSᵀ q`.

use super::{Attention, padded_keys, softmax};
use crate::gemm::gradient::{Job as TransposedProduct, Sum};
use crate::gemm::tile::multiply;
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};

impl Attention {
    /// f32 of scratch for [`Attention::run_sample`] and [`Attention::gradient`] on so many tokens.
    pub fn sample_scratch_len(&self, tokens: usize) -> usize {
        let keys = padded_keys(tokens);
        MATRICES * keys * self.dims() + 2 * keys * keys
    }

    /// Channels of a head, rounded up to whole blocks.
    const fn dims(&self) -> usize {
        self.head_dim.div_ceil(LANES) * LANES
    }

    /// Attends with all heads of one sample; heads and parts may share blocks.
    ///
    /// * `qkv`: ceil(3 width / 16) blocks; `out`: ceil(width / 16) blocks; the same tokens, no border.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run_sample(&self, isa: Isa, qkv: MapRef<'_>, mut out: MapMut<'_>, scratch: &mut [f32]) {
        self.check(qkv, &out, self.width(), scratch);
        if out.pixels() == 0 {
            return;
        }
        let mut head = Head::new(self, qkv.pixels(), scratch);
        clear_last_lanes(&mut out);
        for h in 0..self.heads {
            head.gather(qkv, self.channels(h));
            head.attend(isa);
            head.scatter(OUT, &mut out, h * self.head_dim);
        }
    }

    /// The gradient of [`Attention::run_sample`]'s input.
    ///
    /// * `qkv` and `dqkv`: ceil(3 width / 16) blocks; `dy`: ceil(width / 16) blocks; the same tokens, no border.
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn gradient(
        &self,
        isa: Isa,
        qkv: MapRef<'_>,
        dy: MapRef<'_>,
        mut dqkv: MapMut<'_>,
        scratch: &mut [f32],
    ) {
        self.check(qkv, &dqkv, 3 * self.width(), scratch);
        assert_eq!(dy.blocks(), self.width().div_ceil(LANES), "blocks of dy");
        assert_eq!(dy.pixels(), qkv.pixels(), "tokens");
        assert!(dy.map().is_dense(), "attention needs maps without a border");
        if dqkv.pixels() == 0 {
            return;
        }
        let mut head = Head::new(self, qkv.pixels(), scratch);
        clear_last_lanes(&mut dqkv);
        for h in 0..self.heads {
            let channels = self.channels(h);
            head.gather(qkv, channels);
            head.load(OUT_GRADIENT, dy, h * self.head_dim);
            head.gradient(isa);
            for (matrix, channel) in [DQ, DK, DV].into_iter().zip(channels) {
                head.scatter(matrix, &mut dqkv, channel);
            }
        }
    }

    /// First channels of a head's query, key and value.
    const fn channels(&self, head: usize) -> [usize; 3] {
        let first = head * self.head_dim;
        [first, self.width() + first, 2 * self.width() + first]
    }

    fn check(&self, qkv: MapRef<'_>, out: &MapMut<'_>, channels: usize, scratch: &[f32]) {
        assert_eq!(qkv.blocks(), (3 * self.width()).div_ceil(LANES), "blocks of qkv");
        assert_eq!((out.blocks(), out.pixels()), (channels.div_ceil(LANES), qkv.pixels()), "output");
        assert!(qkv.map().is_dense() && out.map().is_dense(), "attention needs maps without a border");
        let needed = self.sample_scratch_len(qkv.pixels());
        assert!(scratch.len() >= needed, "scratch of {} f32, needs {needed}", scratch.len());
    }
}

/// Lanes beyond the channels stay finite: heads write only their own.
fn clear_last_lanes(out: &mut MapMut<'_>) {
    for pixel in 0..out.pixels() {
        out.lanes_mut(out.blocks() - 1, pixel).fill(0.0);
    }
}

// Matrices `[dims / 16][keys][16]` of a head; rows beyond the tokens are zero.
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const OUT: usize = 3;
const OUT_GRADIENT: usize = 4;
const DQ: usize = 5;
const DK: usize = 6;
const DV: usize = 7;
/// k, then v, transposed: `[keys / 16][dims][16]`.
const TRANSPOSED: usize = 8;
const MATRICES: usize = 9;

/// One head's matrices.
struct Head<'a> {
    tokens: usize,
    keys: usize,
    /// Channels of the head.
    width: usize,
    dims: usize,
    scale: f32,
    is_causal: bool,
    matrices: &'a mut [f32],
    /// Weights `[keys / 16][queries = keys][16]`; queries beyond the tokens are not used.
    weights: &'a mut [f32],
    /// The same for their gradient.
    slopes: &'a mut [f32],
}

impl<'a> Head<'a> {
    fn new(attention: &Attention, tokens: usize, scratch: &'a mut [f32]) -> Head<'a> {
        let (keys, dims) = (padded_keys(tokens), attention.dims());
        let (matrices, rest) = scratch.split_at_mut(MATRICES * keys * dims);
        let (weights, slopes) = rest.split_at_mut(keys * keys);
        matrices.fill(0.0);
        Head {
            tokens,
            keys,
            width: attention.head_dim,
            dims,
            scale: attention.scale,
            is_causal: attention.is_causal,
            matrices,
            weights,
            slopes: &mut slopes[..keys * keys],
        }
    }

    fn matrix(&mut self, which: usize) -> &mut [f32] {
        let len = self.keys * self.dims;
        &mut self.matrices[which * len..][..len]
    }

    fn pointer(&mut self, which: usize) -> *mut f32 {
        self.matrix(which).as_mut_ptr()
    }

    fn gather(&mut self, qkv: MapRef<'_>, channels: [usize; 3]) {
        for (matrix, channel) in [Q, K, V].into_iter().zip(channels) {
            self.load(matrix, qkv, channel);
        }
    }

    fn load(&mut self, which: usize, from: MapRef<'_>, first: usize) {
        let (tokens, keys, width) = (self.tokens, self.keys, self.width);
        let to = self.matrix(which);
        for t in 0..tokens {
            if first.is_multiple_of(LANES) && width.is_multiple_of(LANES) {
                for b in 0..width / LANES {
                    to[(b * keys + t) * LANES..][..LANES].copy_from_slice(from.lanes(first / LANES + b, t));
                }
            } else {
                for i in 0..width {
                    let c = first + i;
                    to[(i / LANES * keys + t) * LANES + i % LANES] = from.lanes(c / LANES, t)[c % LANES];
                }
            }
        }
    }

    fn scatter(&mut self, which: usize, to: &mut MapMut<'_>, first: usize) {
        let (tokens, keys, width) = (self.tokens, self.keys, self.width);
        let from = &*self.matrix(which);
        for t in 0..tokens {
            if first.is_multiple_of(LANES) && width.is_multiple_of(LANES) {
                for b in 0..width / LANES {
                    let lanes = &from[(b * keys + t) * LANES..][..LANES];
                    to.lanes_mut(first / LANES + b, t).copy_from_slice(lanes);
                }
            } else {
                for i in 0..width {
                    let c = first + i;
                    to.lanes_mut(c / LANES, t)[c % LANES] = from[(i / LANES * keys + t) * LANES + i % LANES];
                }
            }
        }
    }

    /// Weights from q and k.
    fn weigh(&mut self, isa: Isa) {
        self.transpose(isa, K);
        let (q, k) = (self.pointer(Q), self.pointer(TRANSPOSED));
        let weights = self.weights.as_mut_ptr();
        self.product(isa, q, self.dims, k, self.keys, weights);
        let (tokens, keys, scale, is_causal) = (self.tokens, self.keys, self.scale, self.is_causal);
        // SAFETY: `weights` has `keys / 16` blocks of `keys` vectors.
        unsafe { isa.run(Softmax { weights, tokens, keys, scale, is_causal }) };
    }

    fn attend(&mut self, isa: Isa) {
        self.weigh(isa);
        let (weights, v, out) = (self.weights.as_mut_ptr(), self.pointer(V), self.pointer(OUT));
        self.product(isa, weights, self.keys, v, self.dims, out);
    }

    fn gradient(&mut self, isa: Isa) {
        self.weigh(isa);
        let (weights, slopes) = (self.weights.as_mut_ptr(), self.slopes.as_mut_ptr());
        let (q, k, dout) = (self.pointer(Q), self.pointer(K), self.pointer(OUT_GRADIENT));
        let (dq, dk, dv) = (self.pointer(DQ), self.pointer(DK), self.pointer(DV));
        self.transposed_product(isa, weights, dout, dv);
        self.transpose(isa, V);
        let v = self.pointer(TRANSPOSED);
        self.product(isa, dout, self.dims, v, self.keys, slopes);
        let (tokens, keys, scale) = (self.tokens, self.keys, self.scale);
        // SAFETY: both have `keys / 16` blocks of `keys` vectors.
        unsafe { isa.run(SoftmaxGradient { weights, slopes, tokens, keys, scale }) };
        self.product(isa, slopes, self.keys, k, self.dims, dq);
        self.transposed_product(isa, slopes, q, dk);
    }

    /// [`TRANSPOSED`] becomes the transpose of a matrix.
    fn transpose(&mut self, isa: Isa, which: usize) {
        let (keys, dims) = (self.keys, self.dims);
        let (from, to) = (self.pointer(which).cast_const(), self.pointer(TRANSPOSED));
        // SAFETY: both are `keys x dims` numbers, and different matrices.
        unsafe { isa.run(Transpose { from, to, keys, dims }) };
    }

    /// `out[query][n] = sum over inner of a[query][inner] b[inner][n]`, blocked; `b` is `[outer / 16][inner][16]`.
    fn product(&self, isa: Isa, a: *const f32, inner: usize, b: *const f32, outer: usize, out: *mut f32) {
        let job = Product { a, b, out, tokens: self.tokens, stride: self.keys * LANES, inner, outer };
        // SAFETY: `a` and `out` have `keys` pixels of `inner / 16` and `outer / 16` blocks, `b` `inner x outer` numbers: all
        // callers pass matrices or weights of these sizes.
        unsafe { isa.run(job) };
    }

    /// `out[key][n] = sum over queries of a[query][key] b[query][n]`, for weights a and a matrix b.
    fn transposed_product(&self, isa: Isa, a: *const f32, b: *const f32, out: *mut f32) {
        let stride = self.keys * LANES;
        let job = Transposed { a, b, out, tokens: self.tokens, stride, dims: self.dims };
        // SAFETY: `a` has `keys / 16` blocks of `keys` vectors, `b` and `out` are matrices.
        unsafe { isa.run(job) };
    }
}

struct Transpose {
    from: *const f32,
    to: *mut f32,
    keys: usize,
    dims: usize,
}

impl Kernel for Transpose {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for key_block in 0..self.keys / LANES {
            for dim_block in 0..self.dims / LANES {
                // SAFETY: a tile of 16 x 16 inside both, by `Head::transpose`.
                unsafe {
                    let from = self.from.add((dim_block * self.keys + key_block * LANES) * LANES);
                    let to = self.to.add((key_block * self.dims + dim_block * LANES) * LANES);
                    s.transpose(from, LANES, to, LANES);
                }
            }
        }
    }
}

struct Softmax {
    weights: *mut f32,
    tokens: usize,
    keys: usize,
    scale: f32,
    is_causal: bool,
}

impl Kernel for Softmax {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (blocks, step) = (self.keys / LANES, self.keys * LANES);
        for t in 0..self.tokens {
            // SAFETY: by `Head::weigh`.
            unsafe {
                let row = self.weights.add(t * LANES);
                for b in 0..blocks {
                    let p = row.add(b * step);
                    s.store(p, s.mul(s.load(p), s.splat(self.scale)));
                }
                let seen = if self.is_causal { t + 1 } else { self.tokens };
                let factor = s.splat(softmax(s, row, step, seen, blocks));
                for b in 0..blocks {
                    let p = row.add(b * step);
                    s.store(p, s.mul(s.load(p), factor));
                }
            }
        }
    }
}

/// `slopes = scale · weights (slopes - sum over keys of weights · slopes)`.
struct SoftmaxGradient {
    weights: *const f32,
    slopes: *mut f32,
    tokens: usize,
    keys: usize,
    scale: f32,
}

impl Kernel for SoftmaxGradient {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let (blocks, step) = (self.keys / LANES, self.keys * LANES);
        for t in 0..self.tokens {
            // SAFETY: by `Head::gradient`.
            unsafe {
                let (weights, slopes) = (self.weights.add(t * LANES), self.slopes.add(t * LANES));
                let mut sum = s.zero();
                for b in 0..blocks {
                    sum = s.fma(s.load(weights.add(b * step)), s.load(slopes.add(b * step)), sum);
                }
                let sum = s.splat(s.sum(sum));
                let scale = s.splat(self.scale);
                for b in 0..blocks {
                    let p = slopes.add(b * step);
                    let weight = s.mul(s.load(weights.add(b * step)), scale);
                    s.store(p, s.mul(weight, s.sub(s.load(p), sum)));
                }
            }
        }
    }
}

struct Product {
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    tokens: usize,
    /// Between the blocks of `a` and of `out`.
    stride: usize,
    inner: usize,
    outer: usize,
}

impl Kernel for Product {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `Head::product`.
        unsafe {
            match S::SHAPE.rows {
                8 => self.all::<S, 8>(s),
                6 => self.all::<S, 6>(s),
                _ => self.all::<S, 2>(s),
            }
        }
    }
}

impl Product {
    #[inline(always)]
    unsafe fn all<S: Simd, const R: usize>(&self, s: S) {
        if const { S::SHAPE.rows != R } {
            return; // not the arm that is taken
        }
        for block in 0..self.outer / LANES {
            let mut at = 0;
            while at < self.tokens {
                // SAFETY: by the caller; the last tile reaches back and makes some rows again, with the same bits.
                unsafe {
                    if self.tokens < R {
                        self.tile::<S, 1>(s, at, block);
                        at += 1;
                    } else {
                        self.tile::<S, R>(s, at.min(self.tokens - R), block);
                        at += R;
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize>(&self, s: S, at: usize, block: usize) {
        // SAFETY: by the caller: rows `at..at + R` and block `block` exist.
        unsafe {
            let mut acc = [[s.zero(); 1]; R];
            let mut b = self.b.add(block * self.inner * LANES);
            multiply(s, &mut acc, self.inner / LANES, self.a.add(at * LANES), self.stride, &mut b);
            for r in 0..R {
                s.store(self.out.add(block * self.stride + (at + r) * LANES), acc[r][0]);
            }
        }
    }
}

struct Transposed {
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    tokens: usize,
    stride: usize,
    dims: usize,
}

impl Kernel for Transposed {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        for block in 0..self.dims / LANES {
            // SAFETY: by `Head::transposed_product`: `stride` f32 in each block of all three.
            unsafe {
                let out = self.out.add(block * self.stride);
                for i in (0..self.stride).step_by(LANES) {
                    s.store(out.add(i), s.zero());
                }
                let job = TransposedProduct {
                    x: self.a,
                    x_stride: self.stride,
                    k_blocks: self.stride / (LANES * LANES),
                    dy: self.b.add(block * self.stride),
                    dy_stride: 0,
                    pixels: self.tokens,
                    out,
                    row: LANES,
                };
                match S::SHAPE.rows {
                    8 => s.call(Sum::<8, 1>(job)),
                    6 => s.call(Sum::<4, 1>(job)),
                    _ => s.call(Sum::<2, 1>(job)),
                }
            }
        }
    }
}
