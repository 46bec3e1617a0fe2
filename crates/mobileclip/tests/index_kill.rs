//! `kill -9` in the middle of indexing, with a real process.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mobileclip::index::{Embed, Index, ModelNote, Report, Searcher, UpdateOptions};

const PHOTOS: usize = 3000;
/// Tells the process that it is the one to be killed: the folder to work in.
const VICTIM: &str = "MOBILECLIP_TEST_VICTIM";

/// Two numbers from a file's first byte, slowly; counts.
#[derive(Default)]
struct Toy {
    photos: AtomicUsize,
    delay: Duration,
}

impl Embed for Toy {
    fn model(&self) -> ModelNote {
        ModelNote { name: "toy".into(), fingerprint: "toy-1".into(), dimension: 2 }
    }

    fn embed_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>, String>> {
        std::thread::sleep(self.delay * u32::try_from(paths.len()).unwrap());
        self.photos.fetch_add(paths.len(), Ordering::Relaxed);
        let angle = |path: &PathBuf| fs::read(path).map(|bytes| f32::from(bytes[0]) / 40.0);
        paths
            .iter()
            .map(|path| angle(path).map(|a| vec![a.cos(), a.sin()]).map_err(|e| e.to_string()))
            .collect()
    }
}

fn update(folder: &Path, toy: &Toy) -> Report {
    let mut index = Index::open_or_create(folder.join("index"), &toy.model()).unwrap();
    let options = UpdateOptions::default();
    index.update(&[folder.join("photos")], toy, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Not a test of its own: what the other one kills.
#[test]
fn victim() {
    if let Some(folder) = std::env::var_os(VICTIM) {
        update(Path::new(&folder), &Toy { delay: Duration::from_micros(300), ..Toy::default() });
    }
}

#[test]
fn a_killed_process_loses_little_and_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    fs::create_dir(&photos).unwrap();
    for i in 0..PHOTOS {
        fs::write(photos.join(format!("{i:04}.jpg")), [u8::try_from(i % 251).unwrap()]).unwrap();
    }
    let toy = Toy::default();
    let committed =
        || Searcher::load(folder.path().join("index"), &toy.model()).map_or(0, |searcher| searcher.len());

    let mut before = 0;
    for _ in 0..3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while committed() == before {
            assert!(begin.elapsed() < Duration::from_secs(60), "the process commits nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        // SIGKILL on Unix.
        victim.kill().unwrap();
        victim.wait().unwrap();
        let now = committed();
        assert!(now > before && now < PHOTOS, "{now} after {before}");
        before = now;
    }

    let report = update(folder.path(), &toy);
    assert_eq!((report.unchanged, report.embedded), (before, PHOTOS - before));
    assert_eq!(toy.photos.load(Ordering::Relaxed), PHOTOS - before);
    let searcher = Searcher::load(folder.path().join("index"), &toy.model()).unwrap();
    let mut found: Vec<_> = searcher.paths().collect();
    found.sort();
    found.dedup();
    assert_eq!((found.len(), searcher.len()), (PHOTOS, PHOTOS));
    assert_eq!(update(folder.path(), &toy).embedded, 0);
}
