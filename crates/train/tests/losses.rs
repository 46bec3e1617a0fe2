//! Losses and gradients against the published trainer's, in double precision (`golden/training/losses.json`).

use mobileclip_kernels::Pool;
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::golden::{self, array, number, numbers};
use mobileclip_train::{
    Captions, Contrast, Normalised, Objective, ObjectiveError, Pairs, Prompts, Rows, TeacherAverage,
    Teachers, Weights,
};
use serde_json::Value;

/// Both sides compute in double precision and goldens have twelve digits, but with equal rows gradients cancel to 1e-8.
const TOLERANCE: f64 = 1e-6;

fn rows(value: &Value) -> (Vec<f32>, usize) {
    let rows: Vec<Vec<f64>> = array(value).iter().map(numbers).collect();
    (rows.concat().iter().map(|v| *v as f32).collect(), rows[0].len())
}

/// A number or none; a missing or null one counts as none.
fn list(value: &Value) -> Vec<f64> {
    if value.is_null() { Vec::new() } else { numbers(value) }
}

fn objective(case: &Value) -> Objective {
    let contrast = match case["kind"].as_str().unwrap() {
        "siglip" | "siglip_distill" => Contrast::Sigmoid,
        _ => Contrast::Softmax,
    };
    let parameters = &case["parameters"];
    if parameters["teacher_dims"].is_null() {
        return Objective::contrastive(contrast);
    }
    let widths: Vec<usize> = array(&parameters["teacher_dims"]).iter().map(golden::count).collect();
    let average = match parameters["average"].as_str().unwrap().starts_with("after") {
        true => TeacherAverage::Probabilities,
        false => TeacherAverage::Logits,
    };
    let (scales, biases) = (list(&parameters["teacher_scales"]), list(&parameters["teacher_biases"]));
    let teachers = Teachers::new(&widths, &scales, &biases, average).unwrap();
    let weights = &parameters["weights"];
    let (contrastive, distill) = (number(&weights["contrastive"]), number(&weights["distill"]));
    Objective::new(contrast, Weights { contrastive, distill, class: 0.0 }, Some(teachers)).unwrap()
}

