//! Five reinforced steps of two small models against the published trainer's in double precision
//! (`golden/training/toy.json`, `toy_causal.json`).

use mobileclip_arch::{Form, Manifest, Role, Variant};
use mobileclip_autodiff::{Cpu, Gradients, Parameters, Train, TrainOptions};
use mobileclip_kernels::Isa;
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden::{self, array, count, number, numbers};
use mobileclip_testing::toys::toy;
use mobileclip_train::step::{self, Batch};
use mobileclip_train::{
    AdamW, Contrast, Normalised, Objective, Optimiser, Rows, Rule, Schedule, TeacherAverage, Teachers,
    Weights, clamp_logit_scale,
};
use serde_json::Value;

struct Golden {
    variant: Variant,
    json: Value,
}

impl Golden {
    fn config(&self, key: &str) -> f64 {
        number(&self.json["config"][key])
    }

    fn salted(&self, name: &str) -> String {
        format!("{}{name}", self.json["config"]["salt"].as_str().unwrap())
    }

    fn parameters(&self) -> Parameters {
        let manifest = Manifest::of(&self.variant);
        let mut parameters = Parameters::new(&manifest, &Formula::salted(&self.salted(""), &manifest));
        let scale = parameters.index("logit_scale").unwrap();
        parameters.values_mut(scale)[0] = self.config("log_scale") as f32;
        parameters
    }

    fn batch(&self, step: usize) -> Batch {
        let config = &self.json["config"];
        let (rows, side) = (count(&config["batch"]), count(&config["image"]));
        let widths: Vec<usize> = array(&config["dims"]).iter().map(count).collect();
        let embeddings = |kind: &str| -> Vec<f32> {
            let teachers: Vec<Vec<f64>> = widths
                .iter()
                .enumerate()
                .map(|(t, width)| {
                    formula::numbers(&self.salted(&format!("teacher:{kind}:{step}:{t}")), rows * width)
                })
                .collect();
            (0..rows)
                .flat_map(|row| {
                    let unit = |(values, width): (&Vec<f64>, &usize)| -> Vec<f32> {
                        let row = &values[row * width..][..*width];
                        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                        row.iter().map(|v| (v / length) as f32).collect()
                    };
                    teachers.iter().zip(&widths).flat_map(unit).collect::<Vec<f32>>()
                })
                .collect()
        };
        let ids = |kind: usize| -> Vec<u32> {
            let rows = &self.json["text_ids_of_steps"][step][kind];
            array(rows).iter().flat_map(numbers).map(|id| id as u32).collect()
        };
        Batch {
            count: rows,
            size: (side, side),
            images: (0..rows)
                .flat_map(|i| formula::image(&self.salted(&format!("train:{step}:{i}")), side, side))
                .collect(),
            captions: vec![ids(0), ids(1)],
            teacher_images: embeddings("image"),
            teacher_captions: vec![embeddings("text"), embeddings("syn")],
            ..Batch::default()
        }
    }

    fn objective(&self) -> Objective {
        let config = &self.json["config"];
        let widths: Vec<usize> = array(&config["dims"]).iter().map(count).collect();
        let scales = numbers(&config["scales"]);
        let teachers = Teachers::new(&widths, &scales, &[], TeacherAverage::Probabilities).unwrap();
        let weights = numbers(&config["weights"]);
        let weights = Weights { contrastive: weights[0], distill: weights[1], class: 0.0 };
        Objective::new(Contrast::Softmax, weights, Some(teachers)).unwrap()
    }
}

fn goldens() -> [Golden; 2] {
    ["toy", "toy_causal"].map(|name| Golden {
        variant: toy(&format!("train_{name}")),
        json: golden::json(&format!("training/{name}.json")),
    })
}

