//! One node after the other, each divided among the threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use mobileclip_arch::Weights;
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{
    self as kernels, Chunks, ConvInput, Isa, LANES, MapMut, MapRef, Pool, Residual, Tiles, add, copy, mean,
    read_pixel, scale_channels, write_pixel,
};

use crate::layer::{Layer, activation};
use crate::plan::{Arena, Plan, Split, kernel_attention};
use crate::tower::Input;

pub(crate) struct Run<'a> {
    pub graph: &'a Graph,
    pub layers: &'a [Layer],
    pub weights: &'a dyn Weights,
    pub isa: Isa,
    pub pool: &'a Pool,
    pub plan: &'a Plan,
    pub input: Input<'a>,
}

impl Run<'_> {
    /// Computes a node into its buffer.
    pub(crate) fn node(&self, id: NodeId, arena: &mut Arena) {
        // Out of the arena while it is written, so that inputs can be read from it.
        let mut buffer = std::mem::take(&mut arena.slots[self.plan.slots[id]]);
        let out = MapMut::new(self.plan.maps[id], &mut buffer);
        let Arena { slots, scratch, sums } = arena;
        self.compute(id, slots, scratch, sums, out);
        arena.slots[self.plan.slots[id]] = buffer;
    }

    fn compute(
        &self,
        id: NodeId,
        slots: &[kernels::Buffer],
        scratch: &mut [f32],
        sums: &mut [f32],
        mut out: MapMut,
    ) {
        let node = &self.graph.nodes[id];
        let split = &self.plan.splits[id];
        let view = |i: usize| {
            let input = node.inputs[i];
            MapRef::new(self.plan.maps[input], &slots[self.plan.slots[input]])
        };
        match (&self.layers[id], &node.op) {
            (_, Op::Input) => {}
            (Layer::Gemm(gemm), Op::Conv { activation: act, .. }) => {
                let residual = (node.inputs.len() == 2).then(|| view(1));
                let product = Product { gemm, split, x: view(0), residual, activation: activation(*act) };
                self.product(&product, scratch, sums, out);
            }
            (Layer::Conv(conv), Op::Conv { activation: act, .. }) => {
                let act = activation(*act);
                let input = match self.input {
                    Input::Pixels { height, width, values } if node.inputs[0] == 0 => {
                        ConvInput::Planar { data: values, height, width }
                    }
                    _ => ConvInput::Blocked(view(0)),
                };
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, scratch| {
                    conv.run(input, split.pixels[task], act, tiles.claim(0, task), scratch);
                });
            }
            (Layer::Depthwise(conv), Op::Conv { activation: act, .. }) => {
                let (x, act) = (view(0), activation(*act));
                let width = self.plan.maps[id].width;
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                let (_, columns) = tiles.grid();
                self.tasks(tiles.grid(), scratch, |task, _| {
                    let (i, j) = (task / columns, task % columns);
                    let blocks = split.blocks[i]..split.blocks[i + 1];
                    conv.run(x, blocks, split.pixels[j] / width, act, tiles.claim(i, j));
                });
            }
            (Layer::Norm(norm), _) => {
                let x = view(0);
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, _| {
                    let pixels = split.pixels[task]..split.pixels[task + 1];
                    norm.run(x.with_pixels(pixels), tiles.claim(0, task));
                });
            }
            (_, Op::Attention(attention)) => {
                let attention = kernel_attention(attention);
                let qkv = view(0);
                let blocks: Vec<usize> =
                    split.blocks.iter().map(|&head| head * attention.head_dim / LANES).collect();
                let tiles = Tiles::new(out, &blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, scratch| {
                    let heads = split.blocks[task]..split.blocks[task + 1];
                    attention.run(self.isa, qkv, heads, tiles.claim(task, 0), scratch);
                });
            }
            (_, Op::MeanPool) => {
                let x = view(0);
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, _| {
                    let blocks = split.blocks[task]..split.blocks[task + 1];
                    let mut out = tiles.claim(task, 0);
                    for (to, from) in blocks.enumerate() {
                        mean(self.isa, x.with_blocks(from..from + 1), out.lanes_mut(to, 0));
                    }
                });
            }
            (_, Op::Gate { activation: act }) => {
                let (x, act) = (view(0), activation(*act));
                let gate = &slots[self.plan.slots[node.inputs[1]]];
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, _| {
                    let blocks = split.blocks[task]..split.blocks[task + 1];
                    let gate = &gate[blocks.start * LANES..blocks.end * LANES];
                    scale_channels(self.isa, gate, act, x.with_blocks(blocks), tiles.claim(task, 0));
                });
            }
            (_, Op::Add) => {
                let (a, b) = (view(0), view(1));
                let tiles = Tiles::new(out, &split.blocks, &split.pixels);
                self.tasks(tiles.grid(), scratch, |task, _| {
                    let blocks = split.blocks[task]..split.blocks[task + 1];
                    add(self.isa, a.with_blocks(blocks.clone()), b.with_blocks(blocks), tiles.claim(task, 0));
                });
            }
            (_, Op::Activation(act)) => {
                let x = view(0);
                copy(self.isa, x, out.reborrow());
                kernels::activate(self.isa, activation(Some(*act)), out);
            }
            (Layer::Embed { table, .. }, Op::Embed { width, .. }) => {
                let Input::Ids(ids) = self.input else { return };
                let mut row = vec![0.0; *width];
                for (t, &id) in ids.iter().enumerate() {
                    self.weights.row(table, id as usize, &mut row);
                    write_pixel(&row, t, out.reborrow());
                }
            }
            (Layer::Positions(table), _) => {
                let (x, rows) = (view(0), &self.plan.positions[&id]);
                copy(self.isa, x, out.reborrow());
                for (pixel, row) in rows.chunks_exact(table.width).enumerate() {
                    add_to_pixel(row, pixel, &mut out);
                }
            }
            (Layer::Token(token), _) => {
                let (first, rest) = out.split_at_pixel(1);
                write_pixel(token, 0, first);
                copy(self.isa, view(0), rest);
            }
            (_, Op::TakeFirst) => take(view(0), 0, out),
            (_, Op::TakeEndOfText) => {
                let Input::Ids(ids) = self.input else { return };
                take(view(0), end_of_text(ids), out);
            }
            (layer, op) => unreachable!("{op:?} was packed as {layer:?}"),
        }
    }

    /// A product over pixel tiles, and over groups of panels where the tiles alone are too few.
    fn product(&self, product: &Product, scratch: &mut [f32], sums: &mut [f32], out: MapMut) {
        let Product { gemm, split, .. } = product;
        let block_bounds: Vec<usize> = split.blocks.iter().map(|&p| gemm.panel_bounds()[p]).collect();
        let tiles = Tiles::new(out, &block_bounds, &split.pixels);
        let (groups, columns) = tiles.grid();
        if groups == 1 {
            return self.tasks((1, columns), scratch, |j, scratch| {
                let range = split.pixels[j]..split.pixels[j + 1];
                let (sums, chunks) =
                    (&mut scratch[..gemm.sums_len(range.len())], gemm.sums_chunks(range.len()));
                gemm.sums(product.x.with_pixels(range), 0..chunks, sums);
                product.run(sums, 0, j, &block_bounds, tiles.claim(0, j));
            });
        }
        let starts = split.sums_bounds(gemm);
        if gemm.is_winograd() {
            for j in 0..columns {
                let range = split.pixels[j]..split.pixels[j + 1];
                let (x, chunk) = (product.x.with_pixels(range.clone()), gemm.sums_chunk(range.len()));
                let chunks = Chunks::new(&mut sums[starts[j]..starts[j + 1]], chunk);
                self.tasks((1, gemm.sums_chunks(range.len())), &mut [], |i, _| {
                    gemm.sums(x, i..i + 1, chunks.claim(i));
                });
            }
        }
        let sums = &*sums;
        self.tasks((groups, columns), &mut [], |task, _| {
            let (i, j) = (task / columns, task % columns);
            product.run(&sums[starts[j]..starts[j + 1]], i, j, &block_bounds, tiles.claim(i, j));
        });
    }

    /// Calls `f(task, scratch)` once for each cell of a grid.
    fn tasks(&self, grid: (usize, usize), scratch: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
        let count = grid.0 * grid.1;
        if count == 1 {
            return f(0, scratch);
        }
        let next = AtomicUsize::new(0);
        let has_scratch = !scratch.is_empty();
        let scratch = Chunks::new(scratch, self.plan.scratch.max(1));
        self.pool.run(|thread| {
            let scratch = if has_scratch { scratch.claim(thread) } else { &mut [] };
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= count {
                    return;
                }
                f(task, scratch);
            }
        });
    }
}

