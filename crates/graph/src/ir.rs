//! The intermediate representation: one tower as a list of operations on one sample.

use std::fmt;

use mobileclip_arch::{Activation, Attention, Conv, Resample, Shape, Tower};
use serde::{Deserialize, Serialize};

use crate::value::Value;

/// A node's place in [`Graph::nodes`].
pub type NodeId = usize;

/// The most numbers of a node's output: four times what the widest stem gives for an image of 2048 × 2048.
const LARGEST_MAP: usize = 1 << 28;

/// One tower. Nodes stand in an order in which every input precedes its user.
///
/// A graph has no shapes of its own: [`Graph::shapes`] infers them from an input's, so that one graph and its packed
/// weights serve every resolution and length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Which tower it is.
    pub tower: Tower,
    /// The operations; the first is [`Op::Input`].
    pub nodes: Vec<Node>,
    /// The features.
    pub output: NodeId,
    /// What else was asked for: scope name and node.
    pub taps: Vec<(String, NodeId)>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<NodeId>,
    /// The canonical names of what it was made from.
    pub names: Vec<String>,
}

/// What a node does. Shapes are those of `mobileclip_arch::Ops`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Pixels `(3, H, W)` or token ids `(1, 1, T)`.
    Input,
    /// `activation(conv(x) + bias) + residual`; the residual is a second input, if there is one.
    ///
    /// Linear layers are pointwise convolutions. `conv.bias` says whether there is a bias.
    Conv {
        /// Its sizes.
        conv: Conv,
        /// `[out, in/groups, kh, kw]`.
        weight: Value,
        /// `[out]`.
        bias: Option<Value>,
        /// Applied before the residual is added.
        activation: Option<Activation>,
    },
    /// `scale[c] · x + shift[c]`.
    Affine {
        /// One number for each channel.
        scale: Vec<f64>,
        /// One number for each channel.
        shift: Vec<f64>,
    },
    /// LayerNorm over the channels of every pixel.
    LayerNorm {
        /// `[C]`.
        weight: Value,
        /// `[C]`.
        bias: Value,
        /// Inside the root.
        eps: f64,
    },
    /// A nonlinearity alone.
    Activation(Activation),
    /// Self-attention over packed q, k, v.
    Attention(Attention),
    /// Attention of q over k and v, three inputs of the attention's width.
    CrossAttention(Attention),
    /// The same over a row's ids and a class token behind them (`mobileclip_arch::Seen::Padded`); the ids are a fourth input.
    PaddedAttention(Attention),
    /// Self-attention of tokens over those of their texts that were there before (`mobileclip_arch::StepOps`).
    CachedAttention {
        /// Heads and their width.
        attention: Attention,
        /// Which of a text's caches.
        layer: usize,
    },
    /// Attention of tokens over those of their texts' images (`mobileclip_arch::StepOps`).
    ImageAttention {
        /// Heads and their width.
        attention: Attention,
        /// Which layer of an image's memory.
        layer: usize,
    },
    /// Mean over pixels.
    MeanPool,
    /// `activation(x · gate[c])`; inputs x and gate.
    Gate {
        /// Applied to the product.
        activation: Option<Activation>,
    },
    /// The sum of two inputs.
    Add,
    /// The difference of two inputs.
    Sub,
    /// Rows of a table.
    Embed {
        /// `[vocabulary, width]`.
        table: Value,
        /// Rows of the table.
        vocabulary: usize,
        /// Columns of the table.
        width: usize,
    },
    /// Adds a table of positions, resampled where the grid differs.
    Positions {
        /// `[rows, width]`.
        table: Value,
        /// Rows and columns of the trained grid.
        grid: (usize, usize),
        /// Whether the first row belongs to a class token.
        class_row: bool,
        /// How the grid is fitted.
        resample: Resample,
    },
    /// Adds to each token the row of its place in its text (`mobileclip_arch::StepOps`).
    TextPositions {
        /// `[rows, width]`.
        table: Value,
        /// Rows of the table.
        rows: usize,
    },
    /// The rows of a table as tokens; reads no input.
    Queries {
        /// `[count, width]`.
        table: Value,
        /// Rows of the table.
        count: usize,
        /// Columns of the table.
        width: usize,
    },
    /// Puts a token behind.
    AppendToken {
        /// `[width]`.
        token: Value,
    },
    /// Leaves out some first and last tokens.
    Trim {
        /// How many of the first.
        front: usize,
        /// How many of the last.
        back: usize,
    },
    /// Puts a token in front.
    ClassToken {
        /// `[width]`.
        token: Value,
    },
    /// The first token.
    TakeFirst,
    /// The last token.
    TakeLast,
    /// The token at the largest id's place; inputs x and ids.
    TakeEndOfText,
}

