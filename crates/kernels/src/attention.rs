//! Multi-head self-attention from packed queries, keys and values.
//!
//! For each head, keys are transposed and values regrouped into the panels of a product; then some queries at a time (as
//! many as a register tile has rows) get their scores, softmax and weighted sum. Only these queries' scores ever exist.

mod gradient;

use crate::activation::exp;
use crate::gemm::tile::{Pairs, Product, Single, has_tile, multiply_as, shape};
use crate::isa::{Isa, Kernel, Precision};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// `softmax(scale q k^T) v` for each head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Factor of the scores, usually `head_dim^-0.5`.
    pub scale: f32,
    /// Whether a token sees only itself and those before it.
    pub is_causal: bool,
}

impl Attention {
    /// Channels of queries, of keys, of values and of the result.
    pub const fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The fewest heads that fill whole blocks: threads may divide the heads at multiples of it.
    pub const fn heads_step(&self) -> usize {
        let mut step = 1;
        while !(step * self.head_dim).is_multiple_of(LANES) {
            step += 1;
        }
        step
    }

    /// f32 of scratch for [`Attention::run`] on so many tokens.
    pub fn scratch_len(&self, isa: Isa, tokens: usize) -> usize {
        let shape = isa.shape();
        let (keys, dims) = (padded_keys(tokens), self.head_dim.div_ceil(LANES) * LANES);
        let separate = if self.head_dim.is_multiple_of(LANES) { 0 } else { 4 * tokens * dims };
        2 * keys * dims + keys * shape.rows + separate
    }

    /// Attends with some heads, in f32.
    ///
    /// * `qkv`: `[3 width / 16][tokens][16]` without a border: queries of all heads, then keys, then values.
    /// * `heads`: start and end are multiples of [`Attention::heads_step`], or the end is the number of heads.
    /// * `out`: the blocks of these heads, the same tokens, without a border.
    ///
    /// # Panics
    /// If shapes do not fit each other, or width is not a multiple of 16 (queries, keys and values start at blocks).
    pub fn run(&self, isa: Isa, qkv: MapRef<'_>, heads: Range<usize>, out: MapMut<'_>, scratch: &mut [f32]) {
        self.run_as(Precision::F32, isa, qkv, heads, out, scratch);
    }

    /// As [`Attention::run`]; but for f32, queries, keys, values and weights are rounded to bf16, and multiplied as such.
    /// Scores and their softmax are f32.
    ///
    /// # Panics
    /// As [`Attention::run`].
    pub fn run_as(
        &self,
        precision: Precision,
        isa: Isa,
        qkv: MapRef<'_>,
        heads: Range<usize>,
        mut out: MapMut<'_>,
        scratch: &mut [f32],
    ) {
        let (tokens, dim, width) = (qkv.pixels(), self.head_dim, self.width());
        assert!(width.is_multiple_of(LANES), "width {width} is not a multiple of {LANES}");
        assert!(heads.start <= heads.end && heads.end <= self.heads, "heads {heads:?} of {}", self.heads);
        let (first, end) = (heads.start * dim, heads.end * dim);
        assert!(first.is_multiple_of(LANES) && end.is_multiple_of(LANES), "heads {heads:?} share a block");
        assert_eq!(qkv.blocks(), 3 * width / LANES, "blocks of qkv");
        assert_eq!((out.blocks(), out.pixels()), ((end - first) / LANES, tokens), "shape of the output");
        assert!(qkv.map().is_dense() && out.map().is_dense(), "attention needs maps without a border");
        let needed = self.scratch_len(isa, tokens);
        assert!(scratch.len() >= needed, "scratch of {} f32, needs {needed}", scratch.len());
        if tokens == 0 || dim == 0 {
            return;
        }
        let dims = dim.div_ceil(LANES) * LANES;
        let keys = padded_keys(tokens);
        let (k_panels, rest) = scratch.split_at_mut(keys * dims);
        let (v_panels, rest) = rest.split_at_mut(keys * dims);
        let (scores, separate) = rest.split_at_mut(keys * isa.shape().rows);
        for head in heads {
            let mut job = Head {
                q: std::ptr::null(),
                k: std::ptr::null(),
                v: std::ptr::null(),
                stride: qkv.map().block_stride(),
                out: std::ptr::null_mut(),
                out_stride: out.map().block_stride(),
                tokens,
                keys,
                blocks: dims / LANES,
                scale: self.scale,
                is_causal: self.is_causal,
                k_panels: k_panels.as_mut_ptr(),
                v_panels: v_panels.as_mut_ptr(),
                scores: scores.as_mut_ptr(),
            };
            if dim.is_multiple_of(LANES) {
                let start = qkv.plane().wrapping_add(qkv.offset_of(0));
                let at = |part: usize| start.wrapping_add((part * width + head * dim) / LANES * job.stride);
                (job.q, job.k, job.v) = (at(0), at(1), at(2));
                let block = (head * dim - first) / LANES;
                let offset = block * job.out_stride + out.offset_of(0);
                job.out = out.plane().wrapping_add(offset);
                // SAFETY: q, k, v and out have `blocks` blocks of `tokens` pixels in one piece; scratch has its length.
                unsafe { job.run_on(isa, precision) };
            } else {
                let len = tokens * dims;
                for (part, to) in separate[..3 * len].chunks_exact_mut(len).enumerate() {
                    to.fill(0.0);
                    for i in 0..dim {
                        let channel = part * width + head * dim + i;
                        for t in 0..tokens {
                            to[(i / LANES * tokens + t) * LANES + i % LANES] =
                                qkv.lanes(channel / LANES, t)[channel % LANES];
                        }
                    }
                }
                let base = separate.as_mut_ptr();
                (job.stride, job.out_stride) = (tokens * LANES, tokens * LANES);
                job.q = base;
                (job.k, job.v) = (base.wrapping_add(len), base.wrapping_add(2 * len));
                job.out = base.wrapping_add(3 * len);
                // SAFETY: as above, with the four separate matrices `[dims / 16][tokens][16]`.
                unsafe { job.run_on(isa, precision) };
                for i in 0..dim {
                    let channel = head * dim + i - first;
                    for t in 0..tokens {
                        out.lanes_mut(channel / LANES, t)[channel % LANES] =
                            separate[3 * len + (i / LANES * tokens + t) * LANES + i % LANES];
                    }
                }
            }
        }
    }
}

