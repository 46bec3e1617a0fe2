//! Joining and repacking, on the goldens.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use mobileclip_shards::{
    Dataset, Limits, Repack, Rewritten, Sample, SampleStream, expand, join, parse_uid, repack,
};
use mobileclip_testing::golden;

fn shards(name: &str) -> Vec<PathBuf> {
    expand(&[golden::path(&format!("shards/{name}")).to_str().unwrap()]).unwrap()
}

fn dataset(paths: &[PathBuf]) -> Dataset {
    Dataset::open(paths, None, &Limits::default(), &mut |_| {}).unwrap()
}

fn read(path: &Path) -> Vec<Sample> {
    SampleStream::open(path, Limits::default()).unwrap().collect::<Result<_, _>>().unwrap()
}

fn go(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn halves_are_joined_by_key() {
    let (images, others) = (shards("join/images"), shards("join/noimage"));
    let folder = tempfile::tempdir().unwrap();
    let done = join(&images, &dataset(&others), folder.path(), &mut go).unwrap();
    let all = |paths: &[PathBuf]| -> Vec<Sample> { paths.iter().flat_map(|path| read(path)).collect() };
    let (first, second) = (all(&images), all(&others));
    let keys = |samples: &[Sample]| -> Vec<String> {
        samples.iter().map(|sample| sample.key().to_owned()).collect()
    };
    let only = |a: &[Sample], b: &[Sample]| -> Vec<String> {
        keys(a).into_iter().filter(|key| !keys(b).contains(key)).collect()
    };
    assert_eq!((done.only_first.count, done.only_second.count), (1, 1));
    assert_eq!(
        (done.only_first.first, done.only_second.first),
        (only(&first, &second), only(&second, &first))
    );
    let joined: Vec<Sample> =
        images.iter().flat_map(|path| read(&folder.path().join(path.file_name().unwrap()))).collect();
    assert_eq!((done.samples, done.shards), (joined.len(), images.len()));
    let expected: Vec<String> = keys(&first).into_iter().filter(|key| keys(&second).contains(key)).collect();
    assert_eq!(keys(&joined), expected);
    for sample in &joined {
        let other = second.iter().find(|other| other.key() == sample.key()).unwrap();
        assert!(sample.picture().is_ok() && sample.get("npz").is_some());
        // The reinforced half's json counts.
        assert_eq!(sample.get("json"), other.get("json"));
    }
    // What is read is not written over.
    let error =
        join(&images, &dataset(&others), images[0].parent().unwrap(), &mut go).unwrap_err().to_string();
    assert!(error.contains("is read from there; take another folder"), "{error}");
}

fn repacked(how: &Repack) -> (Rewritten, Vec<Vec<Sample>>) {
    let folder = tempfile::tempdir().unwrap();
    let done = repack(&dataset(&shards("npz-list")), how, folder.path(), &mut go).unwrap();
    let samples = (0..done.shards).map(|i| read(&folder.path().join(format!("{i:08}{}", how.ending))));
    let samples = samples.collect();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), done.shards);
    if done.shards > 0 {
        let again =
            repack(&dataset(&shards("npz-list")), how, folder.path(), &mut go).unwrap_err().to_string();
        assert!(again.contains("is there already"), "{again}");
    }
    (done, samples)
}

#[test]
fn samples_are_divided_shuffled_and_chosen() {
    let how = Repack { samples: 2, shuffle: None, uids: None, ending: ".tar.gz".to_owned() };
    let original = read(&shards("npz-list")[0]);
    let (done, packed) = repacked(&how);
    assert_eq!((done.samples, packed.iter().map(Vec::len).collect::<Vec<_>>()), (5, vec![2, 2, 1]));
    let keys = |samples: &[Vec<Sample>]| -> Vec<String> {
        samples.iter().flatten().map(|s| s.key().to_owned()).collect()
    };
    let in_order: Vec<String> = original.iter().map(|sample| sample.key().to_owned()).collect();
    assert_eq!(keys(&packed), in_order);

    let shuffled = |seed| keys(&repacked(&Repack { shuffle: Some(seed), ..how.clone() }).1);
    assert_eq!(shuffled(1), shuffled(1));
    assert!((1..5).any(|seed| shuffled(seed) != in_order));
    let mut sorted = shuffled(2);
    sorted.sort();
    assert_eq!(sorted, {
        let mut keys = in_order.clone();
        keys.sort();
        keys
    });

    let uids: Vec<String> = original.iter().map(|sample| sample.uid().unwrap()).collect();
    let number = |i: usize| parse_uid(&uids[i]).unwrap();
    let mut wanted = vec![number(3), number(1), number(3), 7];
    wanted.sort_unstable();
    let (done, chosen) = repacked(&Repack { uids: Some(wanted), ..how });
    assert_eq!(keys(&chosen), [format!("{}-0", uids[1]), format!("{}-0", uids[3]), format!("{}-1", uids[3])]);
    assert_eq!(done.samples, 3);
    for member in original[1].members() {
        assert_eq!(chosen[0][0].get(&member.suffix), Some(member.bytes.as_slice()));
    }
}
