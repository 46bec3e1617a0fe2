//! What a tower needs for one input shape: maps, buffers, and how each node's work is divided.

use std::collections::HashMap;

use mobileclip_arch::{Positions, Shape, resample};
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{Attention, Buffer, Isa, LANES, MAX_TILES, Map, PackedGemm};

use crate::chain::{Chain, bounds, chains};
use crate::layer::{Layer, PositionTable};

/// Tasks for each thread, so that one which started late does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;
/// The same for products, which take nearly all of the time.
const PRODUCTS_PER_THREAD: usize = 16;
/// f32 of an arena, and of the tables of a plan, at most: 4 GiB. Only inputs of many megapixels or a graph that is made
/// up need more.
const LARGEST_ARENA: u128 = 1 << 30;
/// Pixels of a dense convolution that are gathered at a time.
pub(crate) const GATHERED_PIXELS: usize = 64;

#[derive(Debug)]
pub(crate) struct Plan {
    pub height: usize,
    pub width: usize,
    pub shapes: Vec<Shape>,
    pub maps: Vec<Map>,
    pub steps: Vec<Step>,
    /// Which buffer a node writes; none if it does not outlive a tile of its chain.
    pub slots: Vec<Option<usize>>,
    /// How a node that is a step of its own is divided.
    pub splits: Vec<Split>,
    /// Position tables at this shape, `[pixels][width]`.
    pub positions: HashMap<NodeId, Vec<f32>>,
    slot_lens: Vec<usize>,
    /// f32 of scratch that a thread needs.
    pub scratch: usize,
    /// f32 of a product's operand that threads share.
    operand: usize,
}

/// What all threads do before any of them goes on.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// One node, divided as its [`Split`] says.
    Node(NodeId),
    /// All nodes of a chain for one tile after the other.
    Chain(Chain),
}

/// Bounds along blocks (or heads), the same in panels of a product, and bounds along pixels.
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub blocks: Vec<usize>,
    pub panels: Vec<usize>,
    pub pixels: Vec<usize>,
}

impl Split {
    /// Where the operand of each pixel range starts, and where the last ends.
    pub(crate) fn operand_bounds(&self, gemm: &PackedGemm) -> Vec<usize> {
        let lens = self.pixels.windows(2).map(|range| gemm.operand_len(range[1] - range[0]));
        std::iter::once(0)
            .chain(lens.scan(0, |end, len| {
                *end += len;
                Some(*end)
            }))
            .collect()
    }
}

/// f32 of the operand of a product whose tiles several threads share.
fn shared_operand(layer: &Layer, split: &Split) -> usize {
    match layer {
        Layer::Gemm(gemm) => split.operand_bounds(gemm).last().copied().unwrap_or(0),
        _ => 0,
    }
}

/// The memory of one run.
#[derive(Debug)]
pub(crate) struct Arena {
    pub slots: Vec<Buffer>,
    /// One piece for each thread.
    pub scratch: Buffer,
    /// Shared by all threads: a product's operand, where several threads work on one tile.
    pub operand: Buffer,
}

impl Plan {
    pub(crate) fn new(
        graph: &Graph,
        layers: &[Layer],
        isa: Isa,
        threads: usize,
        (height, width): (usize, usize),
    ) -> Option<Self> {
        let shapes = graph.shapes(height, width)?;
        let maps = maps(graph, layers, &shapes);
        let largest = maps.iter().map(wanted_len).max();
        if largest.is_some_and(|len| len > LARGEST_ARENA) {
            return None;
        }
        let chains = chains(graph, layers, &shapes);
        let splits: Vec<Split> =
            (0..graph.nodes.len()).map(|id| split(graph, layers, &maps, &chains, id, threads)).collect();
        let steps = steps(graph.nodes.len(), chains, threads);
        let (slots, slot_lens) = assign_slots(graph, &maps, &steps);
        let scratch = steps.iter().map(|step| match step {
            Step::Node(id) => scratch(graph, layers, &maps, isa, *id),
            Step::Chain(chain) => chain_scratch(layers, &maps, &slots, chain),
        });
        let scratch = scratch.max().unwrap_or(0);
        let operand = steps.iter().map(|step| match step {
            Step::Node(id) => shared_operand(&layers[*id], &splits[*id]),
            Step::Chain(_) => 0,
        });
        let operand = operand.max().unwrap_or(0);
        let rows = layers.iter().zip(&shapes).filter(|(layer, _)| matches!(layer, Layer::Positions(_)));
        let lens = slot_lens.iter().copied().chain(rows.map(|(_, shape)| shape.elements())).chain([operand]);
        let len: u128 = lens.map(|len| len as u128).sum();
        if len + scratch as u128 * threads as u128 > LARGEST_ARENA {
            return None;
        }
        let positions = layers.iter().enumerate().filter_map(|(id, layer)| match layer {
            Layer::Positions(table) => {
                let target = graph.grid_of(&shapes, graph.nodes[id].inputs[0]);
                Some((id, table.at(target)))
            }
            _ => None,
        });
        let positions = positions.collect();
        Some(Self {
            height,
            width,
            maps,
            steps,
            slots,
            splits,
            positions,
            slot_lens,
            scratch,
            operand,
            shapes,
        })
    }

