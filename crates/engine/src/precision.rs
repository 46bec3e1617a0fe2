//! Which products of a tower that is to run in bf16 or int8 stay in a finer precision. Measured: decision 0011.

use mobileclip_arch::{Conv, Shape};
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{LANES, PackedGemm, Precision};

/// Residuals of a transformer block.
const BLOCK: usize = 2;

/// The precision of each node's product.
pub(crate) fn precisions(graph: &Graph, shapes: &[Shape], wanted: Precision) -> Vec<Precision> {
    // Embeddings of tokens are small beside what the first block adds to them, so that its errors are those of the stream.
    let reads_tokens = graph.nodes.iter().any(|node| matches!(node.op, Op::Embed { .. }));
    let (mut products, mut residuals) = (0, 0);
    (0..graph.nodes.len())
        .map(|id| {
            let node = &graph.nodes[id];
            let is_early = reads_tokens && residuals < BLOCK;
            let conv = match &node.op {
                Op::Conv { conv, .. } => conv,
                // Its products are few, and its scores sensitive: no bytes.
                Op::Attention(_) if wanted != Precision::F32 && !is_early => return Precision::Bf16,
                _ => return Precision::F32,
            };
            // The kernel for windows of an image is f32, and depthwise convolutions are no products of matrices.
            if conv.groups > 1 || matches!(graph.nodes[node.inputs[0]].op, Op::Input) {
                return Precision::F32;
            }
            products += 1;
            residuals += usize::from(node.inputs.len() == 2);
            match wanted {
                _ if is_early && products == 1 => Precision::F32,
                Precision::Int8 if is_early || !stands_int8(graph, id, conv, shapes[id]) => Precision::Bf16,
                wanted => wanted,
            }
        })
        .collect()
}

/// Whether a product's error in int8 is one among many. It is not where the product is all that later nodes see of earlier
/// ones (stems, downsamplings, patches), nor in gates and heads, which see one pixel and cost next to nothing.
fn stands_int8(graph: &Graph, id: NodeId, conv: &Conv, shape: Shape) -> bool {
    let passed = |(later, node): (NodeId, &mobileclip_graph::Node)| {
        // Ids say only which token is taken.
        let inputs = if matches!(node.op, Op::TakeEndOfText) { &node.inputs[..1] } else { &node.inputs[..] };
        later > id && inputs.iter().any(|&earlier| earlier < id)
    };
    let is_passed_by = graph.nodes[id].inputs.len() == 2 || graph.nodes.iter().enumerate().any(passed);
    // Where windows are gathered, their channels fill whole vectors.
    let (rows, columns) = conv.kernel;
    let summed = conv.inputs.next_multiple_of(LANES).saturating_mul(rows.saturating_mul(columns));
    is_passed_by && shape.pixels() > 1 && summed <= PackedGemm::LARGEST_INT8_K
}

#[cfg(test)]
mod tests {
    use mobileclip_arch::{Manifest, Tower};
    use mobileclip_testing::formula::Formula;

    use super::*;

    /// Names of the products with weights of a tower and their precisions.
    fn of(which: Tower, wanted: Precision) -> Vec<(String, Precision)> {
        let variant = mobileclip_arch::variant("MobileCLIP2-S0").unwrap();
        let graph = Graph::trace(variant, which, &Formula::of(&Manifest::of(variant)), &[]);
        let shape = variant.input(which);
        let shapes = graph.shapes(shape.height, shape.width).unwrap();
        let precisions = precisions(&graph, &shapes, wanted);
        let products = graph.nodes.iter().zip(precisions).filter(
            |(node, _)| matches!(&node.op, Op::Conv { conv, .. } if conv.groups == 1 && conv.is_pointwise()),
        );
        products.map(|(node, precision)| (node.names[0].clone(), precision)).collect()
    }

    #[test]
    fn stems_downsamplings_gates_and_heads_are_no_int8() {
        for (name, precision) in of(Tower::Image, Precision::Int8) {
            let is_sensitive =
                ["stem", "downsample", "se.", "head", "final_conv"].iter().any(|s| name.contains(s));
            let expected = if is_sensitive { Precision::Bf16 } else { Precision::Int8 };
            assert_eq!(precision, expected, "{name}");
        }
        assert!(of(Tower::Image, Precision::Bf16).iter().all(|(_, p)| *p == Precision::Bf16));
    }

    #[test]
    fn the_first_block_of_a_text_tower_is_finer() {
        for wanted in [Precision::Bf16, Precision::Int8] {
            for (i, (name, precision)) in of(Tower::Text, wanted).into_iter().enumerate() {
                let is_last = name.contains("resblocks.11.") && !name.contains("in_proj")
                    || name.contains("projection");
                let expected = match i {
                    0 => Precision::F32,
                    1..4 => Precision::Bf16,
                    _ if is_last => Precision::Bf16,
                    _ => wanted,
                };
                assert_eq!(precision, expected, "{name} {wanted:?}");
            }
        }
    }
}
