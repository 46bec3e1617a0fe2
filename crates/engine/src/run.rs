//! One step after the other, each divided among the threads.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use mobileclip_arch::{Attention, Weights};
use mobileclip_graph::{Graph, NodeId, Op};
use mobileclip_kernels::{
    self as kernels, Buffer, Chunks, ConvInput, Isa, LANES, MAX_TILES, MapMut, MapRef, Pool, Precision,
    Residual, Tiles, add, copy, mean, read_pixel, scale_channels, write_pixel,
};

use crate::attend::{Seen, attend};
use crate::chain::{Chain, LONGEST, tile_map};
use crate::decoder::{Text, TextStep};
use crate::layer::{Layer, activation};
use crate::plan::{Arena, Plan, Split, Step, kernel_attention};
use crate::tower::Input;

pub(crate) struct Run<'a, 't> {
    pub graph: &'a Graph,
    pub layers: &'a [Layer],
    pub weights: &'a dyn Weights,
    pub precisions: &'a [Precision],
    pub isa: Isa,
    pub pool: &'a Pool,
    pub plan: &'a Plan,
    pub input: Input<'a>,
    /// The texts that are continued, in a graph that does so.
    pub step: Option<&'a TextStep<'t>>,
}

impl Run<'_, '_> {
    /// Computes the nodes of a step; `times` gets each node's nanoseconds, those of a chain divided by the threads.
    pub(crate) fn step(&self, step: &Step, arena: &mut Arena, times: Option<&[AtomicU64]>) {
        match step {
            Step::Chain(chain) => self.chain(chain, arena, times),
            Step::Node(id) => {
                let start = times.map(|_| Instant::now());
                let Some(slot) = self.plan.slots[*id] else { return };
                // Out of the arena while it is written, so that inputs can be read from it.
                let mut buffer = std::mem::take(&mut arena.slots[slot]);
                let out = MapMut::new(self.plan.maps[*id], &mut buffer);
                let Arena { slots, scratch, operand } = arena;
                self.compute(*id, slots, scratch, operand, out);
                arena.slots[slot] = buffer;
                add_time(times, *id, start, 1);
            }
        }
    }