    /// Zeroed, and so are the borders, which nothing writes afterwards.
    pub(crate) fn arena(&self, threads: usize) -> Arena {
        Arena {
            slots: self.slot_lens.iter().map(|&len| Buffer::zeroed(len)).collect(),
            scratch: Buffer::zeroed(self.scratch * threads),
            operand: Buffer::zeroed(self.operand),
        }
    }
}

impl PositionTable {
    fn at(&self, target: (usize, usize)) -> Vec<f32> {
        let shape = [self.width];
        let (grid, class_row, resample_by) = (self.grid, self.class_row, self.resample);
        let positions = Positions { shape: &shape, grid, class_row, target, resample: resample_by };
        resample(&self.rows, &positions).iter().map(|&v| v as f32).collect()
    }
}

/// [`Map::len`] without overflow.
fn wanted_len(map: &Map) -> u128 {
    let bordered = |n: usize, border: usize| n as u128 + 2 * border as u128;
    let plane = bordered(map.height, map.border_y) * bordered(map.width, map.border_x);
    plane * (map.blocks * LANES) as u128
}

/// Outputs with the borders that depthwise readers want.
fn maps(graph: &Graph, layers: &[Layer], shapes: &[Shape]) -> Vec<Map> {
    let mut maps: Vec<Map> = shapes.iter().map(|s| Map::new(s.channels, s.height, s.width)).collect();
    for (node, layer) in graph.nodes.iter().zip(layers) {
        if let Layer::Depthwise(conv) = layer {
            let [y, x] = conv.shape().padding;
            let map = &mut maps[node.inputs[0]];
            *map = map.with_border(map.border_y.max(y), map.border_x.max(x));
        }
    }
    maps
}

/// Chains whose tiles feed the threads, and every other node for itself.
fn steps(nodes: usize, chains: Vec<Chain>, threads: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut next = 0;
    for chain in chains.into_iter().filter(|chain| chain.feeds(threads)) {
        let Chain { nodes, .. } = &chain;
        steps.extend((next..nodes.start).map(Step::Node));
        next = nodes.end;
        steps.push(Step::Chain(chain));
    }
    steps.extend((next..nodes).map(Step::Node));
    steps
}

/// Buffers are used again once the step of their last reader has run; one with a border only for maps of the very same
/// layout, so that its zeros stay. What only its own chain reads has none.
fn assign_slots(graph: &Graph, maps: &[Map], steps: &[Step]) -> (Vec<Option<usize>>, Vec<usize>) {
    // Each node's step, as the range of its nodes.
    let step_of: Vec<_> = steps
        .iter()
        .flat_map(|step| match step {
            Step::Node(id) => std::iter::repeat_n(*id..*id + 1, 1),
            Step::Chain(chain) => std::iter::repeat_n(chain.nodes.clone(), chain.nodes.len()),
        })
        .collect();
    let mut needed_until: Vec<usize> = step_of.iter().map(|step| step.end).collect();
    let mut is_local: Vec<bool> = step_of.iter().map(|step| step.len() > 1).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            needed_until[input] = step_of[id].end;
            is_local[input] &= step_of[id] == step_of[input];
        }
    }
    for id in graph.taps.iter().map(|&(_, id)| id).chain([graph.output]) {
        (needed_until[id], is_local[id]) = (usize::MAX, false);
    }

    struct Slot {
        len: usize,
        layout: Option<Map>,
        free_from: usize,
    }
    let mut slots: Vec<Slot> = Vec::new();
    let mut assigned = Vec::with_capacity(maps.len());
    for (id, map) in maps.iter().enumerate() {
        if is_local[id] {
            assigned.push(None);
            continue;
        }
        let layout = (map.border_y + map.border_x > 0).then_some(*map);
        let len = map.len();
        let free = |slot: &Slot| slot.layout == layout && slot.free_from <= step_of[id].start;
        let misfit = |slot: &Slot| slot.len.abs_diff(len);
        let found = (0..slots.len()).filter(|&s| free(&slots[s])).min_by_key(|&s| misfit(&slots[s]));
        let slot = found.unwrap_or_else(|| {
            slots.push(Slot { len, layout, free_from: 0 });
            slots.len() - 1
        });
        slots[slot].len = slots[slot].len.max(len);
        slots[slot].free_from = needed_until[id];
        assigned.push(Some(slot));
    }
    (assigned, slots.iter().map(|s| s.len).collect())
}

