//! Graphs that somebody made up: what no kernel runs is an error before anything runs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use mobileclip_arch::{Attention, Conv, Tower as Which, Weights};
use mobileclip_engine::{EngineError, Input, Isa, Output, Pool, Precision, Tower};
use mobileclip_graph::{Graph, Node, NodeId, Op, Value};

struct Constants(HashMap<String, Vec<f32>>);

impl Weights for Constants {
    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        Cow::Borrowed(&self.0[name])
    }
}

fn conv(conv: Conv, input: NodeId) -> Node {
    let weight = Value::Stored(format!("{:?}", conv.weight_shape()));
    Node { op: Op::Conv { conv, weight, bias: None, activation: None }, inputs: vec![input], names: vec![] }
}

fn node(op: Op, inputs: &[NodeId]) -> Node {
    Node { op, inputs: inputs.to_vec(), names: vec!["made.up".to_owned()] }
}

fn linear(inputs: usize, outputs: usize, input: NodeId) -> Node {
    conv(Conv { bias: false, ..Conv::pointwise(inputs, outputs) }, input)
}

fn run(nodes: Vec<Node>, (height, width): (usize, usize), threads: usize) -> Result<Output, EngineError> {
    let mut graph = Graph { tower: Which::Image, output: nodes.len(), nodes, taps: Vec::new() };
    graph.nodes.insert(0, node(Op::Input, &[]));
    graph.check().unwrap();
    let channels = graph.channels();
    let mut constants = HashMap::new();
    for (node, channels) in graph.nodes.iter_mut().zip(channels) {
        for (_, value, shape) in node.op.constants_mut(channels) {
            if let Value::Stored(name) = value {
                constants.insert(name.clone(), vec![0.5; shape.iter().product()]);
            }
        }
    }
    let pool = Arc::new(Pool::new(threads));
    let tower = Tower::new(
        graph,
        Arc::new(Constants(constants)),
        Isa::detect(),
        pool,
        (height, width),
        Precision::F32,
    )?;
    tower.run(Input::Pixels { height, width, values: &vec![1.0; 3 * height * width] })
}

fn attention(heads: usize, head_width: usize, input: NodeId) -> Node {
    node(Op::Attention(Attention { heads, head_width, is_causal: false }), &[input])
}

#[track_caller]
fn refused(nodes: Vec<Node>, what: &str) {
    let error = run(nodes, (4, 4), 2).unwrap_err().to_string();
    assert!(error.contains(what), "{error}");
}

#[test]
fn attention_whose_heads_do_not_fill_blocks_is_refused() {
    refused(vec![linear(3, 72, 0), attention(3, 8, 1)], "attention of width 24");
    assert!(run(vec![linear(3, 48, 0), attention(2, 8, 1)], (4, 4), 2).is_ok());
}

#[test]
fn attention_and_gates_beside_depthwise_convolutions_are_refused() {
    let depthwise = |channels, input| conv(Conv::depthwise(channels, channels, (3, 3), 1), input);
    refused(vec![linear(3, 48, 0), attention(1, 16, 1), depthwise(16, 2)], "depthwise");
    refused(vec![linear(3, 48, 0), depthwise(48, 1), attention(1, 16, 1)], "depthwise");
    let gate = Op::Gate { activation: None };
    let gated = vec![linear(3, 16, 0), node(Op::MeanPool, &[1]), depthwise(16, 2), node(gate, &[1, 2])];
    refused(gated, "depthwise");
}

#[test]
fn borders_beyond_any_memory_are_refused() {
    let tall = Conv { padding: ((1 << 20) - 1, 0), ..Conv::depthwise(2, 2, (1 << 20, 1), 1) };
    let error = run(vec![linear(3, 2, 0), conv(tall, 1)], (1, 64), 1).unwrap_err();
    assert!(matches!(error, EngineError::InputSize { height: 1, width: 64, .. }), "{error}");
}

#[test]
fn more_threads_than_tiles_can_be_claimed_by_give_the_same_bits() {
    let nodes = || vec![conv(Conv::dense(3, 16, 3, 1), 0)];
    let (one, many) = (run(nodes(), (96, 96), 1).unwrap(), run(nodes(), (96, 96), 300).unwrap());
    assert_eq!(one, many);
}

#[test]
fn products_of_very_wide_inputs_run() {
    let nodes = vec![linear(3, 40_000, 0), linear(40_000, 128, 1)];
    let output = run(nodes, (8, 4), 2).unwrap();
    assert!(output.features.iter().all(|&v| v == 30_000.0), "{:?}", &output.features[..4]);
}

#[test]
fn products_beside_depthwise_convolutions_run() {
    let depthwise = conv(Conv::depthwise(64, 64, (3, 3), 1), 1);
    let output = run(vec![linear(3, 64, 0), depthwise, linear(64, 128, 1)], (8, 8), 1).unwrap();
    assert!(output.features.iter().all(|&v| v == 48.0), "{:?}", &output.features[..4]);
}
