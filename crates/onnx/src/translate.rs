//! The reading itself: one `match` on the graph's operations.

use mobileclip_arch::{Activation, Conv, Resample, Shape, Tower};
use mobileclip_graph::{Graph, Node, NodeId, Op, Value};

use crate::builder::{Builder, Data, Dim, Fit, Settings, port};
use crate::error::{Error, Result};
use crate::proto::{Attribute, DataType};
use crate::{OPSET, OPSET_WITH_PICTURES, pictures};

/// The batch's dimension.
pub(crate) const BATCH: Dim = Dim::Free("batch");

/// A node's output under the names it has in the model, one for each layout that somebody asked for.
struct Made {
    shape: Shape,
    /// `[N, C, H, W]`.
    map: Option<String>,
    /// `[N, T, D]`.
    tokens: Option<String>,
}

impl Made {
    fn is_tokens(&self) -> bool {
        self.map.is_none()
    }
}

pub(crate) struct Translation<'g> {
    pub(crate) builder: Builder<'g>,
    graph: &'g Graph,
    made: Vec<Made>,
    /// The places of the end marks, `[N, 1, 1]`, once somebody asked for them.
    end_of_text: Option<String>,
}

/// Writes a graph for inputs of a size down as nodes.
pub(crate) fn translate<'g>(graph: &'g Graph, settings: &Settings) -> Result<Builder<'g>> {
    let (height, width) = settings.size;
    let unfit = || Error::InputSize { tower: graph.tower, height, width };
    let shapes = graph.shapes(height, width).ok_or_else(unfit)?;
    let opset = if settings.pictures.is_some() { OPSET_WITH_PICTURES } else { OPSET };
    let mut translation =
        Translation { builder: Builder::new(opset), graph, made: Vec::new(), end_of_text: None };
    let output = translation.output(&shapes);
    for (id, node) in graph.nodes.iter().enumerate() {
        let made = translation.node(id, node, &shapes, settings)?;
        translation.made.push(made);
    }
    translation.finish(settings, output);
    Ok(translation.builder)
}

