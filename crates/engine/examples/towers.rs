//! Times of whole towers with formula weights, one input, as a share of the peak measured in the same run.
//!
//! `cargo run --release -p mobileclip-engine --example towers -- [VARIANT[:image|:text]]… [--threads N] [--batch N]
//! [--precision f32|bf16|int8] [--profile]`: a batch's time is given for one of its inputs. With `--against-scalar`, instead: every node's time on
//! every instruction set, and those which are slower than without one; `all` stands for all variants.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mobileclip_arch::{Manifest, Shape, Tower as Which};
use mobileclip_engine::{Input, Isa, Pool, Precision, Tower};
use mobileclip_graph::Graph;
use mobileclip_kernels::peak_gflops_of;
use mobileclip_testing::formula::{self, Formula};

const RUNS: usize = 30;

fn main() {
    let mut threads = 1;
    let mut precision = Precision::F32;
    let mut is_profile = false;
    let mut is_against_scalar = false;
    let mut batch = 1;
    let mut wanted = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" => threads = arguments.next().and_then(|n| n.parse().ok()).expect("--threads N"),
            "--batch" => batch = arguments.next().and_then(|n| n.parse().ok()).expect("--batch N"),
            "--precision" => {
                precision = match arguments.next().as_deref() {
                    Some("f32") => Precision::F32,
                    Some("bf16") => Precision::Bf16,
                    Some("int8") => Precision::Int8,
                    other => panic!("--precision f32|bf16|int8, not {other:?}"),
                }
            }
            "--profile" => is_profile = true,
            "--against-scalar" => is_against_scalar = true,
            "all" => wanted.extend(mobileclip_arch::variants().iter().map(|variant| variant.name.clone())),
            _ => wanted.push(argument),
        }
    }
    if wanted.is_empty() {
        wanted.push("MobileCLIP2-S0".to_owned());
    }
    let isa = Isa::detect();
    let peak = peak_gflops_of(isa, precision);
    println!("{} on {threads} threads, {precision:?}; peak of one {peak:.1} GFLOP/s", isa.name());
    for name in wanted {
        let (name, towers) = match name.split_once(':') {
            Some((name, "image")) => (name, vec![Which::Image]),
            Some((name, "text")) => (name, vec![Which::Text]),
            _ => (name.as_str(), vec![Which::Image, Which::Text]),
        };
        for which in towers {
            if is_against_scalar {
                against_scalar(name, which, precision);
                continue;
            }
            let subject = Subject::new(name, which, isa, precision, threads);
            time(&subject, name, threads, batch);
            if is_profile {
                profile(&subject);
            }
        }
    }
}

/// A tower and an input for it.
struct Subject {
    tower: Tower,
    shape: Shape,
    pixels: Vec<f32>,
    ids: Vec<u32>,
    packing: Duration,
    /// GFLOP/s of one core in its precision.
    peak: f64,
}

impl Subject {
    fn new(name: &str, which: Which, isa: Isa, precision: Precision, threads: usize) -> Self {
        let variant = mobileclip_arch::variant(name).expect("a variant's name");
        let weights = Arc::new(Formula::of(&Manifest::of(variant)));
        let graph = Graph::trace(variant, which, weights.as_ref(), &[]);
        let start = Instant::now();
        let shape = variant.input(which);
        let usual = (shape.height, shape.width);
        let pool = Arc::new(Pool::new(threads));
        let tower = Tower::new(graph, weights, isa, pool, usual, precision).expect("a tower");
        let pixels = match which {
            Which::Image => formula::image("p", shape.height, shape.width),
            Which::Text => Vec::new(),
        };
        let ids = (0..shape.width as u32).map(|i| if i == 76 { 49407 } else { 320 + i }).collect();
        let (packing, peak) = (start.elapsed(), peak_gflops_of(isa, precision));
        Self { tower, shape, pixels, ids, packing, peak }
    }

    fn input(&self) -> Input<'_> {
        let Shape { height, width, .. } = self.shape;
        match self.tower.graph().tower {
            Which::Image => Input::Pixels { height, width, values: &self.pixels },
            Which::Text => Input::Ids(&self.ids),
        }
    }

    /// Each node's least time of some runs.
    fn profile(&self, runs: usize) -> Vec<Duration> {
        let runs: Vec<_> = (0..runs).map(|_| self.tower.profile(self.input()).expect("a profile")).collect();
        (0..runs[0].len()).map(|id| runs.iter().map(|run| run[id]).min().expect("a run")).collect()
    }

    /// What a node is, and where it comes from.
    fn describe(&self, id: usize) -> String {
        let node = &self.tower.graph().nodes[id];
        format!("{} {}", node.op.word(), node.names.last().map_or("", String::as_str))
    }
}

/// Prints the nodes that take longer than without any instruction set. Shorter ones than a microsecond are left out: the
/// clock itself takes a part of that.
fn against_scalar(name: &str, which: Which, precision: Precision) {
    let scalar = Subject::new(name, which, Isa::scalar(), precision, 1).profile(2);
    for isa in Isa::available().into_iter().filter(|isa| isa.name() != Isa::scalar().name()) {
        let subject = Subject::new(name, which, isa, precision, 1);
        let times = subject.profile(10);
        let slower = (0..times.len()).filter(|&id| times[id] > scalar[id].max(Duration::from_micros(1)));
        let slower: Vec<usize> = slower.collect();
        let sum = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64() * 1e3;
        println!(
            "{name} {which:?}: {} {:.1} ms, scalar {:.1} ms; {} of {} nodes slower than scalar",
            isa.name(),
            sum(&times),
            sum(&scalar),
            slower.len(),
            times.len()
        );
        for id in slower {
            println!("  {:?}, scalar {:?}: {}", times[id], scalar[id], subject.describe(id));
        }
    }
}

fn time(subject: &Subject, name: &str, threads: usize, batch: usize) {
    let (tower, input, Shape { height, width, .. }) = (&subject.tower, subject.input(), subject.shape);
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
    let gflop = 2e-9 * tower.multiply_adds(height, width).expect("an input that fits") as f64;
    let (least, median) = (times[0], times[runs / 2]);
    let share = gflop / least * 1e3 / subject.peak / threads as f64;
    println!(
        "{name} {:?}: {gflop:.2} GFLOP, min {least:.1} ms, median {median:.1} ms, {:.1} % of the peak at the minimum; \
         packed in {:.0} ms",
        tower.graph().tower,
        100.0 * share,
        subject.packing.as_secs_f64() * 1e3
    );
}

fn profile(subject: &Subject) {
    let graph = subject.tower.graph();
    let shapes = graph.shapes(subject.shape.height, subject.shape.width).expect("an input that fits");
    let work = graph.multiply_adds(&shapes);
    for (id, time) in subject.profile(RUNS).into_iter().enumerate() {
        let rate = 2e-9 * work[id] as f64 / time.as_secs_f64();
        println!(
            "{:8.3} ms {rate:6.1} GFLOP/s {:5.1} %  {}",
            time.as_secs_f64() * 1e3,
            100.0 * rate / subject.peak,
            subject.describe(id)
        );
    }
}
