//! Which variant a path holds: by weights, configuration, names, and the caller's word.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mobileclip_arch::{Dialect, Form, Manifest, Role, variant, variants};
use mobileclip_checkpoint::{Checkpoint, Error, FloatType, Options, PreprocessSource, write_open_clip};
use mobileclip_testing::golden;
use mobileclip_testing::toys::toy;

/// A safetensors file of zeros that takes no room on disk: enough where only names and shapes count. `ones` get a one.
fn sparse(path: &Path, tensors: &[(String, Vec<usize>)], ones: &[&str]) {
    let mut header = serde_json::Map::new();
    let mut at = 0u64;
    let mut places = Vec::new();
    for (name, shape) in tensors {
        let end = at + 4 * shape.iter().map(|&d| d as u64).product::<u64>();
        header.insert(
            name.clone(),
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [at, end]}),
        );
        if ones.contains(&name.as_str()) {
            places.push(at);
        }
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let base = 8 + header.len() as u64;
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len(base + at).unwrap();
    for place in places {
        file.seek(SeekFrom::Start(base + place)).unwrap();
        file.write_all(&1f32.to_le_bytes()).unwrap();
    }
}

const HEAD_BIASES: [&str; 2] = ["visual.trunk.head.fc.bias", "visual.trunk.head.bias"];

/// A file of a published variant's canonical names; the projection's bias is not all zeros, as trained ones are not.
fn of_variant(path: &Path, name: &str, form: Form) {
    let manifest = Manifest::of(variant(name).unwrap());
    let tensors: Vec<_> = manifest.of_form(form).map(|t| (t.name.clone(), t.shape.clone())).collect();
    sparse(path, &tensors, &HEAD_BIASES);
}

/// A file of a golden's keys (the first package's).
fn of_golden(path: &Path, golden: &str, form: &str) {
    let keys = golden::json(&format!("models/{golden}.keys.json"));
    let shape = |row: &serde_json::Value| golden::array(&row[1]).iter().map(golden::count).collect();
    let tensors: Vec<_> = golden::array(&keys[form])
        .iter()
        .map(|row| (row[0].as_str().unwrap().to_string(), shape(row)))
        .collect();
    sparse(path, &tensors, &[]);
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

fn found(path: &Path) -> String {
    Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}")).variant().name.clone()
}

