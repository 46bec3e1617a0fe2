//! One pass over parameters: AdamW, and the sum of squares for clipping.

use crate::isa::{Isa, Kernel};
use crate::simd::{LANES, Simd};

/// One step of AdamW (arXiv:1711.05101, as PyTorch has it), the same for all parameters of a tensor.
///
/// `p *= 1 - lr · decay; m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g²; p -= step · m / (sqrt(v) / root + eps)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// What gradients are multiplied with first (clipping).
    pub gradient_scale: f64,
    /// 1 - learning rate · weight decay.
    pub keep: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Learning rate / (1 - beta1^t), for step number t from 1.
    pub step: f64,
    /// sqrt(1 - beta2^t).
    pub root: f64,
    /// Added to the divisor.
    pub eps: f64,
}

impl AdamW {
    /// Updates parameters and both means.
    ///
    /// # Panics
    /// If lengths differ.
    pub fn run(
        &self,
        isa: Isa,
        parameters: &mut [f32],
        gradient: &[f32],
        mean: &mut [f32],
        square: &mut [f32],
    ) {
        let n = parameters.len();
        assert_eq!((gradient.len(), mean.len(), square.len()), (n, n, n), "lengths");
        let whole = n / LANES * LANES;
        let (p, m, v) = (parameters.as_mut_ptr(), mean.as_mut_ptr(), square.as_mut_ptr());
        // SAFETY: `whole` numbers in all four.
        unsafe { isa.run(Update { rule: *self, p, g: gradient.as_ptr(), m, v, len: whole }) };
        if whole < n {
            // The rest as lanes of one vector.
            let mut rest = [[0.0; LANES]; 4];
            for (to, from) in rest.iter_mut().zip([&*parameters, gradient, &*mean, &*square]) {
                to[..n - whole].copy_from_slice(&from[whole..]);
            }
            let [rp, rg, rm, rv] = &mut rest;
            let (p, m, v) = (rp.as_mut_ptr(), rm.as_mut_ptr(), rv.as_mut_ptr());
            // SAFETY: 16 numbers in all four.
            unsafe { isa.run(Update { rule: *self, p, g: rg.as_ptr(), m, v, len: LANES }) };
            parameters[whole..].copy_from_slice(&rest[0][..n - whole]);
            mean[whole..].copy_from_slice(&rest[2][..n - whole]);
            square[whole..].copy_from_slice(&rest[3][..n - whole]);
        }
    }
}

struct Update {
    rule: AdamW,
    p: *mut f32,
    g: *const f32,
    m: *mut f32,
    v: *mut f32,
    /// A multiple of 16.
    len: usize,
}

impl Kernel for Update {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let rule = self.rule;
        let splat = |v: f64| s.splat(v as f32);
        let (scale, keep) = (splat(rule.gradient_scale), splat(rule.keep));
        let (beta2, step) = (splat(rule.beta2), splat(rule.step));
        let (rest1, rest2) = (splat(1.0 - rule.beta1), splat(1.0 - rule.beta2));
        let (root, eps) = (splat(1.0 / rule.root), splat(rule.eps));
        for i in (0..self.len).step_by(LANES) {
            // SAFETY: `i + 16 <= len` in all four, by the caller.
            unsafe {
                let g = s.mul(s.load(self.g.add(i)), scale);
                let m = s.load(self.m.add(i));
                let m = s.fma(s.sub(g, m), rest1, m);
                let v = s.fma(s.mul(g, g), rest2, s.mul(s.load(self.v.add(i)), beta2));
                let divisor = s.fma(s.sqrt(v), root, eps);
                let p = s.mul(s.load(self.p.add(i)), keep);
                s.store(self.m.add(i), m);
                s.store(self.v.add(i), v);
                s.store(self.p.add(i), s.fnma(step, s.div(m, divisor), p));
            }
        }
    }
}

/// Sum of squares, in blocks of 4096 numbers that are summed in double precision.
pub fn sum_of_squares(isa: Isa, values: &[f32]) -> f64 {
    let mut total = 0.0;
    for part in values.chunks(4096) {
        let whole = part.len() / LANES * LANES;
        let mut sum = [0.0; LANES];
        // SAFETY: `whole` numbers, 16 sums.
        unsafe { isa.run(Squares { x: part.as_ptr(), len: whole, out: sum.as_mut_ptr() }) };
        total += sum.iter().map(|v| f64::from(*v)).sum::<f64>();
        total += part[whole..].iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>();
    }
    total
}

struct Squares {
    x: *const f32,
    len: usize,
    out: *mut f32,
}

impl Kernel for Squares {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        // SAFETY: by the promise of `sum_of_squares`.
        unsafe {
            let mut sum = [s.zero(); 2];
            for i in 0..self.len / LANES {
                let x = s.load(self.x.add(i * LANES));
                sum[i % 2] = s.fma(x, x, sum[i % 2]);
            }
            s.store(self.out, s.add(sum[0], sum[1]));
        }
    }
}