impl<'g> Translation<'g> {
    /// Adds the output, before nodes take names; returns its own.
    fn output(&mut self, shapes: &[Shape]) -> &'static str {
        let name = match self.graph.tower {
            Tower::Image => "image_embeds",
            Tower::Text => "text_embeds",
        };
        let width = shapes[self.graph.output].channels;
        self.builder.reserve(name);
        self.builder.outputs.push(port(name, DataType::Float, &[BATCH, Dim::Fixed(width)]));
        name
    }

    /// Adds the input, and what comes before the tower.
    fn input(&mut self, settings: &Settings, shape: Shape) -> Made {
        match (self.graph.tower, &settings.pictures) {
            (Tower::Text, _) => {
                let ids = "input_ids";
                self.builder.reserve(ids);
                self.builder.inputs.push(port(ids, DataType::Int64, &[BATCH, Dim::Fixed(shape.width)]));
                Made { shape, map: None, tokens: Some(ids.to_owned()) }
            }
            (Tower::Image, None) => {
                let pixels = "pixel_values";
                self.builder.reserve(pixels);
                let [channels, height, width] = [shape.channels, shape.height, shape.width].map(Dim::Fixed);
                let dims = [BATCH, channels, height, width];
                self.builder.inputs.push(port(pixels, DataType::Float, &dims));
                Made { shape, map: Some(pixels.to_owned()), tokens: None }
            }
            (Tower::Image, Some(pictures)) => {
                let pixels = pictures::prepare(&mut self.builder, pictures, settings.size);
                Made { shape, map: Some(pixels), tokens: None }
            }
        }
    }

    /// Adds what comes behind the tower.
    fn finish(&mut self, settings: &Settings, output: &str) {
        let made = &self.made[self.graph.output];
        let features = made.tokens.clone().or_else(|| made.map.clone()).unwrap_or_default();
        let place = "features";
        let features = self.builder.node(place, "Flatten", &[&features], vec![Attribute::int("axis", 1)]);
        if settings.normalize {
            let builder = &mut self.builder;
            let axes = builder.ints(&[1]);
            let squares = builder.node(place, "Mul", &[&features, &features], Vec::new());
            let sum =
                builder.node(place, "ReduceSum", &[&squares, &axes], vec![Attribute::int("keepdims", 1)]);
            let length = builder.node(place, "Sqrt", &[&sum], Vec::new());
            // A row of zeros stays one, as in torch's `normalize`.
            let least = builder.number(1e-12);
            let length = builder.node(place, "Max", &[&length, &least], Vec::new());
            builder.node(place, "Div", &[&features, &length], Vec::new());
        }
        // The last node gives the model's output under its own name.
        if let Some(node) = self.builder.nodes.last_mut() {
            node.output = vec![output.to_owned()];
        }
    }

    /// The output of a node as a map.
    pub(crate) fn map(&mut self, id: NodeId) -> String {
        let made = &self.made[id];
        if let Some(name) = &made.map {
            return name.clone();
        }
        let shape = made.shape;
        let tokens = made.tokens.clone().unwrap_or_default();
        let place = place_of(&self.graph.nodes[id], id);
        let columns =
            self.builder.node(&place, "Transpose", &[&tokens], vec![Attribute::ints("perm", &[0, 2, 1])]);
        let sides = [0, 0, shape.height as i64, shape.width as i64];
        let sides = self.builder.ints(&sides);
        let map = self.builder.node(&place, "Reshape", &[&columns, &sides], Vec::new());
        self.made[id].map = Some(map.clone());
        map
    }

    /// The output of a node as tokens.
    pub(crate) fn tokens(&mut self, id: NodeId) -> String {
        let made = &self.made[id];
        if let Some(name) = &made.tokens {
            return name.clone();
        }
        let map = made.map.clone().unwrap_or_default();
        let place = place_of(&self.graph.nodes[id], id);
        let flat = self.builder.ints(&[0, 0, -1]);
        let columns = self.builder.node(&place, "Reshape", &[&map, &flat], Vec::new());
        let tokens =
            self.builder.node(&place, "Transpose", &[&columns], vec![Attribute::ints("perm", &[0, 2, 1])]);
        self.made[id].tokens = Some(tokens.clone());
        tokens
    }

    /// The output of a node in the layout of another.
    fn like(&mut self, tokens: bool, id: NodeId) -> String {
        if tokens { self.tokens(id) } else { self.map(id) }
    }

    fn node(&mut self, id: NodeId, node: &'g Node, shapes: &[Shape], settings: &Settings) -> Result<Made> {
        let place = place_of(node, id);
        let shape = shapes[id];
        let first = node.inputs.first().copied().unwrap_or_default();
        let is_tokens = self.made.get(first).is_some_and(Made::is_tokens);
        let as_map = |name| Made { shape, map: Some(name), tokens: None };
        let as_tokens = |name| Made { shape, map: None, tokens: Some(name) };
        let alike = |name| if is_tokens { as_tokens(name) } else { as_map(name) };
        Ok(match &node.op {
            Op::Input => self.input(settings, shape),
            Op::Conv { conv, weight, bias, activation } => {
                // On tokens a linear layer is a matrix product; all other convolutions need a map.
                let is_tokens = is_tokens && conv.is_pointwise() && conv.groups == 1;
                let x = self.like(is_tokens, first);
                let y = match is_tokens {
                    true => self.linear(&place, conv, weight, bias.as_ref(), &x),
                    false => self.conv(&place, conv, weight, bias.as_ref(), &x),
                };
                let mut y = self.activation(&place, *activation, y);
                if let Some(&residual) = node.inputs.get(1) {
                    let residual = self.like(is_tokens, residual);
                    y = self.builder.node(&place, "Add", &[&y, &residual], Vec::new());
                }
                if is_tokens { as_tokens(y) } else { as_map(y) }
            }
            Op::Affine { scale, shift } => {
                let x = self.like(is_tokens, first);
                let dims: &[usize] = if is_tokens { &[1, 1, scale.len()] } else { &[1, scale.len(), 1, 1] };
                let numbers = |values: &[f64]| Data::Floats(values.iter().map(|&v| v as f32).collect());
                let scale = self.builder.constant(&format!("{place}.scale"), dims, numbers(scale));
                let shift = self.builder.constant(&format!("{place}.shift"), dims, numbers(shift));
                let scaled = self.builder.node(&place, "Mul", &[&x, &scale], Vec::new());
                alike(self.builder.node(&place, "Add", &[&scaled, &shift], Vec::new()))
            }
            Op::LayerNorm { weight, bias, eps } => {
                let x = self.tokens(first);
                let weight =
                    self.builder.constant(&format!("{place}.weight"), &[shape.channels], Data::Value(weight));
                let bias =
                    self.builder.constant(&format!("{place}.bias"), &[shape.channels], Data::Value(bias));
                let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", *eps as f32)];
                as_tokens(self.builder.node(&place, "LayerNormalization", &[&x, &weight, &bias], attributes))
            }
            Op::Activation(activation) => {
                let x = self.like(is_tokens, first);
                alike(self.activation(&place, Some(*activation), x))
            }
            Op::Attention(attention) => {
                let qkv = self.tokens(first);
                as_tokens(self.attention(&place, attention, shape.pixels(), &qkv))
            }
            Op::MeanPool => {
                let x = self.map(first);
                as_map(self.builder.node(&place, "GlobalAveragePool", &[&x], Vec::new()))
            }
            Op::Gate { activation } => {
                let x = self.like(is_tokens, first);
                let gate = self.like(is_tokens, node.inputs[1]);
                let product = self.builder.node(&place, "Mul", &[&x, &gate], Vec::new());
                alike(self.activation(&place, *activation, product))
            }
            Op::Add | Op::Sub => {
                let (a, b) = (self.like(is_tokens, first), self.like(is_tokens, node.inputs[1]));
                let op = if matches!(node.op, Op::Add) { "Add" } else { "Sub" };
                alike(self.builder.node(&place, op, &[&a, &b], Vec::new()))
            }
            Op::Embed { table, vocabulary, width } => {
                let ids = self.tokens(first);
                let table = self.builder.constant(&place, &[*vocabulary, *width], Data::Value(table));
                as_tokens(self.builder.node(
                    &place,
                    "Gather",
                    &[&table, &ids],
                    vec![Attribute::int("axis", 0)],
                ))
            }
            Op::Positions { table, grid, class_row, resample } => {
                let x = self.like(is_tokens, first);
                let target = self.graph.grid_of(shapes, first);
                let fit = Fit { grid: *grid, class_row: *class_row, target, resample: *resample };
                let width = shape.channels;
                let dims: &[usize] = match is_tokens {
                    true => &[1, shape.pixels(), width],
                    false => &[1, width, shape.height, shape.width],
                };
                let is_as_trained = target == *grid || *resample == Resample::Prefix;
                let name = if is_as_trained { place.clone() } else { format!("{place}.resampled") };
                let data = Data::Positions { table, width, fit, transposed: !is_tokens };
                let rows = self.builder.constant(&name, dims, data);
                alike(self.builder.node(&place, "Add", &[&x, &rows], Vec::new()))
            }
            Op::ClassToken { token } => {
                let x = self.tokens(first);
                as_tokens(self.class_token(&place, token, shape.channels, &x))
            }
            Op::TakeFirst => {
                let x = self.tokens(first);
                let zero = self.builder.ints(&[0]);
                as_tokens(self.builder.node(&place, "Gather", &[&x, &zero], vec![Attribute::int("axis", 1)]))
            }
            Op::TakeEndOfText => {
                let x = self.tokens(first);
                let ids = self.tokens(node.inputs[1]);
                let end = self.end_of_text(&ids);
                as_tokens(self.builder.node(
                    &place,
                    "GatherND",
                    &[&x, &end],
                    vec![Attribute::int("batch_dims", 1)],
                ))
            }
            Op::CrossAttention(_)
            | Op::PaddedAttention(_)
            | Op::CachedAttention { .. }
            | Op::ImageAttention { .. }
            | Op::TextPositions { .. }
            | Op::Queries { .. }
            | Op::AppendToken { .. }
            | Op::Trim { .. }
            | Op::TakeLast => return Err(Error::Captioner { what: node.op.word() }),
        })
    }

    fn conv(
        &mut self,
        place: &str,
        conv: &Conv,
        weight: &'g Value,
        bias: Option<&'g Value>,
        x: &str,
    ) -> String {
        let weight =
            self.builder.constant(&format!("{place}.weight"), &conv.weight_shape(), Data::Value(weight));
        let bias = bias
            .map(|bias| self.builder.constant(&format!("{place}.bias"), &[conv.outputs], Data::Value(bias)));
        let int = |n: usize| n as i64;
        let (top, left) = (int(conv.padding.0), int(conv.padding.1));
        let attributes = vec![
            Attribute::ints("kernel_shape", &[int(conv.kernel.0), int(conv.kernel.1)]),
            Attribute::ints("strides", &[int(conv.stride); 2]),
            Attribute::ints("pads", &[top, left, top, left]),
            Attribute::int("group", int(conv.groups)),
        ];
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        self.builder.node(place, "Conv", &inputs, attributes)
    }

    fn linear(
        &mut self,
        place: &str,
        conv: &Conv,
        weight: &'g Value,
        bias: Option<&'g Value>,
        x: &str,
    ) -> String {
        let (rows, columns) = (conv.outputs, conv.inputs);
        let data = Data::Transposed { value: weight, rows, columns };
        let weight = self.builder.constant(&format!("{place}.matrix"), &[columns, rows], data);
        let y = self.builder.node(place, "MatMul", &[x, &weight], Vec::new());
        match bias {
            None => y,
            Some(bias) => {
                let bias = self.builder.constant(&format!("{place}.bias"), &[rows], Data::Value(bias));
                self.builder.node(place, "Add", &[&y, &bias], Vec::new())
            }
        }
    }

    fn activation(&mut self, place: &str, activation: Option<Activation>, x: String) -> String {
        let builder = &mut self.builder;
        match activation {
            None => x,
            Some(Activation::Relu) => builder.node(place, "Relu", &[&x], Vec::new()),
            Some(Activation::Sigmoid) => builder.node(place, "Sigmoid", &[&x], Vec::new()),
            Some(Activation::QuickGelu) => {
                let slope = builder.number(1.702);
                let steep = builder.node(place, "Mul", &[&x, &slope], Vec::new());
                let gate = builder.node(place, "Sigmoid", &[&steep], Vec::new());
                builder.node(place, "Mul", &[&x, &gate], Vec::new())
            }
            // Of the forms that runtimes replace by a kernel of their own, the one that ONNX Runtime recognises behind a gate
            // too: there it mistakes the gate's product for this function's when the half comes last.
            Some(Activation::Gelu) => {
                let (root, one, half) =
                    (builder.number(std::f32::consts::SQRT_2), builder.number(1.0), builder.number(0.5));
                let halved = builder.node(place, "Mul", &[&x, &half], Vec::new());
                let scaled = builder.node(place, "Div", &[&x, &root], Vec::new());
                let erf = builder.node(place, "Erf", &[&scaled], Vec::new());
                let twice = builder.node(place, "Add", &[&erf, &one], Vec::new());
                builder.node(place, "Mul", &[&halved, &twice], Vec::new())
            }
        }
    }

    /// Puts the token in front of every sample's.
    fn class_token(&mut self, place: &str, token: &'g Value, width: usize, x: &str) -> String {
        let builder = &mut self.builder;
        let token = builder.constant(place, &[1, 1, width], Data::Value(token));
        let first = vec![Attribute::int("start", 0), Attribute::int("end", 1)];
        let batch = builder.node(place, "Shape", &[x], first);
        let one_row = builder.ints(&[1, width as i64]);
        let shape = builder.node(place, "Concat", &[&batch, &one_row], vec![Attribute::int("axis", 0)]);
        let tokens = builder.node(place, "Expand", &[&token, &shape], Vec::new());
        builder.node(place, "Concat", &[&tokens, x], vec![Attribute::int("axis", 1)])
    }

    /// The place of the largest id of every row, the first such.
    fn end_of_text(&mut self, ids: &str) -> String {
        if let Some(name) = &self.end_of_text {
            return name.clone();
        }
        let (place, builder) = ("end_of_text", &mut self.builder);
        // Not every runtime finds the largest of 64-bit integers.
        let to = vec![Attribute::int("to", DataType::Int32 as i64)];
        let narrow = builder.node(place, "Cast", &[ids], to);
        let attributes = vec![Attribute::int("axis", 1), Attribute::int("keepdims", 1)];
        let end = builder.node(place, "ArgMax", &[&narrow], attributes);
        let axis = builder.ints(&[2]);
        let end = builder.node(place, "Unsqueeze", &[&end, &axis], Vec::new());
        self.end_of_text = Some(end.clone());
        end
    }
}

/// Where in the model a node stands: what is common to the names of what was folded into it, but for what only scales.
fn place_of(node: &Node, id: NodeId) -> String {
    const SCALING: [&str; 5] = ["bn", "norm", "identity", "gamma", "layer_scale"];
    let is_folded = |name: &&String| SCALING.iter().any(|last| name.rsplit('.').next() == Some(last));
    let mut names: Vec<&String> = node.names.iter().filter(|name| !is_folded(name)).collect();
    if names.is_empty() {
        names.extend(&node.names);
    }
    let Some((first, rest)) = names.split_first() else {
        return format!("node.{id}");
    };
    // A weight that stands for its own layer: `attn.in_proj_weight`.
    let first = first.strip_suffix("_weight").unwrap_or(first);
    let parts: Vec<&str> = first.split('.').collect();
    let is_common =
        |n: usize| rest.iter().all(|name| name.split('.').take(n).eq(parts.iter().copied().take(n)));
    let common = (0..=parts.len()).rev().find(|&n| is_common(n)).unwrap_or_default();
    match common {
        0 => first.to_owned(),
        n => parts.iter().take(n).copied().collect::<Vec<_>>().join("."),
    }
}
