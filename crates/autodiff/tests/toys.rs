//! The training reading of every toy model against the reference reading: features, and gradients by differences.

use mobileclip_arch::{Array, Dialect, Form, Manifest, Reference, Role, Tower, Variant, Weights};
use mobileclip_autodiff::{BatchNormMode, Cpu, Gradients, Parameters, Random, Train, TrainOptions};
use mobileclip_kernels::Isa;
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden;
use mobileclip_testing::toys::{TOYS, toy};

/// The readings' agreement in single precision.
const TOLERANCE: f64 = 2e-5;

fn variants() -> impl Iterator<Item = (&'static str, Variant)> {
    TOYS.iter().map(|&name| (name, toy(name))).filter(|(_, v)| v.dialect == Dialect::OpenClip)
}

const RUNNING: TrainOptions = TrainOptions {
    batch_norm: BatchNormMode::Running,
    records: true,
    recomputes: false,
    drop_path: 0.0,
    random: Random::new(0),
    first_sample: 0,
};

/// A golden's inputs of one tower, as f32 rows and as arrays of the reference.
enum Inputs {
    Images(Vec<Vec<f64>>),
    Texts(Vec<Vec<u32>>),
}

fn inputs(tower: Tower, golden: &golden::Model) -> Inputs {
    let shape = Tower::Image.input(golden.size.0, golden.size.1);
    match tower {
        Tower::Image => Inputs::Images(
            golden.images.iter().map(|i| formula::pixels(i, shape, golden.mean, golden.std)).collect(),
        ),
        Tower::Text => Inputs::Texts(golden.token_rows.clone()),
    }
}

/// Features of all samples by the training reading, its pass, and the feature's handle.
fn run<'a>(
    variant: &Variant,
    size: (usize, usize),
    inputs: &Inputs,
    train: &Train<'a, Cpu>,
) -> mobileclip_autodiff::Tensor<Cpu> {
    match inputs {
        Inputs::Images(images) => {
            let values: Vec<f32> = images.iter().flatten().map(|v| *v as f32).collect();
            variant.encode_image(train, &train.images(images.len(), size.0, size.1, &values))
        }
        Inputs::Texts(rows) => variant.encode_text(train, &train.texts(rows.len(), &rows.concat())),
    }
}

/// Features of all samples by the reference reading of single-precision inputs.
fn reference(variant: &Variant, size: (usize, usize), inputs: &Inputs, weights: &dyn Weights) -> Vec<f64> {
    let reading = Reference::new(weights);
    match inputs {
        Inputs::Images(images) => images
            .iter()
            .flat_map(|image| {
                let values = image.iter().map(|v| f64::from(*v as f32)).collect();
                let image = Array::new(Tower::Image.input(size.0, size.1), values);
                variant.encode_image(&reading, &image).values
            })
            .collect(),
        Inputs::Texts(rows) => {
            rows.iter().flat_map(|row| variant.encode_text(&reading, &Array::ids(row)).values).collect()
        }
    }
}

#[test]
fn toys_give_the_features_of_the_reference() {
    for (name, variant) in variants() {
        let golden = golden::model(&format!("toy/{name}"));
        let parameters = Parameters::new(&Manifest::of(&variant), &Formula::of(&Manifest::of(&variant)));
        for tower in [Tower::Image, Tower::Text] {
            let inputs = inputs(tower, &golden);
            let expected = reference(&variant, golden.size, &inputs, &parameters);
            let width = variant.embed_dim;
            for isa in Isa::available() {
                let cpu = Cpu::with_isa(2, isa);
                let train = Train::new(&cpu, &parameters, RUNNING);
                let features = train.rows(&run(&variant, golden.size, &inputs, &train));
                for (got, expected) in features.chunks(width).zip(expected.chunks(width)) {
                    let got: Vec<f64> = got.iter().map(|v| f64::from(*v)).collect();
                    assert_close(&format!("{name} {tower:?} {}", isa.name()), &got, expected, TOLERANCE);
                }
            }
        }
    }
}

/// Weights with one tensor moved along a direction.
struct Moved<'a> {
    parameters: &'a Parameters,
    name: &'a str,
    step: f64,
    direction: &'a [f64],
}

impl Weights for Moved<'_> {
    fn contains(&self, name: &str) -> bool {
        self.parameters.contains(name)
    }

    fn f32(&self, name: &str) -> std::borrow::Cow<'_, [f32]> {
        self.parameters.f32(name)
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        let mut values: Vec<f64> = self.parameters.f32(name).iter().map(|v| f64::from(*v)).collect();
        if name == self.name {
            values.iter_mut().zip(self.direction).for_each(|(v, d)| *v += self.step * d);
        }
        values
    }
}

