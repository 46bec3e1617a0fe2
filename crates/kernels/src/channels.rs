//! What every channel does by itself over many pixels: sums, moments, scaled sums of maps. BatchNorm, layer scale, gates,
//! biases and their gradients are made of these.

use crate::activation::{Activation, Function, with_activation};
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};

/// Calls `f(block, pointer)` for every block of every piece of the view, with the piece's pixels.
fn pieces(x: MapRef<'_>, other: Option<MapRef<'_>>, mut f: impl FnMut(usize, *const f32, *const f32, usize)) {
    let mut at = 0;
    while at < x.pixels() {
        let mut n = x.run_length(at);
        if let Some(other) = other {
            n = n.min(other.run_length(at));
        }
        for block in 0..x.blocks() {
            let place =
                |m: MapRef<'_>| m.plane().wrapping_add(block * m.map().block_stride() + m.offset_of(at));
            f(block, place(x), other.map_or(std::ptr::null(), place), n);
        }
        at += n;
    }
}

/// Adds the sums over the view's pixels: `sums[16 block + lane] += sum of x`.
///
/// # Panics
/// If there are not 16 sums for each block.
pub fn add_sums(isa: Isa, x: MapRef<'_>, sums: &mut [f32]) {
    assert_eq!(sums.len(), x.blocks() * LANES, "one sum for each channel");
    let zeros = [0.0; LANES];
    pieces(x, None, |block, x, _, pixels| {
        let sums = sums[block * LANES..].as_mut_ptr();
        let job = Sums::<false> { a: x, b: x, pixels, center: zeros.as_ptr(), sums, products: sums };
        // SAFETY: `pixels` pixels in one piece, 16 sums from there on; the products are not touched.
        unsafe { isa.run(job) };
    });
}

/// Adds `sums += sum of a` and `products += sum of a (b - center)` for every channel.
///
/// # Panics
/// If the views differ in shape or there are not 16 numbers for each block.
pub fn add_products(
    isa: Isa,
    a: MapRef<'_>,
    b: MapRef<'_>,
    center: &[f32],
    sums: &mut [f32],
    products: &mut [f32],
) {
    assert_eq!((a.blocks(), a.pixels()), (b.blocks(), b.pixels()), "shapes of the views");
    for len in [center.len(), sums.len(), products.len()] {
        assert_eq!(len, a.blocks() * LANES, "one number for each channel");
    }
    pieces(a, Some(b), |block, a, b, pixels| {
        let center = center[block * LANES..].as_ptr();
        let sums = sums[block * LANES..].as_mut_ptr();
        let products = products[block * LANES..].as_mut_ptr();
        // SAFETY: `pixels` pixels in one piece of both, 16 numbers of each channel vector.
        unsafe { isa.run(Sums::<true> { a, b, pixels, center, sums, products }) };
    });
}

/// Mean and sum of squared deviations from it, of some pixels, for every channel.
///
/// # Panics
/// If there are not 16 numbers for each block, or the view has no pixels.
pub fn moments(isa: Isa, x: MapRef<'_>, mean: &mut [f32], deviations: &mut [f32]) {
    assert!(x.pixels() > 0, "moments of nothing");
    mean.fill(0.0);
    add_sums(isa, x, mean);
    mean.iter_mut().for_each(|m| *m /= x.pixels() as f32);
    assert_eq!(deviations.len(), mean.len(), "one number for each channel");
    deviations.fill(0.0);
    pieces(x, None, |block, x, _, pixels| {
        let (mean, out) = (mean[block * LANES..].as_ptr(), deviations[block * LANES..].as_mut_ptr());
        // SAFETY: `pixels` pixels in one piece, 16 means and sums from there on.
        unsafe { isa.run(Deviations { x, pixels, mean, out }) };
    });
}

/// Four chains, so that additions do not wait for each other.
const CHAINS: usize = 4;

/// Sum of `a` and, with PRODUCTS, of `a (b - center)`.
struct Sums<const PRODUCTS: bool> {
    a: *const f32,
    b: *const f32,
    pixels: usize,
    center: *const f32,
    sums: *mut f32,
    products: *mut f32,
}

