//! Compressed shards through the cache, damage, limits, and tars that ask for too much.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use mobileclip_shards::{Cache, Dataset, Error, Fault, Limits, SampleStream, Shard};
use proptest::prelude::*;
use tempfile::TempDir;

/// A tar of these members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A tar of `samples` samples with two members each; the first holds the sample's number in so many bytes.
fn numbered_tar(samples: usize, bytes: usize) -> Vec<u8> {
    let names: Vec<[String; 2]> =
        (0..samples).map(|i| [format!("d/{i:04}.bin"), format!("d/{i:04}.txt")]).collect();
    let contents: Vec<Vec<u8>> = (0..samples).map(|i| vec![i as u8; bytes]).collect();
    let pairs = names.iter().zip(&contents).flat_map(|([bin, txt], content)| {
        [(bin.as_str(), content.as_slice()), (txt.as_str(), &content[..1])]
    });
    tar(&pairs.collect::<Vec<_>>())
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn cache(&self, max_bytes: u64) -> Cache {
        Cache::new(self.folder.path().join("cache"), max_bytes)
    }

    fn cached(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(self.folder.path().join("cache"))
            .map(|dir| dir.map(name).collect())
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn open(path: &Path, cache: Option<&Cache>) -> mobileclip_shards::Result<Shard> {
    Shard::open(path, cache, &Limits::default())
}

fn check(shard: &Shard, samples: usize) {
    assert_eq!(shard.len(), samples);
    for i in [samples - 1, 0, samples / 2] {
        let sample = shard.sample(i).unwrap().unwrap();
        assert_eq!(sample.key(), format!("d/{i:04}"));
        assert_eq!(sample.get("txt"), Some(&[i as u8][..]));
        assert!(sample.get("bin").unwrap().iter().all(|&byte| byte == i as u8));
    }
}

#[test]
fn a_compressed_shard_is_unpacked_once() {
    let place = Place::new();
    let path = place.put("a.tar.gz", &gzip(&numbered_tar(9, 5000)));
    let cache = place.cache(1 << 20);
    assert!(matches!(open(&path, None), Err(Error::NoCache { .. })));
    check(&open(&path, Some(&cache)).unwrap(), 9);
    let names = place.cached();
    assert_eq!(names.len(), 2, "{names:?}");
    check(&open(&path, Some(&cache)).unwrap(), 9);
    assert_eq!(place.cached(), names);
    // Another shard under the same name is another shard.
    place.put("a.tar.gz", &gzip(&numbered_tar(7, 5000)));
    check(&open(&path, Some(&cache)).unwrap(), 7);
}

#[test]
fn what_vanishes_from_the_cache_is_made_again() {
    let place = Place::new();
    let path = place.put("a.tar.gz", &gzip(&numbered_tar(9, 5000)));
    let cache = place.cache(1 << 20);
    let shard = open(&path, Some(&cache)).unwrap();
    for name in place.cached() {
        fs::remove_file(cache.folder().join(name)).unwrap();
    }
    check(&shard, 9);
    // But not from another shard that took its place.
    fs::remove_dir_all(cache.folder()).unwrap();
    place.put("a.tar.gz", &gzip(&numbered_tar(8, 5000)));
    assert!(shard.sample(0).unwrap().unwrap_err().to_string().contains("has changed"));
}

#[test]
fn a_damaged_index_is_made_again() {
    let place = Place::new();
    let path = place.put("a.tar", &numbered_tar(9, 100));
    let cache = place.cache(0);
    check(&open(&path, Some(&cache)).unwrap(), 9);
    let index = cache.folder().join(&place.cached()[0]);
    let whole = fs::read(&index).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        fs::write(&index, &bytes).unwrap();
        check(&open(&path, Some(&cache)).unwrap(), 9);
        fs::write(&index, &whole[..at]).unwrap();
        check(&open(&path, Some(&cache)).unwrap(), 9);
    }
    // A forged one, its check sum right: members beyond the end.
    let text = String::from_utf8(whole[..whole.len() - 4].to_vec()).unwrap().replacen(
        "\"size\":100",
        "\"size\":4000000000",
        1,
    );
    let mut forged = text.into_bytes();
    let crc = crc32fast::hash(&forged);
    forged.extend_from_slice(&crc.to_le_bytes());
    fs::write(&index, forged).unwrap();
    check(&open(&path, Some(&cache)).unwrap(), 9);
}

#[test]
fn the_cache_keeps_its_size() {
    let place = Place::new();
    let cache = place.cache(120_000);
    let paths: Vec<PathBuf> =
        (0..4).map(|i| place.put(&format!("{i}.tar.gz"), &gzip(&numbered_tar(10, 4000 + i)))).collect();
    for path in &paths {
        check(&open(path, Some(&cache)).unwrap(), 10);
        let unpacked = place.cached().iter().filter(|name| name.ends_with(".tar")).count();
        assert!(unpacked <= 2, "{:?}", place.cached());
    }
    // One set must fit at once.
    let limits = Limits::default();
    assert_eq!(Dataset::open(&paths[..2], Some(&cache), &limits, &mut |_| {}).unwrap().len(), 20);
    let error = Dataset::open(&paths, Some(&cache), &limits, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::CacheTooSmall { .. }), "{error}");
    let bomb = place.put("bomb.tar.gz", &gzip(&vec![0x55; 3 << 20]));
    assert!(matches!(open(&bomb, Some(&cache)), Err(Error::CacheTooSmall { .. })));
    assert!(place.cached().iter().all(|name| !name.starts_with('.')), "{:?}", place.cached());
}