/// Tokens rounded up to whole vectors of keys.
fn padded_keys(tokens: usize) -> usize {
    tokens.div_ceil(LANES) * LANES
}

/// One head.
#[derive(Clone, Copy)]
struct Head {
    /// Query, key, value: `blocks` blocks of `tokens` pixels, `stride` apart.
    q: *const f32,
    k: *const f32,
    v: *const f32,
    stride: usize,
    out: *mut f32,
    out_stride: usize,
    tokens: usize,
    keys: usize,
    blocks: usize,
    scale: f32,
    is_causal: bool,
    /// Blocks of 16 keys in groups of W (the last may be wider or narrower): `[16 blocks][16 W]` lanes each, in bf16 half as
    /// many; behind them, in bf16, a tile's queries `[blocks / 2][R][16]`.
    k_panels: *mut f32,
    /// Blocks of values in such groups: `[keys][16 W]` lanes each, in bf16 half as many.
    v_panels: *mut f32,
    /// `[keys / 16][R][16]`, in bf16 after the softmax half as many.
    scores: *mut f32,
}

impl Head {
    /// # Safety
    /// As the fields say.
    unsafe fn run_on(self, isa: Isa, precision: Precision) {
        // SAFETY: by the caller.
        unsafe {
            match precision {
                Precision::F32 => isa.run(Whole(self, Single)),
                Precision::Bf16 | Precision::Int8 => isa.run(Whole(self, Pairs)),
            }
        }
    }
}

/// A head with products of one kind.
struct Whole<P>(Head, P);

impl<P: Product> Kernel for Whole<P> {
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `Attention::run`.
        unsafe {
            match const { shape::<S, P>().rows } {
                8 => self.0.all::<S, P, 8, 2>(s),
                6 => self.0.all::<S, P, 6, 1>(s),
                4 => self.0.all::<S, P, 4, 1>(s),
                _ => self.0.all::<S, P, 2, 1>(s),
            }
        }
    }
}

impl Head {
    /// # Safety
    /// As [`Head`]'s fields say; W is the panel width of `S`.
    #[inline(always)]
    unsafe fn all<S: Simd, P: Product, const R: usize, const W: usize>(&self, s: S) {
        if const { shape::<S, P>().rows != R || shape::<S, P>().blocks != W } {
            return; // not the arm that is taken
        }
        // SAFETY: by the caller; a tile starts at `tokens - R` at most.
        unsafe {
            self.pack::<S, P, W>(s);
            let mut i = 0;
            while self.tokens >= R && i < self.tokens {
                // The last tile reaches back and makes some rows again, with the same bits.
                let start = i.min(self.tokens - R);
                s.call(Queries::<P, R, W> { head: *self, product: PhantomData, start });
                i += R;
            }
            while i < self.tokens {
                s.call(Queries::<P, 1, W> { head: *self, product: PhantomData, start: i });
                i += 1;
            }
        }
    }

