//! What an update embeds, drops and reports.

use super::*;

fn counts(report: &Report) -> (usize, usize, usize, usize) {
    (report.embedded, report.unchanged, report.removed, report.failed.len())
}

#[test]
fn embeds_only_what_changed_and_drops_what_is_gone() {
    let mut place = Place::with_photos(10);
    let toy = Toy::new();
    assert_eq!(counts(&place.update(&toy)), (10, 0, 0, 0));
    assert_eq!(toy.take_asked(), 10);

    place.put("003.jpg", b"another picture");
    place.remove("007.jpg");
    place.put("new/a.png", b"a new one");
    assert_eq!(counts(&place.update(&toy)), (2, 8, 1, 0));
    assert_eq!(toy.take_asked(), 2);
    place.assert_index_is_folder();

    assert_eq!(counts(&place.update(&toy)), (0, 10, 0, 0));
    assert_eq!(toy.take_asked(), 0);
}

#[test]
fn a_change_of_time_alone_or_of_size_alone_counts() {
    let mut place = Place::with_photos(2);
    let toy = Toy::new();
    place.update(&toy);
    place.put("000.jpg", b"photo 0"); // Same bytes, later.
    let other = place.root().join("001.jpg");
    let time = fs::metadata(&other).unwrap().modified().unwrap();
    fs::write(&other, "longer than it was").unwrap();
    fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
    assert_eq!(place.update(&toy).embedded, 2);
}

#[test]
fn a_failure_is_remembered_until_the_photo_changes() {
    let mut place = Place::with_photos(3);
    place.put("bad.jpg", b"broken");
    let toy = Toy::new();
    let first = place.update(&toy);
    assert_eq!(counts(&first), (3, 0, 0, 1));
    assert_eq!(first.failed_before, 0);
    assert_eq!(first.failed[0], (place.root().join("bad.jpg"), "not an image".to_owned()));

    toy.take_asked();
    let second = place.update(&toy);
    assert_eq!((counts(&second), second.failed_before), ((0, 3, 0, 1), 1));
    assert_eq!(second.failed, first.failed);
    assert_eq!(toy.take_asked(), 0);

    let again = UpdateOptions { is_retrying_failed: true, ..Default::default() };
    let third = place.update_with(&toy, &again, Box::new(RealDisk)).unwrap();
    assert_eq!((counts(&third), third.failed_before, toy.take_asked()), ((0, 3, 0, 1), 0, 1));

    place.put("bad.jpg", b"mended");
    assert_eq!(counts(&place.update(&toy)), (1, 3, 0, 0));
    place.assert_index_is_folder();
}

#[test]
fn a_photo_that_breaks_is_no_longer_found() {
    let mut place = Place::with_photos(2);
    let toy = Toy::new();
    place.update(&toy);
    place.put("001.jpg", b"broken now");
    assert_eq!(counts(&place.update(&toy)), (0, 1, 0, 1));
    place.assert_index_is_folder();
    place.remove("001.jpg");
    assert_eq!(counts(&place.update(&toy)), (0, 1, 1, 0));
}

#[test]
fn other_folders_stay_and_an_unreachable_root_drops_nothing() {
    let mut place = Place::new();
    place.put("a/1.jpg", b"one");
    place.put("a/2.jpg", b"two");
    place.put("b/3.jpg", b"three");
    let toy = Toy::new();
    place.update(&toy);

    place.remove("a/2.jpg");
    place.remove("b/3.jpg");
    let mut index = Index::open(place.dir()).unwrap();
    let mut update = |roots: &[PathBuf]| {
        index.update(roots, &toy, &UpdateOptions::default(), &mut |_| ControlFlow::Continue(()))
    };
    let gone = place.root().join("not mounted");
    let error = update(&[place.root(), gone.clone()]).unwrap_err();
    assert!(matches!(&error, Error::Root { root, .. } if *root == gone), "{error}");
    assert!(error.to_string().contains("nothing was dropped"), "{error}");
    assert_eq!(place.searcher().len(), 3);

    assert_eq!(counts(&update(&[place.root().join("a")]).unwrap()), (0, 1, 1, 0));
    let left = sorted(place.searcher().paths().map(|path| name_in(&place.root(), path)));
    assert_eq!(left, ["a/1.jpg", "b/3.jpg"]);
}

