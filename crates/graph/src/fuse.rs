//! The passes: linear maps of one input become one convolution, what follows a convolution becomes its epilogue, and
//! what only one token is taken from is computed for that token alone.
//!
//! Reparameterisation is what the first pass does to any sum of linear maps; it knows no block by name.

use mobileclip_arch::{Activation, Conv, Weights};

use crate::hoist::hoist_takes;
use crate::ir::{Graph, Node, NodeId, Op};
use crate::value::Value;

/// All passes.
pub(crate) fn fuse(graph: Graph, weights: &dyn Weights) -> Graph {
    hoist_takes(fold_epilogues(merge_linear_maps(graph, weights)))
}

/// A linear map of one node, not yet made a node itself.
#[derive(Clone)]
struct Pending {
    source: NodeId,
    map: Map,
    names: Vec<String>,
}

#[derive(Clone)]
enum Map {
    /// `scale[c] · x + shift[c]`.
    Diagonal { scale: Vec<f64>, shift: Vec<f64> },
    /// `conv(x) + shift[c]`; `conv.bias` is not looked at.
    Conv { conv: Conv, weight: Value, shift: Vec<f64> },
}

/// What an old node has become.
struct Made {
    /// The node in the new graph, once somebody needed it.
    node: Option<NodeId>,
    /// The linear map it is, unless somebody asked for its output by name.
    pending: Option<Pending>,
}

/// Walks the graph and keeps linear operations pending as long as they can be composed or summed.
fn merge_linear_maps(graph: Graph, weights: &dyn Weights) -> Graph {
    let mut merge = Merge { weights, channels: graph.channels(), nodes: Vec::new(), made: Vec::new() };
    let is_tapped = |id| graph.taps.iter().any(|&(_, tap)| tap == id);
    for (id, node) in graph.nodes.iter().enumerate() {
        let made = merge.node(node);
        merge.made.push(made);
        if is_tapped(id) {
            // A tap stops fusion: what follows reads the finished map.
            let node = merge.finish(id);
            merge.made[id] = Made { node: Some(node), pending: None };
        }
    }
    let output = merge.finish(graph.output);
    let taps = graph.taps.iter().map(|(name, id)| (name.clone(), merge.finish(*id))).collect();
    Graph { tower: graph.tower, nodes: merge.nodes, output, taps }
}

struct Merge<'w> {
    weights: &'w dyn Weights,
    /// Of the old nodes.
    channels: Vec<usize>,
    nodes: Vec<Node>,
    made: Vec<Made>,
}