/// The candidates of an ambiguous file.
fn candidates(path: &Path) -> Vec<String> {
    match Checkpoint::open(path) {
        Err(Error::Ambiguous { candidates, .. }) => candidates,
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn weights_alone_decide_where_candidates_compute_the_same() {
    let folder = Folder::new();
    let path = folder.path("weights.safetensors");
    for (name, expected) in [
        ("MobileCLIP2-S0", "MobileCLIP2-S0"),
        ("MobileCLIP-S1", "MobileCLIP-S1"),
        // The same network, preprocessing and numbers as the second generation's: any name does.
        ("MobileCLIP-S2", "MobileCLIP2-S2"),
        ("MobileCLIP-B", "MobileCLIP2-B"),
        ("MobileCLIP2-L-14", "MobileCLIP2-L-14"),
    ] {
        for form in [Form::Train, Form::Deploy] {
            of_variant(&path, name, form);
            let checkpoint = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(checkpoint.variant().name, expected);
            let has_branches = Manifest::of(checkpoint.variant()).has_branches();
            assert_eq!(checkpoint.form(), if has_branches { form } else { Form::Any }, "{name}");
            assert_eq!(checkpoint.warnings(), [""; 0], "{name}");
        }
    }
}

#[test]
fn the_first_packages_files_are_known_by_their_keys() {
    let folder = Folder::new();
    let path = folder.path("weights.safetensors");
    for (golden, form, expected) in [
        ("mobileclip_s0", "train", "MobileCLIP-S0"),
        ("mobileclip_s0", "reparameterised", "MobileCLIP-S0"),
        ("mobileclip_s1", "train", "mobileclip_s1"),
        ("mobileclip_s2", "reparameterised", "mobileclip_s2"),
        ("mobileclip_b", "train", "mobileclip_b"),
    ] {
        of_golden(&path, golden, form);
        let checkpoint = Checkpoint::open(&path).unwrap_or_else(|e| panic!("{golden}: {e}"));
        assert_eq!(checkpoint.variant().name, expected);
        assert_eq!(checkpoint.dialect(), Dialect::Mobileclip);
    }
    // Whoever knows that timm's unpadded stem trained these weights says so; the missing bias is zeros.
    let unpadded = Checkpoint::open_with(&path, &Options::of(variant("MobileCLIP-B").unwrap())).unwrap();
    assert_eq!(unpadded.get("visual.trunk.head.bias").unwrap().to_f32().unwrap(), vec![0.0; 512]);
    assert!(
        unpadded.warnings()[0].contains("bias is zeros") && unpadded.warnings()[0].contains("pads the first")
    );
}

#[test]
fn generations_that_differ_in_preprocessing_need_a_name() {
    let folder = Folder::new();
    for (second, first) in [("MobileCLIP2-S3", "MobileCLIP-S3"), ("MobileCLIP2-S4", "MobileCLIP-S4")] {
        let bare = folder.path("weights.safetensors");
        of_variant(&bare, second, Form::Train);
        assert_eq!(candidates(&bare), [second, first]);
        for (name, expected) in [
            (second.to_lowercase().replace('-', "_"), second),
            (first.to_lowercase().replace('-', "_"), first),
            (format!("models--timm--{second}-OpenCLIP/snapshots/0123/model"), second),
        ] {
            let path = folder.path(&format!("{name}.safetensors"));
            std::fs::hard_link(&bare, &path).unwrap();
            assert_eq!(found(&path), expected, "{name}");
        }
        for name in [first, second] {
            let checkpoint = Checkpoint::open_with(&bare, &Options::of(variant(name).unwrap())).unwrap();
            assert_eq!(checkpoint.variant().name, name);
        }
    }
}

#[test]
fn the_two_bs_are_told_apart_or_asked_for() {
    let folder = Folder::new();
    let bare = folder.path("weights.safetensors");
    let manifest = Manifest::of(variant("MobileCLIP-B").unwrap());
    let tensors: Vec<_> = manifest.of_form(Form::Train).map(|t| (t.name.clone(), t.shape.clone())).collect();
    // A bias of zeros: converted from the first package, whose stem is padded, or not.
    sparse(&bare, &tensors, &[]);
    let several = candidates(&bare);
    assert!(
        several.contains(&"MobileCLIP-B".to_string()) && several.contains(&"mobileclip_b".to_string()),
        "{several:?}"
    );
    for name in ["MobileCLIP-B", "mobileclip_b"] {
        let checkpoint = Checkpoint::open_with(&bare, &Options::of(variant(name).unwrap())).unwrap();
        assert_eq!(checkpoint.variant().name, name);
        let named = folder.path(&format!("{name}.safetensors"));
        std::fs::hard_link(&bare, &named).unwrap();
        assert_eq!(found(&named), name);
    }
}

#[test]
fn openai_style_weights_never_say_their_activation() {
    let folder = Folder::new();
    let bare = folder.path("weights.safetensors");
    of_variant(&bare, "ViT-B-16", Form::Train);
    assert_eq!(candidates(&bare), ["ViT-B-16"]);
    let named = folder.path("CLIP-ViT-B-16-DataComp.XL-s13B-b90K/open_clip_pytorch_model.safetensors");
    std::fs::hard_link(&bare, &named).unwrap();
    let checkpoint = Checkpoint::open(&named).unwrap();
    assert_eq!(
        (checkpoint.variant().name.as_str(), checkpoint.preprocess_source()),
        ("ViT-B-16", PreprocessSource::Name)
    );
    // Text names under `text.` are the other class's; they are the same tensors. OpenAI's own state dicts carry three numbers.
    let mut tensors: Vec<_> = Manifest::of(variant("ViT-B-16").unwrap())
        .of_form(Form::Train)
        .map(|t| match t.name.starts_with("visual.") || t.name == "logit_scale" {
            true => (t.name.clone(), t.shape.clone()),
            false => (format!("text.{}", t.name), t.shape.clone()),
        })
        .collect();
    tensors
        .extend(["input_resolution", "context_length", "vocab_size"].map(|name| (name.to_string(), vec![])));
    let apart = folder.path("apart.safetensors");
    sparse(&apart, &tensors, &[]);
    assert!(Checkpoint::open_with(&apart, &Options::of(variant("ViT-B-16").unwrap())).is_ok());
}

fn write_config(folder: &Path, golden: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let json = golden::json(&format!("models/{golden}.json"));
    let facts = &json["facts"];
    let mut config = serde_json::json!({"model_cfg": facts["config"], "preprocess_cfg": facts["preprocess"]});
    change(&mut config);
    std::fs::write(folder.join("open_clip_config.json"), config.to_string()).unwrap();
}

#[test]
fn a_configuration_describes_its_variant() {
    for name in [
        "MobileCLIP2-S0",
        "MobileCLIP2-S3",
        "MobileCLIP-S3",
        "MobileCLIP2-L-14",
        "MobileCLIP2-B",
        "ViT-L-14",
        "ViT-L-14-quickgelu",
    ] {
        let folder = Folder::new();
        let weights = folder.path("x/open_clip_model.safetensors");
        of_variant(&weights, name, Form::Train);
        write_config(weights.parent().unwrap(), name, |_| {});
        for path in [weights.parent().unwrap(), &weights] {
            let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{name}: {e}"));
            let (got, want) = (checkpoint.variant(), variant(name).unwrap());
            assert_eq!((&got.image, &got.text), (&want.image, &want.text), "{name}");
            assert_eq!(checkpoint.preprocess(), &want.preprocess, "{name}");
            assert_eq!(checkpoint.preprocess_source(), PreprocessSource::Config, "{name}");
        }
    }
}

#[test]
fn a_configurations_preprocessing_wins_and_its_contradictions_are_told() {
    let folder = Folder::new();
    let weights = folder.path("x/open_clip_pytorch_model.safetensors");
    let path = weights.parent().unwrap();
    of_variant(&weights, "MobileCLIP2-S0", Form::Train);
    write_config(path, "MobileCLIP2-S0", |c| c["preprocess_cfg"]["interpolation"] = "bicubic".into());
    let checkpoint = Checkpoint::open(path).unwrap();
    assert_eq!(checkpoint.preprocess().interpolation, mobileclip_arch::Interpolation::Bicubic);
    let warning = "the configuration resizes Bicubic, MobileCLIP2-S0 was trained with Bilinear";
    assert_eq!(checkpoint.warnings(), [warning]);
    // Without preprocess_cfg, the published weights' own.
    write_config(path, "MobileCLIP2-S0", |c| {
        c.as_object_mut().unwrap().remove("preprocess_cfg");
    });
    let checkpoint = Checkpoint::open(path).unwrap();
    assert_eq!(checkpoint.preprocess(), &variant("MobileCLIP2-S0").unwrap().preprocess);
    assert_eq!(checkpoint.preprocess_source(), PreprocessSource::Variant);
    // A named variant against the configuration: taken, and told.
    let other = Checkpoint::open_with(path, &Options::of(variant("MobileCLIP2-S0").unwrap())).unwrap();
    assert!(other.warnings().is_empty());
    write_config(path, "MobileCLIP2-S0", |c| c["model_cfg"]["text_cfg"]["no_causal_mask"] = false.into());
    let told = Checkpoint::open_with(path, &Options::of(variant("MobileCLIP2-S0").unwrap())).unwrap();
    assert!(
        told.warnings()[0].contains("no_causal_mask is false, MobileCLIP2-S0 has true"),
        "{:?}",
        told.warnings()
    );
    // Without a name it describes nothing we know.
    let error = Checkpoint::open(path).unwrap_err().to_string();
    assert!(
        error.contains("describes no model of the family") && error.contains("no_causal_mask"),
        "{error}"
    );
}

#[test]
fn broken_configurations_are_errors() {
    let folder = Folder::new();
    let weights = folder.path("x/open_clip_model.safetensors");
    let path = weights.parent().unwrap();
    of_variant(&weights, "MobileCLIP2-S0", Form::Train);
    for (change, text) in [
        ("std", "cannot be used"),
        ("interpolation", "interpolation `nearest`"),
        ("resize_mode", "resize_mode `longest`"),
    ] {
        write_config(path, "MobileCLIP2-S0", |c| {
            c["preprocess_cfg"][change] = match change {
                "std" => serde_json::json!([1.0, 0.0, 1.0]),
                "interpolation" => "nearest".into(),
                _ => "longest".into(),
            }
        });
        let error = Checkpoint::open(path).unwrap_err().to_string();
        assert!(error.contains(text) && error.contains("open_clip_config.json"), "{error}");
    }
    for text in ["", "{", "[]", "{\"model_cfg\": {}}"] {
        std::fs::write(path.join("open_clip_config.json"), text).unwrap();
        assert!(matches!(Checkpoint::open(path), Err(Error::Config { .. })), "{text}");
    }
}

#[test]
fn folders_without_configuration() {
    let folder = Folder::new();
    let empty = folder.path("empty/x");
    let empty = empty.parent().unwrap();
    assert!(matches!(Checkpoint::open(empty), Err(Error::NoWeights { .. })));
    let only = folder.path("only/mobileclip2_s0.safetensors");
    of_variant(&only, "MobileCLIP2-S0", Form::Train);
    let only = only.parent().unwrap();
    assert_eq!(found(only), "MobileCLIP2-S0");
    std::fs::hard_link(only.join("mobileclip2_s0.safetensors"), only.join("other.pt")).unwrap();
    let error = Checkpoint::open(only).unwrap_err().to_string();
    assert!(error.contains("mobileclip2_s0.safetensors, other.pt"), "{error}");
}

/// A captioner's file of another context length than the variant's, with its keys from open_clip's golden.
fn of_captioner(path: &Path, name: &str, context: usize) {
    let json = golden::json(&format!("captioner/{name}.json"));
    let tensors: Vec<(String, Vec<usize>)> = golden::array(&json["keys"])
        .iter()
        .map(|row| {
            let name = row[0].as_str().unwrap().to_string();
            let mut shape: Vec<usize> = golden::array(&row[1]).iter().map(golden::count).collect();
            if name == "text.positional_embedding" {
                shape[0] = context + 1;
            }
            (name, shape)
        })
        .collect();
    sparse(path, &tensors, &[]);
}

#[test]
fn captioners_are_recognised_with_the_context_that_they_have() {
    let folder = Folder::new();
    // Neither the file's name nor its folder tells.
    let path = folder.path("weights.safetensors");
    for name in ["coca_ViT-B-32", "coca_ViT-L-14"] {
        for context in [76, 127, 255] {
            of_captioner(&path, name, context);
            let checkpoint = Checkpoint::open(&path).unwrap();
            let variant = checkpoint.variant();
            assert_eq!((variant.name.as_str(), variant.text.context), (name, context));
            assert_eq!(checkpoint.warnings(), [""; 0]);
            assert_eq!(checkpoint.get("text.positional_embedding").unwrap().spec().shape[0], context + 1);
        }
    }
}

#[test]
fn a_written_captioner_is_read_again_with_its_context() {
    let folder = Folder::new();
    let path = folder.path("weights.safetensors");
    of_captioner(&path, "coca_ViT-B-32", 127);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let out = folder.path("out/x");
    let out = out.parent().unwrap();
    write_open_clip(&checkpoint, out, FloatType::F16).unwrap();
    let again = Checkpoint::open(out).unwrap();
    assert_eq!(again.variant(), checkpoint.variant());
    // What is written is what open_clip's own configuration says, wherever that is no default.
    let read =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let written = &read(&out.join("open_clip_config.json"))["model_cfg"];
    let golden = &golden::json("captioner/coca_ViT-B-32.json")["config"];
    for tower in ["vision_cfg", "text_cfg", "multimodal_cfg"] {
        for (key, value) in
            golden[tower].as_object().unwrap().iter().filter(|(key, _)| *key != "context_length")
        {
            assert_eq!(&written[tower][key], value, "{tower}.{key}");
        }
        assert!(tower == "vision_cfg" || written[tower]["context_length"] == 127, "{tower}");
    }
    // A configuration of another captioner contradicts the weights.
    let mut other = read(&out.join("open_clip_config.json"));
    other["model_cfg"]["multimodal_cfg"]["heads"] = 16.into();
    std::fs::write(out.join("open_clip_config.json"), other.to_string()).unwrap();
    let error = Checkpoint::open(out).unwrap_err().to_string();
    assert!(error.contains("multimodal_cfg.heads is 16"), "{error}");
}

#[test]
fn a_model_with_a_fault_is_named_and_a_stranger_is_not() {
    let folder = Folder::new();
    let path = folder.path("weights.safetensors");
    let manifest = Manifest::of(variant("MobileCLIP2-S0").unwrap());
    let kept: Vec<_> = manifest.of_form(Form::Train).filter(|t| t.name != "text.ln_final.bias").collect();
    let tensors: Vec<_> = kept.iter().map(|t| (t.name.clone(), t.shape.clone())).collect();
    sparse(&path, &tensors, &HEAD_BIASES);
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("does not hold MobileCLIP2-S0: 1 missing: `text.ln_final.bias`"), "{error}");
    sparse(&path, &[("a".into(), vec![2]), ("b".into(), vec![3])], &[]);
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("holds no model of the family; its tensors are a, b"), "{error}");
    // Counters of batches may be missing: some tools drop integers.
    let floats = manifest.of_form(Form::Train).filter(|t| t.role != Role::Counter);
    let tensors: Vec<_> = floats.map(|t| (t.name.clone(), t.shape.clone())).collect();
    sparse(&path, &tensors, &HEAD_BIASES);
    assert_eq!(found(&path), "MobileCLIP2-S0");
}

