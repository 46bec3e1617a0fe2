//! Damaged and invented files: an error or the right answer, never a panic, never unbounded memory or time.

use std::io::Write;
use std::path::Path;

use mobileclip_checkpoint::{Error, Limits, TensorFile};
use proptest::prelude::*;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/checkpoints").join(name)).unwrap()
}

/// Name, shape, and values as the bits of f64, so that NaN equals itself.
type Decoded = (String, Vec<usize>, Vec<u64>);

/// Opens and decodes everything, sorted by name.
fn decode(name: &str, bytes: Vec<u8>) -> Result<Vec<Decoded>, Error> {
    let file = TensorFile::from_bytes(name, bytes, &Limits::default())?;
    let mut all = Vec::new();
    for t in file.tensors() {
        assert_eq!(t.to_f32()?.len(), t.elements());
        let bits = t.to_f64()?.into_iter().map(f64::to_bits).collect();
        all.push((t.name().to_string(), t.shape().to_vec(), bits));
    }
    all.sort();
    Ok(all)
}

const SMALL: [&str; 6] = [
    "ok_few.pt",
    "ok_few_legacy.pt",
    "ok_few.safetensors",
    "ok_st_tiny.safetensors",
    "views.pt",
    "views_legacy.pt",
];

#[test]
fn every_truncation_is_refused() {
    for name in SMALL {
        let bytes = read(name);
        for len in 0..bytes.len() {
            assert!(decode(name, bytes[..len].to_vec()).is_err(), "{name} cut to {len} bytes");
        }
    }
}

#[test]
fn every_bit_flip_of_a_zip_is_refused_or_harmless() {
    // One bit in nine of the larger file: all places, other bits each time.
    for (name, step) in [("ok_few.pt", 1), ("views.pt", 9)] {
        let bytes = read(name);
        let whole = decode(name, bytes.clone()).unwrap();
        for at in (0..bytes.len() * 8).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            if let Ok(got) = decode(name, flipped) {
                assert_eq!(got, whole, "{name}: bit {at}");
            }
        }
    }
}

#[test]
fn no_bit_flip_of_a_file_without_check_sums_panics() {
    for name in ["ok_few_legacy.pt", "views_legacy.pt", "ok_few.safetensors", "ok_st_tiny.safetensors"] {
        let bytes = read(name);
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            let _ = decode(name, flipped);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spliced_files_do_not_panic(
        which in 0..SMALL.len(),
        at in any::<prop::sample::Index>(),
        cut in 0usize..16,
        insert in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut bytes = read(SMALL[which]);
        let at = at.index(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, insert);
        let _ = decode(SMALL[which], bytes);
    }

    #[test]
    fn invented_pickles_do_not_panic(ops in prop::collection::vec(instruction(), 0..60)) {
        let mut bytes = vec![0x80, 2];
        bytes.extend(ops.concat());
        bytes.push(b'.');
        let _ = decode("invented.pt", bytes.clone());
        // Where the object stands, tensors and storages are looked at too.
        let mut legacy = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
        legacy.extend(bytes);
        legacy.extend(b"\x80\x02].");
        let _ = decode("invented.pt", legacy);
    }
}

/// One instruction, the ones that tensors need more often than others.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    let fixed: Vec<&[u8]> = vec![
        b"(",
        b"t",
        b"l",
        b"d",
        b"}",
        b"]",
        b")",
        b"a",
        b"e",
        b"s",
        b"u",
        b"R",
        b"b",
        b"Q",
        b"N",
        b"\x81",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x88",
        b"\x89",
        b"\x93",
        b"\x94",
        b"q\x00",
        b"q\x01",
        b"h\x00",
        b"h\x01",
        b"K\x00",
        b"K\x02",
        b"J\xff\xff\xff\xff",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"ccollections\nOrderedDict\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"X\x07\x00\x00\x00storage",
        b"\x8c\x01w",
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x00tQ",
    ];
    prop_oneof![
        8 => prop::sample::select(fixed).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in members {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn torchscript_is_refused_with_the_mend() {
    let archive = zip(&[
        ("ViT-B-32/data.pkl", b"\x80\x02}."),
        ("ViT-B-32/code/__torch__/multimodal.py", b""),
        ("ViT-B-32/constants.pkl", b"\x80\x02)."),
    ]);
    let error = decode("ViT-B-32.pt", archive).unwrap_err();
    assert!(matches!(error, Error::TorchScript { .. }), "{error}");
    assert!(error.to_string().contains("torch.save(torch.jit.load("), "{error}");
}

#[test]
fn big_endian_weights_are_refused() {
    let archive = zip(&[("a/data.pkl", b"\x80\x02}."), ("a/byteorder", b"big")]);
    assert!(decode("a.pt", archive).unwrap_err().to_string().contains("big-endian"));
}

#[test]
fn limits_hold_before_memory_is_taken() {
    // Each byte makes a value; each pair makes a memo slot; marks.
    let million = |op: &[u8], n: usize| [b"\x80\x02".as_slice(), &op.repeat(n)].concat();
    for bytes in [million(b"}", 3 << 20), million(b"(", 3 << 20)] {
        let error = decode("many.pt", bytes).unwrap_err().to_string();
        assert!(error.contains("the limit is 1048576"), "{error}");
    }
    // A tensor of 2^40 elements on a storage of one.
    let tensor = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n\
        X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00J\x00\x00\x10\x00J\x00\x00\x10\x00\x86K\x00K\x00\x86\x89)tRs.";
    let error =
        decode("huge.pt", zip(&[("a/data.pkl", tensor), ("a/data/0", &[0; 4])])).unwrap_err().to_string();
    assert!(
        error.contains("tensor `w`: shape [1048576, 1048576] has 1099511627776 elements, its storage only 1"),
        "{error}"
    );
}

#[test]
fn a_name_that_stands_twice_is_an_error() {
    let one = b"X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n\
        X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00))\x89)tR";
    let pickle = [b"\x80\x02}(".as_slice(), one, one, b"u."].concat();
    let error =
        decode("twice.pt", zip(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 4])])).unwrap_err().to_string();
    assert!(error.contains("tensor `w`: stands in the file twice"), "{error}");
}