/// Compares norm and single values of tensors with a list of the golden. A tensor may be off by `tolerance`, or by five
/// times what the reference in single precision is, relative to its norm.
fn compare(what: &str, list: &Value, tolerance: f64, values: impl Fn(&str) -> Vec<f32>) {
    let mut checked = 0;
    for tensor in array(list) {
        let name = tensor["name"].as_str().unwrap();
        let got = values(name);
        let expected_norm = number(&tensor["norm"]);
        let allowed = tolerance.max(5.0 * tensor["f32"].as_f64().unwrap_or(0.0)) * expected_norm;
        let norm = got.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        assert!((norm - expected_norm).abs() <= allowed.max(1e-12), "{what} `{name}`: norm {norm}, {tensor}");
        for value in array(&tensor["values"]) {
            let (index, expected) = (count(&value[0]), number(&value[1]));
            let error = (f64::from(got[index]) - expected).abs();
            // A true gradient of zero has a norm of rounding errors in the golden, too.
            assert!(error <= allowed.max(1e-7), "{what} `{name}`[{index}]: {} for {expected}", got[index]);
        }
        checked += 1;
    }
    assert!(checked > 50, "{what}: {checked} tensors");
}

#[test]
fn five_steps() {
    for golden in goldens() {
        check_steps(&golden);
    }
}

fn check_steps(golden: &Golden) {
    let variant = &golden.variant;
    let mut parameters = golden.parameters();
    let keys = array(&golden.json["keys"]);
    assert_eq!(keys.len(), parameters.len());
    for key in keys {
        let (name, shape) = (key[0].as_str().unwrap(), array(&key[1]).iter().map(count).collect::<Vec<_>>());
        let index = parameters.index(name).unwrap_or_else(|| panic!("no `{name}`"));
        assert_eq!(parameters.spec(index).shape, shape, "{name}");
    }
    let cpu = Cpu::new(2);
    let adamw = AdamW {
        beta1: golden.config("beta1"),
        beta2: golden.config("beta2"),
        eps: golden.config("eps"),
        weight_decay: golden.config("wd"),
    };
    let mut optimiser = Optimiser::new(adamw, &parameters, Rule::published);
    let (warmup, total) = (golden.config("warmup") as u64, golden.config("total") as u64);
    let schedule = Schedule::cosine(golden.config("lr"), warmup, total);
    let objective = golden.objective();
    let mut gradients = Gradients::new(&parameters);
    for (step, expected) in array(&golden.json["steps"]).iter().enumerate() {
        gradients.clear();
        let batches = [golden.batch(step)];
        let options = TrainOptions::default();
        let outcome =
            step::gradients(&cpu, variant, &parameters, &objective, &batches, options, &mut gradients)
                .unwrap();
        if step == 0 {
            let stored = |kind: &str| -> Vec<f64> {
                array(&golden.json["features0"][kind]).iter().flat_map(numbers).collect()
            };
            let train = Train::new(&cpu, &parameters, options);
            let batch = &batches[0];
            let (side, rows) = (batch.size.0, batch.count);
            let images = train.images(rows, side, side, &batch.images);
            let texts = train.texts(2 * rows, &batch.captions.concat());
            for (kind, features) in [
                ("image", variant.encode_image(&train, &images)),
                ("text_then_syn", variant.encode_text(&train, &texts)),
            ] {
                let features = train.rows(&features);
                let unit = Normalised::new(Rows::new(&features, variant.embed_dim));
                let got: Vec<f64> = unit.rows().values().iter().map(|v| f64::from(*v)).collect();
                assert_close(kind, &got, &stored(kind), 1e-5);
            }
            let gradient = |name: &str| gradients.get(parameters.index(name).unwrap()).unwrap().to_vec();
            compare("first gradient of", &golden.json["grad0"], 1e-4, gradient);
        }
        let losses = [outcome.losses.contrastive, outcome.losses.distill];
        let expected_losses = [number(&expected["contrastive_loss"]), number(&expected["distill_loss"])];
        // From the second step on, what single precision misses in the first has moved the parameters.
        let missed = |key: &str| {
            let single = number(&golden.json["steps_in_f32"][step][key]);
            5.0 * (single / number(&expected[key]) - 1.0).abs()
        };
        let tolerance = missed("loss").max(if step == 0 { 1e-5 } else { 5e-5 });
        assert_close(&format!("losses of step {step}"), &losses, &expected_losses, tolerance);
        parameters.apply(&outcome.statistics);
        let rate = schedule.rate(step as u64);
        assert!((rate - number(&expected["lr"])).abs() < 1e-9);
        let clip = Some(golden.config("clip"));
        let norm = optimiser.step(cpu.pool(), Isa::detect(), &mut parameters, &gradients, rate, clip);
        let tolerance = missed("grad_norm_before_clip").max(if step == 0 { 2e-5 } else { 1e-4 });
        assert_close("norm", &[norm], &[number(&expected["grad_norm_before_clip"])], tolerance);
        clamp_logit_scale(&mut parameters);
        let value = |name: &str| parameters.values(parameters.index(name).unwrap()).to_vec();
        let log_scale = f64::from(value("logit_scale")[0]);
        assert!((log_scale - number(&expected["log_logit_scale"])).abs() < 1e-6);
        for (after, key) in [(0, "1"), (4, "5")] {
            if step == after {
                let json = &golden.json;
                compare(&format!("step {key}:"), &json[format!("after_step_{key}")], 1e-3, value);
                let statistics = &json[format!("batch_norm_after_step_{key}")];
                compare(&format!("step {key}:"), &statistics["tensors"], 1e-4, value);
                let counted = numbers(&statistics["num_batches_tracked"])[0] as u64;
                let counters = (0..parameters.len()).filter(|&i| parameters.spec(i).role == Role::Counter);
                assert!(counters.clone().all(|i| parameters.count(i) == counted));
            }
        }
    }
}

