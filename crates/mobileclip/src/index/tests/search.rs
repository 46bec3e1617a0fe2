//! Exactness, order and refusals of the search; the contact sheet.

use super::*;

#[test]
fn finds_what_sorting_all_cosines_in_f64_finds() {
    let place = Place::with_photos(300);
    place.update(&Toy::new());
    let searcher = place.searcher();
    for query in ["photo 7", "a query", "another"] {
        let query = embedding_of(query.as_bytes());
        let mut expected: Vec<(f64, String)> = place
            .photos
            .iter()
            .map(|(name, content)| {
                let stored = embedding_of(content).into_iter().map(|x| half::f16::from_f32(x).to_f64());
                (stored.zip(&query).map(|(x, &y)| x * f64::from(y)).sum(), name.clone())
            })
            .collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        let hits = searcher.search(&query, 20).unwrap();
        assert_eq!(hits.len(), 20);
        for (hit, (score, name)) in hits.iter().zip(&expected) {
            assert_eq!(name_in(&place.root(), &hit.path), *name);
            // Eight products and sums of numbers below 1 in f32, and the query's norm.
            assert!(
                (f64::from(hit.score) - score).abs() < 10.0 * f64::from(f32::EPSILON),
                "{} {score}",
                hit.score
            );
        }
    }
    let scaled: Vec<f32> = embedding_of(b"photo 7").iter().map(|x| 1000.0 * x).collect();
    assert!((searcher.search(&scaled, 1).unwrap()[0].score - 1.0).abs() < 6e-4);
}

#[test]
fn equal_scores_come_by_path_and_top_k_may_be_anything() {
    let mut place = Place::new();
    for name in ["c.jpg", "a.jpg", "d.jpg", "b.jpg"] {
        place.put(name, b"the same");
    }
    place.update(&Toy::new());
    // In an order that is not that of the names.
    place.put("b.jpg", b"the same");
    place.update(&Toy::new());
    let searcher = place.searcher();
    let find = |top_k| {
        let hits = searcher.search(&embedding_of(b"x"), top_k).unwrap();
        hits.iter().map(|hit| name_in(&place.root(), &hit.path)).collect::<Vec<_>>()
    };
    assert_eq!(find(0), [""; 0]);
    assert_eq!(find(3), ["a.jpg", "b.jpg", "c.jpg"]);
    assert_eq!(find(usize::MAX), ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]);
}

#[test]
fn queries_that_mean_nothing_are_refused() {
    let place = Place::with_photos(2);
    place.update(&Toy::new());
    let searcher = place.searcher();
    assert!(matches!(
        searcher.search(&[1.0; DIMENSION + 1], 1),
        Err(Error::QueryDimension { found: 9, expected: 8 })
    ));
    for bad in [0.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(searcher.search(&[bad; DIMENSION], 1), Err(Error::Query { .. })));
    }
    // Neither too small nor too large for f32's squares.
    for fine in [1e-38, 1e38] {
        assert_eq!(searcher.search(&[fine; DIMENSION], 2).unwrap().len(), 2);
    }
}

#[test]
fn an_empty_index_answers_with_nothing() {
    let place = Place::new();
    place.update(&Toy::new());
    let searcher = place.searcher();
    assert!(searcher.is_empty());
    assert_eq!(searcher.search(&[1.0; DIMENSION], 5).unwrap(), []);
}

#[test]
fn another_model_is_refused_with_both_names() {
    let place = Place::with_photos(1);
    place.update(&Toy::new());
    let other = ModelNote { name: "other".into(), fingerprint: "f00".into(), dimension: DIMENSION };
    let refused = Searcher::load(place.dir(), &other).err().unwrap();
    assert!(matches!(refused, Error::OtherModel { .. }));
    let text = refused.to_string();
    assert!(text.contains("toy-1") && text.contains("other") && text.contains("f00"), "{text}");
    let other = Toy { fingerprint: "toy-2", ..Toy::new() };
    assert!(matches!(Index::open_or_create(place.dir(), &other.model()), Err(Error::OtherModel { .. })));
    let mut index = Index::open(place.dir()).unwrap();
    let refused =
        index.update(&[place.root()], &other, &UpdateOptions::default(), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::OtherModel { .. })));
    // Its name is only for people.
    let renamed = ModelNote { name: "./toy.safetensors".into(), ..Toy::new().model() };
    assert_eq!(Searcher::load(place.dir(), &renamed).unwrap().len(), 1);
}

#[test]
fn a_reader_survives_a_compaction_under_its_feet() {
    let place = Place::with_photos(40);
    let toy = Toy::new();
    let options = UpdateOptions { batch: 1, commit_photos: 1, ..Default::default() };
    let stop = std::sync::atomic::AtomicBool::new(false);
    Index::open_or_create(place.dir(), &toy.model()).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut loads = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                place.searcher();
                loads += 1;
            }
            loads
        });
        for _ in 0..3 {
            place.update_with(&toy, &options, Box::new(RealDisk)).unwrap();
            for name in place.photos.keys() {
                let file = fs::File::options().write(true).open(place.root().join(name)).unwrap();
                file.set_modified(SystemTime::now()).unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

#[test]
fn the_contact_sheet_is_one_file_with_everything_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("sheet.html");
    let path = PathBuf::from("/photos/<i> & \"co\"/50% ü#1.jpg");
    let hits = [
        Hit { path: path.clone(), score: 0.25 },
        Hit { path: PathBuf::from("/photos/gone.jpg"), score: -0.5 },
    ];
    let thumbnail = |wanted: &Path| (wanted == path).then(|| ("image/png".to_owned(), b"PNG?".to_vec()));
    contact_sheet(&html, "</title><script>alert(1)</script>", &hits, thumbnail).unwrap();
    let text = fs::read_to_string(&html).unwrap();
    assert!(text.contains("src=\"data:image/png;base64,UE5HPw==\""));
    assert!(text.contains("href=\"file:///photos/%3Ci%3E%20%26%20%22co%22/50%25%20%C3%BC%231.jpg\""));
    assert!(text.contains("title=\"/photos/&lt;i&gt; &amp; &quot;co&quot;/50% ü#1.jpg\""));
    assert!(text.contains("0.2500") && text.contains("-0.5000") && text.contains("no preview"));
    assert!(!text.contains("<script") && !text.contains("<i>") && !text.contains("http"));
    let nowhere = contact_sheet(&folder.path().join("none/x.html"), "", &[], |_| None);
    assert!(matches!(nowhere, Err(Error::Io { .. })));
}