#[test]
fn every_variant_opens_by_name() {
    let folder = Folder::new();
    let path = folder.path("weights.safetensors");
    for variant in variants() {
        of_variant(&path, &variant.name, Form::Train);
        let checkpoint =
            Checkpoint::open_with(&path, &Options::of(variant)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(checkpoint.variant(), variant);
    }
}

/// The toy as open_clip would know it.
fn nano4() -> mobileclip_arch::Variant {
    let mut variant = toy("nano4");
    let mobileclip_arch::Image::Mci(mci) = &mut variant.image else { panic!("nano4 is an MCi") };
    mci.timm = Some("toy_mci_nano4".into());
    variant
}

#[test]
fn a_written_directory_is_read_again() {
    let folder = Folder::new();
    let source = golden::path("checkpoints/dir_bin");
    let original = Checkpoint::open_with(&source, &Options::of(&nano4())).unwrap();
    assert_eq!(original.warnings(), [""; 0], "the configuration describes the toy");
    for float in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
        let written = folder.path("out/deep/x");
        let written = written.parent().unwrap();
        write_open_clip(&original, written, float).unwrap();
        let again = Checkpoint::open_with(written, &Options::of(&nano4())).unwrap();
        assert_eq!(again.warnings(), [""; 0]);
        assert_eq!(again.preprocess(), original.preprocess());
        for (a, b) in original.tensors().zip(again.tensors()) {
            let name = &a.spec().name;
            let (a, b) = (a.to_f32().unwrap(), b.to_f32().unwrap());
            let rounded = |v: f32| match float {
                FloatType::F32 => v,
                FloatType::F16 => half::f16::from_f32(v).to_f32(),
                FloatType::Bf16 => half::bf16::from_f32(v).to_f32(),
            };
            assert!(a.iter().zip(&*b).all(|(&a, &b)| rounded(a) == b), "{float:?} {name}");
        }
        let names: Vec<_> = std::fs::read_dir(written).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "nothing else is left behind: {names:?}");
    }
    // The configuration has the fields and values that open_clip wrote.
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path.join("open_clip_config.json")).unwrap()).unwrap()
    };
    assert_eq!(read(&folder.path("out/deep")), read(&source));
}

