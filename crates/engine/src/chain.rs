//! Chains: neighbouring nodes that look at nothing but their own pixels. A thread takes a tile of pixels through all of
//! them while it is in its cache, and threads wait for each other once instead of after every node.

use std::ops::Range;

use mobileclip_arch::Shape;
use mobileclip_graph::{Graph, NodeId};
use mobileclip_kernels::{LANES, MAX_TILES, Map};

use crate::layer::Layer;

/// Numbers of one tile that should stay in a core's second-level cache, with room for weights beside it.
const TILE_VALUES: usize = 128 * 1024;
/// Fewer pixels than this would read the weights too often, more would gain nothing.
const TILE_PIXELS: Range<usize> = 64..512;
/// f32 of a chain's weights at most. Each tile reads all of them: from the third-level cache, if they fit.
const CHAIN_WEIGHTS: usize = 4 << 20;
/// Nodes of a chain at most: those of a transformer block from one attention to the next, and two more.
pub(crate) const LONGEST: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub nodes: Range<NodeId>,
    /// Bounds of the tiles along the pixels. A Winograd product combines the rows of a tile, so that these do not depend
    /// on the number of threads.
    pub tiles: Vec<usize>,
}

impl Chain {
    /// Whether so many threads are kept busy by tiles alone.
    pub(crate) fn feeds(&self, threads: usize) -> bool {
        let tiles = self.tiles.len() - 1;
        tiles.is_multiple_of(threads) || tiles >= 4 * threads
    }
}

/// The chains of a graph in order. Every product and norm is in one, if only alone.
pub(crate) fn chains(graph: &Graph, layers: &[Layer], shapes: &[Shape]) -> Vec<Chain> {
    let looks_at_own_pixels = |id: NodeId| matches!(layers[id], Layer::Gemm(_) | Layer::Norm(_));
    let weights = |id: NodeId| match &layers[id] {
        Layer::Gemm(gemm) => gemm.packed_len(),
        _ => 0,
    };
    let continues = |id: NodeId, first: NodeId| {
        let is_in_step = id < layers.len() && shapes[id].pixels() == shapes[first].pixels();
        is_in_step
            && looks_at_own_pixels(id)
            && id - first < LONGEST
            && (first..=id).map(weights).sum::<usize>() <= CHAIN_WEIGHTS
    };
    let mut chains = Vec::new();
    let mut id = 0;
    while id < graph.nodes.len() {
        let first = id;
        id += 1;
        // A depthwise convolution looks around, but only at what was there before the chain.
        let heads = matches!(layers[first], Layer::Depthwise(_)) && continues(id, first);
        if !heads && !looks_at_own_pixels(first) {
            continue;
        }
        while continues(id, first) {
            id += 1;
        }
        let tiles = tiles(&layers[first..id], shapes[first], &shapes[first..id], heads);
        chains.push(Chain { nodes: first..id, tiles });
    }
    chains
}

/// Nearly equal tiles, of whole rows if `has_rows`.
fn tiles(layers: &[Layer], shape: Shape, shapes: &[Shape], has_rows: bool) -> Vec<usize> {
    let outputs: usize = shapes.iter().map(|shape| shape.channels.next_multiple_of(LANES)).sum();
    let operand = layers.iter().map(|layer| match layer {
        Layer::Gemm(gemm) => gemm.operand_len(TILE_PIXELS.start) / TILE_PIXELS.start,
        _ => 0,
    });
    let values = outputs + operand.max().unwrap_or(0);
    let wanted = (TILE_VALUES / values.max(1)).clamp(TILE_PIXELS.start, TILE_PIXELS.end);
    let width = shape.width.max(1);
    let step = match has_rows {
        false => 16,
        true if 16usize.is_multiple_of(width) => 16,
        true => width,
    };
    let pixels = shape.pixels();
    let parts = pixels.div_ceil(wanted).min(pixels / TILE_PIXELS.start);
    bounds(pixels, step, parts.min(MAX_TILES))
}

/// Cuts `0..len` into at most `parts` nearly equal ranges that start at multiples of `step`.
pub(crate) fn bounds(len: usize, step: usize, parts: usize) -> Vec<usize> {
    let units = len.div_ceil(step.max(1)).max(1);
    let parts = parts.clamp(1, units);
    (0..=parts).map(|part| (part * units / parts * step).min(len)).collect()
}

/// The dense map of a tile of `pixels` pixels: as rows where it has whole ones.
pub(crate) fn tile_map(of: Map, pixels: usize) -> Map {
    let (height, width) = match of.width {
        width if width > 0 && pixels.is_multiple_of(width) => (pixels / width, width),
        _ => (1, pixels),
    };
    Map { blocks: of.blocks, height, width, border_y: 0, border_x: 0 }
}