fn split(
    graph: &Graph,
    layers: &[Layer],
    maps: &[Map],
    chains: &[Chain],
    id: NodeId,
    threads: usize,
) -> Split {
    let (node, map) = (&graph.nodes[id], maps[id]);
    // Halved, as a division along blocks and pixels may come to nearly twice as many tasks.
    let tasks = |each: usize| if threads == 1 { 1 } else { (threads * each).min(MAX_TILES / 2) };
    let wanted = tasks(TASKS_PER_THREAD);
    let whole =
        |blocks, pixels| Split { blocks: vec![0, blocks], panels: Vec::new(), pixels: vec![0, pixels] };
    match (&layers[id], &node.op) {
        (Layer::Gemm(gemm), _) => {
            let chain = chains.iter().find(|chain| chain.nodes.contains(&id));
            let tiles = chain.map_or_else(|| vec![0, map.pixels()], |chain| chain.tiles.clone());
            // The panels of a single pixel are read side by side: the more each thread has, the better.
            let wanted = if map.pixels() == 1 { threads } else { tasks(PRODUCTS_PER_THREAD) };
            split_gemm(gemm, tiles, wanted)
        }
        (Layer::Depthwise(_), _) => {
            let blocks = bounds(map.blocks, 1, wanted);
            let rows = bounds(map.height, 1, wanted.div_ceil(blocks.len() - 1));
            let pixels = rows.iter().map(|row| row * map.width).collect();
            Split { blocks, panels: Vec::new(), pixels }
        }
        (Layer::Conv(_), _) | (Layer::Norm(_), _) => {
            let mut split = whole(map.blocks, map.pixels());
            split.pixels = bounds(map.pixels(), 8, wanted);
            split
        }
        (_, Op::Attention(attention) | Op::CrossAttention(attention) | Op::PaddedAttention(attention)) => {
            let heads = kernel_attention(attention);
            let step = heads.heads_step().min(attention.heads);
            let mut split = whole(0, map.pixels());
            split.blocks = bounds(attention.heads, step, wanted);
            split
        }
        (_, Op::CachedAttention { .. } | Op::ImageAttention { .. }) => {
            let mut split = whole(map.blocks, map.pixels());
            split.pixels = bounds(map.pixels(), 1, wanted);
            split
        }
        (_, Op::MeanPool) => {
            let mut split = whole(map.blocks, 1);
            split.blocks = bounds(map.blocks, 1, wanted);
            split
        }
        (_, Op::Gate { .. } | Op::Add | Op::Activation(_)) => {
            let mut split = whole(map.blocks, map.pixels());
            split.blocks = bounds(map.blocks, 1, wanted);
            split
        }
        _ => whole(map.blocks, map.pixels()),
    }
}

/// Groups of panels for each tile: where the tiles alone are too few for the threads.
fn split_gemm(gemm: &PackedGemm, tiles: Vec<usize>, wanted: usize) -> Split {
    let count = tiles.len() - 1;
    let groups = wanted.div_ceil(count).min(MAX_TILES / count);
    let panels = bounds(gemm.panels(), 1, groups);
    let blocks = panels.iter().map(|&panel| gemm.panel_bounds()[panel]).collect();
    Split { blocks, panels, pixels: tiles }
}

/// f32 of what stays within a tile, and of the operand of one product after another.
fn chain_scratch(layers: &[Layer], maps: &[Map], slots: &[Option<usize>], chain: &Chain) -> usize {
    let pixels = chain.tiles.windows(2).map(|tile| tile[1] - tile[0]).max().unwrap_or(0);
    let locals = chain.nodes.clone().filter(|&id| slots[id].is_none());
    let locals: usize = locals.map(|id| maps[id].blocks * LANES * pixels).sum();
    let lens = chain.tiles.windows(2).map(|tile| tile[1] - tile[0]);
    let operand = lens.flat_map(|pixels| {
        layers[chain.nodes.clone()].iter().map(move |layer| match layer {
            Layer::Gemm(gemm) => gemm.operand_len(pixels),
            _ => 0,
        })
    });
    locals + operand.max().unwrap_or(0)
}

fn scratch(graph: &Graph, layers: &[Layer], maps: &[Map], isa: Isa, id: NodeId) -> usize {
    match (&layers[id], &graph.nodes[id].op) {
        (Layer::Conv(conv), _) => conv.scratch_len(GATHERED_PIXELS),
        (_, Op::Attention(attention)) => kernel_attention(attention).scratch_len(isa, maps[id].pixels()),
        _ => 0,
    }
    .next_multiple_of(LANES)
}

pub(crate) fn kernel_attention(attention: &mobileclip_arch::Attention) -> Attention {
    Attention {
        heads: attention.heads,
        head_dim: attention.head_width,
        scale: (1.0 / (attention.head_width as f64).sqrt()) as f32,
        is_causal: attention.is_causal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_product_is_cut_into_more_tiles_than_can_be_claimed() {
        let gemm = PackedGemm::pack(Isa::scalar(), 32 * 16, 16, &vec![0.0; 32 * 16 * 16], None);
        for (tiles, wanted) in [(1, MAX_TILES / 2), (3, 32), (1000, 32), (MAX_TILES, MAX_TILES / 2)] {
            let split = split_gemm(&gemm, bounds(1 << 20, 16, tiles), wanted);
            assert!((split.blocks.len() - 1) * (split.pixels.len() - 1) <= MAX_TILES);
            assert_eq!(split.pixels.last(), Some(&(1 << 20)));
            assert_eq!(split.blocks.last(), Some(&32));
        }
    }
}
