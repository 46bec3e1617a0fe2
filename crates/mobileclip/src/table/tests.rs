use std::fs;
use std::path::PathBuf;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use proptest::prelude::*;

use super::*;

const DIMENSION: usize = 3;

fn spec(column: Column) -> TableSpec {
    let model = ModelNote { name: "toy".into(), fingerprint: "toy-1".into(), dimension: DIMENSION };
    TableSpec { column, model, is_normalised: true }
}

fn embedding_of(text: &str) -> Vec<f32> {
    let hash = crc32fast::hash(text.as_bytes());
    vec![hash as f32 / 1e9, -0.1, f32::MIN_POSITIVE / 4.0]
}

fn rows(texts: &[&str]) -> Vec<(Input, Vec<f32>)> {
    texts.iter().map(|text| (Input::text(*text), embedding_of(text))).collect()
}

fn inputs(texts: &[&str]) -> Vec<Input> {
    texts.iter().map(|text| Input::text(*text)).collect()
}

/// The rows of an `.npy`, read by the letter of its format.
fn read_npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    let numbers: Vec<f32> =
        bytes[10 + length..].as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    let rows = numbers.len() / DIMENSION;
    let expected = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {DIMENSION}), }}");
    assert_eq!(header.trim_end(), expected);
    assert!(header.ends_with('\n'));
    numbers.chunks(DIMENSION).map(<[f32]>::to_vec).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn each_format_holds_the_rows_in_input_order() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ["a \"dog\"\n", "", "ü", "a \"dog\"\n"];
    for name in ["t.npy", "t.JSONL", "t.parquet"] {
        let out = folder.path().join(name);
        let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
        // Not in input order, one without a row.
        table.append(&rows(&["ü", "unwanted"])).unwrap();
        table.append(&rows(&["a \"dog\"\n"])).unwrap();
        assert_eq!(table.finish(&inputs(&texts)).unwrap(), 3);
        assert_eq!(files(folder.path()), [name]);

        let expected = ["a \"dog\"\n", "ü", "a \"dog\"\n"];
        let found: Vec<(String, Vec<f32>)> = match Format::of(&out).unwrap() {
            Format::Npy => {
                let found = read_npy(&out);
                assert_eq!(found, expected.map(embedding_of));
                vec![]
            }
            Format::Jsonl => {
                #[derive(Deserialize)]
                struct Line {
                    text: String,
                    embedding: Vec<f32>,
                }
                let text = fs::read_to_string(&out).unwrap();
                let line =
                    |line| serde_json::from_str(line).map(|line: Line| (line.text, line.embedding)).unwrap();
                text.lines().map(line).collect()
            }
            Format::Parquet => {
                let reader = SerializedFileReader::new(fs::File::open(&out).unwrap()).unwrap();
                let row = |row: parquet::record::Row| {
                    let list = row.get_list(1).unwrap();
                    let numbers = list.elements().iter().map(|field| match field {
                        parquet::record::Field::Float(x) => *x,
                        other => panic!("{other}"),
                    });
                    (row.get_string(0).unwrap().clone(), numbers.collect())
                };
                reader.get_row_iter(None).unwrap().map(|r| row(r.unwrap())).collect()
            }
        };
        if !found.is_empty() {
            assert_eq!(found, expected.map(|text| (text.to_owned(), embedding_of(text))));
        }
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn large_tables_and_empty_ones_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (n, name) in [(0, "t.parquet"), (20_000, "t.parquet"), (0, "t.npy"), (0, "t.jsonl")] {
        let out = folder.path().join(name);
        let texts: Vec<String> = (0..n).map(|i| i.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut table = EmbeddingTable::create(&out, &spec(Column::Path)).unwrap();
        table.append(&rows(&texts)).unwrap();
        assert_eq!(table.finish(&inputs(&texts)).unwrap(), n);
        if name == "t.parquet" {
            let reader = SerializedFileReader::new(fs::File::open(&out).unwrap()).unwrap();
            assert_eq!(reader.metadata().file_metadata().schema().get_fields()[0].name(), "path");
            let row = |row: parquet::record::Row| {
                (row.get_string(0).unwrap().clone(), row.get_list(1).unwrap().len())
            };
            let found: Vec<_> = reader.get_row_iter(None).unwrap().map(|r| row(r.unwrap())).collect();
            assert_eq!(found, texts.iter().map(|text| ((*text).to_owned(), DIMENSION)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_unfinished_table_leaves_the_older_one_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.npy");
    fs::write(&out, "older").unwrap();
    let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
    table.append(&rows(&["b", "d"])).unwrap();
    drop(table);
    assert_eq!(fs::read(&out).unwrap(), b"older");

    // Inputs have come, gone and moved since.
    let now = inputs(&["c", "b", "a"]);
    let mut table = EmbeddingTable::resume(&out, &spec(Column::Text)).unwrap();
    assert_eq!(now.iter().map(|input| table.is_done(input)).collect::<Vec<_>>(), [false, true, false]);
    table.append(&rows(&["c", "a"])).unwrap();
    assert_eq!(table.finish(&now).unwrap(), 3);
    assert_eq!(read_npy(&out), ["c", "b", "a"].map(embedding_of));
    assert_eq!(files(folder.path()), ["t.npy"]);
}

#[test]
fn starting_anew_forgets_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.npy");
    let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
    table.append(&rows(&["a", "b"])).unwrap();
    drop(table);
    let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
    assert!(!table.is_done(&Input::text("a")));
    table.append(&rows(&["b"])).unwrap();
    assert_eq!(table.finish(&inputs(&["a", "b"])).unwrap(), 1);
    assert_eq!(read_npy(&out), [embedding_of("b")]);
}

#[test]
fn a_photo_that_changed_is_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = Stamp { size: 5, modified_ns: 7 };
    let photo = Input::photo(Path::new("a.jpg"), stamp);
    let mut table = EmbeddingTable::create(folder.path().join("t.jsonl"), &spec(Column::Path)).unwrap();
    table.append(&[(photo.clone(), embedding_of("a"))]).unwrap();
    drop(table);
    let table = EmbeddingTable::resume(folder.path().join("t.jsonl"), &spec(Column::Path)).unwrap();
    assert!(table.is_done(&photo));
    assert!(!table.is_done(&Input::photo(Path::new("a.jpg"), Stamp { modified_ns: 8, ..stamp })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("t.npy");
    assert!(matches!(EmbeddingTable::create("t.csv", &spec(Column::Text)), Err(Error::UnknownFormat { .. })));
    let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
    assert!(matches!(EmbeddingTable::resume(&out, &spec(Column::Text)), Err(Error::Locked { .. })));
    let short = [(Input::text("a"), vec![0.0; DIMENSION - 1])];
    assert!(matches!(table.append(&short), Err(Error::Dimension { found: 2, expected: 3, .. })));
    let nan = [(Input::text("a"), vec![f32::NAN; DIMENSION])];
    assert!(matches!(table.append(&nan), Err(Error::NotFinite { .. })));
    table.append(&rows(&["a"])).unwrap();
    drop(table);

    let raw = TableSpec { is_normalised: false, ..spec(Column::Text) };
    let error = EmbeddingTable::resume(&out, &raw).err().unwrap();
    assert!(matches!(error, Error::OtherRun { .. }));
    assert!(error.to_string().contains("raw features"), "{error}");
    let journal = PathBuf::from(format!("{}.journal", out.display()));
    for other in ["my notes\n", "{\"format\":\"x\"}\n"] {
        fs::write(&journal, other).unwrap();
        let error = EmbeddingTable::resume(&out, &spec(Column::Text)).err().unwrap();
        assert!(
            matches!(error, Error::Journal { .. }) && error.to_string().contains("t.npy.journal"),
            "{error}"
        );
    }
    EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
}

proptest! {
    // Wherever a run is cut, and whatever of its last writes is on the disk, the next one completes the same table.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn any_cut_can_be_resumed(
        batches in prop::collection::vec(1..5usize, 1..6),
        journal_cut in any::<prop::sample::Index>(),
        partial_cut in any::<prop::sample::Index>(),
        is_partial_cut in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("t.npy");
        let texts: Vec<String> = (0..batches.iter().sum()).map(|i: usize| format!("text {i}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut table = EmbeddingTable::create(&out, &spec(Column::Text)).unwrap();
        let mut left = &texts[..];
        for n in batches {
            let (batch, rest) = left.split_at(n);
            table.append(&rows(batch)).unwrap();
            left = rest;
        }
        drop(table);
        let cut = |suffix: &str, place: &prop::sample::Index| {
            let file = fs::File::options().write(true).open(format!("{}{suffix}", out.display())).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(place.index(length as usize + 1) as u64).unwrap();
        };
        cut(".journal", &journal_cut);
        if is_partial_cut {
            cut(".partial", &partial_cut);
        }
        let all = inputs(&texts);
        let mut table = EmbeddingTable::resume(&out, &spec(Column::Text)).unwrap();
        let missing: Vec<&str> = texts.iter().copied().filter(|text| !table.is_done(&Input::text(*text))).collect();
        table.append(&rows(&missing)).unwrap();
        prop_assert_eq!(table.finish(&all).unwrap(), texts.len());
        prop_assert_eq!(read_npy(&out), texts.iter().map(|text| embedding_of(text)).collect::<Vec<_>>());
    }
}
