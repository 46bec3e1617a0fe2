//! What the processor can do at most, for benches to compare with.

use crate::gemm::tile::{Bytes, Pairs, Product, Single};
use crate::isa::{Isa, Kernel, Precision};
use crate::simd::{LANES, Simd};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// GFLOP/s of independent multiply-adds of f32 on one core (two operations each): the best of several short runs.
pub fn peak_gflops(isa: Isa) -> f64 {
    peak_gflops_of(isa, Precision::F32)
}

/// As [`peak_gflops`], for numbers of some precision; it means something where [`Isa::has`] the instructions.
pub fn peak_gflops_of(isa: Isa, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => measure::<Single>(isa),
        Precision::Bf16 => measure::<Pairs>(isa),
        Precision::Int8 => measure::<Bytes>(isa),
    }
}

fn measure<P: Product>(isa: Isa) -> f64 {
    const ROUNDS: usize = 100_000;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        // SAFETY: `Peak` has no demands.
        unsafe { isa.run(Peak::<P> { rounds: ROUNDS, product: PhantomData }) };
        best = best.min(start.elapsed());
    }
    (ROUNDS * CHAINS * LANES * P::NUMBERS * 2) as f64 / best.as_secs_f64() / 1e9
}

/// Enough to hide the latency of a multiply-add, few enough for the registers of AVX2 (two per vector).
const CHAINS: usize = 6;

struct Peak<P> {
    rounds: usize,
    product: PhantomData<P>,
}

impl<P: Product> Kernel for Peak<P> {
    const DOTS: bool = P::DOTS;

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let x = s.splat(std::hint::black_box(0.5));
        let mut acc = [x; CHAINS];
        for _ in 0..self.rounds {
            for a in &mut acc {
                *a = P::step(s, x, x, *a);
            }
        }
        let mut sum = s.zero();
        for a in acc {
            sum = s.add(sum, a);
        }
        std::hint::black_box(s.sum(sum));
    }
}