impl Graph {
    /// The shape of every node for an input of height × width pixels, or of `width` tokens; `None` if a map becomes
    /// smaller than a kernel or larger than any network of the family needs, a table of positions too short, or an
    /// input has no pixels.
    pub fn shapes(&self, height: usize, width: usize) -> Option<Vec<Shape>> {
        let input = self.tower.input(height, width);
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inputs: Vec<Shape> = node.inputs.iter().map(|&id| shapes[id]).collect();
            let grid = node.inputs.first().map_or((1, 1), |&id| self.grid_of(&shapes, id));
            let shape = infer(&node.op, input, &inputs, grid)?;
            shapes.push(shape);
        }
        Some(shapes)
    }

    /// Rows and columns of the patches that a node's tokens stand for.
    pub fn grid_of(&self, shapes: &[Shape], id: NodeId) -> (usize, usize) {
        let node = &self.nodes[id];
        let patches = if matches!(node.op, Op::ClassToken { .. }) { node.inputs[0] } else { id };
        (shapes[patches].height, shapes[patches].width)
    }

    /// Multiply-adds of convolutions and matrix products, by node.
    pub fn multiply_adds(&self, shapes: &[Shape]) -> Vec<u64> {
        let of = |(node, shape): (&Node, &Shape)| match &node.op {
            Op::Conv { conv, .. } => conv.multiply_adds(*shape),
            Op::Attention(attention) => attention.multiply_adds(shape.pixels()),
            Op::CrossAttention(attention) | Op::PaddedAttention(attention) => {
                attention.cross_multiply_adds(shape.pixels(), shapes[node.inputs[1]].pixels())
            }
            _ => 0,
        };
        self.nodes.iter().zip(shapes).map(of).collect()
    }

    /// The number of channels of every node, which no resolution changes.
    pub fn channels(&self) -> Vec<usize> {
        let mut channels: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            channels.push(match &node.op {
                Op::Input => self.tower.input(1, 1).channels,
                Op::Conv { conv, .. } => conv.outputs,
                Op::Attention(attention)
                | Op::CrossAttention(attention)
                | Op::PaddedAttention(attention)
                | Op::CachedAttention { attention, .. }
                | Op::ImageAttention { attention, .. } => attention.width(),
                Op::Embed { width, .. } | Op::Queries { width, .. } => *width,
                _ => channels[node.inputs[0]],
            });
        }
        channels
    }

    /// Whether it continues texts that are kept elsewhere (`mobileclip_arch::StepOps`).
    pub fn continues_texts(&self) -> bool {
        self.nodes.iter().any(|node| {
            matches!(
                node.op,
                Op::CachedAttention { .. } | Op::ImageAttention { .. } | Op::TextPositions { .. }
            )
        })
    }

    /// The node of a tapped scope.
    pub fn tap(&self, scope: &str) -> Option<NodeId> {
        self.taps.iter().find(|(name, _)| name == scope).map(|&(_, id)| id)
    }

    /// How often each node is read; outputs and taps count.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        let outside = self.taps.iter().map(|(_, id)| id).chain([&self.output]);
        self.nodes.iter().flat_map(|n| &n.inputs).chain(outside).for_each(|&id| uses[id] += 1);
        uses
    }
}

/// The shape that an operation gives to inputs of these shapes; `grid` is that of the patches which the first input's
/// tokens stand for.
pub(crate) fn infer(op: &Op, graph_input: Shape, inputs: &[Shape], grid: (usize, usize)) -> Option<Shape> {
    let input = |i: usize| inputs[i];
    let shape = match op {
        Op::Input => graph_input,
        Op::Conv { conv, .. } => {
            let output = conv.output(input(0))?;
            let residual = inputs.get(1).is_none_or(|residual| *residual == output);
            residual.then_some(output)?
        }
        Op::Gate { .. } => (input(1).pixels() == 1).then(|| input(0))?,
        Op::Add | Op::Sub => (input(0) == input(1)).then(|| input(0))?,
        Op::PaddedAttention(_) if input(0).pixels() != input(3).pixels() + 1 => return None,
        Op::PaddedAttention(_) if input(0) != input(1) => return None,
        Op::Attention(attention)
        | Op::CachedAttention { attention, .. }
        | Op::ImageAttention { attention, .. } => input(0).with_channels(attention.width()),
        Op::CrossAttention(_) | Op::PaddedAttention(_) if input(1) != input(2) => return None,
        Op::CrossAttention(attention) | Op::PaddedAttention(attention) => {
            Shape::tokens(attention.width(), input(0).pixels())
        }
        Op::Queries { count, width, .. } => Shape::tokens(*width, *count),
        Op::Trim { front, back } => {
            Shape::tokens(input(0).channels, input(0).pixels().checked_sub(front + back)?)
        }
        Op::TakeEndOfText if input(0).pixels() != input(1).pixels() => return None,
        Op::MeanPool | Op::TakeFirst | Op::TakeLast | Op::TakeEndOfText => {
            Shape::new(input(0).channels, 1, 1)
        }
        Op::Embed { width, .. } => input(0).with_channels(*width),
        Op::ClassToken { .. } | Op::AppendToken { .. } => {
            Shape::tokens(input(0).channels, input(0).pixels() + 1)
        }
        Op::Positions { grid: trained, resample: Resample::Prefix, .. } => {
            (grid.0 * grid.1 <= trained.0 * trained.1).then(|| input(0))?
        }
        // Half resampled, the table has the old rows and the new columns.
        Op::Positions { grid: trained, resample: Resample::Bicubic, .. } => {
            let narrowed = Shape::new(input(0).channels, trained.0, grid.1);
            is_possible(narrowed).then(|| input(0))?
        }
        Op::Affine { .. }
        | Op::LayerNorm { .. }
        | Op::Activation(_)
        | Op::Positions { .. }
        | Op::TextPositions { .. } => input(0),
    };
    is_possible(shape).then_some(shape)
}