impl<const PRODUCTS: bool> Kernel for Sums<PRODUCTS> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of the functions above.
        unsafe {
            let center = s.load(self.center);
            let mut sum = [s.zero(); CHAINS];
            let mut product = [s.zero(); CHAINS];
            let whole = self.pixels / CHAINS * CHAINS;
            let mut i = 0;
            while i < whole {
                for j in 0..CHAINS {
                    let a = s.load(self.a.add((i + j) * LANES));
                    sum[j] = s.add(sum[j], a);
                    if PRODUCTS {
                        let b = s.sub(s.load(self.b.add((i + j) * LANES)), center);
                        product[j] = s.fma(a, b, product[j]);
                    }
                }
                i += CHAINS;
            }
            while i < self.pixels {
                let a = s.load(self.a.add(i * LANES));
                sum[0] = s.add(sum[0], a);
                if PRODUCTS {
                    let b = s.sub(s.load(self.b.add(i * LANES)), center);
                    product[0] = s.fma(a, b, product[0]);
                }
                i += 1;
            }
            let total = s.add(s.add(sum[0], sum[1]), s.add(sum[2], sum[3]));
            s.store(self.sums, s.add(s.load(self.sums), total));
            if PRODUCTS {
                let total = s.add(s.add(product[0], product[1]), s.add(product[2], product[3]));
                s.store(self.products, s.add(s.load(self.products), total));
            }
        }
    }
}

/// Adds the sum of `(x - mean)^2` to `out`.
struct Deviations {
    x: *const f32,
    pixels: usize,
    mean: *const f32,
    out: *mut f32,
}

impl Kernel for Deviations {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `moments`.
        unsafe {
            let mean = s.load(self.mean);
            let mut sum = [s.zero(); CHAINS];
            let whole = self.pixels / CHAINS * CHAINS;
            let mut i = 0;
            while i < whole {
                for j in 0..CHAINS {
                    let d = s.sub(s.load(self.x.add((i + j) * LANES)), mean);
                    sum[j] = s.fma(d, d, sum[j]);
                }
                i += CHAINS;
            }
            while i < self.pixels {
                let d = s.sub(s.load(self.x.add(i * LANES)), mean);
                sum[0] = s.fma(d, d, sum[0]);
                i += 1;
            }
            let total = s.add(s.add(sum[0], sum[1]), s.add(sum[2], sum[3]));
            s.store(self.out, s.add(s.load(self.out), total));
        }
    }
}

/// A map in a [`blend`], times a factor for each channel.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    /// The map; `None` is what the output holds before the call.
    pub map: Option<MapRef<'a>>,
    /// 16 for each block.
    pub scale: &'a [f32],
}

/// A map less a centre for each channel, times a factor for each channel.
#[derive(Clone, Copy)]
pub struct Centered<'a> {
    /// The map.
    pub map: MapRef<'a>,
    /// 16 for each block.
    pub center: &'a [f32],
    /// 16 for each block.
    pub scale: &'a [f32],
}

/// `out = scale · term + scale · (centered - center) + shift`, each part if it is there.
///
/// BatchNorm forward is `centered + shift`, its gradient `term + centered + shift`; sums and differences that are scaled by
/// channel are a `term` and a `centered` around zero.
///
/// # Panics
/// If the views differ in shape or there are not 16 numbers for each block.
pub fn blend(
    isa: Isa,
    term: Option<Term<'_>>,
    centered: Option<Centered<'_>>,
    shift: Option<&[f32]>,
    mut out: MapMut<'_>,
) {
    let (blocks, pixels) = (out.blocks(), out.pixels());
    let check = |m: MapRef<'_>| assert_eq!((m.blocks(), m.pixels()), (blocks, pixels), "shapes of the views");
    let vector = |v: &[f32]| assert_eq!(v.len(), blocks * LANES, "one number for each channel");
    if let Some(t) = term {
        t.map.iter().for_each(|m| check(*m));
        vector(t.scale);
    }
    if let Some(c) = centered {
        check(c.map);
        vector(c.center);
        vector(c.scale);
    }
    shift.iter().for_each(|v| vector(v));
    let zeros = [0.0; LANES];
    let mut at = 0;
    while at < pixels {
        let mut n = out.run_length(at);
        if let Some(Term { map: Some(m), .. }) = term {
            n = n.min(m.run_length(at));
        }
        if let Some(c) = centered {
            n = n.min(c.map.run_length(at));
        }
        let out_stride = out.map().block_stride();
        for block in 0..blocks {
            let of = |m: MapRef<'_>| m.plane().wrapping_add(block * m.map().block_stride() + m.offset_of(at));
            let vector = |v: &[f32]| v[block * LANES..].as_ptr();
            let o = out.plane().wrapping_add(block * out_stride + out.offset_of(at));
            let (a, a_scale) = match term {
                Some(t) => (t.map.map_or(o.cast_const(), of), vector(t.scale)),
                None => (std::ptr::null(), zeros.as_ptr()),
            };
            let (b, center, b_scale) = match centered {
                Some(c) => (of(c.map), vector(c.center), vector(c.scale)),
                None => (std::ptr::null(), zeros.as_ptr(), zeros.as_ptr()),
            };
            let shift = shift.map_or(zeros.as_ptr(), vector);
            let job = Blend { a, a_scale, b, center, b_scale, shift, out: o, pixels: n };
            // SAFETY: all views have these blocks, n pixels in one piece from `at` on, and 16 numbers of each channel vector;
            // a null map is not read by the variant that is chosen.
            unsafe {
                match (term.is_some(), centered.is_some()) {
                    (true, true) => isa.run(Blended::<true, true>(job)),
                    (true, false) => isa.run(Blended::<true, false>(job)),
                    (false, true) => isa.run(Blended::<false, true>(job)),
                    (false, false) => isa.run(Blended::<false, false>(job)),
                }
            }
        }
        at += n;
    }
}

