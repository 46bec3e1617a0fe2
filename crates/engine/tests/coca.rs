//! The captioner on the engine, against open_clip's numbers and against the double-precision reading.

use std::sync::Arc;

use mobileclip_arch::{Array, Coca, Manifest, Reference, Tower as Which, Variant};
use mobileclip_engine::{Decoder, EngineError, Input, Isa, Memory, Output, Pool, Precision, Text, Tower};
use mobileclip_graph::Graph;
use mobileclip_testing::captioner::{Golden, check_rows, golden};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::Formula;
use mobileclip_testing::toys::toy;

/// What the architecture promises of single precision.
const TOLERANCE: f64 = 2e-5;

struct Model {
    weights: Arc<Formula>,
    isa: Isa,
    pool: Arc<Pool>,
    variant: Variant,
}

impl Model {
    fn new(variant: &Variant, isa: Isa, threads: usize) -> Self {
        let weights = Arc::new(Formula::of(&Manifest::of(variant)));
        Self { weights, isa, pool: Arc::new(Pool::new(threads)), variant: variant.clone() }
    }

    fn coca(&self) -> Coca<'_> {
        self.variant.coca().unwrap()
    }

    fn tower(&self, graph: Graph) -> Tower {
        let usual = match graph.tower {
            Which::Image => (self.variant.image_size(), self.variant.image_size()),
            Which::Text => (1, self.variant.text.context),
        };
        Tower::new(graph, self.weights.clone(), self.isa, self.pool.clone(), usual, Precision::F32).unwrap()
    }

    fn images(&self) -> Tower {
        self.tower(Graph::trace_memory(&self.coca(), self.weights.as_ref()))
    }

    fn decoder(&self) -> Decoder {
        Decoder::new(&self.coca(), self.weights.clone(), self.isa, self.pool.clone(), 4, Precision::F32)
            .unwrap()
    }
}

fn run(tower: &Tower, size: usize, pixels: &[f64]) -> Output {
    let values: Vec<f32> = pixels.iter().map(|&v| v as f32).collect();
    tower.run(Input::Pixels { height: size, width: size, values: &values }).unwrap()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// `[T][channels]` as an array.
fn tokens(rows: &[Vec<f32>]) -> Array {
    let table: Vec<f64> = rows.iter().flat_map(|row| wide(row)).collect();
    Array::rows(&table, rows[0].len())
}

fn check(name: &str, model: &Model, golden: &Golden, count: usize) {
    let size = model.variant.image_size();
    let images = model.images();
    let made: Vec<_> = golden.rows.iter().take(count).map(|row| run(&images, size, &row.pixels)).collect();
    drop(images);
    let plain = model.tower(Graph::trace(&model.variant, Which::Image, model.weights.as_ref(), &[]));
    for (row, made) in golden.rows.iter().zip(&made) {
        row.image_features.check(&format!("{name} image"), &wide(&made.features), TOLERANCE);
        // Taps change nothing but what is fused, so bits may differ.
        let got = run(&plain, size, &row.pixels).features;
        assert_close("without taps", &wide(&got), &wide(&made.features), TOLERANCE);
    }
    drop(plain);
    let texts = model.tower(Graph::trace(&model.variant, Which::Text, model.weights.as_ref(), &[]));
    for row in golden.rows.iter().take(count) {
        let got = texts.run(Input::Ids(&row.ids)).unwrap();
        row.text_features.check(&format!("{name} text"), &wide(&got.features), TOLERANCE);
    }
    drop(texts);
    let decoder = model.decoder();
    for (row, made) in golden.rows.iter().zip(made) {
        let memory = Arc::new(Memory::of(model.coca().width(), made));
        let mut text = decoder.text(&memory, row.length);
        let logits = decoder.step(&mut [&mut text], &[&row.ids[..row.length]]).unwrap();
        check_rows(&format!("{name} logits"), &tokens(&logits), &row.logits, TOLERANCE);
    }
}

#[test]
fn the_toy_gives_the_golden_numbers_on_every_instruction_set() {
    for isa in Isa::available() {
        check(isa.name(), &Model::new(&toy("toy_coca"), isa, 2), &golden("toy", None), 4);
    }
    let mut variant = toy("toy_coca");
    variant.text.context = 20;
    check("20 ids", &Model::new(&variant, Isa::detect(), 1), &golden("toy", Some("longer_context")), 4);
}

#[test]
#[ignore = "a minute in release, and 4 GB"]
fn the_published_sizes_give_the_golden_numbers() {
    for name in ["coca_ViT-B-32", "coca_ViT-L-14"] {
        let variant = mobileclip_arch::variant(name).unwrap();
        check(name, &Model::new(variant, Isa::detect(), 2), &golden(name, None), 2);
    }
}

#[test]
fn a_step_equals_the_full_pass_on_every_prefix() {
    let model = Model::new(&toy("toy_coca"), Isa::detect(), 2);
    let golden = golden("toy", None);
    let (reference, coca) = (Reference::new(Formula::of(&Manifest::of(&model.variant))), model.coca());
    let (images, decoder) = (model.images(), model.decoder());
    for row in &golden.rows {
        let made = run(&images, model.variant.image_size(), &row.pixels);
        let memory = Arc::new(Memory::of(coca.width(), made));
        let image = coca.image(&reference, &Array::new(row.shape, row.pixels.clone()));
        let image = coca.memory(&reference, &image.tokens);
        let mut text = decoder.text(&memory, row.length);
        for place in 0..row.length {
            let logits = decoder.step(&mut [&mut text], &[&row.ids[place..=place]]).unwrap();
            let prefix = coca.text(&reference, &Array::ids(&row.ids[..=place]));
            let full = coca.logits(&reference, &prefix.tokens, &image).take(place);
            assert_close(&format!("{} ids", place + 1), &wide(&logits[0]), &full.values, TOLERANCE);
        }
        assert_eq!(text.len(), row.length);
    }
}

#[test]
fn texts_together_have_the_bits_of_texts_alone_on_any_number_of_threads() {
    let golden = golden("toy", None);
    let rows = &golden.rows;
    let all: Vec<Vec<Vec<f32>>> = [1, 3]
        .into_iter()
        .map(|threads| {
            let model = Model::new(&toy("toy_coca"), Isa::detect(), threads);
            let (images, decoder) = (model.images(), model.decoder());
            let size = model.variant.image_size();
            let memory = |row: usize| {
                Arc::new(Memory::of(model.coca().width(), run(&images, size, &rows[row].pixels)))
            };
            let start = || -> Vec<Text> { (0..4).map(|row| decoder.text(&memory(row), 12)).collect() };
            // Rows of different lengths: prompts of 1, 2, 3 and 4 ids, then one id each.
            let ids: Vec<[&[u32]; 2]> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| [&row.ids[..=i.min(2)], &row.ids[i.min(2) + 1..i.min(2) + 2]])
                .collect();
            let mut together = start();
            let mut texts: Vec<&mut Text> = together.iter_mut().collect();
            let got: Vec<Vec<f32>> = (0..2)
                .flat_map(|step| {
                    let ids: Vec<&[u32]> = ids.iter().map(|ids| ids[step]).collect();
                    decoder.step(&mut texts, &ids).unwrap()
                })
                .collect();
            let mut alone = start();
            let apart: Vec<Vec<f32>> = (0..2)
                .flat_map(|step| {
                    let each = alone
                        .iter_mut()
                        .zip(&ids)
                        .map(|(text, ids)| decoder.step(&mut [text], &[ids[step]]).unwrap());
                    each.flatten().collect::<Vec<_>>()
                })
                .collect();
            assert!(got == apart, "{threads} threads");
            got
        })
        .collect();
    assert!(all[0] == all[1]);
}

