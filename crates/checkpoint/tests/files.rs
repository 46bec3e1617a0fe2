//! Every file of `golden/checkpoints` behaves as its `expected.json` says, as far as the container goes.

use std::path::{Path, PathBuf};

use mobileclip_checkpoint::{Container, Error, TensorFile};
use serde_json::Value;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/checkpoints")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap()
}

/// Opens a file and decodes every tensor, so that damage in the data shows too.
fn load(name: &str) -> Result<TensorFile, Error> {
    let file = TensorFile::open(golden().join(name))?;
    for tensor in file.tensors() {
        tensor.to_f32()?;
    }
    Ok(file)
}

fn refusal(name: &str) -> String {
    match load(name) {
        Ok(_) => panic!("{name} must be refused"),
        Err(e) => e.to_string(),
    }
}

#[test]
fn every_file_has_its_outcome() {
    let expected = expected();
    let mut seen = 0;
    for (name, row) in expected["files"].as_object().unwrap() {
        // Directories and strict loading are looked at where variants are known.
        if golden().join(name).is_dir()
            || ["missing_key.safetensors", "wrong_shape.safetensors", "unexpected_key.safetensors"]
                .contains(&name.as_str())
        {
            continue;
        }
        seen += 1;
        let result = load(name);
        match (row["outcome"].as_str().unwrap(), &result) {
            ("loads", Ok(_)) | ("loads or refuses, without a crash", _) => {}
            ("loads or refuses with a message that names argparse.Namespace", Ok(_)) => {}
            ("refuses", Err(e)) => {
                let text = e.to_string();
                assert!(text.contains(name.as_str()), "the message must name the file: {text}");
            }
            (outcome, _) => panic!("{name}: expected `{outcome}`, got {result:?}"),
        }
    }
    assert_eq!(seen, 61, "files in expected.json");
}

#[test]
fn tensors_have_the_values() {
    let expected = expected();
    for (name, row) in expected["files"].as_object().unwrap() {
        let tensors = match &row["tensors"] {
            Value::Null => continue,
            Value::String(set) => &expected[set.as_str()],
            listed => listed,
        };
        let file = load(name).unwrap();
        let tensors = tensors.as_object().unwrap();
        assert_eq!(file.len(), tensors.len(), "{name}: number of tensors");
        for (key, want) in tensors {
            let tensor = file.get(key).unwrap_or_else(|| panic!("{name}: {key} is missing"));
            let shape: Vec<usize> = serde_json::from_value(want["shape"].clone()).unwrap();
            assert_eq!(tensor.shape(), shape, "{name}: {key}");
            assert_eq!(tensor.dtype().torch_name(), want["dtype"], "{name}: {key}");
            let values: Vec<f64> = want["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v.as_f64().unwrap_or_else(|| f64::from(u8::from(v.as_bool().unwrap()))))
                .collect();
            assert_eq!(tensor.to_f64().unwrap(), values, "{name}: {key} as f64");
            let rounded: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            assert_eq!(&*tensor.to_f32().unwrap(), rounded, "{name}: {key} as f32");
        }
    }
}

#[test]
fn all_containers_hold_the_same_model() {
    let reference = load("f32.safetensors").unwrap();
    assert_eq!(reference.container(), Container::Safetensors);
    for (name, container) in [
        ("zip.pt", Container::TorchZip),
        ("legacy.pt", Container::TorchLegacy),
        ("training.pt", Container::TorchZip),
        ("parameters.pt", Container::TorchZip),
        ("training_namespace.pt", Container::TorchZip),
        ("dir_bin/open_clip_pytorch_model.bin", Container::TorchZip),
        ("dir_safetensors/open_clip_model.safetensors", Container::Safetensors),
    ] {
        let file = load(name).unwrap();
        assert_eq!(file.container(), container, "{name}");
        assert_eq!(file.len(), reference.len(), "{name}");
        for want in reference.tensors() {
            let got = file.get(want.name()).unwrap_or_else(|| panic!("{name}: {} is missing", want.name()));
            assert_eq!((got.shape(), got.dtype()), (want.shape(), want.dtype()), "{name}: {}", want.name());
            assert_eq!(got.bytes().unwrap(), want.bytes().unwrap(), "{name}: {}", want.name());
        }
    }
    for (zip, safetensors) in [("zip_f16.pt", "f16.safetensors"), ("zip_bf16.pt", "bf16.safetensors")] {
        let (zip, safetensors) = (load(zip).unwrap(), load(safetensors).unwrap());
        for want in safetensors.tensors() {
            assert_eq!(
                zip.get(want.name()).unwrap().bytes().unwrap(),
                want.bytes().unwrap(),
                "{}",
                want.name()
            );
        }
    }
}

#[test]
fn what_was_left_aside_is_told() {
    let notes = load("training.pt").unwrap().notes().join("\n");
    assert_eq!(notes, "took `state_dict`, left aside: epoch, name, optimizer, scaler");
    assert!(load("zip.pt").unwrap().notes().is_empty());
}

#[test]
fn messages_name_what_was_wanted() {
    for (name, text) in [
        ("evil_global_reduce.pt", "`posix.system`"),
        ("evil_global_os_reduce.pt", "`os.system`"),
        ("evil_stack_global.pt", "`os.system`"),
        ("evil_inst.pt", "`os.system`"),
        ("evil_obj.pt", "`os.system`"),
        ("evil_newobj.pt", "`subprocess.Popen`"),
        ("evil_builtins_eval.pt", "`builtins.eval`"),
        ("evil_torch_prefix.pt", "`torch.serialization.os.system`"),
        ("evil_raw_pickle.pt", "`os.system`"),
        ("evil_beside_weights.pt", "`posix.system`"),
        ("evil_beside_weights_legacy.pt", "`posix.system`"),
        ("evil_extension.pt", "opcode 0x82"),
        ("evil_persistent_id.pt", "tuple of a storage"),
        ("evil_memo_miss.pt", "memo slot 7"),
        ("evil_deep_nesting.pt", "a tuple at the top"),
        ("broken_zip_bitflip.pt", "tensor `w`: the check sum of `ok_few/data/0`"),
        ("broken_zip_missing_storage.pt", "`ok_few/data/0` in the zip: is missing"),
        (
            "broken_zip_short_storage.pt",
            "tensor `w`: its storage `ok_few/data/0` has 1 bytes, the pickle says 512 elements",
        ),
        ("broken_zip_no_pickle.pt", "no `data.pkl`"),
        ("broken_zip_half.pt", "cut short"),
        ("broken_legacy_half.pt", "cut short"),
        ("broken_st_empty.safetensors", "the file is empty"),
        ("broken_st_dtype.safetensors", "Q7"),
        ("broken_st_length.safetensors", "the header's length is 1152921504606846976"),
    ] {
        let message = refusal(name);
        assert!(message.contains(text), "{name}: `{text}` is not in: {message}");
    }
}

#[test]
fn a_folder_and_a_missing_file_are_errors() {
    assert!(matches!(TensorFile::open(golden()), Err(Error::Io { .. })));
    assert!(matches!(TensorFile::open(golden().join("nothing.pt")), Err(Error::Io { .. })));
}
