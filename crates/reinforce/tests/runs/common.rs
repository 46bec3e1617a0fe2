//! Two small teachers, and shards of photos, in a folder that goes away.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip::{LoadOptions, Model, Variant};
use mobileclip_reinforce::{
    Augmentations, Captions, Effort, Embeddings, OnBad, Output, Report, Result, Stage, Teachers, run,
};
use mobileclip_shards::{ArrayType, Limits, Member, Sample, SampleStream, ShardWriter};
use mobileclip_testing::{formula, golden};

pub const PHOTOS: [&str; 5] =
    ["china.jpg", "coffee_lossy.webp", "chelsea_rgb.png", "tiny_17x11_420.jpg", "one_pixel.png"];

/// A folder with teachers of 64 and 32 pixels and two shards.
pub struct Place {
    pub folder: tempfile::TempDir,
}

pub fn member(suffix: &str, bytes: impl Into<Vec<u8>>) -> Member {
    Member { suffix: suffix.to_owned(), bytes: bytes.into() }
}

pub fn sample(key: &str, members: Vec<Member>) -> Sample {
    Sample::new(Path::new("made-up.tar").into(), key.to_owned(), members)
}

/// A photo with its caption.
pub fn photo(key: &str, photo: &str) -> Sample {
    let bytes = std::fs::read(golden::path(&format!("images/photos/{photo}"))).unwrap();
    let suffix = photo.rsplit('.').next().unwrap();
    sample(key, vec![member("txt", format!("a photo of {photo}")), member(suffix, bytes)])
}

pub fn write(path: &Path, samples: &[Sample]) {
    let mut writer = ShardWriter::create(path).unwrap();
    samples.iter().for_each(|sample| writer.write(sample).unwrap());
    writer.publish().unwrap();
}

pub fn read(path: &Path) -> Vec<Sample> {
    SampleStream::open(path, Limits::default()).unwrap().collect::<std::result::Result<_, _>>().unwrap()
}

impl Place {
    /// Shards `in/0.tar` of five photos and `in/1.tar.gz` of two.
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder };
        std::fs::create_dir(place.path("in")).unwrap();
        let samples: Vec<Sample> =
            PHOTOS.iter().enumerate().map(|(i, name)| photo(&format!("{i:03}"), name)).collect();
        let json =
            member("json", r#"{"uid": "0123456789abcdef0123456789abcdef", "captions": ["one", "two"]}"#);
        let synthetic = member("syn.json", r#"{"syn_text_b": ["a cup", "a cup"], "syn_text_a": ["tea"]}"#);
        let rich = photo("rich", "flower.jpg").with(vec![json, synthetic]);
        write(&place.path("in/0.tar"), &samples);
        write(&place.path("in/1.tar.gz"), &[rich, photo("last", "rocket.jpg")]);
        for (name, size, width) in [("a", 64, 16), ("b", 32, 8)] {
            let toml = concat!(env!("CARGO_MANIFEST_DIR"), "/../testing/variants/nano4.toml");
            let toml = std::fs::read_to_string(toml).unwrap();
            let toml =
                toml.replace("vocabulary = 64", "vocabulary = 49408").replace("context = 8", "context = 16");
            let toml = toml.replace("size = 64", &format!("size = {size}"));
            let toml = toml.replace("embed_dim = 16", &format!("embed_dim = {width}"));
            let variant = Variant::parse(&toml).unwrap();
            formula::write_checkpoint(&variant, &place.path(&format!("{name}.safetensors"))).unwrap();
            std::fs::write(place.path(&format!("{name}.toml")), toml).unwrap();
        }
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn inputs(&self) -> Vec<PathBuf> {
        vec![self.path("in/0.tar"), self.path("in/1.tar.gz")]
    }

    pub fn model(&self, name: &str) -> Model {
        let toml = std::fs::read_to_string(self.path(&format!("{name}.toml"))).unwrap();
        let variant = Some(Variant::parse(&toml).unwrap());
        let options = LoadOptions { variant, threads: 1, ..LoadOptions::default() };
        Model::open(&self.path(&format!("{name}.safetensors")), &options).unwrap()
    }

    /// Three augmentations for both teachers.
    pub fn stage(&self) -> Embeddings {
        let teachers = Teachers::new(vec![self.model("a"), self.model("b")]).unwrap();
        let published = Augmentations::published(teachers.side());
        let augmentations =
            Augmentations::new(published, "published".as_ref(), 3, 7, Default::default()).unwrap();
        let (captions, dtype, on_bad) = (Captions::Text, ArrayType::F32, OnBad::Keep);
        let stage = Embeddings { teachers, augmentations, captions, synthetic: None, dtype, on_bad };
        stage.rehearse().unwrap();
        stage
    }

    pub fn output(&self, folder: &str) -> Output {
        Output::new(self.path(folder), Effort { threads: 2, chunk: 2 })
    }

    /// A run of all shards.
    pub fn run(&self, stage: &dyn Stage, folder: &str) -> Result<Report> {
        run(stage, &self.inputs(), &self.output(folder), &mut |_| ControlFlow::Continue(()))
    }

    /// The shards of a folder, by name.
    pub fn shards(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap());
        let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let shards = entries.filter(|entry| name(entry).contains(".tar"));
        shards.map(|entry| (name(&entry), std::fs::read(entry.path()).unwrap())).collect()
    }
}