/// A product with packed weights and how it is divided.
struct Product<'a> {
    gemm: &'a kernels::PackedGemm,
    split: &'a Split,
    x: MapRef<'a>,
    residual: Option<MapRef<'a>>,
    activation: kernels::Activation,
}

impl Product<'_> {
    /// The panels of group `i` for the pixels of tile `j`.
    fn run(&self, sums: &[f32], i: usize, j: usize, block_bounds: &[usize], out: MapMut) {
        let pixels = self.split.pixels[j]..self.split.pixels[j + 1];
        let residual = self.residual.map_or(Residual::None, |map| {
            let map = map.with_pixels(pixels.clone());
            Residual::Map(map.with_blocks(block_bounds[i]..block_bounds[i + 1]))
        });
        let panels = self.split.blocks[i]..self.split.blocks[i + 1];
        self.gemm.run(self.x.with_pixels(pixels), sums, panels, self.activation, residual, out);
    }
}

/// The place of the largest id, the first such.
pub fn end_of_text(ids: &[u32]) -> usize {
    (0..ids.len()).fold(0, |best, i| if ids[i] > ids[best] { i } else { best })
}

fn take(x: MapRef, pixel: usize, out: MapMut) {
    let mut values = vec![0.0; x.blocks() * LANES];
    read_pixel(x, pixel, &mut values);
    write_pixel(&values, 0, out);
}

fn add_to_pixel(row: &[f32], pixel: usize, out: &mut MapMut) {
    for (block, row) in row.chunks(LANES).enumerate() {
        out.lanes_mut(block, pixel).iter_mut().zip(row).for_each(|(out, v)| *out += v);
    }
}
