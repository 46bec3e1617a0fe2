//! Shards that are damaged: what can be read is used, what cannot is counted, nothing hangs.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::common::{PHOTOS, Place, member, photo, read, sample, write};
use mobileclip_reinforce::{Report, run};

/// A run over one shard of these bytes; the keys of what was made, too.
fn of_bytes(place: &Place, name: &str, bytes: &[u8]) -> (Report, Vec<String>) {
    let input: PathBuf = place.path(&format!("in/{name}"));
    std::fs::write(&input, bytes).unwrap();
    let out = format!("out-{name}");
    let report =
        run(&place.stage(), &[input], &place.output(&out), &mut |_| ControlFlow::Continue(())).unwrap();
    let shard = place.shards(&out).into_keys().next().unwrap();
    let keys =
        read(&place.path(&format!("{out}/{shard}"))).iter().map(|sample| sample.key().to_owned()).collect();
    (report, keys)
}

fn faults(report: &Report) -> Vec<(&str, usize)> {
    report.counts.faults.counts().collect()
}

#[test]
fn what_stands_before_a_cut_is_used() {
    let place = Place::new();
    let whole = std::fs::read(place.path("in/0.tar")).unwrap();
    // In the picture of the third sample, and in the header of one of its members.
    let third = whole.windows(7).position(|name| name == b"002.png").unwrap();
    for cut in [third + 512 + 700, third + 100] {
        let (report, keys) = of_bytes(&place, &format!("cut{cut}.tar"), &whole[..cut]);
        assert_eq!((faults(&report), report.counts.made), (vec![("damaged shard", 1)], 2), "{keys:?}");
        assert_eq!(keys[..2], ["000", "001"]);
    }
    let packed = std::fs::read(place.path("in/1.tar.gz")).unwrap();
    let (report, _) = of_bytes(&place, "packed.tar.gz", &packed[..packed.len() / 3]);
    assert_eq!((faults(&report), report.counts.made), (vec![("damaged shard", 1)], 0));
}

#[test]
fn what_is_no_shard_is_counted() {
    let place = Place::new();
    for (name, bytes) in
        [("text.tar", "{\"uid\": 1}\n".repeat(100).into_bytes()), ("noise.tar", vec![0xa5; 5000])]
    {
        let (report, keys) = of_bytes(&place, name, &bytes);
        assert_eq!((faults(&report), keys.len()), (vec![("damaged shard", 1)], 0), "{name}");
    }
    let (report, keys) = of_bytes(&place, "empty.tar", b"");
    assert_eq!((report.counts.read, keys.len()), (0, 0));
}

#[test]
fn samples_of_one_key_are_all_there() {
    let place = Place::new();
    let twice = [
        photo("a", PHOTOS[0]),
        photo("a", PHOTOS[3]),
        sample("a", vec![member("txt", "a caption alone")]),
        photo("b", PHOTOS[1]),
        photo("a", PHOTOS[4]),
    ];
    write(&place.path("in/twice.tar"), &twice);
    let bytes = std::fs::read(place.path("in/twice.tar")).unwrap();
    let (report, keys) = of_bytes(&place, "twice.tar", &bytes);
    assert_eq!((report.counts.made, report.counts.kept), (4, 1));
    assert_eq!(keys.concat(), "aaaba");
    let made = read(&place.path("out-twice.tar/twice.tar"));
    let texts: Vec<&str> = made.iter().map(|sample| sample.text().unwrap()).collect();
    assert_eq!(texts, twice.iter().map(|sample| sample.text().unwrap()).collect::<Vec<_>>());
}