impl Merge<'_> {
    fn node(&mut self, node: &Node) -> Made {
        let pending = match &node.op {
            Op::Conv { conv, weight, bias, activation: None } => {
                Some(self.conv(node, conv, weight, bias.as_ref()))
            }
            Op::Affine { scale, shift } => Some(self.affine(node, scale, shift)),
            Op::Add => self.sum(node, 1.0),
            Op::Sub => self.sum(node, -1.0),
            _ => None,
        };
        if pending.is_some() {
            return Made { node: None, pending };
        }
        let inputs = node.inputs.iter().map(|&id| self.finish(id)).collect();
        self.nodes.push(Node { op: node.op.clone(), inputs, names: node.names.clone() });
        Made { node: Some(self.nodes.len() - 1), pending: None }
    }

    fn conv(&mut self, node: &Node, conv: &Conv, weight: &Value, bias: Option<&Value>) -> Pending {
        let mut shift = bias.map_or(vec![0.0; conv.outputs], |bias| bias.f64(self.weights));
        let before = self.made[node.inputs[0]].pending.as_ref();
        if let Some(Pending { source, map: Map::Diagonal { scale, shift: inner }, names }) = before
            && conv.is_pointwise()
            && conv.groups == 1
        {
            let matrix = weight.f64(self.weights);
            for (row, out) in matrix.chunks(conv.inputs).zip(&mut shift) {
                *out += row.iter().zip(inner).map(|(w, s)| w * s).sum::<f64>();
            }
            let weight = Value::ScaledColumns(Box::new(weight.clone()), scale.clone());
            let names = names.iter().chain(&node.names).cloned().collect();
            return Pending { source: *source, map: Map::Conv { conv: *conv, weight, shift }, names };
        }
        let source = self.finish(node.inputs[0]);
        let map = Map::Conv { conv: *conv, weight: weight.clone(), shift };
        Pending { source, map, names: node.names.clone() }
    }

    fn affine(&mut self, node: &Node, scale: &[f64], shift: &[f64]) -> Pending {
        let Some(before) = self.made[node.inputs[0]].pending.clone() else {
            let source = self.finish(node.inputs[0]);
            let map = Map::Diagonal { scale: scale.to_vec(), shift: shift.to_vec() };
            return Pending { source, map, names: node.names.clone() };
        };
        let map = before.map.then(scale, shift);
        let names = before.names.into_iter().chain(node.names.iter().cloned()).collect();
        Pending { source: before.source, map, names }
    }

    /// `a + sign · b`, if both are linear maps of the same node.
    fn sum(&self, node: &Node, sign: f64) -> Option<Pending> {
        let (a, b) = (self.readings(node.inputs[0]), self.readings(node.inputs[1]));
        let (a, b) = a.iter().find_map(|a| b.iter().find(|b| a.source == b.source).map(|b| (a, b)))?;
        let flipped = b.map.clone().then(&vec![sign; b.map.channels()], &vec![0.0; b.map.channels()]);
        let map = a.map.clone().plus(flipped)?;
        Some(Pending { source: a.source, map, names: a.names.iter().chain(&b.names).cloned().collect() })
    }

    /// The ways to see an old node as a linear map: as what is pending, and as the identity of itself.
    fn readings(&self, id: NodeId) -> Vec<Pending> {
        let made = &self.made[id];
        let identity = made.node.map(|source| {
            let (scale, shift) = (vec![1.0; self.channels[id]], vec![0.0; self.channels[id]]);
            Pending { source, map: Map::Diagonal { scale, shift }, names: Vec::new() }
        });
        made.pending.iter().cloned().chain(identity).collect()
    }

    /// The new node of an old one, made now if it was pending.
    fn finish(&mut self, id: NodeId) -> NodeId {
        if let Some(node) = self.made[id].node {
            return node;
        }
        let Some(Pending { source, map, names }) = self.made[id].pending.clone() else {
            unreachable!("a node is made or pending")
        };
        let op = match map {
            Map::Diagonal { scale, shift } => Op::Affine { scale, shift },
            Map::Conv { conv, weight, shift } => {
                let bias = shift.iter().any(|&s| s != 0.0);
                let conv = Conv { bias, ..conv };
                Op::Conv { conv, weight, bias: bias.then_some(Value::Literal(shift)), activation: None }
            }
        };
        self.nodes.push(Node { op, inputs: vec![source], names });
        let node = self.nodes.len() - 1;
        self.made[id].node = Some(node);
        node
    }
}

impl Map {
    fn channels(&self) -> usize {
        match self {
            Self::Diagonal { scale, .. } => scale.len(),
            Self::Conv { conv, .. } => conv.outputs,
        }
    }

    /// This map, then `factor[c] · y + offset[c]`.
    fn then(self, factor: &[f64], offset: &[f64]) -> Self {
        let affine = |shift: Vec<f64>| -> Vec<f64> {
            shift.iter().zip(factor).zip(offset).map(|((s, f), o)| s * f + o).collect()
        };
        match self {
            Self::Diagonal { scale, shift } => {
                let scale = scale.iter().zip(factor).map(|(s, f)| s * f).collect();
                Self::Diagonal { scale, shift: affine(shift) }
            }
            Self::Conv { conv, weight, shift } => {
                let weight = Value::ScaledRows(Box::new(weight), factor.to_vec());
                Self::Conv { conv, weight, shift: affine(shift) }
            }
        }
    }

