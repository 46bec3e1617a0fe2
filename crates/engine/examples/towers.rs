//! Times of whole towers with formula weights, one input, as a share of the peak measured in the same run.
//!
//! `cargo run --release -p mobileclip-engine --example towers -- [VARIANT[:image|:text]]… [--threads N] [--batch N]
//! [--profile]`: a batch's time is given for one of its inputs.

use std::sync::Arc;
use std::time::Instant;

use mobileclip_arch::{Manifest, Tower as Which};
use mobileclip_engine::{Input, Isa, Pool, Tower};
use mobileclip_graph::Graph;
use mobileclip_kernels::peak_gflops;
use mobileclip_testing::formula::{self, Formula};

const RUNS: usize = 30;

fn main() {
    let mut threads = 1;
    let mut is_profile = false;
    let mut batch = 1;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().and_then(|n| n.parse().ok()).expect("--threads N"),
            "--batch" => batch = arguments.next().and_then(|n| n.parse().ok()).expect("--batch N"),
            "--profile" => is_profile = true,
            _ => wanted.push(argument),
        }
    }
    if wanted.is_empty() {
        wanted.push("MobileCLIP2-S0".to_owned());
    }
    let isa = Isa::detect();
    println!("{} on {threads} threads; peak of one {:.1} GFLOP/s", isa.name(), peak_gflops(isa));
    for name in wanted {
        let (name, towers) = match name.split_once(':') {
            Some((name, "image")) => (name, vec![Which::Image]),
            Some((name, "text")) => (name, vec![Which::Text]),
            _ => (name.as_str(), vec![Which::Image, Which::Text]),
        };
        for which in towers {
            time(name, which, isa, threads, batch, is_profile);
        }
    }
}

fn time(name: &str, which: Which, isa: Isa, threads: usize, batch: usize, is_profile: bool) {
    let variant = mobileclip_arch::variant(name).expect("a variant's name");
    let weights = Arc::new(Formula::of(&Manifest::of(variant)));
    let graph = Graph::trace(variant, which, weights.as_ref(), &[]);
    let start = Instant::now();
    let shape = variant.input(which);
    let usual = (shape.height, shape.width);
    let tower = Tower::new(graph, weights, isa, Arc::new(Pool::new(threads)), usual).expect("a tower");
    let packing = start.elapsed();
    let pixels = formula::image("p", shape.height.max(8), shape.width.max(8));
    let ids: Vec<u32> = (0..shape.width as u32).map(|i| if i == 76 { 49407 } else { 320 + i }).collect();
    let input = match which {
        Which::Image => Input::Pixels { height: shape.height, width: shape.width, values: &pixels },
        Which::Text => Input::Ids(&ids),
    };
    let runs = (RUNS / batch).max(3);
    let mut times: Vec<f64> = (0..runs + 2)
        .map(|_| {
            let start = Instant::now();
            match batch {
                1 => drop(tower.run(input).expect("features")),
                _ => drop(tower.run_batch(&vec![input; batch]).expect("features")),
            }
            start.elapsed().as_secs_f64() * 1e3 / batch as f64
        })
        .skip(2)
        .collect();
    times.sort_by(f64::total_cmp);
    let gflop = 2e-9 * tower.multiply_adds(shape.height, shape.width).expect("an input that fits") as f64;
    let (least, median) = (times[0], times[runs / 2]);
    let share = gflop / least * 1e3 / peak_gflops(isa) / threads as f64;
    println!(
        "{name} {which:?}: {gflop:.2} GFLOP, min {least:.1} ms, median {median:.1} ms, {:.1} % of the peak at the minimum; \
         packed in {:.0} ms",
        100.0 * share,
        packing.as_secs_f64() * 1e3
    );
    if is_profile {
        profile(&tower, input, (shape.height, shape.width), isa);
    }
}

fn profile(tower: &Tower, input: Input, (height, width): (usize, usize), isa: Isa) {
    let runs: Vec<_> = (0..RUNS).map(|_| tower.profile(input).expect("a profile")).collect();
    let graph = tower.graph();
    let shapes = graph.shapes(height, width).expect("an input that fits");
    let work = graph.multiply_adds(&shapes);
    let peak = peak_gflops(isa);
    for (id, node) in graph.nodes.iter().enumerate() {
        let least = runs.iter().map(|run| run[id]).min().expect("a run").as_secs_f64();
        let rate = 2e-9 * work[id] as f64 / least;
        println!(
            "{:8.3} ms {:6.1} GFLOP/s {:5.1} %  {} {}",
            least * 1e3,
            rate,
            100.0 * rate / peak,
            node.op.word(),
            node.names.last().map_or("", String::as_str)
        );
    }
}
