//! Reinforced shards: both layouts of embeddings train, and what is drawn is what is stored.

use super::common::{Place, log, train};
use mobileclip_testing::golden;
use mobileclip_train::config::{Augment, Pick};
use mobileclip_train::data::Source;
use mobileclip_train::{Config, Resume, variant_of};
use serde_json::Value;

fn config(place: &Place, set: &str) -> Config {
    let mut config = place.config(set);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards");
    config.data.shards = vec![format!("{folder}/{set}/00000000.tar")];
    config.data.augment = Augment::Recorded;
    config.loss.teacher_widths = vec![24, 24];
    config.loss.teacher_scales = vec![70.0, 60.0];
    config.loss.contrastive_weight = 0.0;
    config.loss.distill_weight = 1.0;
    config.run.batch = 4;
    config.run.steps = Some(4);
    config
}

#[test]
fn all_layouts_train() {
    let place = Place::new();
    let losses = |set: &str| -> Vec<f64> {
        let config = config(&place, set);
        let report = train(&config, &Resume::Never).unwrap();
        assert_eq!(report.skipped.len(), 0, "{:?}", report.skipped);
        let lines = log(&config);
        assert!(lines.iter().all(|line| line.contrastive_loss == 0.0 && line.distill_loss > 0.0));
        lines.iter().map(|line| line.loss).collect()
    };
    let list = losses("npz-list");
    assert_eq!(list, losses("npz-string"));
    // The same numbers, rounded to bf16.
    let rounded = losses("bf16");
    assert!(list.iter().zip(&rounded).all(|(a, b)| (a - b).abs() < 2e-2 * a) && list != rounded);
    losses("per-key");
}

#[test]
fn a_sample_has_the_rows_of_what_was_picked() {
    let place = Place::new();
    let mut config = config(&place, "npz-list");
    config.data.pick = Pick::Sequential;
    let variant = variant_of(&config).unwrap();
    let source = Source::open(&config, &variant, Vec::new(), &mut |_| {}).unwrap();
    let expected = golden::json("shards/npz-list/expected.json");
    let samples = golden::array(&expected["samples"]);
    // Single values of row `row` of an array, compared with a row that an item has.
    let compare = |array: &Value, row: usize, found: &[f32]| {
        let values = golden::array(&array["values"]).iter().map(golden::numbers);
        let of_row: Vec<_> = values.filter(|value| value[0] as usize == row).collect();
        for value in &of_row {
            assert!((f64::from(found[value[1] as usize]) - value[2]).abs() < 1e-7);
        }
        of_row.len()
    };
    let mut compared = 0;
    for epoch in 0..4 {
        for (number, sample) in samples.iter().enumerate() {
            let item = source.item(epoch as u64, number as u32).unwrap();
            assert_eq!(item.key, sample["key"].as_str().unwrap());
            let arrays = &sample["embeddings"];
            compared += compare(&arrays["image_emb"], epoch, &item.teacher_image);
            compared += compare(&arrays["text_emb"], 0, &item.teacher_captions[0]);
            compared += compare(&arrays["text_emb"], 1 + epoch, &item.teacher_captions[1]);
            assert_eq!((item.captions.len(), item.captions[0].len()), (2, 8));
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn mixed_captions_are_one_or_the_other() {
    let place = Place::new();
    let mut config = config(&place, "per-key");
    config.data.synthetic = "^syn_text_dfn".to_owned();
    config.data.mix_synthetic = Some(0.5);
    let variant = variant_of(&config).unwrap();
    let source = Source::open(&config, &variant, Vec::new(), &mut |_| {}).unwrap();
    let mut synthetic = config.clone();
    synthetic.data.mix_synthetic = Some(1.0);
    let synthetic = Source::open(&synthetic, &variant, Vec::new(), &mut |_| {}).unwrap();
    let taken: Vec<bool> = (0..100)
        .map(|epoch| {
            let [item, other] = [&source, &synthetic].map(|source| source.item(epoch, 0).unwrap());
            assert_eq!((item.captions.len(), item.teacher_captions.len()), (1, 1));
            item.captions == other.captions
        })
        .collect();
    assert!((30..70).contains(&taken.iter().filter(|taken| **taken).count()));
    config.data.synthetic = "^nothing".to_owned();
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("no captions in a set whose name matches `^nothing`"), "{error}");
}

#[test]
fn embeddings_of_another_width_are_named() {
    let place = Place::new();
    let mut config = config(&place, "npz-list");
    config.loss.teacher_widths = vec![24, 8];
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("48 columns, the teachers [24, 8] have 32"), "{error}");
}
