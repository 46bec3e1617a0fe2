//! Captions per second with formula weights: pictures in a batch, each with some samples.
//!
//! `cargo run --release -p mobileclip-captioner --example captions -- [VARIANT] [--pictures N] [--samples N] [--threads N]
//! [--precision f32|bf16|int8] [--greedy]`. The weights make no sentences, so that each caption has all of its 30 ids.

use std::sync::Arc;
use std::time::Instant;

use mobileclip_arch::{Manifest, Tower};
use mobileclip_captioner::{Captioner, Method, Picture, Request, Settings};
use mobileclip_engine::{Isa, Pool, Precision};
use mobileclip_testing::formula::{self, Formula};

fn main() {
    let (mut name, mut pictures, mut samples, mut threads) = ("coca_ViT-L-14".to_owned(), 8, 1, 2);
    let (mut precision, mut settings) = (Precision::F32, Settings::default());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).expect("a number");
        match argument.as_str() {
            "--pictures" => pictures = number(),
            "--samples" => samples = number(),
            "--threads" => threads = number(),
            "--greedy" => settings.method = Method::Greedy,
            "--precision" => {
                precision = match arguments.next().as_deref() {
                    Some("f32") => Precision::F32,
                    Some("bf16") => Precision::Bf16,
                    Some("int8") => Precision::Int8,
                    other => panic!("--precision f32|bf16|int8, not {other:?}"),
                }
            }
            _ => name = argument,
        }
    }
    let variant = mobileclip_arch::variant(&name).expect("a variant");
    let weights = Arc::new(Formula::of(&Manifest::of(variant)));
    let shape = variant.input(Tower::Image);
    let size = (shape.height, shape.width);
    let pool = Arc::new(Pool::new(threads));
    let captioner = Captioner::new(variant, weights, Isa::detect(), pool, size, precision).expect("packed");
    let pixels: Vec<Vec<f32>> =
        (0..pictures).map(|i| formula::image(&format!("coca{i}"), shape.height, shape.width)).collect();
    println!("{name}, {precision:?}, {threads} threads, {pictures} pictures, {samples} captions each");
    for _ in 0..3 {
        let start = Instant::now();
        let looked: Vec<Picture> =
            pixels.iter().map(|pixels| captioner.look(size, pixels).expect("seen")).collect();
        let seen = start.elapsed().as_secs_f64();
        let requests: Vec<Request> = looked
            .iter()
            .flat_map(|picture| (0..samples).map(move |sample| (picture, sample)))
            .map(|(picture, sample)| Request { picture, uid: "a", sample, prompt: &[] })
            .collect();
        let written = captioner.write(&requests, &settings).expect("written");
        let all = start.elapsed().as_secs_f64();
        let ids: usize = written.iter().map(Vec::len).sum();
        println!(
            "{:.3} captions/s: {seen:.2} s to look, {:.2} s to write {ids} ids",
            written.len() as f64 / all,
            all - seen
        );
    }
}