    /// The whole output of a node that an earlier step computed.
    fn whole<'s>(&self, id: NodeId, slots: &'s [Buffer]) -> MapRef<'s> {
        let slot = self.plan.slots[id].map_or(&[][..], |slot| &slots[slot]);
        MapRef::new(self.plan.maps[id], slot)
    }

    fn chain(&self, chain: &Chain, arena: &mut Arena, times: Option<&[AtomicU64]>) {
        let Chain { nodes, tiles } = chain;
        // What outlives the chain, out of the arena as in `step`.
        let mut buffers: [Buffer; LONGEST] = Default::default();
        for (buffer, id) in buffers.iter_mut().zip(nodes.clone()) {
            if let Some(slot) = self.plan.slots[id] {
                *buffer = std::mem::take(&mut arena.slots[slot]);
            }
        }
        let block_bounds: [[usize; 2]; LONGEST] =
            std::array::from_fn(|i| [0, self.plan.maps.get(nodes.start + i).map_or(0, |map| map.blocks)]);
        let mut shared: [Option<Tiles>; LONGEST] = Default::default();
        for (i, buffer) in buffers.iter_mut().enumerate().take(nodes.len()) {
            let id = nodes.start + i;
            if self.plan.slots[id].is_some() {
                let out = MapMut::new(self.plan.maps[id], buffer);
                shared[i] = Some(Tiles::new(out, &block_bounds[i], tiles));
            }
        }
        let Arena { slots, scratch, .. } = &mut *arena;
        self.tasks((1, tiles.len() - 1), scratch, |tile, mut scratch| {
            let pixels = tiles[tile]..tiles[tile + 1];
            let mut outs: [Option<MapMut>; LONGEST] = Default::default();
            for (i, out) in outs.iter_mut().enumerate().take(nodes.len()) {
                *out = Some(match &shared[i] {
                    Some(tiles) => tiles.claim(0, tile),
                    None => {
                        let map = tile_map(self.plan.maps[nodes.start + i], pixels.len());
                        let (local, rest) = scratch.split_at_mut(map.len());
                        scratch = rest;
                        MapMut::new(map, local)
                    }
                });
            }
            for (i, id) in nodes.clone().enumerate() {
                let start = times.map(|_| Instant::now());
                let (before, rest) = outs.split_at_mut(i);
                let Some(out) = &mut rest[0] else { continue };
                let input = |input: NodeId| match input.checked_sub(nodes.start) {
                    Some(inner) => before[inner].as_ref().map(MapMut::as_ref),
                    None => Some(self.whole(input, slots).with_pixels(pixels.clone())),
                };
                self.tile(id, pixels.start, slots, input, scratch, out.reborrow());
                add_time(times, id, start, self.pool.threads());
            }
        });
        for (buffer, id) in buffers.into_iter().zip(nodes.clone()) {
            if let Some(slot) = self.plan.slots[id] {
                arena.slots[slot] = buffer;
            }
        }
    }

    /// A node of a chain, for the pixels of one tile. `input` gives those of another node.
    fn tile<'s>(
        &self,
        id: NodeId,
        first_pixel: usize,
        slots: &[Buffer],
        input: impl Fn(NodeId) -> Option<MapRef<'s>>,
        operand: &mut [f32],
        out: MapMut,
    ) {
        let node = &self.graph.nodes[id];
        let Some(x) = input(node.inputs[0]) else { return };
        match (&self.layers[id], &node.op) {
            (Layer::Gemm(gemm), Op::Conv { activation: act, .. }) => {
                let operand = &mut operand[..gemm.operand_len(out.pixels())];
                gemm.make_operand(x, 0..gemm.operand_chunks(x.pixels()), operand);
                let residual = node.inputs.get(1).and_then(|&id| input(id));
                let residual = residual.map_or(Residual::None, Residual::Map);
                gemm.run(x, operand, 0..gemm.panels(), activation(*act), residual, out);
            }
            (Layer::Norm(norm), _) => norm.run(x, out),
            (Layer::Depthwise(conv), Op::Conv { activation: act, .. }) => {
                let row = first_pixel / self.plan.maps[id].width;
                let x = self.whole(node.inputs[0], slots);
                conv.run(x, 0..out.blocks(), row, activation(*act), out);
            }
            (layer, op) => unreachable!("{op:?}, packed as {layer:?}, looks beyond its own pixels"),
        }
    }

    fn compute(
        &self,
        id: NodeId,
        slots: &[Buffer],
        scratch: &mut [f32],
        operand: &mut [f32],
        mut out: MapMut,
    ) {
        let node = &self.graph.nodes[id];
        let split = &self.plan.splits[id];
        let view = |i: usize| self.whole(node.inputs[i], slots);
        match (&self.layers[id], &node.op) {
            (_, Op::Input) => {}
            (Layer::Gemm(gemm), Op::Conv { activation: act, .. }) => {
                let residual = (node.inputs.len() == 2).then(|| view(1));
                let product = Product { gemm, split, x: view(0), residual, activation: activation(*act) };
                self.product(&product, operand, out);
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
                    attention.run_as(
                        self.precisions[id],
                        self.isa,
                        qkv,
                        heads,
                        tiles.claim(task, 0),
                        scratch,
                    );
                });
            }
            (_, Op::CrossAttention(attention)) => {
                self.attend(attention, [0, 1, 2].map(view), Seen::All, split, out);
            }
            (_, Op::PaddedAttention(attention)) => {
                let Input::Ids(ids) = self.input else { return };
                self.attend(attention, [0, 1, 2].map(view), Seen::Padded(ids), split, out);
            }
            (_, Op::CachedAttention { attention, layer }) => {
                let Some(step) = self.step else { return };
                let (x, width) = (view(0), attention.width());
                let mut texts = step.texts.write().unwrap_or_else(PoisonError::into_inner);
                let mut qkv = vec![0.0; x.blocks() * LANES];
                for (token, &(text, place)) in step.places.iter().enumerate() {
                    read_pixel(x, token, &mut qkv);
                    texts[text].layers[*layer].put(place, &qkv[width..2 * width], &qkv[2 * width..3 * width]);
                }
                drop(texts);
                let seen = |text: &Text, place, q: &[f32], out: &mut [f32]| {
                    text.layers[*layer].attend(attention.head_width, q, place + 1, out);
                };
                self.attend_from_texts(step, (x, width), seen, split, out);
            }
            (_, Op::ImageAttention { attention, layer }) => {
                let Some(step) = self.step else { return };
                let seen = |text: &Text, _, q: &[f32], out: &mut [f32]| {
                    let image = &text.image.0[*layer];
                    image.attend(attention.head_width, q, image.tokens(), out);
                };
                self.attend_from_texts(step, (view(0), attention.width()), seen, split, out);
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
                let Some(gate) = self.plan.slots[node.inputs[1]] else { return };
                let gate = &slots[gate];
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
            (Layer::Table(rows), Op::Queries { width, .. }) => {
                for (pixel, row) in rows.chunks_exact(*width).enumerate() {
                    write_pixel(row, pixel, out.reborrow());
                }
            }
            (Layer::Table(rows), Op::TextPositions { rows: count, .. }) => {
                let Some(step) = self.step else { return };
                copy(self.isa, view(0), out.reborrow());
                let width = rows.len() / count;
                for (token, &(_, place)) in step.places.iter().enumerate() {
                    add_to_pixel(&rows[place * width..][..width], token, &mut out);
                }
            }
            (Layer::Token(token), Op::AppendToken { .. }) => {
                let (rest, last) = out.split_at_pixel(self.plan.maps[id].pixels() - 1);
                write_pixel(token, 0, last);
                copy(self.isa, view(0), rest);
            }
            (Layer::Token(token), _) => {
                let (first, rest) = out.split_at_pixel(1);
                write_pixel(token, 0, first);
                copy(self.isa, view(0), rest);
            }
            (_, Op::Trim { front, .. }) => {
                let kept = *front..front + out.pixels();
                copy(self.isa, view(0).with_pixels(kept), out);
            }
            (_, Op::TakeFirst) => take(view(0), 0, out),
            (_, Op::TakeLast) => take(view(0), view(0).pixels() - 1, out),
            (_, Op::TakeEndOfText) => {
                let Input::Ids(ids) = self.input else { return };
                take(view(0), end_of_text(ids), out);
            }
            (layer, op) => unreachable!("{op:?} was packed as {layer:?}"),
        }
    }

    /// Attention whose heads threads share, with q, k and v apart.
    fn attend(&self, attention: &Attention, qkv: [MapRef; 3], seen: Seen, split: &Split, out: MapMut) {
        let blocks: Vec<usize> =
            split.blocks.iter().map(|&head| (head * attention.head_width).div_ceil(LANES)).collect();
        let tiles = Tiles::new(out, &blocks, &split.pixels);
        self.tasks(tiles.grid(), &mut [], |task, _| {
            attend(attention, qkv, split.blocks[task]..split.blocks[task + 1], seen, tiles.claim(task, 0));
        });
    }

    /// Attention whose tokens threads share: `mix(text, place, query, out)` for each of them.
    fn attend_from_texts(
        &self,
        step: &TextStep,
        (x, width): (MapRef, usize),
        mix: impl Fn(&Text, usize, &[f32], &mut [f32]) + Sync,
        split: &Split,
        out: MapMut,
    ) {
        let texts = step.texts.read().unwrap_or_else(PoisonError::into_inner);
        let texts: &[&mut Text] = &texts;
        let tiles = Tiles::new(out, &split.blocks, &split.pixels);
        self.tasks(tiles.grid(), &mut [], |task, _| {
            let (mut query, mut mixed) = (vec![0.0; x.blocks() * LANES], vec![0.0; width]);
            let mut out = tiles.claim(0, task);
            let tokens = split.pixels[task]..split.pixels[task + 1];
            for (i, &(text, place)) in step.places[tokens.clone()].iter().enumerate() {
                read_pixel(x, tokens.start + i, &mut query);
                mix(texts[text], place, &query[..width], &mut mixed);
                write_pixel(&mixed, i, out.reborrow());
            }
        });
    }

    /// A product whose tiles of pixels are too few for the threads: groups of panels of each tile.
    fn product(&self, product: &Product, operand: &mut [f32], out: MapMut) {
        let Product { gemm, split, .. } = product;
        let tiles = Tiles::new(out, &split.blocks, &split.pixels);
        let (groups, columns) = tiles.grid();
        let starts = split.operand_bounds(gemm);
        if starts[columns] > 0 {
            let mut rest = &mut operand[..starts[columns]];
            // Chunks that are made together: no more than can be claimed.
            let together = |pixels: usize| gemm.operand_chunks(pixels).div_ceil(MAX_TILES).max(1);
            let parts: Vec<(MapRef, Chunks)> = split
                .pixels
                .windows(2)
                .map(|tile| {
                    let pixels = tile[1] - tile[0];
                    let (part, more) = std::mem::take(&mut rest).split_at_mut(gemm.operand_len(pixels));
                    rest = more;
                    let chunks = Chunks::new(part, gemm.operand_chunk(pixels) * together(pixels));
                    (product.x.with_pixels(tile[0]..tile[1]), chunks)
                })
                .collect();
            let claims = |x: &MapRef| gemm.operand_chunks(x.pixels()).div_ceil(together(x.pixels()));
            let most = parts.iter().map(|(x, _)| claims(x)).max().unwrap_or(0);
            self.tasks((columns, most), &mut [], |task, _| {
                let ((x, chunks), i) = (&parts[task / most], task % most);
                if i < claims(x) {
                    let each = together(x.pixels());
                    let last = gemm.operand_chunks(x.pixels()).min((i + 1) * each);
                    gemm.make_operand(*x, i * each..last, chunks.claim(i));
                }
            });
        }
        let operand = &*operand;
        self.tasks((groups, columns), &mut [], |task, _| {
            let (i, j) = (task / columns, task % columns);
            product.run(&operand[starts[j]..starts[j + 1]], i, j, tiles.claim(i, j));
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
    fn run(&self, operand: &[f32], i: usize, j: usize, out: MapMut) {
        let Split { blocks, panels, pixels } = self.split;
        let pixels = pixels[j]..pixels[j + 1];
        let residual = self.residual.map_or(Residual::None, |map| {
            Residual::Map(map.with_pixels(pixels.clone()).with_blocks(blocks[i]..blocks[i + 1]))
        });
        let panels = panels[i]..panels[i + 1];
        self.gemm.run(self.x.with_pixels(pixels), operand, panels, self.activation, residual, out);
    }
}

fn add_time(times: Option<&[AtomicU64]>, id: NodeId, start: Option<Instant>, threads: usize) {
    if let (Some(times), Some(start)) = (times, start) {
        times[id].fetch_add((start.elapsed().as_nanos() / threads as u128) as u64, Ordering::Relaxed);
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