    /// Regroups keys and values.
    ///
    /// # Safety
    /// As [`Head`]'s fields say.
    #[inline(always)]
    unsafe fn pack<S: Simd, P: Product, const W: usize>(&self, s: S) {
        let dims = self.blocks * LANES;
        // SAFETY: every index is below `keys * dims`, resp. inside the blocks of k and v.
        unsafe {
            let key_blocks = self.keys / LANES;
            let mut first = 0;
            while first < key_blocks {
                let width = group::<W>(key_blocks - first);
                let panel = self.k_panels.add(first * LANES * dims / P::NUMBERS);
                for w in 0..width {
                    let token = (first + w) * LANES;
                    for b in 0..self.blocks {
                        let from = self.k.wrapping_add(b * self.stride + token * LANES);
                        let to = panel.add((b * LANES / P::NUMBERS * width + w) * LANES);
                        if token + LANES <= self.tokens {
                            transpose_keys::<S, P>(s, from, to, width * LANES);
                            continue;
                        }
                        let mut tile = [[0.0; LANES]; LANES];
                        for (t, row) in tile.iter_mut().enumerate().take(self.tokens - token) {
                            row.copy_from_slice(std::slice::from_raw_parts(from.add(t * LANES), LANES));
                        }
                        transpose_keys::<S, P>(s, tile.as_ptr().cast(), to, width * LANES);
                    }
                }
                first += width;
            }
            let mut first = 0;
            while first < self.blocks {
                let width = group::<W>(self.blocks - first);
                let panel = self.v_panels.add(first * self.keys * LANES / P::NUMBERS);
                for w in 0..width {
                    let values = self.v.wrapping_add((first + w) * self.stride);
                    for t in 0..self.keys / P::NUMBERS {
                        let to = panel.add((t * width + w) * LANES);
                        let mut v = [s.zero(); 2];
                        for i in 0..P::NUMBERS {
                            if t * P::NUMBERS + i < self.tokens {
                                v[i] = s.load(values.wrapping_add((t * P::NUMBERS + i) * LANES));
                            }
                        }
                        s.store(to, if P::DOTS { s.pair_bf16(v[0], v[1]) } else { v[0] });
                    }
                }
                first += width;
            }
        }
    }
}

/// Transposes 16 keys of 16 dimensions: a row of lanes for each dimension, in bf16 for two.
///
/// # Safety
/// 256 f32 from `from` on; a row of 16 f32 at each of the multiples of `stride` from `to` on.
#[inline(always)]
unsafe fn transpose_keys<S: Simd, P: Product>(s: S, from: *const f32, to: *mut f32, stride: usize) {
    // SAFETY: by the caller.
    unsafe {
        if !P::DOTS {
            return s.transpose(from, LANES, to, stride);
        }
        let mut tile = [0.0; LANES * LANES];
        s.transpose(from, LANES, tile.as_mut_ptr(), LANES);
        for i in 0..LANES / 2 {
            let rows = tile.as_ptr().add(2 * i * LANES);
            s.store(to.add(i * stride), s.pair_bf16(s.load(rows), s.load(rows.add(LANES))));
        }
    }
}

/// Rounds R rows to bf16: blocks of 16 `stride` apart become halves of lines `[blocks / 2][R][32]`.
///
/// # Safety
/// All of these exist; `to` may be `from` where blocks are R lines apart.
#[inline(always)]
unsafe fn narrow<S: Simd, const R: usize>(
    s: S,
    from: *const f32,
    stride: usize,
    to: *mut f32,
    blocks: usize,
) {
    for b in 0..blocks {
        for r in 0..R {
            // SAFETY: by the caller.
            unsafe {
                let line = to.add((b / 2 * R + r) * LANES).cast::<u16>();
                s.store_bf16(line.add(b % 2 * LANES), s.load(from.add(b * stride + r * LANES)));
            }
        }
    }
}

/// Blocks that are multiplied together when so many are left.
#[inline(always)]
fn group<const W: usize>(left: usize) -> usize {
    if W == 2 && left == 3 { 3 } else { left.min(W) }
}

/// R queries from `start` on.
struct Queries<P, const R: usize, const W: usize> {
    head: Head,
    product: PhantomData<P>,
    start: usize,
}