/// A parameter's gradient of a weighted sum of the features is the slope along every direction. A third of each toy's
/// parameters is tried, another one in each: the reference takes its time.
#[test]
fn gradients_are_slopes() {
    for (turn, (name, variant)) in variants().enumerate() {
        let golden = golden::model(&format!("toy/{name}"));
        let manifest = Manifest::of(&variant);
        let parameters = Parameters::new(&manifest, &Formula::of(&manifest));
        let sets = Isa::available();
        let cpu = Cpu::with_isa(2, sets[turn % sets.len()]);
        for tower in [Tower::Image, Tower::Text] {
            let inputs = match inputs(tower, &golden) {
                Inputs::Images(images) => Inputs::Images(images[..1].to_vec()),
                Inputs::Texts(rows) => Inputs::Texts(rows[..2].to_vec()),
            };
            let train = Train::new(&cpu, &parameters, RUNNING);
            let features = run(&variant, golden.size, &inputs, &train);
            let weights: Vec<f32> = (0..train.rows(&features).len())
                .map(|i| Random::new(3).with(i as u64).unit() as f32 - 0.5)
                .collect();
            let mut gradients = Gradients::new(&parameters);
            assert!(train.backward(&[(features, &weights)], &mut gradients).is_empty());
            let value = |moved: &dyn Weights| -> f64 {
                let features = reference(&variant, golden.size, &inputs, moved);
                features.iter().zip(&weights).map(|(f, w)| f * f64::from(*w)).sum()
            };
            let mut checked = 0;
            for spec in manifest.of_form(Form::Train).filter(|s| s.tower == Some(tower)) {
                let index = parameters.index(&spec.name).unwrap();
                assert_eq!(gradients.get(index).is_some(), spec.role == Role::Parameter, "{}", spec.name);
                let Some(gradient) = gradients.get(index).filter(|_| index % 3 == turn % 3) else { continue };
                // Along the gradient, and along a random direction beside it: a part that is missing would show.
                let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                let random = Random::new(5).with_name(&spec.name);
                let direction: Vec<f64> = gradient
                    .iter()
                    .enumerate()
                    .map(|(i, g)| {
                        let beside = (random.with(i as u64).unit() - 0.5) / (gradient.len() as f64).sqrt();
                        f64::from(*g) / norm.max(1e-12) + beside
                    })
                    .collect();
                let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
                let at = |step: f64| {
                    value(&Moved { parameters: &parameters, name: &spec.name, step, direction: &direction })
                };
                let step = 1e-4;
                let slope = (at(step) - at(-step)) / (2.0 * step);
                // Curvature: the third derivative times the step's square.
                let error = (slope - expected).abs() / norm.max(1e-3);
                assert!(
                    error < 2e-4,
                    "{name} `{}`: slope {slope}, gradient {expected}, off by {error:e}",
                    spec.name
                );
                checked += 1;
            }
            assert!(checked > 3, "{name} {tower:?}: only {checked} parameters");
        }
    }
}

/// Everything that a pass gives: features, gradients, statistics.
fn pass(threads: usize, options: TrainOptions) -> (Vec<f32>, Vec<Vec<f32>>, usize) {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let cpu = Cpu::new(threads);
    let images: Vec<f32> = (0..3).flat_map(|i| formula::image(&format!("pass:{i}"), 64, 64)).collect();
    let ids: Vec<u32> = (0..40).map(|i| i * 7 % 50).collect();
    let mut gradients = Gradients::new(&parameters);
    let train = Train::new(&cpu, &parameters, options);
    let image = variant.encode_image(&train, &train.images(3, 64, 64, &images));
    let text = variant.encode_text(&train, &train.texts(5, &ids));
    let (image_rows, text_rows) = (train.rows(&image), train.rows(&text));
    let statistics = train.backward(&[(image, &image_rows), (text, &text_rows)], &mut gradients);
    parameters.apply(&statistics);
    let all =
        (0..parameters.len()).map(|i| gradients.get(i).unwrap_or(parameters.values(i)).to_vec()).collect();
    ([image_rows, text_rows].concat(), all, statistics.len())
}

/// Threads divide work, recomputation does it twice, drop path is keyed: none changes a bit.
#[test]
fn bits_depend_neither_on_threads_nor_on_recomputation() {
    for drop_path in [0.0, 0.6] {
        let options = TrainOptions { drop_path, ..TrainOptions::default() };
        let plain = pass(1, options);
        assert!(plain.2 > 20);
        assert!(pass(3, options) == plain, "three threads, drop path {drop_path}");
        let recomputed = pass(2, TrainOptions { recomputes: true, ..options });
        assert!(recomputed == plain, "recomputation, drop path {drop_path}");
    }
    let drop =
        |seed| pass(1, TrainOptions { drop_path: 0.6, random: Random::new(seed), ..TrainOptions::default() });
    assert!(drop(0).0 != drop(1).0, "drop path does not look at its key");
}

#[test]
fn frozen_parameters_get_no_gradient_and_change_no_other() {
    let variant = toy("train_toy");
    let manifest = Manifest::of(&variant);
    let mut parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let cpu = Cpu::new(1);
    let ids: Vec<u32> = (0..16).map(|i| i * 3 % 50).collect();
    let run = |parameters: &Parameters| {
        let mut gradients = Gradients::new(parameters);
        let train = Train::new(&cpu, parameters, TrainOptions::default());
        let text = variant.encode_text(&train, &train.texts(2, &ids));
        let rows = train.rows(&text);
        train.backward(&[(text, &rows)], &mut gradients);
        gradients
    };
    let free = run(&parameters);
    let frozen: Vec<usize> =
        (0..parameters.len()).filter(|&i| parameters.spec(i).name.contains("resblocks.0")).collect();
    frozen.iter().for_each(|&i| parameters.set_trained(i, false));
    let partly = run(&parameters);
    assert!(frozen.len() > 8);
    for i in 0..parameters.len() {
        match frozen.contains(&i) {
            true => assert!(partly.get(i).is_none()),
            false => assert_eq!(partly.get(i), free.get(i), "{}", parameters.spec(i).name),
        }
    }
}
