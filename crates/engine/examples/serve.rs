//! One tower with formula weights, kept ready: runs when a line on the standard input says so. `bench/peers` takes turns between
//! this and other runtimes.
//!
//! `cargo run --release -p mobileclip-engine --example serve -- VARIANT|FILE.toml image|text [--threads N] [--size SIDE]
//! [--precision f32|bf16|int8]`
//!
//! | line | answer, one line of JSON |
//! |---|---|
//! | `facts` | multiply-adds as GFLOP, instruction set, milliseconds of packing |
//! | `run K B` | milliseconds of K runs of a batch of B |
//! | `features` | those of the first input |
//! | `peak` | GFLOP/s of one core, in each precision |

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use mobileclip_arch::{Manifest, Tower as Which, Variant};
use mobileclip_engine::{Input, Isa, Pool, Precision, Tower};
use mobileclip_graph::Graph;
use mobileclip_kernels::peak_gflops_of;
use mobileclip_testing::formula::{self, Formula};

const END_OF_TEXT: u32 = 49_407;
const PRECISIONS: [(&str, Precision); 3] =
    [("f32", Precision::F32), ("bf16", Precision::Bf16), ("int8", Precision::Int8)];

fn main() {
    let mut words = Vec::new();
    let (mut threads, mut size, mut precision) = (1, None, Precision::F32);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            words.push(argument);
            continue;
        }
        let value = arguments.next().expect("a value");
        match argument.as_str() {
            "--threads" => threads = value.parse().expect("a number"),
            "--size" => size = Some(value.parse().expect("a number")),
            "--precision" => {
                let named = |(name, _): &(&str, Precision)| *name == value;
                precision = PRECISIONS.into_iter().find(named).expect("a precision").1;
            }
            _ => panic!("no option {argument}"),
        }
    }
    let [name, tower] = words.as_slice() else { panic!("VARIANT|FILE.toml image|text") };
    let variant = variant(name);
    let which = match tower.as_str() {
        "image" => Which::Image,
        "text" => Which::Text,
        other => panic!("no tower {other}"),
    };
    let usual = match (which, size) {
        (Which::Image, Some(side)) => (side, side),
        _ => {
            let shape = variant.input(which);
            (shape.height, shape.width)
        }
    };
    let isa = Isa::detect();
    let weights = Arc::new(Formula::of(&Manifest::of(&variant)));
    let graph = Graph::trace(&variant, which, weights.as_ref(), &[]);
    let start = Instant::now();
    let tower =
        Tower::new(graph, weights, isa, Arc::new(Pool::new(threads)), usual, precision).expect("a tower");
    let packing_ms = milliseconds(start);
    serve(&tower, which, usual, &format!("{:?}, \"packing_ms\": {packing_ms:.0}", isa.name()), isa);
}

fn variant(name: &str) -> Variant {
    if let Some(variant) = mobileclip_arch::variant(name) {
        return variant.clone();
    }
    let toml = std::fs::read_to_string(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    Variant::parse(&toml).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn serve(tower: &Tower, which: Which, (height, width): (usize, usize), facts: &str, isa: Isa) {
    let (mut pixels, mut ids) = (Vec::new(), Vec::new());
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["facts"] => {
                let work = tower.multiply_adds(height, width).expect("an input that fits");
                format!("{{\"gflop\": {}, \"isa\": {facts}}}", 2e-9 * work as f64)
            }
            ["peak"] => {
                let peaks = PRECISIONS
                    .map(|(name, precision)| format!("{name:?}: {}", peak_gflops_of(isa, precision)));
                format!("{{{}}}", peaks.join(", "))
            }
            ["run", runs, batch] => {
                let batch = batch.parse().expect("a number");
                let inputs = inputs(which, (height, width), batch, &mut pixels, &mut ids);
                let times: Vec<f64> = (0..runs.parse().expect("a number"))
                    .map(|_| {
                        let start = Instant::now();
                        tower.run_batch(&inputs).expect("features");
                        milliseconds(start)
                    })
                    .collect();
                format!("{{\"ms\": {times:?}}}")
            }
            ["features"] => {
                let inputs = inputs(which, (height, width), 1, &mut pixels, &mut ids);
                format!("{{\"features\": {:?}}}", tower.run(inputs[0]).expect("features").features)
            }
            _ => panic!("{line}"),
        };
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("somebody who reads");
    }
}

/// The inputs that `bench/peers/inputs.py` makes, too.
fn inputs<'a>(
    which: Which,
    (height, width): (usize, usize),
    batch: usize,
    pixels: &'a mut Vec<Vec<f32>>,
    ids: &'a mut Vec<Vec<u32>>,
) -> Vec<Input<'a>> {
    match which {
        Which::Image => {
            pixels.extend((pixels.len()..batch).map(|i| formula::image(&format!("p{i}"), height, width)));
            pixels[..batch].iter().map(|values| Input::Pixels { height, width, values }).collect()
        }
        Which::Text => {
            let row = |i: usize| {
                let last = width - 1;
                let id = |at| if at == last { END_OF_TEXT } else { (320 + 100 * i + at) as u32 };
                (0..width).map(id).collect()
            };
            ids.extend((ids.len()..batch).map(row));
            ids[..batch].iter().map(|row| Input::Ids(row)).collect()
        }
    }
}

fn milliseconds(start: Instant) -> f64 {
    1e3 * start.elapsed().as_secs_f64()
}
