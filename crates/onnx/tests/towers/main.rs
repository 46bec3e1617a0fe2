//! Towers written as ONNX models, read back and run.

mod interpreter;

use std::collections::HashSet;
use std::path::Path;

use mobileclip_arch::{Array, Dialect, Manifest, Tower, Variant, Weights};
use mobileclip_graph::Graph;
use mobileclip_onnx::proto::{Model, Tensor, ValueInfo};
use mobileclip_onnx::{Error, Pictures, PixelOrder, Settings, write};
use mobileclip_testing::compare::assert_close;
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden;
use mobileclip_testing::toys::{TOYS, toy};
use prost::Message;

use interpreter::{Value, run};

/// The weights are rounded to single precision once, after folding.
const TOLERANCE: f64 = 1e-5;

fn graph(variant: &Variant, tower: Tower) -> (Graph, Formula) {
    let weights = Formula::of(&Manifest::of(variant));
    (Graph::trace(variant, tower, &weights, &[]), weights)
}

fn usual(variant: &Variant, tower: Tower) -> Settings {
    let shape = variant.input(tower);
    Settings { size: (shape.height, shape.width), ..Settings::default() }
}

fn written(graph: &Graph, weights: &dyn Weights, settings: &Settings) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tower.onnx");
    let files = write(graph, weights, settings, &path).unwrap();
    assert_eq!(files.data, None);
    read(&path)
}