/// What CPython 3 writes for protocol 4 (framed, names from the stack), with values beside the tensor.
#[test]
fn protocol_4_is_read() {
    let pickle = b"\x80\x04\x95\xd4\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\
        \x93\x94((\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94\x8c\x010\x94\x8c\x03cpu\x94K\x06t\x94QK\x00K\x02K\
        \x03\x86\x94K\x03K\x01\x86\x94\x89\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94t\x94R\x94\x8c\x01n\x94J\xfb\xff\xff\xff\
        \x8c\x03big\x94\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00@\x8c\x01l\x94]\x94(K\x01K\x02e\x8c\x01f\x94G?\xf8\x00\x00\x00\x00\x00\x00\x8c\
        \x02by\x94C\x02ab\x94u.";
    let floats: Vec<u8> = (0..6).flat_map(|v| (v as f32).to_le_bytes()).collect();
    let archive = zip(&[("a/data.pkl", pickle), ("a/data/0", &floats)]);
    let file = TensorFile::from_bytes("a.pt", archive, &Limits::default()).unwrap();
    let tensor = file.get("w").unwrap();
    assert_eq!(
        (tensor.shape(), &*tensor.to_f32().unwrap()),
        (&[2, 3][..], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..])
    );
    let notes = file.notes().join("\n");
    assert_eq!(
        notes,
        "no tensors, left aside: n (an integer), big (an integer), l (a list), f (a float), by (bytes)"
    );
}

/// Files from before PyTorch 0.4 name a window of a storage; the tensor's offset counts from its start.
#[test]
fn a_part_of_a_legacy_storage_is_read() {
    let file = |first: u8| {
        let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
        file.extend(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n");
        file.extend(b"X\x01\x00\x00\x00kX\x03\x00\x00\x00cpuK\x06X\x01\x00\x00\x00vK");
        file.extend([first, b'K', 4, 0x87]);
        file.extend(b"tQK\x01K\x02\x85K\x01\x85\x89)tRs.\x80\x02]X\x01\x00\x00\x00ka.");
        file.extend(6u64.to_le_bytes());
        file.extend((0..6).flat_map(|v| (v as f32).to_le_bytes()));
        file
    };
    let good = TensorFile::from_bytes("old.pt", file(2), &Limits::default()).unwrap();
    assert_eq!(&*good.get("w").unwrap().to_f32().unwrap(), [3.0, 4.0]);
    let error = decode("old.pt", file(3)).unwrap_err().to_string();
    assert!(error.contains("its part of storage k lies outside of it"), "{error}");
}
