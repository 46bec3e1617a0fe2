//! Several processes that share one list of shards, of which some are killed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::common::{member, sample, write};
use mobileclip_reinforce::{Done, Effort, Note, Output, Result, Stage, run};
use mobileclip_shards::Sample;
use serde_json::{Map, Value, json};

const SHARDS: usize = 12;
const SAMPLES: usize = 20;
/// Tells a process that it is a worker: the folder to work in.
const WORKER: &str = "MOBILECLIP_TEST_WORKER";

/// Adds to each sample its caption backwards, slowly.
struct Toy {
    delay: Duration,
}

impl Stage for Toy {
    fn settings(&self) -> Map<String, Value> {
        [("stage".to_owned(), json!("toy"))].into_iter().collect()
    }

    fn chunk(&self, samples: Vec<Sample>) -> Result<Vec<Done>> {
        let one = |sample: Sample| {
            std::thread::sleep(self.delay);
            let backwards: String = sample.text().unwrap().chars().rev().collect();
            Done::Made(sample.with(vec![member("back", backwards)]))
        };
        Ok(samples.into_iter().map(one).collect())
    }
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    (0..SHARDS).map(|i| folder.join(format!("in/{i}.tar"))).collect()
}

fn work(folder: &Path, out: &str, delay: Duration) {
    let output = Output::new(folder.join(out), Effort { threads: 1, chunk: 4 });
    run(&Toy { delay }, &inputs(folder), &output, &mut |_| ControlFlow::Continue(())).unwrap();
}

/// Not a test of its own: what the other one kills.
#[test]
fn worker() {
    if let Some(folder) = std::env::var_os(WORKER) {
        work(Path::new(&folder), "shared", Duration::from_millis(3));
    }
}

fn start(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "workers::worker"]).env(WORKER, folder).stdout(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn killed_workers_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("in")).unwrap();
    for (i, path) in inputs(folder).iter().enumerate() {
        let text =
            |j: usize| sample(&format!("{i:02}{j:03}"), vec![member("txt", format!("caption {i} {j}"))]);
        write(path, &(0..SAMPLES).map(text).collect::<Vec<_>>());
    }
    work(folder, "alone", Duration::ZERO);
    let mut workers: Vec<Child> = (0..4).map(|_| start(folder)).collect();
    for kill in 0..5 {
        std::thread::sleep(Duration::from_millis(17 + 13 * kill));
        let place = kill as usize % 4;
        // SIGKILL on Unix.
        workers[place].kill().unwrap();
        workers[place].wait().unwrap();
        workers[place] = start(folder);
    }
    workers.iter_mut().for_each(|worker| assert!(worker.wait().unwrap().success()));
    let shards = |out: &str| -> Vec<Vec<u8>> {
        (0..SHARDS).map(|i| std::fs::read(folder.join(format!("{out}/{i}.tar"))).unwrap()).collect()
    };
    assert!(shards("shared") == shards("alone"));
    // Neither leases nor halves are left, and the manifest has each shard once.
    let names = |path: PathBuf| {
        std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap())
    };
    let mut left: Vec<String> = names(folder.join("shared")).filter(|name| !name.ends_with(".tar")).collect();
    left.sort();
    assert_eq!(left, [".reinforce", "config.json", "manifest.jsonl"]);
    assert!(names(folder.join("shared/.reinforce")).all(|name| !name.ends_with(".lease")));
    let manifest = std::fs::read_to_string(folder.join("shared/manifest.jsonl")).unwrap();
    let notes: Vec<Note> = manifest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(notes.iter().map(|note| note.num_uids).collect::<Vec<_>>(), [SAMPLES; SHARDS]);
}
