//! A node's weights, packed for the kernels.

use std::borrow::Cow;

use mobileclip_arch::{Activation, Conv, Resample, Weights};
use mobileclip_graph::{Graph, Node, NodeId, Op, Value};
use mobileclip_kernels::{
    self as kernels, ConvShape, Depthwise, DepthwiseShape, Isa, LANES, LayerNorm, MAX_TILES, PackedConv,
    PackedGemm, Precision,
};

use crate::error::EngineError;

/// What runs a node.
#[derive(Debug)]
pub(crate) enum Layer {
    /// The graph's input, or nothing to pack.
    Bare,
    Gemm(PackedGemm),
    Conv(PackedConv),
    Depthwise(Depthwise),
    Norm(LayerNorm),
    /// Rows stay in the checkpoint: a table is a third of a small model.
    Embed {
        table: String,
        vocabulary: usize,
    },
    Positions(PositionTable),
    Token(Vec<f32>),
}

/// Positions as trained; plans resample them.
#[derive(Debug)]
pub(crate) struct PositionTable {
    pub rows: Vec<f64>,
    pub width: usize,
    pub grid: (usize, usize),
    pub class_row: bool,
    pub resample: Resample,
}

impl Layer {
    /// Packs node `id`; `pixels` is how many its output usually has, `precision` that of its product.
    pub(crate) fn pack(
        graph: &Graph,
        id: NodeId,
        channels: &[usize],
        pixels: usize,
        weights: &dyn Weights,
        isa: Isa,
        precision: Precision,
    ) -> Result<Self, EngineError> {
        let node = &graph.nodes[id];
        let read = |value: &Value| finite(value.f32(weights), value, node);
        Ok(match &node.op {
            Op::Conv { conv, weight, bias, .. } => {
                let weight = read(weight)?;
                let bias = bias.as_ref().map(read).transpose()?;
                let reads_pixels = matches!(graph.nodes[node.inputs[0]].op, Op::Input);
                let winograd = !has_border(graph, node.inputs[0]) && winograd_pays(conv, pixels);
                let form = match precision {
                    Precision::F32 if winograd => Form::Winograd,
                    precision => Form::Plain(precision),
                };
                pack_conv(node, conv, &weight, bias.as_deref(), reads_pixels, form, isa)?
            }
            Op::LayerNorm { weight, bias, eps } => {
                Self::Norm(LayerNorm::new(isa, *eps as f32, &read(weight)?, &read(bias)?))
            }
            Op::Embed { table: Value::Stored(table), vocabulary, .. } => {
                Self::Embed { table: table.clone(), vocabulary: *vocabulary }
            }
            Op::Embed { .. } => return Err(unsupported(node, "a computed table of embeddings")),
            Op::Positions { table, grid, class_row, resample } => {
                read(table)?;
                let width = channels[node.inputs[0]];
                let (grid, class_row, resample) = (*grid, *class_row, *resample);
                Self::Positions(PositionTable { rows: table.f64(weights), width, grid, class_row, resample })
            }
            Op::ClassToken { token } => Self::Token(read(token)?.into_owned()),
            Op::Attention(attention) if !attention.width().is_multiple_of(LANES) => {
                return Err(unsupported(node, &format!("attention of width {}", attention.width())));
            }
            // Their kernels take dense maps, which those of depthwise convolutions are not.
            Op::Attention(_) if has_border(graph, id) || has_border(graph, node.inputs[0]) => {
                return Err(unsupported(node, "attention beside a depthwise convolution"));
            }
            Op::Gate { .. } if has_border(graph, node.inputs[1]) => {
                return Err(unsupported(node, "a gate that a depthwise convolution reads"));
            }
            Op::Affine { .. } | Op::Sub => return Err(unsupported(node, "an operation that fusion removes")),
            Op::Input
            | Op::Activation(_)
            | Op::Attention(_)
            | Op::MeanPool
            | Op::Gate { .. }
            | Op::Add
            | Op::TakeFirst
            | Op::TakeEndOfText => Self::Bare,
        })
    }
}

/// How a product is made.
#[derive(Clone, Copy)]
enum Form {
    Plain(Precision),
    /// In f32, with a Strassen–Winograd level.
    Winograd,
}

