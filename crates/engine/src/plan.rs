//! What a tower needs for one input shape: maps, buffers, and how each node's work is divided.

use std::collections::HashMap;

use mobileclip_arch::{Positions, Shape, resample};
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{Attention, Buffer, Isa, LANES, MAX_TILES, Map, PackedGemm};

use crate::layer::{Layer, PositionTable};

/// Numbers of one thread's input tile that should stay in its second-level cache, with room for weights beside it.
const TILE_VALUES: usize = 64 * 1024;
/// Tasks for each thread, so that one which started late does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;
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
    /// Which buffer a node writes.
    pub slots: Vec<usize>,
    pub splits: Vec<Split>,
    /// Position tables at this shape, `[pixels][width]`.
    pub positions: HashMap<NodeId, Vec<f32>>,
    slot_lens: Vec<usize>,
    /// f32 of scratch that a thread needs.
    pub scratch: usize,
    /// f32 of activation sums that threads share.
    sums: usize,
}

/// Bounds along blocks (or panels, or heads) and along pixels (or rows).
#[derive(Clone, Debug)]
pub(crate) struct Split {
    pub blocks: Vec<usize>,
    pub pixels: Vec<usize>,
}

impl Split {
    /// Where the sums of each pixel range start, and where the last ends.
    pub(crate) fn sums_bounds(&self, gemm: &PackedGemm) -> Vec<usize> {
        let lens = self.pixels.windows(2).map(|range| gemm.sums_len(range[1] - range[0]));
        std::iter::once(0)
            .chain(lens.scan(0, |end, len| {
                *end += len;
                Some(*end)
            }))
            .collect()
    }
}

/// Sums for a Winograd product whose tiles several threads share.
fn shared_sums(layer: &Layer, split: &Split) -> usize {
    match layer {
        Layer::Gemm(gemm) if split.blocks.len() > 2 => split.sums_bounds(gemm).last().copied().unwrap_or(0),
        _ => 0,
    }
}

