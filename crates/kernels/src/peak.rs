//! What the processor can do at most, for benches to compare with.

use crate::isa::{Isa, Kernel};
use crate::simd::Simd;
use std::time::{Duration, Instant};

/// GFLOP/s of independent multiply-adds on one core (two operations each): the best of several short runs.
pub fn peak_gflops(isa: Isa) -> f64 {
    const ROUNDS: usize = 100_000;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        // SAFETY: `Peak` has no demands.
        unsafe { isa.run(Peak { rounds: ROUNDS }) };
        best = best.min(start.elapsed());
    }
    (ROUNDS * CHAINS * 16 * 2) as f64 / best.as_secs_f64() / 1e9
}

/// Enough to hide the latency of a multiply-add, few enough for the registers of AVX2 (two per vector).
const CHAINS: usize = 6;

struct Peak {
    rounds: usize,
}

impl Kernel for Peak {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let x = s.splat(std::hint::black_box(0.5));
        let mut acc = [x; CHAINS];
        for _ in 0..self.rounds {
            for a in &mut acc {
                *a = s.fma(*a, x, x);
            }
        }
        let mut sum = s.zero();
        for a in acc {
            sum = s.add(sum, a);
        }
        std::hint::black_box(s.sum(sum));
    }
}