fn pack_conv(
    node: &Node,
    conv: &Conv,
    weight: &[f32],
    bias: Option<&[f32]>,
    reads_pixels: bool,
    form: Form,
    isa: Isa,
) -> Result<Layer, EngineError> {
    let kernel = [conv.kernel.0, conv.kernel.1];
    if conv.groups > 1 {
        let multiplier = conv.outputs / conv.groups;
        if conv.groups != conv.inputs || !matches!(multiplier, 1 | 2) || node.inputs.len() > 1 {
            return Err(unsupported(node, &format!("a convolution {conv:?}")));
        }
        let padding = [conv.padding.0, conv.padding.1];
        let shape =
            DepthwiseShape { channels: conv.outputs, multiplier, kernel, stride: conv.stride, padding };
        return Ok(Layer::Depthwise(Depthwise::pack(isa, shape, weight, bias)));
    }
    if conv.is_pointwise() && !reads_pixels {
        let (n, k) = (conv.outputs, conv.inputs);
        return Ok(Layer::Gemm(match form {
            Form::Winograd => PackedGemm::pack_winograd(isa, n, k, weight, bias),
            Form::Plain(precision) => PackedGemm::pack_as(precision, isa, n, k, weight, bias),
        }));
    }
    if conv.padding.0 != conv.padding.1 || node.inputs.len() > 1 {
        return Err(unsupported(node, &format!("a convolution {conv:?}")));
    }
    let (inputs, outputs, stride, padding) = (conv.inputs, conv.outputs, conv.stride, conv.padding.0);
    let shape = ConvShape { inputs, outputs, kernel, stride, padding };
    Ok(Layer::Conv(match reads_pixels {
        true => PackedConv::pack_planar(isa, shape, weight, bias),
        false => PackedConv::pack_blocked(isa, shape, weight, bias),
    }))
}

/// Whether a depthwise convolution reads the node, so that its map has a border.
fn has_border(graph: &Graph, id: NodeId) -> bool {
    graph.nodes.iter().any(|node| match &node.op {
        Op::Conv { conv, .. } => node.inputs[0] == id && conv.groups > 1,
        _ => false,
    })
}

/// A Strassen–Winograd level saves an eighth of the multiplications and costs sums of the input and 1.75 times the
/// weights' memory. Measured (decision 0007): 6 to 12 % faster from these sizes on, nothing at narrow outputs.
fn winograd_pays(conv: &Conv, pixels: usize) -> bool {
    let is_large = pixels >= 32 && conv.inputs >= 64 && conv.outputs >= 128;
    // Threads claim the sums of two blocks of inputs at a time.
    let is_claimable = conv.inputs <= 2 * LANES * MAX_TILES;
    conv.is_pointwise() && conv.groups == 1 && is_large && is_claimable
}

pub(crate) fn activation(activation: Option<Activation>) -> kernels::Activation {
    match activation {
        None => kernels::Activation::None,
        Some(Activation::Gelu) => kernels::Activation::Gelu,
        Some(Activation::QuickGelu) => kernels::Activation::QuickGelu,
        Some(Activation::Relu) => kernels::Activation::Relu,
        Some(Activation::Sigmoid) => kernels::Activation::Sigmoid,
    }
}

/// A maximum or a table look-up inside a kernel can swallow a NaN, so weights are looked at where they are read anyway.
fn finite<'w>(values: Cow<'w, [f32]>, value: &Value, node: &Node) -> Result<Cow<'w, [f32]>, EngineError> {
    // One pass that vectorises, the slow look for the place only if it fails.
    let clean = values.iter().fold(true, |all, v| all & v.is_finite());
    if clean {
        return Ok(values);
    }
    let index = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
    let name = match value {
        Value::Stored(name) | Value::Transposed { name, .. } => name.clone(),
        _ => node.names.join(" + "),
    };
    Err(EngineError::NotFinite { name, value: values[index], index })
}

fn unsupported(node: &Node, what: &str) -> EngineError {
    EngineError::Unsupported { name: node.names.join(" + "), what: what.to_owned() }
}
