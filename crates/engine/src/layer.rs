//! A node's weights, packed for the kernels.

use std::borrow::Cow;

use mobileclip_arch::{Activation, Conv, Resample, Weights};
use mobileclip_graph::{Graph, Node, NodeId, Op, Value};
use mobileclip_kernels::{
    self as kernels, ConvShape, Depthwise, DepthwiseShape, FileOrder, Isa, LANES, LayerNorm, MAX_TILES,
    PackedConv, PackedGemm, Precision,
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
    /// Rows of numbers: queries, or positions that each token looks up for itself.
    Table(Vec<f32>),
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
                let bias = bias.as_ref().map(read).transpose()?;
                let form = product_form(graph, id, pixels);
                if let (Some(form), Value::Stored(name), Precision::F32) = (form, weight, precision)
                    && let Some(packed) = weights.packed(name).filter(|p| p.has_sums == form.has_sums)
                    && FileOrder::is_of(isa)
                {
                    finite(Cow::Borrowed((*packed.values).as_ref()), weight, node)?;
                    let order = FileOrder::new(conv.outputs, conv.inputs, packed.has_sums);
                    let gemm = PackedGemm::from_file(isa, &order, packed.values, bias.as_deref());
                    if let Some(gemm) = gemm {
                        return Ok(Self::Gemm(gemm));
                    }
                }
                let (weight, n, k) = (read(weight)?, conv.outputs, conv.inputs);
                match (form, precision) {
                    (Some(ProductForm { has_sums: true }), Precision::F32) => {
                        Self::Gemm(PackedGemm::pack_winograd(isa, n, k, &weight, bias.as_deref()))
                    }
                    (Some(_), precision) => {
                        Self::Gemm(PackedGemm::pack_as(precision, isa, n, k, &weight, bias.as_deref()))
                    }
                    (None, _) => pack_conv(graph, node, conv, &weight, bias.as_deref(), isa, precision)?,
                }
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
            Op::Queries { table, .. } | Op::TextPositions { table, .. } => {
                Self::Table(read(table)?.into_owned())
            }
            Op::ClassToken { token } | Op::AppendToken { token } => Self::Token(read(token)?.into_owned()),
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
            | Op::CrossAttention(_)
            | Op::PaddedAttention(_)
            | Op::CachedAttention { .. }
            | Op::ImageAttention { .. }
            | Op::Trim { .. }
            | Op::MeanPool
            | Op::Gate { .. }
            | Op::Add
            | Op::TakeFirst
            | Op::TakeLast
            | Op::TakeEndOfText => Self::Bare,
        })
    }
}

/// A convolution that is a product with packed weights, in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductForm {
    /// Whether the weights are packed with the sums of a Strassen–Winograd level.
    pub has_sums: bool,
}

/// How each node of a graph is packed that is a product, for inputs of the usual height and width; `None` if they do not fit
/// the graph. Weights that are kept in this form ([`FileOrder`]) need not be packed again.
pub fn product_forms(graph: &Graph, usual: (usize, usize)) -> Option<Vec<Option<ProductForm>>> {
    let shapes = graph.shapes(usual.0, usual.1)?;
    Some((0..graph.nodes.len()).map(|id| product_form(graph, id, shapes[id].pixels())).collect())
}

fn product_form(graph: &Graph, id: NodeId, pixels: usize) -> Option<ProductForm> {
    let node = &graph.nodes[id];
    let Op::Conv { conv, .. } = &node.op else { return None };
    let is_product = conv.groups == 1 && conv.is_pointwise() && !reads_pixels(graph, node);
    is_product
        .then(|| ProductForm { has_sums: !has_border(graph, node.inputs[0]) && winograd_pays(conv, pixels) })
}

fn reads_pixels(graph: &Graph, node: &Node) -> bool {
    matches!(graph.nodes[node.inputs[0]].op, Op::Input)
}

/// A convolution that is no product.
fn pack_conv(
    graph: &Graph,
    node: &Node,
    conv: &Conv,
    weight: &[f32],
    bias: Option<&[f32]>,
    isa: Isa,
    precision: Precision,
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
    if conv.padding.0 != conv.padding.1 || node.inputs.len() > 1 {
        return Err(unsupported(node, &format!("a convolution {conv:?}")));
    }
    let (inputs, outputs, stride, padding) = (conv.inputs, conv.outputs, conv.stride, conv.padding.0);
    let shape = ConvShape { inputs, outputs, kernel, stride, padding };
    Ok(Layer::Conv(match reads_pixels(graph, node) {
        true => PackedConv::pack_planar(isa, shape, weight, bias),
        false => PackedConv::pack_blocked_as(precision, isa, shape, weight, bias),
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
        Value::Stored(name) | Value::Transposed { name, .. } | Value::Part { name, .. } => name.clone(),
        _ => node.names.join(" + "),
    };
    Err(EngineError::NotFinite { name, value: values[index], index })
}

fn unsupported(node: &Node, what: &str) -> EngineError {
    EngineError::Unsupported { name: node.names.join(" + "), what: what.to_owned() }
}
