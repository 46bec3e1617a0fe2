//! Element by element: activations, sums, gates, copies, means.

use crate::activation::{Activation, Function, with_activation};
use crate::isa::{Isa, Kernel};
use crate::map::{MapMut, MapRef};
use crate::simd::{LANES, Simd};

/// Applies an activation in place.
pub fn activate(isa: Isa, activation: Activation, out: MapMut<'_>) {
    combine(isa, First::InPlace, Second::None, activation, out);
}

/// `out = a + b`.
///
/// # Panics
/// If the views differ in shape.
pub fn add(isa: Isa, a: MapRef<'_>, b: MapRef<'_>, out: MapMut<'_>) {
    combine(isa, First::Map(a), Second::Map(b), Activation::None, out);
}

/// `out += a`.
///
/// # Panics
/// If the views differ in shape.
pub fn add_assign(isa: Isa, a: MapRef<'_>, out: MapMut<'_>) {
    combine(isa, First::InPlace, Second::Map(a), Activation::None, out);
}

/// `out = activation(input * gate)`, one gate for each channel (16 for each block of the views): the end of a
/// squeeze-and-excite block.
///
/// # Panics
/// If the views differ in shape or there are not 16 gates for each block.
pub fn scale_channels(isa: Isa, gate: &[f32], activation: Activation, input: MapRef<'_>, out: MapMut<'_>) {
    combine(isa, First::Map(input), Second::Gate(gate), activation, out);
}

/// `out = activation(out * gate)`, as [`scale_channels`].
///
/// # Panics
/// If there are not 16 gates for each block.
pub fn scale_channels_in_place(isa: Isa, gate: &[f32], activation: Activation, out: MapMut<'_>) {
    combine(isa, First::InPlace, Second::Gate(gate), activation, out);
}

/// Copies one view to another, between maps with and without borders.
///
/// # Panics
/// If the views differ in shape.
pub fn copy(isa: Isa, input: MapRef<'_>, out: MapMut<'_>) {
    combine(isa, First::Map(input), Second::None, Activation::None, out);
}

/// Means over the pixels of the view: `out[16 block + lane]`.
///
/// # Panics
/// If `out` has not 16 numbers for each block, or the view has no pixels.
pub fn mean(isa: Isa, input: MapRef<'_>, out: &mut [f32]) {
    assert_eq!(out.len(), input.blocks() * LANES, "one mean for each channel");
    assert!(input.pixels() > 0, "mean of nothing");
    for (b, out) in out.chunks_exact_mut(LANES).enumerate() {
        out.fill(0.0);
        let mut i = 0;
        while i < input.pixels() {
            let n = input.run_length(i);
            // SAFETY: n pixels are in one piece from pixel i on; `out` holds 16 numbers.
            unsafe {
                let x = input.plane().add(b * input.map().block_stride() + input.offset_of(i));
                isa.run(Sum { x, pixels: n, out: out.as_mut_ptr() });
            }
            i += n;
        }
        for v in out {
            *v /= input.pixels() as f32;
        }
    }
}

/// Adds the sum over pixels in one piece to `out`.
struct Sum {
    x: *const f32,
    pixels: usize,
    out: *mut f32,
}

impl Kernel for Sum {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `mean`.
        unsafe {
            let mut acc = [s.zero(); 4];
            for i in 0..self.pixels / 4 {
                for j in 0..4 {
                    acc[j] = s.add(acc[j], s.load(self.x.add((i * 4 + j) * LANES)));
                }
            }
            for i in self.pixels / 4 * 4..self.pixels {
                acc[0] = s.add(acc[0], s.load(self.x.add(i * LANES)));
            }
            let sum = s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]));
            s.store(self.out, s.add(s.load(self.out), sum));
        }
    }
}

#[derive(Clone, Copy)]
enum First<'a> {
    InPlace,
    Map(MapRef<'a>),
}

#[derive(Clone, Copy)]
enum Second<'a> {
    None,
    Map(MapRef<'a>),
    Gate(&'a [f32]),
}

fn combine(isa: Isa, a: First<'_>, b: Second<'_>, activation: Activation, mut out: MapMut<'_>) {
    let shape = (out.blocks(), out.pixels());
    let check = |m: MapRef<'_>| assert_eq!((m.blocks(), m.pixels()), shape, "shapes of the views");
    if let First::Map(a) = a {
        check(a);
    }
    match b {
        Second::Map(b) => check(b),
        Second::Gate(gate) => assert_eq!(gate.len(), shape.0 * LANES, "one gate for each channel"),
        Second::None => {}
    }
    let mut i = 0;
    while i < shape.1 {
        let mut n = out.run_length(i);
        if let First::Map(a) = a {
            n = n.min(a.run_length(i));
        }
        if let Second::Map(b) = b {
            n = n.min(b.run_length(i));
        }
        let out_stride = out.map().block_stride();
        for block in 0..shape.0 {
            // SAFETY: all views have these blocks, and n pixels in one piece from pixel i on.
            unsafe {
                let o = out.plane().add(block * out_stride + out.offset_of(i));
                let a = match a {
                    First::InPlace => o.cast_const(),
                    First::Map(a) => a.plane().add(block * a.map().block_stride() + a.offset_of(i)),
                };
                match b {
                    Second::None => isa.run(Combine::<COPY> { a, b: a, out: o, pixels: n, activation }),
                    Second::Map(b) => {
                        let b = b.plane().add(block * b.map().block_stride() + b.offset_of(i));
                        isa.run(Combine::<SUM> { a, b, out: o, pixels: n, activation });
                    }
                    Second::Gate(gate) => {
                        let b = gate[block * LANES..].as_ptr();
                        isa.run(Combine::<GATE> { a, b, out: o, pixels: n, activation });
                    }
                }
            }
        }
        i += n;
    }
}

const COPY: u8 = 0;
const SUM: u8 = 1;
const GATE: u8 = 2;

/// Pixels in one piece; `a` may be `out`.
struct Combine<const OP: u8> {
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    pixels: usize,
    activation: Activation,
}

impl<const OP: u8> Kernel for Combine<OP> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `combine`: `pixels` pixels in all of them, one vector of gates.
        unsafe {
            let gate = s.load(self.b);
            with_activation!(self.activation, f => {
                for i in 0..self.pixels {
                    let a = s.load(self.a.add(i * LANES));
                    let x = match OP {
                        SUM => s.add(a, s.load(self.b.add(i * LANES))),
                        GATE => s.mul(a, gate),
                        _ => a,
                    };
                    s.store(self.out.add(i * LANES), f.apply(s, x));
                }
            });
        }
    }
}
