//! A captioner's training loss and its gradients against open_clip's (`golden/captioner/loss.json`).

use mobileclip_arch::{Manifest, Shape, Variant};
use mobileclip_autodiff::{Cpu, Gradients, Parameters, TrainOptions};
use mobileclip_testing::compare::{assert_close, relative_error};
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden::{self, array, count, number, numbers, triple};
use mobileclip_testing::toys::toy;
use mobileclip_train::step::{self, Batch, Outcome};
use mobileclip_train::{Objective, ObjectiveError};
use serde_json::Value;

/// Of first gradients; single precision itself misses 4e-6.
const TOLERANCE: f64 = 1e-4;

struct Golden {
    json: Value,
    variant: Variant,
    parameters: Parameters,
}

impl Golden {
    fn read() -> Golden {
        let (json, variant) = (golden::json("captioner/loss.json"), toy("toy_coca"));
        let manifest = Manifest::of(&variant);
        let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
        let scale = parameters.index("logit_scale").unwrap();
        parameters.values_mut(scale)[0] = number(&json["log_scale"]) as f32;
        Golden { json, variant, parameters }
    }

    /// The golden's batch, cut into micro-batches of so many samples.
    fn batches(&self, counts: &[usize]) -> Vec<Batch> {
        let shape = Shape::new(3, 32, 32);
        let (mean, std) = (triple(&self.json["mean"]), triple(&self.json["std"]));
        let (labels, ids) = (array(&self.json["image_labels"]), array(&self.json["text_ids"]));
        let mut first = 0;
        let batch = |&count: &usize| {
            let rows = first..first + count;
            first += count;
            let pixels = |label: &Value| formula::pixels(label.as_str().unwrap(), shape, mean, std);
            let images = labels[rows.clone()].iter().flat_map(pixels).map(|v| v as f32).collect();
            let ids = ids[rows].iter().flat_map(numbers).map(|id| id as u32).collect();
            Batch { count, size: (32, 32), images, captions: vec![ids], ..Batch::default() }
        };
        counts.iter().map(batch).collect()
    }

    fn run(
        &self,
        objective: &Objective,
        counts: &[usize],
        options: TrainOptions,
        threads: usize,
    ) -> (Outcome, Gradients) {
        let mut gradients = Gradients::new(&self.parameters);
        let (cpu, batches) = (Cpu::new(threads), self.batches(counts));
        let outcome = step::gradients(
            &cpu,
            &self.variant,
            &self.parameters,
            objective,
            &batches,
            options,
            &mut gradients,
        );
        (outcome.unwrap(), gradients)
    }

    /// Compares with a list of gradients; returns how many there are.
    fn check(&self, gradients: &Gradients, list: &Value) -> usize {
        for row in array(list) {
            let name = row["name"].as_str().unwrap();
            let gradient = gradients.get(self.parameters.index(name).unwrap());
            let Some(expected_norm) = row["norm"].as_f64() else {
                assert!(gradient.is_none(), "{name} has a gradient");
                continue;
            };
            let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (norm - expected_norm).abs() <= TOLERANCE * expected_norm,
                "{name}: {norm}, expected {expected_norm}"
            );
            if row["values"].is_null() {
                continue;
            }
            let values: Vec<Vec<f64>> = array(&row["values"]).iter().map(numbers).collect();
            let got: Vec<f64> = values.iter().map(|v| f64::from(gradient[v[0] as usize])).collect();
            let expected: Vec<f64> = values.iter().map(|v| v[1]).collect();
            // Some of these few are near zero: against the tensor's norm they still say whether the place is right.
            let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let error = relative_error(&got, &expected);
            assert!(error < TOLERANCE || largest < 1e-3 * norm, "{name}: {error:e}");
        }
        array(list).len()
    }
}

#[test]
fn both_losses() {
    let golden = Golden::read();
    let objective = Objective::captioner(1.0, 2.0).unwrap();
    let recomputed = TrainOptions { recomputes: true, ..TrainOptions::default() };
    // In one batch, and in two micro-batches with nine and thirteen labels.
    for (counts, options, threads) in
        [(&[3][..], TrainOptions::default(), 1), (&[3], recomputed, 2), (&[1, 2], recomputed, 2)]
    {
        let (outcome, gradients) = golden.run(&objective, counts, options, threads);
        let losses = outcome.losses;
        let found = [losses.contrastive, losses.caption.unwrap(), losses.total()];
        let expected = ["contrastive_loss", "caption_loss", "total"].map(|key| number(&golden.json[key]));
        assert_close("losses", &found, &expected, 1e-5);
        assert_eq!(golden.check(&gradients, &golden.json["grad"]), 129);
    }
}

#[test]
fn captions_alone_leave_what_they_do_not_need() {
    let golden = Golden::read();
    let only = &golden.json["captions_only"];
    let objective =
        Objective::captioner(number(&only["contrastive_weight"]), number(&only["caption_weight"])).unwrap();
    for counts in [&[3][..], &[2, 1]] {
        let (outcome, gradients) = golden.run(&objective, counts, TrainOptions::default(), 1);
        assert_eq!(outcome.losses.contrastive, 0.0);
        assert_close("loss", &[outcome.losses.total()], &[number(&only["total"])], 1e-5);
        assert!(golden.check(&gradients, &only["grad"]) > 5);
    }
}

#[test]
fn a_captioner_has_one_set_of_captions() {
    let golden = Golden::read();
    let mut batches = golden.batches(&[3]);
    let again = batches[0].captions[0].clone();
    batches[0].captions.push(again);
    let mut gradients = Gradients::new(&golden.parameters);
    let objective = Objective::captioner(1.0, 2.0).unwrap();
    let found = step::gradients(
        &Cpu::new(1),
        &golden.variant,
        &golden.parameters,
        &objective,
        &batches,
        TrainOptions::default(),
        &mut gradients,
    );
    assert_eq!(found.unwrap_err(), ObjectiveError::OneCaptionSet(2));
    assert_eq!(Objective::captioner(0.0, 0.0).unwrap_err(), ObjectiveError::NoTerm);
    assert_eq!(count(&golden.json["pad_id"]), mobileclip_arch::PAD as usize);
}
