//! Teachers that run while training say what they stored in shards.

use std::sync::Arc;

use mobileclip_arch::{Manifest, Variant};
use mobileclip_autodiff::{BatchNormMode, Cpu, Parameters, Train, TrainOptions};
use mobileclip_image::augment::Replay;
use mobileclip_image::{DecodeOptions, Filter, Preprocess};
use mobileclip_shards::{ArrayType, Dataset, Limits, Matrix, Reinforcement, ReinforcementSpec, array_member};
use mobileclip_testing::formula::Formula;
use mobileclip_text::Tokenizer;
use mobileclip_train::config::Augment;
use mobileclip_train::{Config, Helpers, Normalised, Resume, Rows, Teacher, run};

use super::common::{Entry, Place, kill_after_with, log, toy_variant};

/// A toy as a teacher.
struct Toy {
    variant: Variant,
    parameters: Parameters,
    preprocess: Preprocess,
    tokenizer: Tokenizer,
}

impl Toy {
    fn new(side: usize, width: usize, mean: f32, interpolation: Filter) -> Toy {
        let toml = toy_variant(side).replace("embed_dim = 16", &format!("embed_dim = {width}"));
        let variant = Variant::parse(&toml).unwrap();
        let manifest = Manifest::of(&variant);
        let parameters = Parameters::new(&manifest, &Formula::salted(&format!("teacher {side}"), &manifest));
        let (mean, size) = ([mean; 3], (side, side));
        let preprocess = Preprocess { size, mean, std: [0.25; 3], interpolation, ..Preprocess::default() };
        Toy { variant, parameters, preprocess, tokenizer: Tokenizer::new() }
    }

    /// Features of length 1 of what `encode` computes.
    fn unit(
        &self,
        encode: impl Fn(&Train<'_, Cpu>) -> mobileclip_autodiff::Tensor<Cpu>,
    ) -> Result<Vec<f32>, String> {
        let cpu = Cpu::new(1);
        let options =
            TrainOptions { batch_norm: BatchNormMode::Running, records: false, ..TrainOptions::default() };
        let train = Train::new(&cpu, &self.parameters, options);
        let features = train.rows(&encode(&train));
        Ok(Normalised::new(Rows::new(&features, self.width())).rows().values().to_vec())
    }
}

impl Teacher for Toy {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn width(&self) -> usize {
        self.variant.embed_dim
    }

    fn image(&self, pixels: &[f32]) -> Result<Vec<f32>, String> {
        let (height, width) = self.preprocess.size;
        self.unit(|train| self.variant.encode_image(train, &train.images(1, height, width, pixels)))
    }