    /// The sum of two maps, if one convolution can hold it.
    fn plus(self, other: Self) -> Option<Self> {
        let total = |a: Vec<f64>, b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        match (self, other) {
            (Self::Diagonal { scale, shift }, Self::Diagonal { scale: s, shift: t }) => {
                // The identity of a node that was never pending does not know its channels.
                let known =
                    |a: Vec<f64>, len: usize, fill: f64| if a.is_empty() { vec![fill; len] } else { a };
                let len = scale.len().max(s.len());
                let (scale, s) = (known(scale, len, 1.0), known(s, len, 1.0));
                let (shift, t) = (known(shift, len, 0.0), known(t, len, 0.0));
                Some(Self::Diagonal { scale: total(scale, &s), shift: total(shift, &t) })
            }
            (conv @ Self::Conv { .. }, diagonal @ Self::Diagonal { .. }) => diagonal.plus(conv),
            (Self::Diagonal { scale, shift: t }, Self::Conv { conv, weight, shift }) => {
                let (odd, same) = (|k: usize| k % 2 == 1, conv.inputs == conv.outputs && conv.stride == 1);
                let centred = odd(conv.kernel.0) && odd(conv.kernel.1) && conv.padding == half(conv.kernel);
                if !(same && centred) {
                    return None;
                }
                let weight = Value::Sum(vec![weight, Value::Diagonal { scale, conv }]);
                Some(Self::Conv { conv, weight, shift: total(shift, &t) })
            }
            (Self::Conv { conv: a, weight, shift }, Self::Conv { conv: b, weight: w, shift: t }) => {
                let kernel = (a.kernel.0.max(b.kernel.0), a.kernel.1.max(b.kernel.1));
                let padding = (a.padding.0.max(b.padding.0), a.padding.1.max(b.padding.1));
                let conv = Conv { kernel, padding, ..a };
                let fits = |c: &Conv| {
                    let grown = (kernel.0 - c.kernel.0, kernel.1 - c.kernel.1);
                    grown == (2 * (padding.0 - c.padding.0), 2 * (padding.1 - c.padding.1))
                };
                let alike = (a.groups, a.stride, a.outputs) == (b.groups, b.stride, b.outputs);
                if !(alike && fits(&a) && fits(&b)) {
                    return None;
                }
                let centred = |value: Value, from: (usize, usize)| match from == kernel {
                    true => value,
                    false => Value::Centred { of: Box::new(value), from, to: kernel },
                };
                let weight = Value::Sum(vec![centred(weight, a.kernel), centred(w, b.kernel)]);
                Some(Self::Conv { conv, weight, shift: total(shift, &t) })
            }
        }
    }
}

fn half(kernel: (usize, usize)) -> (usize, usize) {
    ((kernel.0 - 1) / 2, (kernel.1 - 1) / 2)
}

/// Nonlinearities and sums become part of the convolution (or gate) before them.
fn fold_epilogues(mut graph: Graph) -> Graph {
    let uses = graph.uses();
    for id in 0..graph.nodes.len() {
        let node = &graph.nodes[id];
        let folded = match &node.op {
            Op::Activation(activation) if uses[node.inputs[0]] == 1 => {
                graph.nodes[node.inputs[0]].with_activation(*activation)
            }
            Op::Add => {
                // The later one takes the other as its residual, which then stands before it.
                let (residual, conv) =
                    (node.inputs[0].min(node.inputs[1]), node.inputs[0].max(node.inputs[1]));
                if residual != conv && uses[conv] == 1 {
                    graph.nodes[conv].with_residual(residual)
                } else {
                    None
                }
            }
            _ => None,
        };
        // What was folded stays in the list, unread, until the sweep.
        if let Some(folded) = folded {
            graph.nodes[id] = folded;
        }
    }
    sweep(graph)
}

impl Node {
    fn with_activation(&self, wanted: Activation) -> Option<Self> {
        let mut node = self.clone();
        match &mut node.op {
            Op::Conv { activation: slot @ None, .. } if node.inputs.len() == 1 => *slot = Some(wanted),
            Op::Gate { activation: slot @ None } => *slot = Some(wanted),
            _ => return None,
        }
        Some(node)
    }

    fn with_residual(&self, residual: NodeId) -> Option<Self> {
        let is_free = matches!(self.op, Op::Conv { .. }) && self.inputs.len() == 1;
        is_free.then(|| Self { inputs: vec![self.inputs[0], residual], ..self.clone() })
    }
}

/// Drops nodes that lead nowhere.
fn sweep(mut graph: Graph) -> Graph {
    let mut is_read = vec![false; graph.nodes.len()];
    is_read[0] = true;
    graph.taps.iter().map(|&(_, id)| id).chain([graph.output]).for_each(|id| is_read[id] = true);
    for id in (0..graph.nodes.len()).rev() {
        if is_read[id] {
            graph.nodes[id].inputs.iter().for_each(|&input| is_read[input] = true);
        }
    }
    let mut place = Vec::with_capacity(is_read.len());
    let mut next = 0;
    for &kept in &is_read {
        place.push(next);
        next += usize::from(kept);
    }
    let mut kept = is_read.iter();
    graph.nodes.retain(|_| *kept.next().unwrap_or(&false));
    graph.nodes.iter_mut().flat_map(|n| &mut n.inputs).for_each(|id| *id = place[*id]);
    graph.taps.iter_mut().for_each(|(_, id)| *id = place[*id]);
    graph.output = place[graph.output];
    graph
}
