//! AdamW, its decay rule, clipping and schedules against the published trainer's (`golden/training`).

use mobileclip_arch::{Form, Manifest, Role, variant};
use mobileclip_autodiff::{Gradients, Parameters};
use mobileclip_kernels::{Isa, Pool};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::Formula;
use mobileclip_testing::golden::{self, array, number, numbers};
use mobileclip_testing::toys::toy;
use mobileclip_train::{AdamW, Ema, Optimiser, Rule, Schedule, clamp_logit_scale, has_weight_decay};
use serde_json::Value;

/// Numbers of a nested list, in order.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        other => vec![number(other)],
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}

fn to_f64(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn schedules() {
    let golden = golden::json("training/optimiser.json");
    let mut kinds = std::collections::BTreeSet::new();
    for case in array(&golden["schedules"]) {
        let (lr, steps) = (number(&case["lr"]), |key: &str| case[key].as_u64().unwrap());
        let (warmup, total) = (steps("warmup"), steps("total_steps"));
        let kind = case["kind"].as_str().unwrap();
        let schedule = match kind {
            "cosine" => Schedule::cosine(lr, warmup, total),
            "const" => Schedule::constant(lr, warmup, total),
            _ => {
                let (power, end) = (number(&case["cooldown_power"]), number(&case["cooldown_end_lr"]));
                Schedule::cooldown(lr, warmup, total, steps("cooldown_steps"), power, end)
            }
        };
        for at in array(&case["at"]) {
            let (step, expected) = (at[0].as_u64().unwrap(), number(&at[1]));
            let got = schedule.rate(step);
            assert!((got - expected).abs() <= 1e-11 * lr, "{case} at {step}: {got}");
        }
        kinds.insert(kind.to_owned());
    }
    assert_eq!(kinds.len(), 3);
}

/// A tensor of the toy that has as many numbers as asked for, to borrow its state.
fn tensor_of(parameters: &Parameters, len: usize) -> usize {
    let fits = |&i: &usize| parameters.is_trained(i) && parameters.values(i).len() >= len;
    (0..parameters.len()).find(fits).unwrap()
}

#[test]
fn steps_of_adamw() {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let pool = Pool::new(2);
    let golden = golden::json("training/optimiser.json");
    for case in array(&golden["adamw"]) {
        let get = |key: &str| number(&case[key]);
        let adamw = AdamW {
            beta1: get("beta1"),
            beta2: get("beta2"),
            eps: get("eps"),
            weight_decay: get("weight_decay"),
        };
        let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
        let start = to_f32(&flat(&case["start"]));
        let (index, n) = (tensor_of(&parameters, start.len()), start.len());
        let decay = Rule { rate: 1.0, decay: 1.0 };
        let mut optimiser = Optimiser::new(adamw, &parameters, |_, _| decay);
        parameters.values_mut(index)[..n].copy_from_slice(&start);
        for step in array(&case["steps"]) {
            let mut gradients = Gradients::new(&parameters);
            gradients.sum(index)[..n].copy_from_slice(&to_f32(&flat(&step["grad"])));
            optimiser.step(&pool, Isa::detect(), &mut parameters, &gradients, number(&step["lr"]), None);
            let [mean, square] = optimiser.state(index);
            let got = [("param", parameters.values(index)), ("exp_avg", mean), ("exp_avg_sq", square)];
            for (key, values) in got {
                assert_close(key, &to_f64(&values[..n]), &flat(&step[key]), 1e-6);
            }
        }
    }
}

#[test]
fn clipping_by_the_global_norm() {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let pool = Pool::new(2);
    let golden = golden::json("training/optimiser.json");
    for case in array(&golden["grad_clip"]) {
        let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
        // beta1 of 0 and a first step: the mean is the clipped gradient.
        let adamw = AdamW { beta1: 0.0, beta2: 0.5, eps: 1.0, weight_decay: 0.0 };
        let mut optimiser = Optimiser::new(adamw, &parameters, Rule::published);
        let mut gradients = Gradients::new(&parameters);
        let grads: Vec<Vec<f64>> = array(&case["grads"]).iter().map(flat).collect();
        let mut indices = Vec::new();
        for grad in &grads {
            let fits = |i: &usize| parameters.is_trained(*i) && parameters.values(*i).len() >= grad.len();
            let index = (0..parameters.len()).filter(|i| !indices.contains(i)).find(fits).unwrap();
            gradients.sum(index)[..grad.len()].copy_from_slice(&to_f32(grad));
            indices.push(index);
        }
        let largest = number(&case["max_norm"]);
        let norm = optimiser.step(&pool, Isa::detect(), &mut parameters, &gradients, 0.0, Some(largest));
        assert!((norm - number(&case["total_norm"])).abs() < 1e-6 * norm, "{norm}");
        for (index, clipped) in indices.into_iter().zip(array(&case["clipped"])) {
            let clipped = flat(clipped);
            assert_close("clipped", &to_f64(&optimiser.state(index)[0][..clipped.len()]), &clipped, 1e-6);
        }
    }
}

#[test]
fn which_parameters_decay() {
    let golden = golden::json("training/weight-decay.json");
    let mut checked = 0;
    for (name, case) in golden["models"].as_object().unwrap() {
        let Some(variant) = variant(name) else { continue };
        let manifest = Manifest::of(variant);
        for (key, decays) in [("with_decay", true), ("without_decay", false)] {
            let of_kind = || {
                let parameters = manifest.of_form(Form::Train).filter(|t| t.role == Role::Parameter);
                parameters.filter(|t| has_weight_decay(&t.name, &t.shape) == decays)
            };
            assert_eq!(of_kind().count(), golden::count(&case[key]["tensors"]), "{name} {key}");
            let numbers: u64 = of_kind().map(mobileclip_arch::TensorSpec::elements).sum();
            assert_eq!(numbers as usize, golden::count(&case[key]["parameters"]), "{name} {key}");
        }
        checked += 1;
    }
    assert!(checked >= 6, "{checked} models");
}

#[test]
fn the_logit_scale_is_clamped() {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let index = parameters.index("logit_scale").unwrap();
    let golden = golden::json("training/optimiser.json");
    for case in array(&golden["logit_scale_clamp"]["cases"]) {
        let [before, after] = numbers(case)[..] else { panic!("{case}") };
        parameters.values_mut(index)[0] = before as f32;
        clamp_logit_scale(&mut parameters);
        assert!((f64::from(parameters.values(index)[0]) - after).abs() < 5e-7, "{case}");
    }
}

#[test]
fn averages_of_weights() {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let mut ema = Ema::new(0.75, &parameters);
    let weight = parameters.index("visual.trunk.head.fc.weight").unwrap();
    let statistic = parameters.index("visual.trunk.stem.0.conv_kxk.0.bn.running_var").unwrap();
    let start = parameters.values(weight)[3];
    parameters.values_mut(weight)[3] = start + 4.0;
    parameters.values_mut(statistic)[1] = 9.0;
    ema.update(&parameters);
    ema.update(&parameters);
    let expected = start + 4.0 * (1.0 - 0.75 * 0.75);
    assert!((ema.parameters().values(weight)[3] - expected).abs() < 1e-6);
    assert_eq!(ema.parameters().values(statistic)[1], 9.0);
}