#[test]
fn a_cut_shard_gives_what_stands_before_the_cut() {
    let place = Place::new();
    let cache = place.cache(1 << 20);
    let whole = numbered_tar(20, 1000);
    let packed = gzip(&whole);
    let cut = place.put("cut.tar.gz", &packed[..packed.len() - 9]);
    for shard in [open(&cut, Some(&cache)).unwrap(), open(&cut, Some(&cache)).unwrap()] {
        let [fault] = shard.faults() else { panic!("{:?}", shard.faults()) };
        assert_eq!(fault.cause(), "damaged shard");
        assert!(fault.to_string().contains("end too early"), "{fault}");
        assert!((15..=20).contains(&shard.len()), "{}", shard.len());
    }
    // Wherever a plain tar is cut, no sample is made up: complete ones, at most one with fewer members, then the fault.
    for end in (0..whole.len()).step_by(97) {
        let path = place.put("cut.tar", &whole[..end]);
        let mut complete = 0;
        let items: Vec<_> = SampleStream::open(&path, Limits::default()).unwrap().collect();
        for (i, item) in items.iter().enumerate() {
            match item {
                Ok(sample) if sample.members().len() == 2 => {
                    assert_eq!(sample.key(), format!("d/{complete:04}"));
                    assert_eq!(sample.get("bin").unwrap().len(), 1000);
                    complete += 1;
                }
                Ok(sample) => assert!(sample.get("bin").is_some() && i + 2 >= items.len()),
                Err(fault) => assert!(fault.cause() == "damaged shard" && i + 1 == items.len(), "{fault}"),
            }
        }
    }
}

#[test]
fn too_large_members_cost_their_sample_only() {
    let place = Place::new();
    let big = vec![7; 3000];
    let path = place.put(
        "a.tar",
        &tar(&[
            ("a.bin", b"1"),
            ("b.bin", &big),
            ("b.txt", b"2"),
            ("c.bin", b"3"),
            ("d.a", b"4"),
            ("d.b", b"5"),
            ("d.c", b"6"),
        ]),
    );
    let mut limits = Limits::default();
    limits.member_bytes = 2000;
    limits.sample_members = 2;
    let items: Vec<_> = SampleStream::open(&path, limits.clone()).unwrap().collect();
    let keys: Vec<_> = items.iter().flatten().map(|sample| sample.key()).collect();
    assert_eq!(keys, ["a", "c"]);
    let faults: Vec<String> =
        items.iter().filter_map(|item| item.as_ref().err()).map(|f| f.to_string()).collect();
    assert!(faults[0].ends_with("sample `b`: the size of `bin` is 3000, the limit is 2000"), "{}", faults[0]);
    assert!(
        faults[1].ends_with("sample `d`: the number of its members is 3, the limit is 2"),
        "{}",
        faults[1]
    );
    let shard = Shard::open(&path, None, &limits).unwrap();
    assert_eq!((shard.len(), shard.faults().len()), (2, 2));
}

/// A header may say anything.
#[test]
fn absurd_sizes_reserve_nothing() {
    let place = Place::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("a.bin").unwrap();
    for (size, kind) in [
        (u64::MAX, b'0'),
        (1 << 62, b'0'),
        (u64::from(u32::MAX), b'0'),
        (1 << 40, b'L'),
        (1 << 40, b'x'),
        (9, b'x'),
        (1 << 40, b'K'),
    ] {
        header.set_size(size);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_cksum();
        let mut bytes = tar(&[("z.txt", b"before")]);
        bytes.truncate(1024);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[b'9'; 1024]);
        let path = place.put("a.tar", &bytes);
        let items: Vec<_> = SampleStream::open(&path, Limits::default()).unwrap().collect();
        assert_eq!(items[0].as_ref().unwrap().key(), "z", "{size} {kind}");
        assert!(
            items[1..].iter().any(|item| matches!(item, Err(Fault::Damaged { .. }))),
            "{size} {kind}: {items:?}"
        );
        let shard = open(&path, None).unwrap();
        assert!(shard.key(0) == Some("z") && !shard.faults().is_empty());
    }
}

#[test]
fn a_set_of_shards_is_numbered_through() {
    let place = Place::new();
    let paths: Vec<PathBuf> = [3, 0, 5]
        .iter()
        .enumerate()
        .map(|(i, &samples)| place.put(&format!("{i}.tar"), &numbered_tar(samples, 10)))
        .collect();
    let mut opened = 0;
    let set = Dataset::open(&paths, None, &Limits::default(), &mut |_| opened += 1).unwrap();
    assert_eq!((set.len(), opened, set.shards().len()), (8, 3, 3));
    let places: Vec<_> = (0..9).map(|i| set.locate(i)).collect();
    assert_eq!(places[..4], [Some((0, 0)), Some((0, 1)), Some((0, 2)), Some((2, 0))]);
    assert_eq!((places[7], places[8]), (Some((2, 4)), None));
    assert_eq!(set.key(4), Some("d/0001"));
    assert_eq!(set.sample(4).unwrap().unwrap().shard(), paths[2]);
    let only = set.shards()[0].select(1, |suffix| suffix == "txt").unwrap().unwrap();
    assert_eq!(only.members().len(), 1);
    assert_eq!(set.shards()[0].suffixes(1).collect::<Vec<_>>(), ["bin", "txt"]);
}

proptest! {
    /// Any bytes, also such that begin like a tar: no panic, no sample without a member.
    #[test]
    fn any_bytes_are_read_or_refused(cut in 0usize..20_000, flips in proptest::collection::vec((0usize..20_000, any::<u8>()), 0..20)) {
        let mut bytes = numbered_tar(6, 700);
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let name = Path::new("random.tar");
        for sample in SampleStream::new(name, std::io::Cursor::new(bytes), Limits::default()).flatten() {
            prop_assert!(!sample.members().is_empty());
        }
    }
}