/// The memory of one run.
#[derive(Debug)]
pub(crate) struct Arena {
    pub slots: Vec<Buffer>,
    /// One piece for each thread.
    pub scratch: Buffer,
    /// Shared by all threads: a Winograd product's sums, where several threads work on one tile.
    pub sums: Buffer,
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
        let (slots, slot_lens) = assign_slots(graph, &maps);
        let splits: Vec<Split> =
            (0..graph.nodes.len()).map(|id| split(graph, layers, &maps, id, threads)).collect();
        let scratch_of = |id| scratch(graph, layers, &maps, &splits, isa, id);
        let scratch = (0..graph.nodes.len()).map(scratch_of).max();
        let sums = layers.iter().zip(&splits).map(|(layer, split)| shared_sums(layer, split)).max();
        let (scratch, sums) = (scratch.unwrap_or(0), sums.unwrap_or(0));
        let rows = layers.iter().zip(&shapes).filter(|(layer, _)| matches!(layer, Layer::Positions(_)));
        let lens = slot_lens.iter().copied().chain(rows.map(|(_, shape)| shape.elements())).chain([sums]);
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
        Some(Self { height, width, maps, slots, splits, positions, slot_lens, scratch, sums, shapes })
    }

    /// Zeroed, and so are the borders, which nothing writes afterwards.
    pub(crate) fn arena(&self, threads: usize) -> Arena {
        Arena {
            slots: self.slot_lens.iter().map(|&len| Buffer::zeroed(len)).collect(),
            scratch: Buffer::zeroed(self.scratch * threads),
            sums: Buffer::zeroed(self.sums),
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

/// Buffers are used again once their last reader has run; one with a border only for maps of the very same layout, so
/// that its zeros stay.
fn assign_slots(graph: &Graph, maps: &[Map]) -> (Vec<usize>, Vec<usize>) {
    let mut last_use: Vec<usize> = (0..graph.nodes.len()).collect();
    for (id, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| last_use[input] = id);
    }
    let kept = graph.taps.iter().map(|&(_, id)| id).chain([graph.output]);
    kept.for_each(|id| last_use[id] = usize::MAX);

    struct Slot {
        len: usize,
        layout: Option<Map>,
        free_from: usize,
    }
    let mut slots: Vec<Slot> = Vec::new();
    let mut assigned = Vec::with_capacity(maps.len());
    for (id, map) in maps.iter().enumerate() {
        let layout = (map.border_y + map.border_x > 0).then_some(*map);
        let len = map.len();
        let free = |slot: &Slot| slot.layout == layout && slot.free_from <= id;
        let misfit = |slot: &Slot| slot.len.abs_diff(len);
        let found = (0..slots.len()).filter(|&s| free(&slots[s])).min_by_key(|&s| misfit(&slots[s]));
        let slot = found.unwrap_or_else(|| {
            slots.push(Slot { len, layout, free_from: 0 });
            slots.len() - 1
        });
        slots[slot].len = slots[slot].len.max(len);
        slots[slot].free_from = last_use[id].saturating_add(1);
        assigned.push(slot);
    }
    (assigned, slots.iter().map(|s| s.len).collect())
}

fn split(graph: &Graph, layers: &[Layer], maps: &[Map], id: NodeId, threads: usize) -> Split {
    let (node, map) = (&graph.nodes[id], maps[id]);
    // Halved, as a division along blocks and pixels may come to nearly twice as many tasks.
    let wanted = if threads == 1 { 1 } else { (threads * TASKS_PER_THREAD).min(MAX_TILES / 2) };
    let whole = |blocks, pixels| Split { blocks: vec![0, blocks], pixels: vec![0, pixels] };
    match (&layers[id], &node.op) {
        (Layer::Gemm(gemm), _) => split_gemm(gemm, map.pixels(), threads, wanted),
        (Layer::Depthwise(_), _) => {
            let blocks = bounds(map.blocks, 1, wanted);
            let rows = bounds(map.height, 1, wanted.div_ceil(blocks.len() - 1));
            Split { blocks, pixels: rows.iter().map(|row| row * map.width).collect() }
        }
        (Layer::Conv(_), _) | (Layer::Norm(_), _) => {
            let mut split = whole(map.blocks, map.pixels());
            split.pixels = bounds(map.pixels(), 8, wanted);
            split
        }
        (_, Op::Attention(attention)) => {
            let heads = kernel_attention(attention);
            let step = heads.heads_step().min(attention.heads);
            let mut split = whole(0, map.pixels());
            split.blocks = bounds(attention.heads, step, wanted);
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

/// Tiles of rows that stay in the cache while all weights pass; where they are too few for the threads, the panels are
/// divided as well.
///
/// A Winograd product combines the rows of a tile, so that its tiles must not depend on the number of threads.
fn split_gemm(gemm: &PackedGemm, pixels: usize, threads: usize, wanted: usize) -> Split {
    let rows = (TILE_VALUES / gemm.k().max(1)).clamp(96, 512) / 16 * 16;
    let tiles = pixels.div_ceil(rows).clamp(1, MAX_TILES);
    let all_panels = vec![0, gemm.panels()];
    if threads == 1 || tiles >= 2 * threads {
        return Split { blocks: all_panels, pixels: bounds(pixels, 16, tiles) };
    }
    if gemm.is_winograd() {
        let groups = wanted.div_ceil(tiles);
        return Split { blocks: bounds(gemm.panels(), 1, groups), pixels: bounds(pixels, 16, tiles) };
    }
    Split { blocks: bounds(gemm.panels(), 1, wanted), pixels: vec![0, pixels] }
}

/// Cuts `0..len` into at most `parts` nearly equal ranges that start at multiples of `step`.
fn bounds(len: usize, step: usize, parts: usize) -> Vec<usize> {
    let units = len.div_ceil(step.max(1)).max(1);
    let parts = parts.clamp(1, units);
    (0..=parts).map(|part| (part * units / parts * step).min(len)).collect()
}

fn scratch(graph: &Graph, layers: &[Layer], maps: &[Map], splits: &[Split], isa: Isa, id: NodeId) -> usize {
    match (&layers[id], &graph.nodes[id].op) {
        (Layer::Gemm(gemm), _) => {
            let tiles = splits[id].pixels.windows(2);
            tiles.map(|range| gemm.sums_len(range[1] - range[0])).max().unwrap_or(0)
        }
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
        let gemm = PackedGemm::pack(Isa::scalar(), 32, 1024, &vec![0.0; 32 * 1024], None);
        for threads in [1, 2, 64, MAX_TILES] {
            let split = split_gemm(&gemm, 1 << 20, threads, MAX_TILES / 2);
            assert!((split.blocks.len() - 1) * (split.pixels.len() - 1) <= MAX_TILES);
            assert_eq!(split.pixels.last(), Some(&(1 << 20)));
        }
    }
}
