//! Times single operations, forward and backward, on shapes of MobileCLIP2-S0 at batch 16 (texts: 32 rows).
//!
//! `cargo run --release -p mobileclip-autodiff --example operations -- --threads 2`; `compat/training/operations.py` does the
//! same in PyTorch.

use std::time::Instant;

use mobileclip_arch::{Activation, Attention, Conv, Shape};
use mobileclip_autodiff::{Cpu, Device, Matrix};

const BATCH: usize = 16;
const TEXTS: usize = 32;
const EPS: f64 = 1e-5;

/// Numbers that are neither all equal nor denormal.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 700.0).collect()
}

/// The fastest of some runs, in ms.
fn fastest(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    best
}

fn row(name: &str, shape: Shape, forward: f64, backward: f64) {
    let size = format!("{}x{}x{}", shape.channels, shape.height, shape.width);
    println!("| {name} | {size} | {forward:.2} | {backward:.2} |");
}

fn convolution(cpu: &Cpu, name: &str, batch: usize, conv: Conv, input: Shape) {
    let x = cpu.upload(batch, input, &numbers(batch * input.elements()));
    let weight = numbers(conv.weight_shape().iter().product());
    let matrix = Matrix { conv, is_transposed: false, weight: &weight, bias: None };
    let dy = cpu.convolve(&x, &matrix);
    let mut dweight = vec![0.0; weight.len()];
    let forward = fastest(|| drop(cpu.convolve(&x, &matrix)));
    let backward = fastest(|| {
        cpu.convolve_weight(&x, &matrix, &dy, &mut dweight);
        drop(cpu.convolve_input(input, &matrix, &dy, None));
    });
    row(name, input, forward, backward);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|a| a == "--threads");
    let threads = at.and_then(|i| arguments.get(i + 1)?.parse().ok()).unwrap_or(1);
    let cpu = Cpu::new(threads);
    println!("{threads} threads, {}, ms, the fastest of five\n", cpu.isa().name());
    println!("| operation | input | forward | backward |\n|---|---|---|---|");
    let map = Shape::new;
    convolution(&cpu, "3x3 stride 2", BATCH, Conv::dense(3, 64, 3, 2), map(3, 256, 256));
    convolution(&cpu, "depthwise 3x3", BATCH, Conv::depthwise(64, 64, (3, 3), 1), map(64, 64, 64));
    convolution(&cpu, "depthwise 7x7", BATCH, Conv::depthwise(64, 64, (7, 7), 1), map(64, 64, 64));
    convolution(&cpu, "depthwise 7x7", BATCH, Conv::depthwise(256, 256, (7, 7), 1), map(256, 16, 16));
    convolution(&cpu, "depthwise 7x7 stride 2", BATCH, Conv::depthwise(64, 128, (7, 7), 2), map(64, 64, 64));
    convolution(&cpu, "1x1, 64 to 192", BATCH, Conv::pointwise(64, 192), map(64, 64, 64));
    convolution(&cpu, "1x1, 192 to 64", BATCH, Conv::pointwise(192, 64), map(192, 64, 64));
    convolution(&cpu, "1x1, 256 to 768", BATCH, Conv::pointwise(256, 768), map(256, 16, 16));
    let tokens = |width| Shape::tokens(width, 77);
    convolution(&cpu, "linear, 512 to 1536", TEXTS, Conv::pointwise(512, 1536), tokens(512));
    convolution(&cpu, "linear, 512 to 2048", TEXTS, Conv::pointwise(512, 2048), tokens(512));
    convolution(&cpu, "linear, 2048 to 512", TEXTS, Conv::pointwise(2048, 512), tokens(2048));

    let shape = map(64, 64, 64);
    let x = cpu.upload(BATCH, shape, &numbers(BATCH * shape.elements()));
    let (weight, bias) = (vec![1.1; 64], vec![0.1; 64]);
    let (mut dweight, mut dbias) = (vec![0.0; 64], vec![0.0; 64]);
    let moments = cpu.moments(&x);
    let forward = fastest(|| drop(cpu.normalise(&x, &cpu.moments(&x), EPS, &weight, &bias)));
    let backward = fastest(|| {
        let (dw, db) = (&mut dweight, &mut dbias);
        drop(cpu.normalise_gradient(&x, &moments, EPS, &weight, false, x.clone(), true, dw, db));
    });
    row("BatchNorm", shape, forward, backward);
    let forward = fastest(|| drop(cpu.scale_channels(x.clone(), &weight)));
    let backward = fastest(|| {
        cpu.scale_gradient(&x, &x, &mut dweight);
        drop(cpu.scale_channels(x.clone(), &weight));
    });
    row("layer scale", shape, forward, backward);

    let shape = map(192, 64, 64);
    let x = cpu.upload(BATCH, shape, &numbers(BATCH * shape.elements()));
    let forward = fastest(|| drop(cpu.activate(&x, Activation::Gelu)));
    let backward = fastest(|| drop(cpu.activate_gradient(&x, Activation::Gelu, x.clone())));
    row("GELU", shape, forward, backward);

    let shape = tokens(512);
    let x = cpu.upload(TEXTS, shape, &numbers(TEXTS * shape.elements()));
    let (weight, bias) = (vec![1.1; 512], vec![0.1; 512]);
    let (mut dweight, mut dbias) = (vec![0.0; 512], vec![0.0; 512]);
    let forward = fastest(|| drop(cpu.layer_norm(&x, EPS, &weight, &bias)));
    let backward = fastest(|| {
        drop(cpu.layer_norm_gradient(&x, EPS, &weight, x.clone(), &mut dweight, &mut dbias));
    });
    row("LayerNorm", shape, forward, backward);

    let shape = tokens(1536);
    let x = cpu.upload(TEXTS, shape, &numbers(TEXTS * shape.elements()));
    let attention = Attention { heads: 8, head_width: 64, is_causal: false };
    let dy = cpu.attend(&x, &attention);
    let forward = fastest(|| drop(cpu.attend(&x, &attention)));
    let backward = fastest(|| drop(cpu.attend_gradient(&x, &attention, &dy)));
    row("attention, 8 heads", shape, forward, backward);
}