    fn text(&self, caption: &str) -> Result<Vec<f32>, String> {
        let ids = self.tokenizer.tokenize(caption, self.variant.text.context);
        self.unit(|train| self.variant.encode_text(train, &train.texts(1, &ids)))
    }
}

/// Two, that see pictures in different sizes and numbers.
fn teachers() -> Vec<Arc<dyn Teacher>> {
    vec![Arc::new(Toy::new(48, 24, 0.5, Filter::Bicubic)), Arc::new(Toy::new(64, 16, 0.0, Filter::Bilinear))]
}

/// The golden shard with what these teachers make of it in place of its embeddings.
fn stored(place: &Place, teachers: &[Arc<dyn Teacher>]) {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/shards/npz-list/00000000.tar");
    let dataset = Dataset::open(&[golden.into()], None, &Limits::default(), &mut |_| {}).unwrap();
    let mut entries: Vec<Entry> = Vec::new();
    for number in 0..dataset.len() {
        let (shard, place) = dataset.locate(number).unwrap();
        let sample = dataset.shards()[shard].select(place, |_| true).unwrap().unwrap();
        let reinforcement = Reinforcement::read(&sample, 1, &ReinforcementSpec::default()).unwrap();
        let picture = sample.decode(&DecodeOptions::default()).unwrap();
        let all = |of: &dyn Fn(&dyn Teacher) -> Vec<f32>| teachers.iter().flat_map(|t| of(&**t)).collect();
        let images = reinforcement.augmentations.iter().map(|augmentation| {
            all(&|teacher| {
                // By the filter that was recorded, whatever the teacher's own.
                let Preprocess { size, pass_order, .. } = *teacher.preprocess();
                let how = Replay { size: Some(size), interpolation: None, pass_order };
                let seen = augmentation.replay(&picture, &how).unwrap();
                let mut pixels = vec![0.0; teacher.preprocess().tensor_len()];
                teacher.preprocess().normalize(&seen, &mut pixels).unwrap();
                teacher.image(&pixels).unwrap()
            })
        });
        let captions = [sample.text().unwrap().to_owned()];
        let texts = captions.iter().chain(&reinforcement.synthetic[0].captions);
        let texts = texts.map(|caption| all(&|teacher| teacher.text(caption).unwrap()));
        let matrix = |rows: Vec<Vec<f32>>| Matrix::new(rows.len(), rows[0].len(), rows.concat()).unwrap();
        let (images, texts) = (matrix(images.collect()), matrix(texts.collect()));
        let arrays = array_member(&[("image_emb", &images), ("text_emb", &texts)], ArrayType::F32).unwrap();
        for member in sample.members() {
            let bytes =
                if member.suffix == arrays.suffix { arrays.bytes.clone() } else { member.bytes.clone() };
            entries.push((format!("{}.{}", sample.key(), member.suffix), bytes));
        }
    }
    place.shard("stored.tar", &entries);
}

fn distilling(place: &Place, out: &str) -> Config {
    let mut config = place.config(out);
    config.loss.contrastive_weight = 0.25;
    config.loss.distill_weight = 0.75;
    config.loss.teacher_scales = vec![70.0, 60.0];
    config.run.batch = 4;
    config.run.steps = Some(6);
    config
}

fn online(mut config: Config) -> Config {
    config.teachers.checkpoints = vec!["one".to_owned(), "other".to_owned()];
    config
}

fn train(
    config: &Config,
    teachers: Vec<Arc<dyn Teacher>>,
) -> mobileclip_train::Result<mobileclip_train::Report> {
    let helpers = Helpers { teachers, ..Helpers::default() };
    run(config, &Resume::Latest, helpers, &mut |_| std::ops::ControlFlow::Continue(()))
}

#[test]
fn online_and_stored_teachers_give_the_same_losses() {
    let place = Place::new();
    stored(&place, &teachers());
    let config = |out: &str| {
        let mut config = distilling(&place, out);
        config.data.shards = vec![place.path("stored.tar").display().to_string()];
        config.data.augment = Augment::Recorded;
        config
    };
    let mut from_shards = config("stored");
    from_shards.loss.teacher_widths = vec![24, 16];
    train(&from_shards, Vec::new()).unwrap();
    let running = online(config("online"));
    let report = train(&running, teachers()).unwrap();
    assert_eq!(report.skipped.len(), 0, "{:?}", report.skipped);
    let (stored, online) = (log(&from_shards), log(&running));
    assert_eq!(stored.len(), 6);
    for (stored, online) in stored.iter().zip(&online) {
        for [a, b] in [[stored.loss, online.loss], [stored.distill_loss, online.distill_loss]] {
            assert!((a - b).abs() <= 1e-4 * a && a > 0.0, "{a}, online {b}");
        }
    }
    // Another teacher says something else.
    let mut other = config("other");
    other.teachers.checkpoints = vec!["one".to_owned()];
    other.loss.teacher_scales = vec![70.0];
    other.run.steps = Some(1);
    train(&other, teachers()[..1].to_vec()).unwrap();
    let (other, stored) = (log(&other)[0].distill_loss, stored[0].distill_loss);
    assert!((other - stored).abs() > 1e-3 * stored, "{other} and {stored}");
}

#[test]
fn plain_shards_are_distilled_from_the_same_crops() {
    let place = Place::new();
    let whole = online(distilling(&place, "whole"));
    train(&whole, teachers()).unwrap();
    assert!(log(&whole).iter().all(|line| line.distill_loss > 0.0));
    let killed = online(distilling(&place, "killed"));
    kill_after_with(&killed, &Resume::Never, teachers(), 5);
    train(&killed, teachers()).unwrap();
    assert_eq!(log(&killed), log(&whole));
    let fails = |config: Config, teachers, part: &str| {
        let error = train(&config, teachers).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    fails(online(distilling(&place, "none")), Vec::new(), "2 are named, 0 were loaded");
    let mut other = online(distilling(&place, "widths"));
    other.loss.teacher_widths = vec![16, 24];
    fails(other, teachers(), "[16, 24], the teachers have [24, 16]");
    let mut idle = online(distilling(&place, "idle"));
    idle.loss.distill_weight = 0.0;
    fails(idle, teachers(), "nothing is learnt from teachers");
}
