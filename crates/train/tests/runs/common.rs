//! A small model, and shards of made-up pictures, in a folder that goes away.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mobileclip_train::{Config, Event, Helpers, Line, Report, Result, Resume, Teacher, run};

/// A folder with a variant and shards `0.tar` and `1.tar` of 20 samples each.
pub struct Place {
    pub folder: tempfile::TempDir,
}

/// A member of a shard.
pub type Entry = (String, Vec<u8>);

pub fn png(seed: usize, width: usize, height: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> = (0..3 * width * height).map(|i| ((i / 7 + 1) * (seed + 3) % 251) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

pub fn write_tar(path: &Path, entries: &[Entry]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.finish().unwrap();
}

/// Samples with a picture and a caption.
pub fn plain(numbers: std::ops::Range<usize>) -> Vec<Entry> {
    let sample = |i: usize| {
        let caption = format!("a photo of thing {i}").into_bytes();
        [(format!("{i:04}.png"), png(i, 40 + i % 5, 36)), (format!("{i:04}.txt"), caption)]
    };
    numbers.flat_map(sample).collect()
}

/// The toy of the goldens with the whole vocabulary, for pictures of this side.
pub fn toy_variant(side: usize) -> String {
    let toml = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/variants/train_toy.toml");
    let toml = std::fs::read_to_string(toml).unwrap();
    toml.replace("vocabulary = 50", "vocabulary = 49408").replace("size = 64", &format!("size = {side}"))
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("toy.toml"), toy_variant(32)).unwrap();
        let place = Place { folder };
        place.shard("0.tar", &plain(0..20));
        place.shard("1.tar", &plain(20..40));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn shard(&self, name: &str, entries: &[Entry]) {
        write_tar(&self.path(name), entries);
    }

    /// Eleven steps of eight samples, which is more than two epochs; a checkpoint every fourth.
    pub fn config(&self, out: &str) -> Config {
        let mut config = Config::default();
        config.model.variant = self.path("toy.toml").display().to_string();
        config.data.shards = vec![self.path("{0,1}.tar").display().to_string()];
        config.data.crop_scale = [0.5, 1.0];
        config.data.flip = 0.5;
        config.optimiser.lr = 1e-3;
        config.optimiser.warmup = 2;
        config.optimiser.clip = Some(1.0);
        config.run.out = self.path(out);
        config.run.batch = 8;
        config.run.steps = Some(11);
        config.run.checkpoint_every = 4;
        config.run.threads = 1;
        config
    }
}

/// Runs to the end.
pub fn train(config: &Config, resume: &Resume) -> Result<Report> {
    run(config, resume, Helpers::default(), &mut |_| ControlFlow::Continue(()))
}

/// Runs until a step is done, then stops without a checkpoint, as a killed run would.
pub fn kill_after(config: &Config, resume: &Resume, step: u64) {
    kill_after_with(config, resume, Vec::new(), step);
}

/// The same with teachers that run.
pub fn kill_after_with(config: &Config, resume: &Resume, teachers: Vec<Arc<dyn Teacher>>, step: u64) {
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let helpers = Helpers { teachers, ..Helpers::default() };
        let _ = run(config, resume, helpers, &mut |event| {
            if let Event::Step(line, _) = event
                && line.step == step
            {
                std::panic::resume_unwind(Box::new("killed"));
            }
            ControlFlow::Continue(())
        });
    }));
    assert!(killed.is_err());
}

/// The log without the times.
pub fn log(config: &Config) -> Vec<Line> {
    let text = std::fs::read_to_string(config.run.out.join("log.jsonl")).unwrap();
    let line = |text: &str| Line { seconds: 0.0, ..serde_json::from_str(text).unwrap() };
    text.lines().map(line).collect()
}

/// The last checkpoint's tensors, byte for byte.
pub fn tensors(report: &Report) -> Vec<Vec<u8>> {
    ["student.safetensors", "optimiser.safetensors"]
        .map(|name| std::fs::read(report.checkpoint.join(name)).unwrap())
        .into()
}
