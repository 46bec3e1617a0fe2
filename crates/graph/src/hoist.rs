//! A pass: what only one token is taken from is computed for that token alone.
//!
//! Towers that are read at one token need the last block's projection and MLP there only, a sixteenth of a text tower.

use std::collections::HashMap;

use crate::ir::{Graph, Node, NodeId, Op};

/// Moves `TakeFirst`, `TakeLast` or `TakeEndOfText` in front of the pointwise operations that lead to them.
pub(crate) fn hoist_takes(graph: Graph) -> Graph {
    let is_take = |node: &Node| matches!(node.op, Op::TakeFirst | Op::TakeLast | Op::TakeEndOfText);
    let Some(take) = graph.nodes.iter().position(is_take) else {
        return graph;
    };
    let is_alone = lead_only_to(take, &graph);
    let mut hoist = Hoist {
        take: graph.nodes[take].clone(),
        nodes: Vec::new(),
        place: Vec::new(),
        taken: HashMap::new(),
    };
    for (id, node) in graph.nodes.iter().enumerate() {
        let inputs = match (id == take, is_alone[id]) {
            (true, _) => {
                let place = hoist.taken(node.inputs[0], &is_alone);
                hoist.place.push(place);
                continue;
            }
            (false, true) => node.inputs.iter().map(|&input| hoist.taken(input, &is_alone)).collect(),
            (false, false) => node.inputs.iter().map(|&input| hoist.place[input]).collect(),
        };
        hoist.push(Node { inputs, ..node.clone() });
        hoist.place.push(hoist.nodes.len() - 1);
    }
    let taps = graph.taps.iter().map(|(name, id)| (name.clone(), hoist.place[*id])).collect();
    Graph { tower: graph.tower, output: hoist.place[graph.output], taps, nodes: hoist.nodes }
}

struct Hoist {
    take: Node,
    nodes: Vec<Node>,
    /// Where old nodes stand in the new list.
    place: Vec<NodeId>,
    /// The one token of an old node.
    taken: HashMap<NodeId, NodeId>,
}

impl Hoist {
    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn taken(&mut self, id: NodeId, is_alone: &[bool]) -> NodeId {
        if is_alone[id] {
            return self.place[id];
        }
        if let Some(&taken) = self.taken.get(&id) {
            return taken;
        }
        let others = self.take.inputs[1..].iter().map(|&input| self.place[input]);
        let inputs = std::iter::once(self.place[id]).chain(others).collect();
        let taken = self.push(Node { inputs, ..self.take.clone() });
        self.taken.insert(id, taken);
        taken
    }
}

/// Which pointwise nodes are read by nothing but the take and nodes that are themselves read so.
fn lead_only_to(take: NodeId, graph: &Graph) -> Vec<bool> {
    let mut is_alone = vec![false; graph.nodes.len()];
    for id in (0..take).rev() {
        let is_pointwise = match &graph.nodes[id].op {
            Op::Conv { conv, .. } => conv.is_pointwise(),
            Op::LayerNorm { .. } | Op::Activation(_) | Op::Add | Op::Sub | Op::Affine { .. } => true,
            _ => false,
        };
        let is_wanted = graph.output == id || graph.taps.iter().any(|&(_, tap)| tap == id);
        let mut readers =
            graph.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&id)).map(|(r, _)| r);
        is_alone[id] = is_pointwise && !is_wanted && readers.all(|r| r == take || is_alone[r]);
    }
    is_alone
}