impl<P: Product, const R: usize, const W: usize> Kernel for Queries<P, R, W> {
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        if const { R > shape::<S, P>().rows || W > shape::<S, P>().blocks } {
            return; // never asked for, so not worth compiling
        }
        let h = &self.head;
        // SAFETY: R queries exist; panels and scores are as `Head` says.
        unsafe {
            let visible = if h.is_causal { self.start + R } else { h.tokens };
            let score_blocks = visible.div_ceil(LANES);
            let (mut q, mut q_stride) = (h.q.add(self.start * LANES), h.stride);
            if P::DOTS {
                let pairs = h.k_panels.add(h.keys * h.blocks * LANES / P::NUMBERS);
                narrow::<S, R>(s, q, q_stride, pairs, h.blocks);
                (q, q_stride) = (pairs.cast_const(), R * LANES);
            }
            let mut first = 0;
            while first < score_blocks {
                let width = group::<W>(h.keys / LANES - first);
                match width {
                    1 => self.score::<S, 1>(s, first, q, q_stride),
                    2 => self.score::<S, 2>(s, first, q, q_stride),
                    _ => self.score::<S, 3>(s, first, q, q_stride),
                }
                first += width;
            }
            let mut factor = [0.0; R];
            for r in 0..R {
                let seen = if h.is_causal { self.start + r + 1 } else { h.tokens };
                factor[r] = softmax(s, h.scores.add(r * LANES), R * LANES, seen, score_blocks);
            }
            if P::DOTS {
                // In place: a block is read before its half line, or one further back, is written.
                narrow::<S, R>(s, h.scores, R * LANES, h.scores, score_blocks);
            }
            let mut first = 0;
            while first < h.blocks {
                let width = group::<W>(h.blocks - first);
                match width {
                    1 => self.weigh::<S, 1>(s, first, score_blocks, &factor),
                    2 => self.weigh::<S, 2>(s, first, score_blocks, &factor),
                    _ => self.weigh::<S, 3>(s, first, score_blocks, &factor),
                }
                first += width;
            }
        }
    }
}

impl<P: Product, const R: usize, const W: usize> Queries<P, R, W> {
    /// Scores of N blocks of keys.
    ///
    /// # Safety
    /// Blocks `first..first + N` exist and were packed as one group; `q` has R queries, in blocks `q_stride` apart.
    #[inline(always)]
    unsafe fn score<S: Simd, const N: usize>(&self, s: S, first: usize, q: *const f32, q_stride: usize) {
        if const { !has_tile::<S, P>(R, N) } {
            return; // never asked for, so not worth compiling
        }
        let h = &self.head;
        // SAFETY: by the caller.
        unsafe {
            let mut acc = [[s.zero(); N]; R];
            let mut k = h.k_panels.add(first * LANES * h.blocks * LANES / P::NUMBERS).cast_const();
            multiply_as::<S, P, R, N>(s, &mut acc, h.blocks, q, q_stride, &mut k);
            let scale = s.splat(h.scale);
            for r in 0..R {
                for n in 0..N {
                    s.store(h.scores.add(((first + n) * R + r) * LANES), s.mul(acc[r][n], scale));
                }
            }
        }
    }

    /// Sums N blocks of values by the scores.
    ///
    /// # Safety
    /// Blocks `first..first + N` exist and were packed as one group.
    #[inline(always)]
    unsafe fn weigh<S: Simd, const N: usize>(
        &self,
        s: S,
        first: usize,
        score_blocks: usize,
        factor: &[f32; R],
    ) {
        if const { !has_tile::<S, P>(R, N) } {
            return; // never asked for, so not worth compiling
        }
        let h = &self.head;
        // SAFETY: by the caller; values beyond the tokens are zeros up to `keys`.
        unsafe {
            let mut acc = [[s.zero(); N]; R];
            let mut v = h.v_panels.add(first * h.keys * LANES / P::NUMBERS).cast_const();
            multiply_as::<S, P, R, N>(s, &mut acc, score_blocks, h.scores.cast_const(), R * LANES, &mut v);
            for r in 0..R {
                for w in 0..N {
                    let to = h.out.add((first + w) * h.out_stride + (self.start + r) * LANES);
                    s.store(to, s.mul(acc[r][w], s.splat(factor[r])));
                }
            }
        }
    }
}

/// Turns a row of `seen` scores into exponentials (zeros beyond) and returns 1 / their sum.
///
/// # Safety
/// `row` has `blocks` vectors, `step` f32 apart; 0 < seen <= 16 blocks.
#[inline(always)]
unsafe fn softmax<S: Simd>(s: S, row: *mut f32, step: usize, seen: usize, blocks: usize) -> f32 {
    let (full, tail) = (seen / LANES, seen % LANES);
    // SAFETY: by the caller.
    unsafe {
        let lowest = s.splat(f32::NEG_INFINITY);
        let mut largest = lowest;
        for b in 0..full {
            largest = s.max(largest, s.load(row.add(b * step)));
        }
        if tail > 0 {
            largest = s.max(largest, s.first(tail, s.load(row.add(full * step)), lowest));
        }
        let largest = s.splat(s.max_lane(largest));
        let mut sum = s.zero();
        for b in 0..full {
            let p = row.add(b * step);
            let e = exp(s, s.sub(s.load(p), largest));
            sum = s.add(sum, e);
            s.store(p, e);
        }
        if tail > 0 {
            let p = row.add(full * step);
            let e = s.first(tail, exp(s, s.sub(s.load(p), largest)), s.zero());
            sum = s.add(sum, e);
            s.store(p, e);
        }
        for b in seen.div_ceil(LANES)..blocks {
            s.store(row.add(b * step), s.zero());
        }
        1.0 / s.sum(sum)
    }
}