fn is_possible(shape: Shape) -> bool {
    let elements = shape.height.checked_mul(shape.width).and_then(|n| n.checked_mul(shape.channels));
    elements.is_some_and(|n| n > 0 && n <= LARGEST_MAP)
}

impl Op {
    /// What it does in a few words, for people: `conv 64→128 3×3 /2 Gelu`.
    pub fn word(&self) -> String {
        let followed = |name: &str, activation: &Option<Activation>| match activation {
            Some(activation) => format!("{name} {activation:?}"),
            None => name.to_owned(),
        };
        match self {
            Self::Input => "input".to_owned(),
            Self::Conv { conv, activation, .. } => {
                let (kh, kw) = conv.kernel;
                let mut name = format!("conv {}→{} {kh}×{kw}", conv.inputs, conv.outputs);
                if conv.stride != 1 {
                    name.push_str(&format!(" /{}", conv.stride));
                }
                if conv.groups != 1 {
                    name.push_str(&format!(" groups {}", conv.groups));
                }
                if !conv.bias {
                    name.push_str(" no bias");
                }
                followed(&name, activation)
            }
            Self::Affine { .. } => "affine".to_owned(),
            Self::LayerNorm { eps, .. } => format!("layer_norm {eps:e}"),
            Self::Activation(activation) => format!("{activation:?}"),
            Self::Attention(a) => {
                format!("attention {}×{}{}", a.heads, a.head_width, if a.is_causal { " causal" } else { "" })
            }
            Self::CrossAttention(a) => format!("cross_attention {}×{}", a.heads, a.head_width),
            Self::PaddedAttention(a) => format!("padded_attention {}×{}", a.heads, a.head_width),
            Self::CachedAttention { attention: a, layer } => {
                format!("cached_attention {layer} {}×{}", a.heads, a.head_width)
            }
            Self::ImageAttention { attention: a, layer } => {
                format!("image_attention {layer} {}×{}", a.heads, a.head_width)
            }
            Self::MeanPool => "mean_pool".to_owned(),
            Self::Gate { activation } => followed("gate", activation),
            Self::Add => "add".to_owned(),
            Self::Sub => "sub".to_owned(),
            Self::Embed { vocabulary, width, .. } => format!("embed {vocabulary}×{width}"),
            Self::Positions { grid, class_row, resample, .. } => {
                format!("positions {}×{}{} {resample:?}", grid.0, grid.1, if *class_row { "+1" } else { "" })
            }
            Self::TextPositions { rows, .. } => format!("text_positions {rows}"),
            Self::Queries { count, width, .. } => format!("queries {count}×{width}"),
            Self::AppendToken { .. } => "append_token".to_owned(),
            Self::Trim { front, back } => format!("trim {front} {back}"),
            Self::ClassToken { .. } => "class_token".to_owned(),
            Self::TakeFirst => "take first".to_owned(),
            Self::TakeLast => "take last".to_owned(),
            Self::TakeEndOfText => "take end of text".to_owned(),
        }
    }
}

/// One line for each node: number, operation, inputs, the scope it stands for.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, node) in self.nodes.iter().enumerate() {
            let inputs: Vec<String> = node.inputs.iter().map(ToString::to_string).collect();
            writeln!(f, "{id}: {} ({}) {}", node.op.word(), inputs.join(", "), node.names.join(" "))?;
        }
        for (name, id) in &self.taps {
            writeln!(f, "tap {name}: {id}")?;
        }
        writeln!(f, "output: {}", self.output)
    }
}