#[test]
fn every_case_of_the_golden() {
    let cases = golden::json("training/losses.json");
    let mut kinds = std::collections::BTreeSet::new();
    for case in array(&cases["cases"]) {
        let name = case["name"].as_str().unwrap();
        let (inputs, expected) = (&case["inputs"], &case["expected"]);
        let read = |key: &str| (!inputs[key].is_null()).then(|| rows(&inputs[key]));
        let (images, texts, synthetic) =
            (read("image_features"), read("text_features"), read("syn_text_features"));
        let teachers = ["dist_image_features", "dist_text_features", "dist_syn_text_features"].map(read);
        let images = images.unwrap();
        fn of(rows: &(Vec<f32>, usize)) -> Rows<'_> {
            Rows::new(&rows.0, rows.1)
        }
        let captions = [(&texts, &teachers[1]), (&synthetic, &teachers[2])]
            .into_iter()
            .filter_map(|(features, teacher)| {
                Some(Captions { features: of(features.as_ref()?), teacher: teacher.as_ref().map(of) })
            })
            .collect();
        let pairs = Pairs {
            images: of(&images),
            teacher: teachers[0].as_ref().map(of),
            captions,
            classes: &[],
            prompts: None,
            scale: number(&inputs["logit_scale"]),
            bias: inputs["logit_bias"].as_f64().unwrap_or(0.0),
        };
        let losses = objective(case).loss(&Pool::new(2), &pairs).unwrap();
        let close = |what: &str, got: &[f64], expected: &[f64]| {
            // One sample, or what cancels: goldens of nothing.
            if expected.iter().all(|v| v.abs() < 1e-12) {
                assert!(got.iter().all(|v| v.abs() < 1e-12), "{name} {what}: {got:?}");
            } else {
                assert_close(&format!("{name} {what}"), got, expected, TOLERANCE);
            }
        };
        close("contrastive", &[losses.contrastive], &[number(&expected["contrastive_loss"])]);
        close("distill", &[losses.distill], &[expected["distill_loss"].as_f64().unwrap_or(0.0)]);
        close("total", &[losses.total()], &[number(&expected["total"])]);
        let grad = &expected["grad"];
        let flat = |key: &str| -> Vec<f64> { array(&grad[key]).iter().flat_map(numbers).collect() };
        close("images", &losses.images, &flat("image_features"));
        close("texts", &losses.captions[0], &flat("text_features"));
        if synthetic.is_some() {
            close("synthetic", &losses.captions[1], &flat("syn_text_features"));
        }
        close("scale", &[losses.scale], &[number(&grad["logit_scale"])]);
        close("log scale", &[losses.scale * pairs.scale], &[number(&expected["grad_of_log_logit_scale"])]);
        if let Some(bias) = grad["logit_bias"].as_f64() {
            close("bias", &[losses.bias], &[bias]);
        }
        kinds.insert(case["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

/// UniCL: an image is to be as near to every text of its class, and the reverse.
#[test]
fn rows_of_a_class_are_positives() {
    let values: Vec<f32> = (0..24).map(|i| (i as f32 * 1.7).sin()).collect();
    let (images, texts) =
        (Normalised::new(Rows::new(&values[..12], 3)), Normalised::new(Rows::new(&values[12..], 3)));
    let classes = [7, 2, 7, 5];
    let loss = |contrast, images: &[f32]| {
        let captions = vec![Captions { features: texts.rows(), teacher: None }];
        let images = Rows::new(images, 3);
        let pairs = Pairs {
            images,
            teacher: None,
            captions,
            classes: &classes,
            prompts: None,
            scale: 5.0,
            bias: -1.0,
        };
        Objective::contrastive(contrast).loss(&Pool::new(1), &pairs).unwrap()
    };
    let dot = |i: usize, j: usize| -> f64 {
        let rows = [images.rows().values()[3 * i..].iter(), texts.rows().values()[3 * j..].iter()];
        let [a, b] = rows;
        a.zip(b).take(3).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let logit = |i, j| 5.0 * dot(i, j);
    let mut softmax = 0.0;
    let mut sigmoid = 0.0;
    for i in 0..4 {
        let same: Vec<usize> = (0..4).filter(|j| classes[*j] == classes[i]).collect();
        let of_image = (0..4).map(|j| logit(i, j).exp()).sum::<f64>().ln();
        let of_text = (0..4).map(|j| logit(j, i).exp()).sum::<f64>().ln();
        for &j in &same {
            softmax += (of_image - logit(i, j) + of_text - logit(j, i)) / (8 * same.len()) as f64;
        }
        for j in 0..4 {
            let label = if same.contains(&j) { 1.0 } else { -1.0 };
            sigmoid += (1.0 + (-label * (logit(i, j) - 1.0)).exp()).ln() / 4.0;
        }
    }
    for (contrast, expected) in [(Contrast::Softmax, softmax), (Contrast::Sigmoid, sigmoid)] {
        let found = loss(contrast, images.rows().values());
        assert!(
            (found.contrastive - expected).abs() < 1e-12,
            "{contrast:?}: {} {expected}",
            found.contrastive
        );
        for i in 0..12 {
            let at = |step: f32| {
                let mut moved = images.rows().values().to_vec();
                moved[i] += step;
                (loss(contrast, &moved).contrastive, f64::from(moved[i]))
            };
            let ((up, above), (down, below)) = (at(1e-3), at(-1e-3));
            let slope = (up - down) / (above - below);
            assert!((slope - found.images[i]).abs() < 1e-5, "{contrast:?} {i}: {slope} {}", found.images[i]);
        }
    }
}

/// The class term: a softmax over the prompts of all classes, and nothing of an image without a class.
#[test]
fn images_are_compared_with_every_class() {
    let values: Vec<f32> = (0..24).map(|i| (i as f32 * 2.3).sin()).collect();
    let images = Normalised::new(Rows::new(&values[..9], 3));
    let prompts = Normalised::new(Rows::new(&values[9..24], 3));
    let labels = [Some(4), None, Some(0)];
    let weights = Weights { class: 2.0, ..Weights::default() };
    let objective = Objective::new(Contrast::Softmax, weights, None).unwrap();
    let loss = |images: &[f32], prompts: &[f32], labels: &[Option<usize>]| {
        let captions = vec![Captions { features: Rows::new(&values[..9], 3), teacher: None }];
        let prompts = Some(Prompts { features: Rows::new(prompts, 3), labels });
        let images = Rows::new(images, 3);
        let pairs = Pairs { images, teacher: None, captions, classes: &[], prompts, scale: 5.0, bias: 0.0 };
        objective.loss(&Pool::new(2), &pairs)
    };
    let (of_images, of_prompts) = (images.rows().values(), prompts.rows().values());
    let found = loss(of_images, of_prompts, &labels).unwrap();
    let logit = |image: usize, class: usize| -> f64 {
        let pairs = of_images[3 * image..].iter().zip(&of_prompts[3 * class..]).take(3);
        5.0 * pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let expected: f64 = [(0, 4), (2, 0)]
        .map(|(image, class)| (0..5).map(|c| logit(image, c).exp()).sum::<f64>().ln() - logit(image, class))
        .iter()
        .sum();
    assert!((found.total() - 2.0 * expected / 3.0).abs() < 1e-12, "{} {expected}", found.total());
    assert_eq!((found.class, found.contrastive), (Some(found.total()), 0.0));
    let slope = |rows: &[f32], i: usize, value: &dyn Fn(&[f32]) -> f64| {
        let at = |step: f32| {
            let mut moved = rows.to_vec();
            moved[i] += step;
            (value(&moved), f64::from(moved[i]))
        };
        let ((up, above), (down, below)) = (at(1e-3), at(-1e-3));
        (up - down) / (above - below)
    };
    for i in 0..9 {
        let of = |rows: &[f32]| loss(rows, of_prompts, &labels).unwrap().total();
        assert!((slope(of_images, i, &of) - found.images[i]).abs() < 1e-5, "image {i}");
    }
    for i in 0..15 {
        let of = |rows: &[f32]| loss(of_images, rows, &labels).unwrap().total();
        assert!((slope(of_prompts, i, &of) - found.prompts[i]).abs() < 1e-5, "prompt {i}");
    }
    let beyond = loss(of_images, of_prompts, &[Some(5), None, None]);
    assert_eq!(beyond, Err(ObjectiveError::NoPrompt { label: 5, classes: 5 }));
    let few = loss(of_images, of_prompts, &labels[..2]);
    assert_eq!(few, Err(ObjectiveError::RowCount { what: "labels", expected: 3, found: 2 }));
}

#[test]
fn gradients_of_lengths() {
    let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
    let of_rows: Vec<f64> = (0..12).map(|i| (f64::from(i) * 1.3).cos()).collect();
    let value = |values: &[f32]| -> f64 {
        values
            .chunks(4)
            .zip(of_rows.chunks(4))
            .map(|(row, g)| {
                let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                row.iter().zip(g).map(|(v, g)| f64::from(*v) / length * g).sum::<f64>()
            })
            .sum()
    };
    let gradient = Normalised::new(Rows::new(&values, 4)).gradient(&of_rows);
    for i in 0..12 {
        let at = |step: f32| {
            let mut moved = values.clone();
            moved[i] += step;
            (value(&moved), f64::from(moved[i]))
        };
        let ((up, above), (down, below)) = (at(1e-3), at(-1e-3));
        let slope = (up - down) / (above - below);
        assert!((slope - f64::from(gradient[i])).abs() < 1e-5, "{i}: {slope} {}", gradient[i]);
    }
}

#[test]
fn contradictions_are_errors() {
    let teachers = |scales: &[f64], average| {
        Teachers::new(&[5, 7], scales, &[], average).map(|teachers| teachers.width())
    };
    assert_eq!(teachers(&[100.0], TeacherAverage::Probabilities), Ok(12));
    let three = teachers(&[1.0, 2.0, 3.0], TeacherAverage::Probabilities).unwrap_err();
    assert_eq!(three.to_string(), "3 logit scales for 2 teachers: give one for all, or one for each");
    assert_eq!(teachers(&[1.0, 2.0], TeacherAverage::Logits), Err(ObjectiveError::OneScale(2)));
    assert!(matches!(teachers(&[-1.0], TeacherAverage::Probabilities), Err(ObjectiveError::Range { .. })));
    let objective = |contrastive, distill| {
        let weights = Weights { contrastive, distill, class: 0.0 };
        Objective::new(Contrast::Softmax, weights, None).map(|o| o.distills())
    };
    assert_eq!(objective(0.0, 0.0), Err(ObjectiveError::NoTerm));
    assert_eq!(objective(0.0, 1.0), Err(ObjectiveError::WeightWithoutTeachers(1.0)));
    assert!(objective(f64::NAN, 1.0).is_err());

    let teachers = Teachers::new(&[2], &[], &[], TeacherAverage::Probabilities).unwrap();
    let objective =
        Objective::new(Contrast::Softmax, Weights { distill: 1.0, ..Weights::default() }, Some(teachers))
            .unwrap();
    let values = [0.5; 6];
    let rows = |width| Some(Rows::new(&values, width));
    let loss = |teacher, of_text| {
        let captions = vec![Captions { features: Rows::new(&values, 2), teacher: of_text }];
        let pairs = Pairs {
            images: Rows::new(&values, 2),
            teacher,
            captions,
            classes: &[],
            prompts: None,
            scale: 1.0,
            bias: 0.0,
        };
        objective.loss(&Pool::new(1), &pairs).map(|losses| losses.total())
    };
    assert!(loss(rows(2), rows(2)).is_ok());
    assert_eq!(loss(None, rows(2)), Err(ObjectiveError::NoTeacherRows("images")));
    assert_eq!(loss(rows(2), None), Err(ObjectiveError::NoTeacherRows("texts")));
    assert!(matches!(loss(rows(2), rows(3)), Err(ObjectiveError::RowCount { found: 2, .. })));
    let wide = [0.5; 9];
    let wide = Some(Rows::new(&wide, 3));
    assert_eq!(loss(wide, rows(2)), Err(ObjectiveError::TeacherWidth { expected: 2, found: 3 }));
    let captions = vec![Captions { features: Rows::new(&values, 2), teacher: None }];
    let images = Rows::new(&values, 2);
    let pairs =
        Pairs { images, teacher: None, captions, classes: &[1, 2], prompts: None, scale: 1.0, bias: 0.0 };
    let found = Objective::contrastive(Contrast::Softmax).loss(&Pool::new(1), &pairs);
    assert_eq!(found, Err(ObjectiveError::RowCount { what: "classes", expected: 3, found: 2 }));
}