#[test]
fn a_root_without_any_photo_left_is_taken_for_a_disk_that_is_not_mounted() {
    let mut place = Place::with_photos(3);
    let toy = Toy::new();
    place.update(&toy);
    (0..3).for_each(|i| place.remove(&format!("{i:03}.jpg")));
    let error = place.update_with(&toy, &UpdateOptions::default(), Box::new(RealDisk)).unwrap_err();
    assert!(matches!(error, Error::EmptiedRoot { known: 3, .. }), "{error}");
    assert_eq!(place.searcher().len(), 3);

    let options = UpdateOptions { is_dropping_emptied_roots: true, ..Default::default() };
    assert_eq!(counts(&place.update_with(&toy, &options, Box::new(RealDisk)).unwrap()), (0, 0, 3, 0));
    place.assert_index_is_folder();
    // Nothing known, nothing to lose.
    assert_eq!(counts(&place.update(&toy)), (0, 0, 0, 0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_reported_each_time() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::with_photos(1);
    let path = place.root().join(std::ffi::OsStr::from_bytes(b"caf\xe9.jpg"));
    fs::write(&path, "x").unwrap();
    let toy = Toy::new();
    for (embedded, unchanged) in [(1, 0), (0, 1)] {
        let report = place.update(&toy);
        assert_eq!(counts(&report), (embedded, unchanged, 0, 1));
        assert_eq!((&report.failed[0].0, report.failed_before), (&path, 0));
        assert!(report.failed[0].1.contains("rename"));
    }
}

#[test]
fn a_root_is_the_same_by_any_name() {
    let place = Place::with_photos(3);
    let toy = Toy::new();
    place.update(&toy);
    let mut index = Index::open(place.dir()).unwrap();
    let roundabout = place.root().join("..").join("photos").join(".");
    let report = index
        .update(&[roundabout], &toy, &UpdateOptions::default(), &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(counts(&report), (0, 3, 0, 0));
}

#[cfg(unix)]
#[test]
fn what_is_out_of_reach_is_not_gone() {
    let mut place = Place::new();
    place.put("1.jpg", b"one");
    let disk = place.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    fs::write(disk.join("far.jpg"), b"far").unwrap();
    std::os::unix::fs::symlink(&disk, place.root().join("linked")).unwrap();
    let toy = Toy::new();
    assert_eq!(place.update(&toy).embedded, 2);

    fs::rename(&disk, place.folder.path().join("unplugged")).unwrap();
    assert_eq!(counts(&place.update(&toy)), (0, 1, 0, 0));
    assert_eq!(place.searcher().len(), 2);

    fs::remove_file(place.root().join("linked")).unwrap();
    assert_eq!(counts(&place.update(&toy)), (0, 1, 1, 0));
}

#[test]
fn a_photo_that_vanishes_before_its_turn_is_reported_and_not_remembered() {
    let mut place = Place::with_photos(4);
    let toy = Toy::new();
    let mut index = Index::open_or_create(place.dir(), &toy.model()).unwrap();
    let options = UpdateOptions { batch: 1, ..Default::default() };
    let root = place.root();
    let report = index
        .update(&[root], &toy, &options, &mut |progress| {
            if progress.done == 1 {
                place.remove("002.jpg");
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(counts(&report), (3, 0, 0, 1));
    drop(index);
    assert_eq!(counts(&place.update(&toy)), (0, 3, 0, 0));
}

#[test]
fn stops_when_it_is_told_to_and_keeps_what_it_has() {
    let place = Place::with_photos(20);
    let toy = Toy::new();
    let mut index = Index::open_or_create(place.dir(), &toy.model()).unwrap();
    let options = UpdateOptions { batch: 3, ..Default::default() };
    let mut seen = Vec::new();
    let report = index
        .update(&[place.root()], &toy, &options, &mut |progress| {
            seen.push((progress.done, progress.total));
            if progress.done >= 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert!(report.is_interrupted);
    assert_eq!((report.embedded, index.photos()), (6, 6));
    assert_eq!(seen, [(0, 20), (3, 20), (6, 20)]);
    drop(index);
    assert_eq!(counts(&place.update(&toy)), (14, 6, 0, 0));
    place.assert_index_is_folder();
}

#[test]
fn commits_are_small_and_are_merged() {
    let mut place = Place::with_photos(100);
    let toy = Toy::new();
    let options = UpdateOptions { batch: 4, commit_photos: 8, ..Default::default() };
    let segments = |place: &Place| note::Note::read(&place.dir()).unwrap().segments;

    let mut index = Index::open_or_create(place.dir(), &toy.model()).unwrap();
    let mut most = 0;
    let mut watch = |progress: &Progress| {
        let rows: Vec<usize> = segments(&place).iter().map(|segment| segment.rows).collect();
        assert!(rows.iter().all(|&rows| rows <= 8), "{rows:?}");
        // What a kill would cost: what is done and not yet durable.
        most = most.max(progress.done - rows.iter().sum::<usize>());
        ControlFlow::Continue(())
    };
    index.update(&[place.root()], &toy, &options, &mut watch).unwrap();
    drop(index);
    assert!(most <= 8, "{most}");
    // 13 segments are few enough to be left alone.
    assert_eq!(segments(&place).len(), 13);

    // A few dead rows too; not until a quarter of the rows are dead is it worth the writing.
    (0..30).for_each(|i| place.remove(&format!("{i:03}.jpg")));
    place.update(&toy);
    let merged = segments(&place);
    assert_eq!(merged.iter().map(|segment| segment.rows).collect::<Vec<_>>(), [70]);
    place.assert_index_is_folder();
    let files = sorted(
        fs::read_dir(place.dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()),
    );
    assert_eq!(files, ["index.json", "lock", &merged[0].file]);

    // Many small runs.
    for i in 0..20 {
        place.put(&format!("later {i}.jpg"), b"later");
        place.update(&toy);
    }
    assert!(segments(&place).len() <= 17);
    place.assert_index_is_folder();
}

#[test]
fn only_one_writes() {
    let place = Place::with_photos(1);
    let toy = Toy::new();
    let index = Index::open_or_create(place.dir(), &toy.model()).unwrap();
    let refused = Index::open(place.dir()).err().unwrap();
    assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    drop(index);
    Index::open(place.dir()).unwrap();
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let place = Place::with_photos(1);
    let toy = Toy::new();
    let before = fs::read_dir(place.root()).unwrap().count();
    let refused = Index::open_or_create(place.root(), &toy.model()).err().unwrap();
    assert!(matches!(refused, Error::NotEmpty { .. }), "{refused}");
    let refused = Index::open(place.root()).err().unwrap();
    assert!(matches!(refused, Error::NotAnIndex { .. }), "{refused}");
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), before);
}

#[test]
fn a_model_that_breaks_its_word_is_an_error() {
    struct Liar(Vec<Result<Vec<f32>, String>>);
    impl Embed for Liar {
        fn model(&self) -> ModelNote {
            Toy::new().model()
        }
        fn embed_files(&self, _: &[PathBuf]) -> Vec<Result<Vec<f32>, String>> {
            self.0.clone()
        }
    }
    let place = Place::with_photos(1);
    let update = |answer: Vec<Result<Vec<f32>, String>>| {
        let mut index = Index::open_or_create(place.dir(), &Toy::new().model()).unwrap();
        index.update(&[place.root()], &Liar(answer), &UpdateOptions::default(), &mut |_| {
            ControlFlow::Continue(())
        })
    };
    for answer in [vec![], vec![Ok(vec![0.0; DIMENSION]); 2], vec![Ok(vec![0.5; DIMENSION - 1])]] {
        assert!(matches!(update(answer), Err(Error::Embedder { .. })));
    }
    // Numbers that no photo should have are the photo's failure, not the end.
    let report = update(vec![Ok(vec![f32::NAN; DIMENSION])]).unwrap();
    assert_eq!(report.failed.len(), 1);
    assert!(place.searcher().is_empty());
}
