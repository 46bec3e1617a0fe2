//! Whether a graph that was read from a file is one.

use mobileclip_arch::{Attention, Conv, Resample, Tower};

use crate::ir::{Graph, Node, NodeId, Op};
use crate::value::Value;

/// More channels, rows or kernel taps than any network of the family has by far.
const LARGEST: usize = 1 << 20;
/// More nodes than any tower of the family has by far; some of what is done with them takes their number's square.
const MOST_NODES: usize = 1 << 14;

impl Graph {
    /// Checks a graph from a file: that nodes read only what stands before them, that channels fit each other, and that
    /// constants are stored tensors or have the length that is used.
    ///
    /// Spatial sizes are checked by [`Graph::shapes`] for each input.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if !matches!(self.nodes.first(), Some(Node { op: Op::Input, inputs, .. }) if inputs.is_empty()) {
            return Err("the first node is no input".to_owned());
        }
        if self.nodes.len() > MOST_NODES || self.taps.len() > self.nodes.len() {
            return Err(format!("{} nodes and {} taps are too many", self.nodes.len(), self.taps.len()));
        }
        for (id, node) in self.nodes.iter().enumerate() {
            let (least, most) = node.op.arity();
            if id > 0 && matches!(node.op, Op::Input) {
                return Err(format!("node {id} is a second input"));
            }
            if !(least..=most).contains(&node.inputs.len()) {
                return Err(format!("node {id} has {} inputs", node.inputs.len()));
            }
            if let Some(input) = node.inputs.iter().find(|&&input| input >= id) {
                return Err(format!("node {id} reads node {input}, which does not stand before it"));
            }
        }
        let outside = self.taps.iter().map(|(_, id)| id).chain([&self.output]);
        if let Some(id) = outside.into_iter().find(|&&id| id == 0 || id >= self.nodes.len()) {
            return Err(format!("output {id} of {} nodes", self.nodes.len()));
        }
        // Before channels are counted, for which the sizes must be countable.
        for (id, node) in self.nodes.iter().enumerate() {
            node.op.check_sizes().map_err(|what| format!("node {id}: {what}"))?;
            self.check_input_reads(node).map_err(|what| format!("node {id}: {what}"))?;
        }
        let channels = self.channels();
        (0..self.nodes.len()).try_for_each(|id| self.check_node(id, &channels))
    }

    fn check_node(&self, id: NodeId, channels: &[usize]) -> Result<(), String> {
        let node = &self.nodes[id];
        let input = |i: usize| channels[node.inputs[i]];
        let fail = |what: &str| Err(format!("node {id}: {what}"));
        let fits = match &node.op {
            Op::Conv { conv, bias, .. } => {
                let residual_fits = node.inputs.len() < 2 || input(1) == conv.outputs;
                conv.inputs == input(0) && conv.bias == bias.is_some() && residual_fits
            }
            Op::Attention(attention) | Op::CachedAttention { attention, .. } => {
                3 * attention.width() == input(0)
            }
            Op::CrossAttention(attention) | Op::PaddedAttention(attention) => {
                let reads_ids = node.inputs.get(3).is_none_or(|&ids| ids == 0);
                (0..3).all(|i| input(i) == attention.width()) && reads_ids
            }
            Op::ImageAttention { attention, .. } => attention.width() == input(0),
            Op::Affine { scale, shift } => scale.len() == input(0) && shift.len() == input(0),
            Op::Gate { .. } | Op::Add | Op::Sub => input(0) == input(1),
            Op::Positions { class_row, resample, .. } => {
                // The class row is fitted to what stood before the class token.
                let before = &self.nodes[node.inputs[0]].op;
                let has_token = matches!(before, Op::ClassToken { .. });
                *class_row == has_token && !(*class_row && *resample == Resample::Prefix)
            }
            Op::Embed { .. } => node.inputs[0] == 0,
            Op::TakeEndOfText => node.inputs[1] == 0,
            Op::LayerNorm { eps, .. } => eps.is_finite() && *eps >= 0.0,
            Op::Input
            | Op::Activation(_)
            | Op::MeanPool
            | Op::ClassToken { .. }
            | Op::AppendToken { .. }
            | Op::TextPositions { .. }
            | Op::Queries { .. }
            | Op::Trim { .. }
            | Op::TakeFirst
            | Op::TakeLast => true,
        };
        if !fits {
            return fail("its numbers do not fit its inputs");
        }
        Ok(())
    }

    /// Pixels are no map yet: only a dense convolution makes them one. Token ids are no numbers to compute with.
    fn check_input_reads(&self, node: &Node) -> Result<(), String> {
        let mut reads = node.inputs.iter().enumerate().filter(|&(_, &input)| input == 0).map(|(i, _)| i);
        let is_allowed = |i: usize| match (self.tower, &node.op) {
            (Tower::Image, Op::Conv { conv, .. }) => i == 0 && conv.groups == 1,
            (Tower::Text, Op::Embed { .. }) => true,
            (Tower::Text, Op::TakeEndOfText) => i == 1,
            (Tower::Text, Op::PaddedAttention(_)) => i == 3,
            _ => false,
        };
        match reads.all(is_allowed) {
            true => Ok(()),
            false => Err(format!("it cannot read what the {:?} tower is given", self.tower)),
        }
    }
}

