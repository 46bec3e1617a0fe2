//! Attention against f64, on every instruction set.

mod support;

use mobileclip_kernels::{Attention, Isa, Map, MapMut, MapRef, Precision};
use support::*;

/// `[width][tokens]`
fn reference(a: &Attention, tokens: usize, qkv: &[f32]) -> Vec<f64> {
    let width = a.width();
    let at = |part: usize, head: usize, i: usize, t: usize| {
        f64::from(qkv[(part * width + head * a.head_dim + i) * tokens + t])
    };
    let mut out = vec![0.0; width * tokens];
    for head in 0..a.heads {
        for t in 0..tokens {
            let seen = if a.is_causal { t + 1 } else { tokens };
            let scores: Vec<f64> = (0..seen)
                .map(|u| (0..a.head_dim).map(|i| at(0, head, i, t) * at(1, head, i, u)).sum::<f64>())
                .map(|s| s * f64::from(a.scale))
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..a.head_dim {
                let v: f64 = (0..seen).map(|u| weights[u] * at(2, head, i, u)).sum();
                out[(head * a.head_dim + i) * tokens + t] = v / sum;
            }
        }
    }
    out
}

fn run(isa: Isa, a: &Attention, tokens: usize, qkv: &[f32], step: usize) -> Vec<f32> {
    run_as(Precision::F32, isa, a, tokens, qkv, step)
}

fn run_as(
    precision: Precision,
    isa: Isa,
    a: &Attention,
    tokens: usize,
    qkv: &[f32],
    step: usize,
) -> Vec<f32> {
    let from = Map::tokens(3 * a.width(), tokens);
    let input = blocked(from, 3 * a.width(), qkv);
    let x = MapRef::new(from, &input);
    let to = Map::tokens(a.width(), tokens);
    let mut out = marked(to);
    let mut rest = MapMut::new(to, &mut out);
    let mut scratch = vec![f32::NAN; a.scratch_len(isa, tokens)];
    let mut head = 0;
    while head < a.heads {
        let end = (head + step).min(a.heads);
        let (part, after) = rest.split_at_block((end - head) * a.head_dim / 16);
        a.run_as(precision, isa, x, head..end, part, &mut scratch);
        (head, rest) = (end, after);
    }
    planar(to, a.width(), &out)
}

fn check(a: Attention, tokens: usize, amplitude: f32) {
    let qkv: Vec<f32> =
        Numbers::new(tokens as u64).vec(3 * a.width() * tokens).iter().map(|v| v * amplitude).collect();
    let exact = reference(&a, tokens, &qkv);
    each_isa(|isa| {
        let what = format!("{} {a:?} {tokens} tokens", isa.name());
        let whole = run(isa, &a, tokens, &qkv, a.heads);
        // A score is off by at most (dim + 2) U sum |q k| scale, which the exponential makes a relative error of each
        // weight (twice, because of the largest); then exp, two sums of `tokens` terms, a quotient. |v| <= amplitude.
        let largest_score = f64::from(a.scale) * a.head_dim as f64 * f64::from(amplitude).powi(2);
        let relative = U * (2.0 * (a.head_dim + 2) as f64 * largest_score + 2.0 * tokens as f64 + 16.0);
        close(&whole, &exact, |_| relative * f64::from(amplitude), &what);
        let parts = run(isa, &a, tokens, &qkv, a.heads_step());
        same_bits(&parts, &whole, &what);
    });
    // In bf16: of numbers that are such, only the weights are rounded.
    let qkv: Vec<f32> = qkv.iter().map(|v| f32::from_bits(v.to_bits() & 0xffff_0000)).collect();
    let exact = reference(&a, tokens, &qkv);
    for isa in Isa::with_each_extension() {
        let what = format!("{isa:?} {a:?} {tokens} tokens, bf16");
        let whole = run_as(Precision::Bf16, isa, &a, tokens, &qkv, a.heads);
        let largest_score = f64::from(a.scale) * a.head_dim as f64 * f64::from(amplitude).powi(2);
        let relative = U * (2.0 * (a.head_dim + 2) as f64 * largest_score + 2.0 * tokens as f64 + 16.0);
        close(&whole, &exact, |_| (relative + 2f64.powi(-9)) * f64::from(amplitude), &what);
        let parts = run_as(Precision::Bf16, isa, &a, tokens, &qkv, a.heads_step());
        same_bits(&parts, &whole, &what);
    }
}

#[test]
fn head_widths_and_token_counts() {
    for (heads, head_dim) in [(4, 32), (2, 64), (3, 80), (2, 8), (4, 24), (1, 16), (5, 48)] {
        for tokens in [1, 2, 7, 16, 17, 64, 77] {
            for is_causal in [false, true] {
                if (heads * head_dim) % 16 == 0 {
                    let scale = (head_dim as f32).powf(-0.5);
                    check(Attention { heads, head_dim, scale, is_causal }, tokens, 1.0);
                }
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for is_causal in [false, true] {
        check(Attention { heads: 1, head_dim: 32, scale: 1.0, is_causal }, 33, 8.0);
    }
}

#[test]
fn many_tokens() {
    check(Attention { heads: 1, head_dim: 64, scale: 0.125, is_causal: false }, 257, 1.0);
    check(Attention { heads: 1, head_dim: 32, scale: 0.2, is_causal: false }, 1031, 1.0);
}

#[test]
fn a_causal_token_sees_nothing_of_later_ones() {
    let a = Attention { heads: 2, head_dim: 32, scale: 0.2, is_causal: true };
    let qkv = Numbers::new(3).vec(3 * a.width() * 40);
    let changed: Vec<f32> =
        qkv.iter().enumerate().map(|(i, v)| if i % 40 > 20 { v + 1.0 } else { *v }).collect();
    each_isa(|isa| {
        let (one, two) = (run(isa, &a, 40, &qkv, 2), run(isa, &a, 40, &changed, 2));
        for i in 0..one.len() {
            assert_eq!(one[i].to_bits() == two[i].to_bits(), i % 40 <= 20, "{} index {i}", isa.name());
        }
    });
}
