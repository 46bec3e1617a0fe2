//! A graph's numbers in double precision, slowly: the oracle of the passes and of the engine, node by node.

use mobileclip_arch::{Array, Positions, Weights, resample};

use crate::ir::{Graph, Op};

impl Graph {
    /// Every node's output for one input.
    ///
    /// # Panics
    /// If the input does not fit the graph, or the graph continues texts that are elsewhere.
    pub fn evaluate(&self, weights: &dyn Weights, input: Array) -> Vec<Array> {
        let shapes =
            self.shapes(input.shape.height, input.shape.width).expect("an input that fits the graph");
        let mut made: Vec<Array> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let x = |i: usize| &made[node.inputs[i]];
            let with = |y: Array, activation: &Option<_>| activation.map_or(y.clone(), |a| y.activation(a));
            let y = match &node.op {
                Op::Input => input.clone(),
                Op::Conv { conv, weight, bias, activation } => {
                    let bias = bias.as_ref().map_or(vec![0.0; conv.outputs], |bias| bias.f64(weights));
                    let y = with(x(0).convolve(conv, &weight.f64(weights), &bias), activation);
                    if node.inputs.len() == 2 { y.add(x(1)) } else { y }
                }
                Op::Affine { scale, shift } => x(0).affine(scale, shift),
                Op::LayerNorm { weight, bias, eps } => {
                    x(0).layer_norm(&weight.f64(weights), &bias.f64(weights), *eps)
                }
                Op::Activation(activation) => x(0).activation(*activation),
                Op::Attention(attention) => x(0).attention(attention),
                Op::CrossAttention(attention) => x(0).attend(x(1), x(2), attention, |_, _| true),
                Op::PaddedAttention(attention) => x(0).padded_attention(x(1), x(2), x(3), attention),
                Op::CachedAttention { .. } | Op::ImageAttention { .. } | Op::TextPositions { .. } => {
                    panic!("{} reads a text's cache", node.op.word())
                }
                Op::MeanPool => x(0).mean_pool(),
                Op::Gate { activation } => with(x(0).gate(x(1)), activation),
                Op::Add => x(0).add(x(1)),
                Op::Sub => x(0).sub(x(1)),
                Op::Embed { table, width, .. } => x(0).embed(&table.f64(weights), *width),
                Op::Positions { table, grid, class_row, resample: how } => {
                    let positions = Positions {
                        shape: &[x(0).shape.channels],
                        grid: *grid,
                        class_row: *class_row,
                        target: self.grid_of(&shapes, node.inputs[0]),
                        resample: *how,
                    };
                    x(0).add_rows(&resample(&table.f64(weights), &positions))
                }
                Op::Queries { table, width, .. } => Array::rows(&table.f64(weights), *width),
                Op::AppendToken { token } => x(0).append(&token.f64(weights)),
                Op::Trim { front, back } => x(0).trim(*front, *back),
                Op::ClassToken { token } => x(0).prepend(&token.f64(weights)),
                Op::TakeFirst => x(0).take(0),
                Op::TakeLast => x(0).take(x(0).shape.pixels() - 1),
                Op::TakeEndOfText => x(0).take(x(1).end_of_text()),
            };
            made.push(y);
        }
        made
    }
}