#[test]
fn the_first_packages_hybrids_become_open_clips() {
    let folder = Folder::new();
    let path = folder.path("mobileclip_s1.safetensors");
    of_golden(&path, "mobileclip_s1", "train");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let out = folder.path("out/x");
    write_open_clip(&checkpoint, out.parent().unwrap(), FloatType::F16).unwrap();
    let again = Checkpoint::open(out.parent().unwrap()).unwrap();
    assert_eq!((again.variant().name.as_str(), again.dialect()), ("MobileCLIP-S1", Dialect::OpenClip));
}

#[test]
fn what_open_clip_cannot_hold_is_refused() {
    let folder = Folder::new();
    let refusal = |path: &Path, options: &Options| {
        let checkpoint = Checkpoint::open_with(path, options).unwrap();
        let error = write_open_clip(&checkpoint, &folder.path("out"), FloatType::F32).unwrap_err();
        assert!(matches!(error, Error::NotRepresentable { .. }), "{error}");
        assert!(!folder.path("out").exists(), "nothing is written");
        error.to_string()
    };
    let golden = |name: &str| golden::path(&format!("checkpoints/{name}"));
    let mixed = refusal(&golden("v1.pt"), &Options::of(&toy("nano_v1_mct")));
    assert!(mixed.contains("RepMixer blocks"), "{mixed}");
    let fused = refusal(&golden("reparameterised.pt"), &Options::of(&nano4()));
    assert!(fused.contains("fused"), "{fused}");
    let padded = folder.path("mobileclip_b.safetensors");
    of_golden(&padded, "mobileclip_b", "train");
    let padded = refusal(&padded, &Options::default());
    assert!(padded.contains("padded"), "{padded}");
    let unknown = refusal(&golden("f32.safetensors"), &Options::of(&toy("nano4")));
    assert!(unknown.contains("timm has no such image tower"), "{unknown}");
}

#[test]
fn a_value_too_large_for_f16_is_named() {
    let folder = Folder::new();
    let mut bytes = std::fs::read(golden::path("checkpoints/f32.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let start = 8 + header + json["text.ln_final.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start..start + 4].copy_from_slice(&1e5f32.to_le_bytes());
    let path = folder.path("large.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open_with(&path, &Options::of(&nano4())).unwrap();
    let out = folder.path("out");
    let error = write_open_clip(&checkpoint, &out, FloatType::F16).unwrap_err().to_string();
    assert!(
        error.contains("tensor `text.ln_final.weight`: element 0 is 100000, too large for float16"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "nothing is left behind");
    write_open_clip(&checkpoint, &out, FloatType::Bf16).unwrap();
}
