//! The reading that records a graph.

use std::cell::RefCell;

use mobileclip_arch::{
    Activation, Attention, Coca, Conv, Linear, Names, Ops, Part, Positions, Seen, Shape, StepOps, Take,
    Tower, Variant, Weights,
};

use crate::fuse::fuse;
use crate::ir::{Graph, Node, NodeId, Op, infer};
use crate::value::Value;

impl Graph {
    /// Traces a tower over these weights and fuses it: BatchNorm and scales into convolutions, parallel branches into
    /// one, nonlinearities and residuals into what stands before them.
    ///
    /// `taps` are scopes whose outputs are wanted as well (`visual.trunk.stages.3`); unknown ones are ignored.
    pub fn trace(variant: &Variant, tower: Tower, weights: &dyn Weights, taps: &[&str]) -> Self {
        fuse(Self::trace_unfused(variant, tower, weights, taps), weights)
    }

    /// The program as it stands, nothing fused.
    pub fn trace_unfused(variant: &Variant, tower: Tower, weights: &dyn Weights, taps: &[&str]) -> Self {
        let program = |trace: &Trace, input: &NodeId| variant.encode(tower, trace, input);
        record(tower, variant.input(tower), weights, taps, program)
    }

    /// A captioner's image tower with what the decoder reads of an image: two taps for each of its layers, keys and values.
    pub fn trace_memory(coca: &Coca, weights: &dyn Weights) -> Self {
        let scopes: Vec<String> = (0..coca.captioner().decoder.layers)
            .flat_map(|layer| {
                ["keys", "values"].map(|part| format!("text_decoder.cross_attn.{layer}.{part}"))
            })
            .collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let program = |trace: &Trace, pixels: &NodeId| {
            let image = coca.image(trace, pixels);
            coca.memory(trace, &image.tokens);
            image.features
        };
        let input = coca.variant().input(Tower::Image);
        fuse(record(Tower::Image, input, weights, &scopes, program), weights)
    }

    /// A captioner's next step: ids that continue texts → logits of what follows each. Its input is the text tower's.
    pub fn trace_step(coca: &Coca, weights: &dyn Weights) -> Self {
        let program = |trace: &Trace, ids: &NodeId| coca.decode_step(trace, ids);
        fuse(record(Tower::Text, Shape::tokens(1, 1), weights, &[], program), weights)
    }
}

fn record(
    tower: Tower,
    input: Shape,
    weights: &dyn Weights,
    wanted: &[&str],
    program: impl FnOnce(&Trace, &NodeId) -> NodeId,
) -> Graph {
    let trace = Trace {
        weights,
        names: Names::default(),
        input,
        wanted,
        nodes: RefCell::default(),
        shapes: RefCell::default(),
        taps: RefCell::default(),
    };
    let input = trace.push(Op::Input, &[], Vec::new());
    let output = program(&trace, &input);
    Graph { tower, nodes: trace.nodes.into_inner(), output, taps: trace.taps.into_inner() }
}

struct Trace<'a> {
    weights: &'a dyn Weights,
    names: Names,
    input: Shape,
    wanted: &'a [&'a str],
    nodes: RefCell<Vec<Node>>,
    shapes: RefCell<Vec<Shape>>,
    taps: RefCell<Vec<(String, NodeId)>>,
}

impl Trace<'_> {
    fn push(&self, op: Op, inputs: &[NodeId], names: Vec<String>) -> NodeId {
        let (mut nodes, mut shapes) = (self.nodes.borrow_mut(), self.shapes.borrow_mut());
        let given: Vec<Shape> = inputs.iter().map(|&id| shapes[id]).collect();
        let grid = given.first().map_or((1, 1), |shape| (shape.height, shape.width));
        // At the trained resolution every variant that passed its checks has shapes; if not, `Graph::shapes` says so.
        let shape = infer(&op, self.input, &given, grid).unwrap_or(Shape::new(1, 1, 1));
        nodes.push(Node { op, inputs: inputs.to_vec(), names });
        shapes.push(shape);
        nodes.len() - 1
    }

    fn stored(&self, name: &str, leaf: &str) -> Value {
        Value::Stored(self.names.leaf(name, leaf))
    }

    fn f64(&self, name: &str, leaf: &str) -> Vec<f64> {
        self.weights.f64(&self.names.leaf(name, leaf))
    }
}

