//! Damaged, forged and foreign files: an error that names the file, and the mend.

use proptest::prelude::*;

use super::note::{NOTE, Note};
use super::segment::{Row, State, decode, embedding_bytes, encode};
use super::*;

/// What a file's bytes become; `None` removes it.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

fn first_segment(place: &Place) -> PathBuf {
    place.dir().join(&Note::read(&place.dir()).unwrap().segments[0].file)
}

fn assert_both_refuse(place: &Place, file: &Path) {
    let model = Toy::new().model();
    for error in [Searcher::load(place.dir(), &model).err().unwrap(), Index::open(place.dir()).err().unwrap()]
    {
        assert!(matches!(error, Error::Segment { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains(file.to_str().unwrap()) && text.contains("repair") && text.contains("index again"),
            "{text}"
        );
    }
}

#[test]
fn a_cut_flipped_replaced_or_missing_segment_is_named_and_repaired() {
    let damages: [(&str, Damage); 6] = [
        ("cut", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
        ("empty", |_| Some(vec![])),
        ("longer", |bytes| Some([bytes, b"x"].concat())),
        ("flipped", |bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Some(bytes)
        }),
        ("not Parquet", |bytes| Some(vec![b'?'; bytes.len()])),
        ("missing", |_| None),
    ];
    for (what, damage) in damages {
        let mut place = Place::with_photos(5);
        let toy = Toy::new();
        place.update(&toy);
        place.put("later.jpg", b"later");
        place.put("000.jpg", b"changed");
        place.update(&toy);
        toy.take_asked();
        let file = first_segment(&place);
        match damage(&fs::read(&file).unwrap()) {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        assert_both_refuse(&place, &file);

        let (index, damaged) = Index::repair(place.dir()).unwrap();
        assert_eq!(damaged, [file], "{what}");
        assert_eq!(index.photos(), 2);
        drop(index);
        // The segment's four photos that still count; the other two were in another segment.
        assert_eq!(place.update(&toy).embedded, 4, "{what}");
        place.assert_index_is_folder();
    }
}

#[test]
fn a_lost_segment_with_the_newest_rows_does_not_bring_old_ones_back() {
    let mut place = Place::with_photos(10);
    let toy = Toy::new();
    place.update(&toy);
    place.put("000.jpg", b"changed");
    place.remove("001.jpg");
    place.update(&toy);
    let newest = place.dir().join(&Note::read(&place.dir()).unwrap().segments.last().unwrap().file);
    fs::remove_file(newest).unwrap();
    drop(Index::repair(place.dir()).unwrap());
    place.update(&toy);
    place.assert_index_is_folder();
}

#[test]
fn repairing_a_whole_index_changes_nothing() {
    let place = Place::with_photos(3);
    place.update(&Toy::new());
    let before = fs::read(place.dir().join(NOTE)).unwrap();
    let (_, damaged) = Index::repair(place.dir()).unwrap();
    assert!(damaged.is_empty());
    assert_eq!(fs::read(place.dir().join(NOTE)).unwrap(), before);
}

#[test]
fn a_damaged_or_foreign_note_is_named() {
    let place = Place::with_photos(2);
    place.update(&Toy::new());
    let path = place.dir().join(NOTE);
    let text = fs::read_to_string(&path).unwrap();
    let refusals = [
        (text[..text.len() / 2].to_owned(), "not a usable note"),
        (String::new(), "not a usable note"),
        ("{\"name\": \"a web app\"}".to_owned(), "not a usable note"),
        (text.replace("mobileclip index", "other index"), "`other index`"),
        (text.replace("\"version\": 1", "\"version\": 2, \"shards\": []"), "version 2"),
        (text.replace("\"dimension\": 8", "\"dimension\": 0"), "0 numbers"),
        (text.replace("\"dimension\": 8", "\"dimension\": 900000000000"), "900000000000 numbers"),
        (text.replace("\"rows\": 2", "\"rows\": 123456789012"), "123456789012 rows"),
        (text.replace("segment-000001", "../../segment-000001"), "cannot be a segment"),
        (text.replace("segment-000001", "segment-1"), "cannot be a segment"),
        (text.replace("segment-000001", "segment-000009"), "cannot be a segment"),
    ];
    for (forged, expected) in refusals {
        assert_ne!(forged, text);
        fs::write(&path, &forged).unwrap();
        let error = Index::open(place.dir()).err().unwrap().to_string();
        assert!(error.contains(NOTE) && error.contains(expected), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = Searcher::load(place.dir(), &Toy::new().model()).err().unwrap();
    assert!(matches!(error, Error::NotAnIndex { .. }), "{error}");
    let error = Searcher::load(place.dir().join("none"), &Toy::new().model()).err().unwrap();
    assert!(matches!(error, Error::NotAnIndex { .. }), "{error}");
}

#[test]
fn a_dimension_that_is_not_the_segments_is_named() {
    let place = Place::with_photos(2);
    place.update(&Toy::new());
    let path = place.dir().join(NOTE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"dimension\": 8", "\"dimension\": 9")).unwrap();
    let error = Index::open(place.dir()).err().unwrap().to_string();
    assert!(error.contains("segment-000001.parquet") && error.contains("9 numbers"), "{error}");
}

fn rows() -> Vec<Row> {
    let row = |path: &str, state| Row { path: path.into(), stamp: Stamp { size: 5, modified_ns: -7 }, state };
    vec![
        row("/a/ü.jpg", State::Embedded(embedding_bytes(&embedding_of(b"1")))),
        row("/a/b.jpg", State::Failed("why\nnot".into())),
        row("/a/b/c.jpg", State::Removed),
        row("", State::Embedded(embedding_bytes(&embedding_of(b"2")))),
    ]
}

#[test]
fn rows_come_back_as_they_were() {
    let model = Toy::new().model();
    for rows in [rows(), vec![], rows()[1..3].to_vec()] {
        let bytes = encode(&rows, &model).unwrap();
        assert_eq!(decode(bytes.into(), rows.len(), DIMENSION).unwrap(), rows);
    }
    let bytes = bytes::Bytes::from(encode(&rows(), &model).unwrap());
    assert!(decode(bytes.clone(), 3, DIMENSION).is_err());
    assert!(decode(bytes, 4, DIMENSION + 1).is_err());
}

#[test]
fn embeddings_that_are_not_finite_are_refused() {
    let mut rows = rows();
    rows[0].state = State::Embedded(embedding_bytes(&[f32::NAN; DIMENSION]));
    let bytes = encode(&rows, &Toy::new().model()).unwrap();
    let error = decode(bytes.into(), 4, DIMENSION).unwrap_err().to_string();
    assert!(error.contains("/a/ü.jpg"), "{error}");
}

proptest! {
    // The check sum keeps accidents from the Parquet reader; what a forger with a right check sum sends, it must survive.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]
    #[test]
    fn forged_segments_do_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = encode(&rows(), &Toy::new().model()).unwrap();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = decode(bytes.into(), 4, DIMENSION);
    }
}