fn read(path: &Path) -> Model {
    Model::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

/// Dimensions of a port, those that the caller decides by name.
fn dims(port: &ValueInfo) -> Vec<String> {
    let tensor = port.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let dim = |d: &mobileclip_onnx::proto::Dimension| match (d.dim_value, &d.dim_param) {
        (Some(n), None) => n.to_string(),
        (None, Some(name)) => name.clone(),
        both => panic!("{both:?}"),
    };
    tensor.shape.as_ref().unwrap().dim.iter().map(dim).collect()
}

#[test]
fn toys_give_the_golden_features_for_a_whole_batch() {
    let mut checked = 0;
    for name in TOYS {
        let variant = toy(name);
        if variant.dialect != Dialect::OpenClip {
            continue;
        }
        let golden = golden::model(&format!("toy/{name}"));
        let (image, weights) = graph(&variant, Tower::Image);
        let (height, width) = golden.size;
        let settings = Settings { size: golden.size, ..Settings::default() };
        let shape = Tower::Image.input(height, width);
        let pixels = |label: &String| formula::pixels(label, shape, golden.mean, golden.std);
        let batch = Value::new(
            &[golden.images.len(), 3, height, width],
            golden.images.iter().flat_map(pixels).collect(),
        );
        compare(name, run(&written(&image, &weights, &settings), batch), &golden.image_features);

        let (text, weights) = graph(&variant, Tower::Text);
        let settings = usual(&variant, Tower::Text);
        let ids = golden.token_rows.iter().flatten().map(|&id| f64::from(id)).collect();
        let batch = Value::new(&[golden.token_rows.len(), variant.text.context], ids);
        compare(name, run(&written(&text, &weights, &settings), batch), &golden.text_features);
        checked += 1;
    }
    assert!(checked > 5, "only {checked}");
}

fn compare(name: &str, got: Value, expected: &[Vec<f64>]) {
    assert_eq!(got.dims, [expected.len(), expected[0].len()], "{name}");
    for (row, expected) in got.data.chunks(got.dims[1]).zip(expected) {
        assert_close(name, row, expected, TOLERANCE);
    }
}

#[test]
fn other_sizes_and_lengths_are_those_of_the_graph() {
    // Resampled positions, a class token, and a causal tower cut behind the end mark.
    let variant = toy("toy_vit_l");
    let (image, weights) = graph(&variant, Tower::Image);
    let side = variant.image_size();
    let shape = Tower::Image.input(2 * side, side);
    let settings = Settings { size: (2 * side, side), ..Settings::default() };
    let pixels = formula::pixels("p", shape, [0.5; 3], [0.25; 3]);
    let expected = image.evaluate(&weights, Array::new(shape, pixels.clone()));
    let got = run(&written(&image, &weights, &settings), Value::new(&[1, 3, 2 * side, side], pixels));
    assert_close("resampled", &got.data, &expected[image.output].values, TOLERANCE);

    let variant = toy("toy_v1_base_causal");
    assert!(variant.text.blocks.causal);
    let (text, weights) = graph(&variant, Tower::Text);
    let ids = [3, 7, 9, 5];
    let expected = text.evaluate(&weights, Array::ids(&ids));
    let settings = Settings { size: (1, 4), ..Settings::default() };
    let got = run(&written(&text, &weights, &settings), Value::new(&[1, 4], ids.map(f64::from).to_vec()));
    assert_close("short", &got.data, &expected[text.output].values, TOLERANCE);
}

#[test]
fn the_first_generation_is_written_too() {
    // Its goldens are under other names; convolutions along tokens and positions without a class row are its own.
    for name in ["nano_v1_mct", "toy_v1_mct", "toy_v1_b"] {
        let variant = toy(name);
        for tower in [Tower::Image, Tower::Text] {
            let (graph, weights) = graph(&variant, tower);
            let shape = variant.input(tower);
            let (input, dims) = match tower {
                Tower::Image => {
                    let pixels = formula::pixels("p", shape, [0.0; 3], [1.0; 3]);
                    (Array::new(shape, pixels), vec![1, 3, shape.height, shape.width])
                }
                Tower::Text => {
                    let ids: Vec<u32> = (0..shape.width as u32).map(|i| i * 5 % 17).collect();
                    (Array::ids(&ids), vec![1, shape.width])
                }
            };
            let value = Value::new(&dims, input.values.clone());
            let expected = graph.evaluate(&weights, input);
            let got = run(&written(&graph, &weights, &usual(&variant, tower)), value);
            assert_close(&format!("{name} {tower:?}"), &got.data, &expected[graph.output].values, TOLERANCE);
        }
    }
}

#[test]
fn features_can_have_length_1() {
    let variant = toy("toy4");
    let (text, weights) = graph(&variant, Tower::Text);
    let settings = Settings { normalize: true, ..usual(&variant, Tower::Text) };
    let context = variant.text.context;
    let ids: Vec<f64> = (0..2 * context).map(|i| (i * 7 % 31) as f64).collect();
    let batch = Value::new(&[2, context], ids);
    let raw = run(&written(&text, &weights, &usual(&variant, Tower::Text)), batch.clone());
    let unit = run(&written(&text, &weights, &settings), batch);
    for (unit, raw) in unit.data.chunks(unit.dims[1]).zip(raw.data.chunks(raw.dims[1])) {
        let length = raw.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert_close("unit", unit, &raw.iter().map(|v| v / length).collect::<Vec<_>>(), 1e-12);
    }
}

#[test]
fn models_are_in_order_and_tell_what_they_are() {
    for name in TOYS {
        let variant = Variant { dialect: Dialect::OpenClip, ..toy(name) };
        for tower in [Tower::Image, Tower::Text] {
            let (graph, weights) = graph(&variant, tower);
            let settings = Settings {
                description: "a toy".to_owned(),
                metadata: vec![("variant".to_owned(), name.to_owned())],
                ..usual(&variant, tower)
            };
            let model = written(&graph, &weights, &settings);
            assert_eq!((model.ir_version, model.opset_import[0].version), (Some(8), Some(17)));
            assert_eq!(model.doc_string.as_deref(), Some("a toy"));
            assert_eq!(model.metadata_props[0].value.as_deref(), Some(name));
            let graph = model.graph.unwrap();
            let constants = graph.initializer.iter().map(|t| t.name.clone().unwrap());
            let mut known: HashSet<String> =
                constants.chain([graph.input[0].name.clone().unwrap()]).collect();
            assert_eq!(known.len(), graph.initializer.len() + 1, "{name}: constants of one name");
            let mut names = HashSet::new();
            for node in &graph.node {
                assert!(names.insert(node.name.clone()), "{name}: two nodes {:?}", node.name);
                let missing = node.input.iter().find(|input| !known.contains(*input));
                assert_eq!(missing, None, "{name}: {:?}", node.name);
                assert!(
                    node.output.iter().all(|output| known.insert(output.clone())),
                    "{name}: {:?}",
                    node.name
                );
            }
            assert!(known.contains(graph.output[0].name.as_ref().unwrap()));
            let expected = match tower {
                Tower::Image => ("pixel_values", "image_embeds"),
                Tower::Text => ("input_ids", "text_embeds"),
            };
            let port = |port: &ValueInfo| port.name.clone().unwrap();
            assert_eq!((port(&graph.input[0]).as_str(), port(&graph.output[0]).as_str()), expected);
            assert_eq!(dims(&graph.output[0]), ["batch", &variant.embed_dim.to_string()]);
        }
    }
}

#[test]
fn names_are_the_checkpoints() {
    let (graph, weights) = graph(&toy("toy4"), Tower::Image);
    let model = written(&graph, &weights, &usual(&toy("toy4"), Tower::Image));
    let graph = model.graph.unwrap();
    let has_node = |name: &str| graph.node.iter().any(|node| node.name.as_deref() == Some(name));
    let has_constant = |name: &str| graph.initializer.iter().any(|t| t.name.as_deref() == Some(name));
    assert!(has_node("visual.trunk.stem.0/Conv"));
    assert!(has_constant("visual.trunk.stages.0.blocks.0.token_mixer.mixer.weight"));
    assert!(has_constant("visual.trunk.stages.0.blocks.0.mlp.fc2.bias"));
    assert!(has_node("visual.trunk.head.fc/Conv"));
}

#[test]
fn pictures_of_any_size_go_in() {
    let variant = toy("toy4");
    let (graph, weights) = graph(&variant, Tower::Image);
    for (order, expected) in [
        (PixelOrder::Nhwc, ["batch", "height", "width", "3"]),
        (PixelOrder::Nchw, ["batch", "3", "height", "width"]),
    ] {
        let pictures = Some(Pictures { preprocess: variant.preprocess.clone(), order });
        let model = written(&graph, &weights, &Settings { pictures, ..usual(&variant, Tower::Image) });
        assert_eq!(model.opset_import[0].version, Some(18));
        let graph = model.graph.unwrap();
        assert_eq!(dims(&graph.input[0]), expected);
        let resize = graph.node.iter().find(|node| node.op_type.as_deref() == Some("Resize")).unwrap();
        let antialias = resize.attribute.iter().find(|a| a.name.as_deref() == Some("antialias")).unwrap();
        assert_eq!(antialias.i, Some(1));
    }
}

#[test]
fn weights_in_a_file_of_their_own_are_the_same() {
    let variant = toy("toy4");
    let (graph, weights) = graph(&variant, Tower::Text);
    let inside = written(&graph, &weights, &usual(&variant, Tower::Text)).graph.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.onnx");
    let settings = Settings { external_data: true, ..usual(&variant, Tower::Text) };
    let files = write(&graph, &weights, &settings, &path).unwrap();
    let data = std::fs::read(files.data.unwrap()).unwrap();
    let outside = read(&path).graph.unwrap();
    let mut moved = 0;
    for (a, b) in inside.initializer.iter().zip(&outside.initializer) {
        let entry = |key: &str| {
            let entry = b.external_data.iter().find(|entry| entry.key.as_deref() == Some(key));
            entry.unwrap().value.clone().unwrap()
        };
        let expected = a.raw_data.clone().unwrap();
        match b.data_location {
            Some(1) => {
                let (offset, length) =
                    (entry("offset").parse::<usize>().unwrap(), entry("length").parse::<usize>().unwrap());
                assert_eq!((entry("location").as_str(), offset % 4096), ("text.onnx.data", 0));
                assert_eq!(data[offset..offset + length], expected);
                moved += 1;
            }
            None => assert_eq!(b.raw_data.as_ref(), Some(&expected)),
            other => panic!("{other:?}"),
        }
        let bare = Tensor { raw_data: None, external_data: Vec::new(), data_location: None, ..b.clone() };
        assert_eq!(bare, Tensor { raw_data: None, ..a.clone() });
    }
    assert!(moved > 10, "only {moved}");
}

/// The weights of a damaged file.
struct Damaged(Formula, fn(&str, &mut Vec<f32>));

impl Weights for Damaged {
    fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    fn f32(&self, name: &str) -> std::borrow::Cow<'_, [f32]> {
        let mut values = self.0.f32(name).into_owned();
        self.1(name, &mut values);
        values.into()
    }
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let variant = toy("toy4");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.onnx");
    let (text, weights) = graph(&variant, Tower::Text);
    let fails = |settings: &Settings, weights: &dyn Weights, path: &Path| {
        write(&text, weights, settings, path).unwrap_err().to_string()
    };
    let long = Settings { size: (1, 10_000), ..Settings::default() };
    assert_eq!(fails(&long, &weights, &path), "the Text tower takes no row of 10000 tokens");
    let settings = usual(&variant, Tower::Text);
    let damaged = |damage| Damaged(graph(&variant, Tower::Text).1, damage);
    let short = damaged(|name, values| {
        values.truncate(if name.ends_with("ln_final.weight") { 3 } else { usize::MAX })
    });
    let found = fails(&settings, &short, &path);
    assert!(found.contains("`text.ln_final.weight` has 3 numbers"), "{found}");
    let nan = damaged(|name, values| {
        values[0] = if name.ends_with("ln_final.bias") { f32::NAN } else { values[0] }
    });
    let found = fails(&settings, &nan, &path);
    assert_eq!(found, "`text.ln_final.bias` has the value NaN at 0");
    let nowhere = folder.path().join("nowhere/x.onnx");
    assert!(fails(&settings, &weights, &nowhere).contains("nowhere/x.onnx"));

    let (image, weights) = graph(&variant, Tower::Image);
    let error = write(&image, &weights, &Settings { size: (0, 0), ..Settings::default() }, &path);
    assert!(matches!(error, Err(Error::InputSize { tower: Tower::Image, .. })));
}

#[test]
fn a_captioner_is_refused() {
    let variant = toy("toy_coca");
    for tower in [Tower::Image, Tower::Text] {
        let (graph, weights) = graph(&variant, tower);
        let path = tempfile::tempdir().unwrap().path().join("tower.onnx");
        let error = write(&graph, &weights, &usual(&variant, tower), &path).unwrap_err();
        assert!(matches!(error, Error::Captioner { .. }), "{error}");
    }
}