impl Ops for Trace<'_> {
    type Tensor = NodeId;

    fn scope<R>(&self, name: &str, body: impl FnOnce(&Self) -> R) -> R {
        self.names.scope(name, || body(self))
    }

    fn shape(&self, x: &NodeId) -> Shape {
        self.shapes.borrow()[*x]
    }

    fn tap(&self, x: NodeId) -> NodeId {
        let here = self.names.here();
        if self.wanted.contains(&here.as_str()) {
            self.taps.borrow_mut().push((here, x));
        }
        x
    }

    fn parameter(&self, _name: &str, _shape: &[usize]) {}

    fn conv(&self, name: &str, x: &NodeId, conv: &Conv) -> NodeId {
        let weight = self.stored(name, "weight");
        let bias = conv.bias.then(|| self.stored(name, "bias"));
        self.push(Op::Conv { conv: *conv, weight, bias, activation: None }, &[*x], vec![self.names.of(name)])
    }

    fn linear(&self, x: &NodeId, linear: &Linear) -> NodeId {
        let name = self.names.of(linear.weight);
        let weight = match linear.transposed {
            true => Value::Transposed { name: name.clone(), rows: linear.inputs, columns: linear.outputs },
            false => part(name.clone(), linear.weight_part),
        };
        let bias = linear.bias.map(|bias| part(self.names.of(bias), linear.bias_part));
        let scope = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
        self.push(Op::Conv { conv: linear.as_conv(), weight, bias, activation: None }, &[*x], vec![scope])
    }

    fn batch_norm(&self, name: &str, x: &NodeId, eps: f64) -> NodeId {
        let (weight, bias) = (self.f64(name, "weight"), self.f64(name, "bias"));
        let (mean, var) = (self.f64(name, "running_mean"), self.f64(name, "running_var"));
        let scale: Vec<f64> = weight.iter().zip(var).map(|(w, v)| w / (v + eps).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        self.push(Op::Affine { scale, shift }, &[*x], vec![self.names.of(name)])
    }

    fn layer_scale(&self, name: &str, x: &NodeId) -> NodeId {
        let scale = self.f64(name, "");
        let shift = vec![0.0; scale.len()];
        self.push(Op::Affine { scale, shift }, &[*x], vec![self.names.of(name)])
    }

    fn branches(
        &self,
        name: &str,
        x: &NodeId,
        fused: &Conv,
        train: impl FnOnce(&Self, &NodeId) -> NodeId,
    ) -> NodeId {
        match self.weights.contains(&self.names.leaf(name, "weight")) {
            true => self.conv(name, x, fused),
            false => train(self, x),
        }
    }

    fn add(&self, a: &NodeId, b: &NodeId) -> NodeId {
        self.push(Op::Add, &[*a, *b], Vec::new())
    }

    fn sub(&self, a: &NodeId, b: &NodeId) -> NodeId {
        self.push(Op::Sub, &[*a, *b], Vec::new())
    }

    fn layer_norm(&self, name: &str, x: &NodeId, eps: f64) -> NodeId {
        let op = Op::LayerNorm { weight: self.stored(name, "weight"), bias: self.stored(name, "bias"), eps };
        self.push(op, &[*x], vec![self.names.of(name)])
    }

    fn activation(&self, x: &NodeId, activation: Activation) -> NodeId {
        self.push(Op::Activation(activation), &[*x], Vec::new())
    }

    fn attention(&self, qkv: &NodeId, attention: &Attention) -> NodeId {
        self.push(Op::Attention(*attention), &[*qkv], vec![self.names.here()])
    }

    fn cross_attention(&self, [q, k, v]: [&NodeId; 3], attention: &Attention, seen: Seen<NodeId>) -> NodeId {
        let names = vec![self.names.here()];
        match seen {
            Seen::All => self.push(Op::CrossAttention(*attention), &[*q, *k, *v], names),
            Seen::Padded(ids) => self.push(Op::PaddedAttention(*attention), &[*q, *k, *v, *ids], names),
        }
    }

    fn mean_pool(&self, x: &NodeId) -> NodeId {
        self.push(Op::MeanPool, &[*x], vec![self.names.here()])
    }

    fn gate(&self, x: &NodeId, gate: &NodeId) -> NodeId {
        self.push(Op::Gate { activation: None }, &[*x, *gate], vec![self.names.here()])
    }

    fn embed(&self, name: &str, ids: &NodeId, vocabulary: usize, width: usize) -> NodeId {
        self.push(
            Op::Embed { table: self.stored(name, ""), vocabulary, width },
            &[*ids],
            vec![self.names.of(name)],
        )
    }

    fn positions(&self, name: &str, x: &NodeId, positions: &Positions) -> NodeId {
        let op = Op::Positions {
            table: self.stored(name, ""),
            grid: positions.grid,
            class_row: positions.class_row,
            resample: positions.resample,
        };
        self.push(op, &[*x], vec![self.names.of(name)])
    }

    fn class_token(&self, name: &str, x: &NodeId, _shape: &[usize]) -> NodeId {
        self.push(Op::ClassToken { token: self.stored(name, "") }, &[*x], vec![self.names.of(name)])
    }

    fn append_token(&self, name: &str, x: &NodeId) -> NodeId {
        self.push(Op::AppendToken { token: self.stored(name, "") }, &[*x], vec![self.names.of(name)])
    }

    fn queries(&self, name: &str, _like: &NodeId, count: usize, width: usize) -> NodeId {
        let op = Op::Queries { table: self.stored(name, ""), count, width };
        self.push(op, &[], vec![self.names.of(name)])
    }

    fn trim(&self, x: &NodeId, front: usize, back: usize) -> NodeId {
        self.push(Op::Trim { front, back }, &[*x], Vec::new())
    }

    fn take(&self, x: &NodeId, which: Take<NodeId>) -> NodeId {
        match which {
            Take::First => self.push(Op::TakeFirst, &[*x], Vec::new()),
            Take::Last => self.push(Op::TakeLast, &[*x], Vec::new()),
            Take::EndOfText(ids) => self.push(Op::TakeEndOfText, &[*x, *ids], Vec::new()),
        }
    }
}

impl StepOps for Trace<'_> {
    fn positions_in_text(&self, name: &str, x: &NodeId, positions: &Positions) -> NodeId {
        let op = Op::TextPositions { table: self.stored(name, ""), rows: positions.grid.1 };
        self.push(op, &[*x], vec![self.names.of(name)])
    }

    fn cached_attention(&self, qkv: &NodeId, layer: usize, attention: &Attention) -> NodeId {
        let op = Op::CachedAttention { attention: *attention, layer };
        self.push(op, &[*qkv], vec![self.names.here()])
    }

    fn image_attention(&self, q: &NodeId, layer: usize, attention: &Attention) -> NodeId {
        self.push(Op::ImageAttention { attention: *attention, layer }, &[*q], vec![self.names.here()])
    }
}

fn part(name: String, part: Part) -> Value {
    match part {
        Part::WHOLE => Value::Stored(name),
        part => Value::Part { name, part },
    }
}
