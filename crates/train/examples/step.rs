//! Times training steps of a variant on made-up weights and inputs: forward, backward and AdamW, two sets of captions.
//!
//! `cargo run --release -p mobileclip-train --example step -- MobileCLIP2-S0 --batch 16 --threads 2 --steps 3 [--recompute]`

use std::time::Instant;

use mobileclip_arch::{Manifest, Tower};
use mobileclip_autodiff::{Cpu, Gradients, Parameters, TrainOptions};
use mobileclip_testing::formula::{self, Formula};
use mobileclip_train::step::{self, Batch};
use mobileclip_train::{AdamW, Contrast, Objective, Optimiser, Rule, clamp_logit_scale};

/// A line of `/proc/self/status` in MB.
fn memory_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap_or(0.0) / 1024.0
}

/// User and system time of all threads so far, in seconds: what a step costs on a machine that is shared.
fn processor_s() -> [f64; 2] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let mut fields = stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11);
    // In hundredths on Linux.
    [(); 2].map(|()| fields.next().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0) / 100.0)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, default: usize| {
        let at = arguments.iter().position(|a| a == flag);
        at.and_then(|i| arguments.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    let name = arguments.first().map_or("MobileCLIP2-S0", String::as_str);
    let Some(variant) = mobileclip_arch::variant(name) else {
        eprintln!("no variant `{name}`");
        std::process::exit(2);
    };
    let (count, steps) = (number("--batch", 16), number("--steps", 3));
    let cpu = Cpu::new(number("--threads", 2));
    let options =
        TrainOptions { recomputes: arguments.iter().any(|a| a == "--recompute"), ..TrainOptions::default() };
    let manifest = Manifest::of(variant);
    let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let (side, tokens) = (variant.image_size(), variant.text.context);
    let ids = |set: u32| -> Vec<u32> {
        let row = |i: usize| (0..tokens as u32).map(move |t| 1 + (i as u32 * 91 + t * 7 + set * 13) % 40_000);
        (0..count).flat_map(row).collect()
    };
    let shape = Tower::Image.input(side, side);
    let batch = Batch {
        count,
        size: (side, side),
        images: (0..count).flat_map(|i| formula::image(&i.to_string(), shape.height, shape.width)).collect(),
        captions: vec![ids(0), ids(1)],
        ..Batch::default()
    };
    let loaded = memory_mb("VmRSS:");
    let mut gradients = Gradients::new(&parameters);
    let mut optimiser = Optimiser::new(AdamW::for_model(name), &parameters, Rule::published);
    let objective = Objective::contrastive(Contrast::Softmax);
    for index in 0..steps {
        let (start, [user, system]) = (Instant::now(), processor_s());
        gradients.clear();
        let batches = std::slice::from_ref(&batch);
        let outcome =
            step::gradients(&cpu, variant, &parameters, &objective, batches, options, &mut gradients);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => panic!("{error}"),
        };
        let walked = start.elapsed();
        parameters.apply(&outcome.statistics);
        let norm = optimiser.step(cpu.pool(), cpu.isa(), &mut parameters, &gradients, 1e-4, Some(1.0));
        clamp_logit_scale(&mut parameters);
        let now = processor_s();
        println!(
            "step {index}: {:.3} s (optimiser {:.3} s), processor {:.2} s user, {:.2} s system, loss {:.5}, \
             gradient norm {norm:.4}",
            start.elapsed().as_secs_f64(),
            (start.elapsed() - walked).as_secs_f64(),
            now[0] - user,
            now[1] - system,
            outcome.losses.total(),
        );
    }
    println!(
        "peak memory {:.0} MB beyond the {loaded:.0} MB of weights and batch",
        memory_mb("VmHWM:") - loaded
    );
}
