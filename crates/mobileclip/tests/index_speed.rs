//! How long an index of 100,000 photos takes. Not in the plain run, as timings depend on what else the machine does:
//! `cargo test --release -p mobileclip --test index_speed -- --ignored --nocapture`

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mobileclip::index::{Embed, Index, ModelNote, Searcher, UpdateOptions};

const PHOTOS: usize = 100_000;
const DIMENSION: usize = 512;

/// Unit vectors from a file's name, quickly.
struct Toy;

impl Embed for Toy {
    fn model(&self) -> ModelNote {
        ModelNote { name: "toy".into(), fingerprint: "toy-1".into(), dimension: DIMENSION }
    }

    fn embed_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>, String>> {
        let embed = |path: &PathBuf| {
            let mut state: u64 =
                path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()).ok_or("no number")?;
            Ok(random_unit(&mut state))
        };
        paths.iter().map(embed).collect()
    }
}

fn random_unit(state: &mut u64) -> Vec<f32> {
    let numbers: Vec<f32> = (0..DIMENSION)
        .map(|_| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect();
    let norm = numbers.iter().map(|x| x * x).sum::<f32>().sqrt();
    numbers.iter().map(|x| x / norm).collect()
}

#[test]
#[ignore = "a benchmark: a minute, and its bound needs a machine that does nothing else"]
fn a_search_over_100000_photos_takes_less_than_50_ms() {
    let folder = tempfile::tempdir().unwrap();
    let photos = folder.path().join("photos");
    for i in 0..PHOTOS {
        let dir = photos.join(format!("{:03}", i / 1000));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{i}.jpg")), "").unwrap();
    }
    let dir = folder.path().join("index");
    for (what, embedded) in [("index, without the model", PHOTOS), ("index again, nothing new", 0)] {
        let begin = Instant::now();
        let mut index = Index::open_or_create(&dir, &Toy.model()).unwrap();
        let roots = [photos.clone()];
        let report = index
            .update(&roots, &Toy, &UpdateOptions::default(), &mut |_| ControlFlow::Continue(()))
            .unwrap();
        println!("{what}: {:.2} s", begin.elapsed().as_secs_f64());
        assert_eq!((report.embedded, index.photos()), (embedded, PHOTOS));
    }
    let begin = Instant::now();
    let mut searcher = Searcher::load(&dir, &Toy.model()).unwrap();
    println!("load: {:.2} s", begin.elapsed().as_secs_f64());

    let mut answers = Vec::new();
    for threads in [1, 2] {
        searcher = searcher.with_threads(threads);
        let mut state = 7;
        let mut times: Vec<Duration> = Vec::new();
        let mut hits = Vec::new();
        for _ in 0..41 {
            let query = random_unit(&mut state);
            let begin = Instant::now();
            hits.push(searcher.search(&query, 20).unwrap());
            times.push(begin.elapsed());
        }
        times.sort();
        let ms = |i: usize| times[i].as_secs_f64() * 1e3;
        println!(
            "search, {threads} threads: median {:.1} ms, best {:.1} ms, worst {:.1} ms",
            ms(20),
            ms(0),
            ms(40)
        );
        assert!(threads == 1 || ms(20) < 50.0);
        answers.push(hits);
    }
    assert!(answers[0] == answers[1], "the number of threads changes the answer");
}