fn check_conv(conv: &Conv) -> Result<(), String> {
    let sizes = [conv.inputs, conv.outputs, conv.kernel.0, conv.kernel.1, conv.stride, conv.groups];
    // A window that lies in the padding alone sees nothing.
    let is_padded_beyond = conv.padding.0 >= conv.kernel.0 || conv.padding.1 >= conv.kernel.1;
    if sizes.iter().any(|&n| n == 0 || n > LARGEST) || is_padded_beyond {
        return Err(format!("a convolution of impossible size {conv:?}"));
    }
    if !conv.inputs.is_multiple_of(conv.groups) || !conv.outputs.is_multiple_of(conv.groups) {
        return Err(format!("groups do not divide the channels of {conv:?}"));
    }
    let elements = conv.weight_shape().into_iter().try_fold(1usize, usize::checked_mul);
    elements.filter(|&n| n <= 1 << 40).map(|_| ()).ok_or_else(|| format!("too large a weight in {conv:?}"))
}

impl Op {
    /// That the operation's own numbers are such as a network has.
    fn check_sizes(&self) -> Result<(), String> {
        let is_size = |n: usize| n > 0 && n <= LARGEST;
        let is_sane = |Attention { heads, head_width, .. }: &Attention| {
            is_size(*heads) && is_size(*head_width) && is_size(heads * head_width)
        };
        let is_sane = match self {
            Self::Conv { conv, .. } => return check_conv(conv),
            Self::Attention(attention)
            | Self::PaddedAttention(attention)
            | Self::CrossAttention(attention) => is_sane(attention),
            Self::CachedAttention { attention, layer } | Self::ImageAttention { attention, layer } => {
                is_sane(attention) && *layer < MOST_NODES
            }
            Self::TextPositions { rows, .. } => is_size(*rows),
            Self::Queries { count, width, .. } => is_size(*count) && is_size(*width),
            Self::Trim { front, back } => *front <= LARGEST && *back <= LARGEST,
            Self::Embed { vocabulary, width, .. } => {
                *vocabulary > 0 && *vocabulary <= 16 * LARGEST && is_size(*width)
            }
            Self::Positions { grid, .. } => is_size(grid.0) && is_size(grid.1),
            _ => true,
        };
        match is_sane {
            true => Ok(()),
            false => Err("an impossible size".to_owned()),
        }
    }

    /// The fewest and the most inputs.
    fn arity(&self) -> (usize, usize) {
        match self {
            Self::Input | Self::Queries { .. } => (0, 0),
            Self::Conv { .. } => (1, 2),
            Self::Gate { .. } | Self::Add | Self::Sub | Self::TakeEndOfText => (2, 2),
            Self::PaddedAttention(_) => (4, 4),
            Self::CrossAttention(_) => (3, 3),
            _ => (1, 1),
        }
    }