#[test]
fn accumulation_keeps_the_whole_contrastive_batch() {
    for golden in goldens() {
        check_accumulation(&golden);
    }
}

fn check_accumulation(golden: &Golden) {
    let variant = &golden.variant;
    let mut parameters = golden.parameters();
    let cpu = Cpu::new(2);
    let objective = Objective::contrastive(Contrast::Softmax);
    let batches: Vec<Batch> = (0..2)
        .map(|step| {
            let batch = golden.batch(step);
            Batch { captions: batch.captions[..1].to_vec(), ..batch }
        })
        .collect();
    let mut gradients = Gradients::new(&parameters);
    let options = TrainOptions::default();
    let outcome =
        step::gradients(&cpu, variant, &parameters, &objective, &batches, options, &mut gradients).unwrap();
    let expected = &golden.json["accumulation"];
    let loss = numbers(&expected["loss_of_each_pass"])[0];
    assert_close("loss", &[outcome.losses.total()], &[loss], 1e-5);
    // The published trainer adds the logit scale's gradient once for each micro-batch; here it is the whole batch's.
    gradients.sum(parameters.index("logit_scale").unwrap())[0] *= 2.0;
    // Without a column of what single precision misses, the first step's serves: the model is the same.
    let misses: std::collections::HashMap<&str, f64> = array(&golden.json["grad0"])
        .iter()
        .map(|t| (t["name"].as_str().unwrap(), number(&t["f32"])))
        .collect();
    let mut list = expected["grad"].clone();
    for tensor in list.as_array_mut().unwrap() {
        let miss = misses[tensor["name"].as_str().unwrap()];
        tensor["f32"] = miss.into();
    }
    compare("gradient of", &list, 1e-4, |name| {
        gradients.get(parameters.index(name).unwrap()).unwrap().to_vec()
    });
    // There, both passes move the running statistics.
    parameters.apply(&outcome.statistics);
    parameters.apply(&outcome.statistics);
    compare("", &expected["batch_norm_after"]["tensors"], 1e-4, |name| {
        parameters.values(parameters.index(name).unwrap()).to_vec()
    });
    assert_eq!(Manifest::of(variant).of_form(Form::Train).count(), parameters.len());
}