struct Blend {
    a: *const f32,
    a_scale: *const f32,
    b: *const f32,
    center: *const f32,
    b_scale: *const f32,
    shift: *const f32,
    out: *mut f32,
    pixels: usize,
}

struct Blended<const A: bool, const B: bool>(Blend);

impl<const A: bool, const B: bool> Kernel for Blended<A, B> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let job = self.0;
        // SAFETY: by the promise of `blend`.
        unsafe {
            let (a_scale, center, b_scale) = (s.load(job.a_scale), s.load(job.center), s.load(job.b_scale));
            let shift = s.load(job.shift);
            for i in 0..job.pixels {
                let mut v = shift;
                if B {
                    v = s.fma(s.sub(s.load(job.b.add(i * LANES)), center), b_scale, v);
                }
                if A {
                    v = s.fma(s.load(job.a.add(i * LANES)), a_scale, v);
                }
                s.store(job.out.add(i * LANES), v);
            }
        }
    }
}

/// `out = dy · f'(x)`: the gradient of an activation's input.
///
/// `dy` of `None` is what the output holds before the call.
///
/// # Panics
/// If the views differ in shape.
pub fn activate_gradient(
    isa: Isa,
    activation: Activation,
    x: MapRef<'_>,
    dy: Option<MapRef<'_>>,
    mut out: MapMut<'_>,
) {
    let shape = (out.blocks(), out.pixels());
    for m in [Some(x), dy].into_iter().flatten() {
        assert_eq!((m.blocks(), m.pixels()), shape, "shapes of the views");
    }
    let out_stride = out.map().block_stride();
    let mut at = 0;
    while at < shape.1 {
        let n = out.run_length(at).min(x.run_length(at)).min(dy.map_or(usize::MAX, |m| m.run_length(at)));
        for block in 0..shape.0 {
            let of = |m: MapRef<'_>| m.plane().wrapping_add(block * m.map().block_stride() + m.offset_of(at));
            let o = out.plane().wrapping_add(block * out_stride + out.offset_of(at));
            let job = Slopes { x: of(x), dy: dy.map_or(o.cast_const(), of), out: o, pixels: n, activation };
            // SAFETY: all views have these blocks, and n pixels in one piece from `at` on.
            unsafe { isa.run(job) };
        }
        at += n;
    }
}

struct Slopes {
    x: *const f32,
    dy: *const f32,
    out: *mut f32,
    pixels: usize,
    activation: Activation,
}

impl Kernel for Slopes {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `activate_gradient`; `out` may be `dy`.
        unsafe {
            with_activation!(self.activation, f => {
                for i in 0..self.pixels {
                    let slope = f.slope(s, s.load(self.x.add(i * LANES)));
                    s.store(self.out.add(i * LANES), s.mul(slope, s.load(self.dy.add(i * LANES))));
                }
            });
        }
    }
}