    /// The constants with their names and shapes; `channels` are the node's own.
    pub fn constants_mut(&mut self, channels: usize) -> Vec<(&'static str, &mut Value, Vec<usize>)> {
        match self {
            Self::Conv { conv, weight, bias, .. } => {
                let mut list = vec![("weight", weight, conv.weight_shape().to_vec())];
                list.extend(bias.as_mut().map(|bias| ("bias", bias, vec![conv.outputs])));
                list
            }
            Self::LayerNorm { weight, bias, .. } => {
                vec![("weight", weight, vec![channels]), ("bias", bias, vec![channels])]
            }
            Self::Embed { table, vocabulary, width } => vec![("table", table, vec![*vocabulary, *width])],
            Self::Positions { table, grid, class_row, .. } => {
                vec![("table", table, vec![grid.0 * grid.1 + usize::from(*class_row), channels])]
            }
            Self::ClassToken { token } | Self::AppendToken { token } => {
                vec![("token", token, vec![channels])]
            }
            Self::Queries { table, count, width } => vec![("table", table, vec![*count, *width])],
            Self::TextPositions { table, rows } => vec![("table", table, vec![*rows, channels])],
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mobileclip_arch::{Manifest, Tower};
    use mobileclip_testing::formula::Formula;
    use mobileclip_testing::toys::toy;

    use crate::ir::{Graph, Op};

    fn graph() -> Graph {
        let variant = toy("toy4");
        Graph::trace(&variant, Tower::Image, &Formula::of(&Manifest::of(&variant)), &[])
    }

    #[test]
    fn traced_graphs_pass() {
        assert_eq!(graph().check(), Ok(()));
    }

    #[test]
    fn broken_graphs_do_not() {
        let broken = |change: &dyn Fn(&mut Graph)| {
            let mut graph = graph();
            change(&mut graph);
            graph.check().unwrap_err()
        };
        assert!(broken(&|g| g.nodes.clear()).contains("first node"));
        assert!(broken(&|g| g.nodes[5].inputs = vec![5]).contains("does not stand before"));
        assert!(broken(&|g| g.nodes[5].inputs = vec![9]).contains("does not stand before"));
        assert!(broken(&|g| g.nodes[5].inputs.clear()).contains("0 inputs"));
        assert!(broken(&|g| g.output = 1000).contains("output 1000"));
        assert!(broken(&|g| g.taps.push(("x".into(), 1000))).contains("output 1000"));
        let conv = |g: &mut Graph, change: &dyn Fn(&mut mobileclip_arch::Conv)| match &mut g.nodes[1].op {
            Op::Conv { conv, .. } => change(conv),
            op => panic!("{op:?}"),
        };
        assert!(broken(&|g| g.output = 0).contains("output 0"));
        assert!(broken(&|g| g.nodes.resize(20_000, g.nodes[1].clone())).contains("too many"));
        assert!(broken(&|g| g.taps = vec![("x".into(), 1); 20_000]).contains("too many"));
        assert!(broken(&|g| conv(g, &|c| c.stride = 0)).contains("impossible size"));
        assert!(broken(&|g| conv(g, &|c| c.padding = (3, 3))).contains("impossible size"));
        assert!(broken(&|g| conv(g, &|c| (c.groups, c.outputs) = (3, 9))).contains("cannot read"));
        assert!(broken(&|g| conv(g, &|c| c.groups = 2)).contains("groups"));
        assert!(broken(&|g| conv(g, &|c| c.outputs += 1)).contains("node 2"));
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_refused() {
        for (heads, head_width) in [(usize::MAX, 2), (1 << 20, 1 << 20), (0, 32), (1, 0)] {
            let mut graph = graph();
            let attention = graph.nodes.iter_mut().find_map(|node| match &mut node.op {
                Op::Attention(attention) => Some(attention),
                _ => None,
            });
            (*attention.unwrap()) = mobileclip_arch::Attention { heads, head_width, is_causal: false };
            assert!(graph.check().unwrap_err().contains("impossible size"));
        }
        assert_eq!(graph().shapes(usize::MAX, usize::MAX), None);
        assert_eq!(graph().shapes(1 << 20, 1 << 20), None);
    }

    #[test]
    fn the_end_of_text_is_taken_from_as_many_tokens_as_there_are_ids() {
        let variant = toy("toy4");
        let mut graph = Graph::trace(&variant, Tower::Text, &Formula::of(&Manifest::of(&variant)), &[]);
        let take = graph.nodes.iter().position(|node| matches!(node.op, Op::TakeEndOfText)).unwrap();
        assert!(graph.shapes(1, 8).is_some());
        graph.nodes[take - 1].op = Op::MeanPool;
        graph.nodes[take - 1].inputs.truncate(1);
        assert_eq!(graph.shapes(1, 8), None);
    }
}
