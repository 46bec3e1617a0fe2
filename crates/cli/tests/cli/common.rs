//! A tiny model with the whole vocabulary, made by formula, and the binary under test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mobileclip::Variant;
use mobileclip_testing::{formula, golden};
use serde_json::Value;
use tempfile::TempDir;

/// The variant file of the tiny model.
pub const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny.toml");

/// A folder of its own for a test, with the tiny model in it.
pub struct Place {
    pub folder: TempDir,
    pub model: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.safetensors");
        let variant = Variant::parse(&std::fs::read_to_string(TINY).unwrap()).unwrap();
        formula::write_checkpoint(&variant, &model).unwrap();
        Self { folder, model }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// A golden photo under another name.
    pub fn photo(&self, from: &str, name: &str) -> PathBuf {
        self.write(name, std::fs::read(photo(from)).unwrap())
    }

    /// The binary in this folder, with the tiny model and nothing of this process's environment that it reads.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mobileclip"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
            .env("MOBILECLIP_MODEL", &self.model)
            .env("HF_HOME", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1");
        command.env("MOBILECLIP_CACHE", self.path("cache"));
        for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT", "HF_TOKEN"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs a command of the tiny model.
    pub fn run(&self, args: &[&str]) -> Ran {
        let args: Vec<&str> = args.iter().copied().chain(["--variant", TINY]).collect();
        Ran::of(self.command(&args).output().unwrap())
    }

    /// Runs exactly these arguments.
    pub fn run_plain(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

/// A golden photo.
pub fn photo(name: &str) -> PathBuf {
    golden::path(&format!("images/photos/{name}"))
}

/// What a run left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        };
        assert!(!ran.err.contains("panicked"), "{}", ran.err);
        ran
    }

    /// The output of a run that had to end with this status.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }

    /// The one line of complaint of a run that could not work, which must hold these words.
    #[track_caller]
    pub fn fails(self, words: &[&str]) {
        let ran = self.ends(2);
        assert_eq!(ran.out, "");
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        ran.says(words);
    }

    /// The standard error holds these words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
    }

    /// Each line of output as JSON.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }
}