#[test]
fn a_clone_continues_on_its_own() {
    let model = Model::new(&toy("toy_coca"), Isa::detect(), 1);
    let golden = golden("toy", None);
    let made = run(&model.images(), model.variant.image_size(), &golden.rows[0].pixels);
    let (decoder, memory) = (model.decoder(), Arc::new(Memory::of(model.coca().width(), made)));
    let mut text = decoder.text(&memory, 5);
    decoder.step(&mut [&mut text], &[&[62, 3]]).unwrap();
    let mut other = text.clone();
    let expected = decoder.step(&mut [&mut text], &[&[7]]).unwrap();
    decoder.step(&mut [&mut other], &[&[9]]).unwrap();
    let mut again = decoder.text(&memory, 5);
    let got = decoder.step(&mut [&mut again], &[&[62, 3, 7]]).unwrap();
    assert_close("a text beside its clone", &wide(&got[2]), &wide(&expected[0]), 1e-6);
}

#[test]
fn what_does_not_fit_is_an_error_and_changes_nothing() {
    let model = Model::new(&toy("toy_coca"), Isa::detect(), 1);
    let golden = golden("toy", None);
    let made = run(&model.images(), model.variant.image_size(), &golden.rows[0].pixels);
    let (decoder, memory) = (model.decoder(), Arc::new(Memory::of(model.coca().width(), made)));
    // The context is 12, whatever room is asked for.
    let (mut short, mut long) = (decoder.text(&memory, 3), decoder.text(&memory, 1000));
    let error = decoder.step(&mut [&mut long, &mut short], &[&[1], &[1; 4]]).unwrap_err();
    assert!(matches!(error, EngineError::TextLength { capacity: 3, wanted: 4 }), "{error}");
    let error = decoder.step(&mut [&mut long], &[&[1; 13]]).unwrap_err();
    assert!(matches!(error, EngineError::TextLength { capacity: 12, wanted: 13 }), "{error}");
    let error = decoder.step(&mut [&mut long], &[&[64]]).unwrap_err();
    assert!(matches!(error, EngineError::Token { id: 64, position: 0, .. }), "{error}");
    assert!(long.is_empty() && short.is_empty());
    assert!(decoder.step(&mut [], &[]).unwrap().is_empty());
    // A graph that continues texts is no tower, and a tower continues none.
    let step = model.tower(Graph::trace_step(&model.coca(), model.weights.as_ref()));
    assert!(matches!(step.run(Input::Ids(&[1])), Err(EngineError::InputKind { .. })));
}
