//! The CPU as a device, over `kernels`.
//!
//! A batch is one blocked map whose height is batch × H: `[ceil(C / 16)][batch · H · W][16]`, samples one after the other in
//! each block. Products run over all pixels of a batch at once, and a sample's block is one contiguous plane. Lanes
//! beyond the channels are finite and nobody's.
//!
//! Sums over pixels are made of parts whose size depends on the shape alone and are joined in a fixed order, so results are
//! the same bits for any number of threads.

mod arena;
mod attention;
mod channels;
mod convolution;
mod depthwise;
mod look;
mod parallel;
mod pooling;
mod product;
mod tokens;

use std::sync::Arc;

use mobileclip_arch::{Activation, Attention, Seen, Shape};
use mobileclip_kernels::{self as kernels, Isa, Map, MapMut, MapRef, Pool};

use crate::device::{Device, Matrix, Moments};
use arena::{Arena, Block};

/// Threads, instruction set and memory.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
    arena: Arc<Arena>,
}

impl Cpu {
    /// With so many threads, the caller's own included, and the best instruction set there is.
    pub fn new(threads: usize) -> Cpu {
        Cpu::with_isa(threads, Isa::detect())
    }

    /// With a given instruction set.
    pub fn with_isa(threads: usize, isa: Isa) -> Cpu {
        Cpu { isa, pool: Pool::new(threads), arena: Arc::default() }
    }

    /// The threads, for work beside the device's (losses, the optimiser).
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn new_tensor(&self, batch: usize, shape: Shape) -> CpuTensor {
        let block = self.arena.take(map(batch, shape).len());
        CpuTensor { block: Arc::new(block), batch, shape }
    }

    /// A tensor to write to: the given one, whose contents are then there already, or a new one and what to read.
    fn reuse_or_new(&self, x: CpuTensor) -> (CpuTensor, Option<CpuTensor>) {
        if Arc::strong_count(&x.block) == 1 {
            (x, None)
        } else {
            (self.new_tensor(x.batch, x.shape), Some(x))
        }
    }
}

/// The layout of a batch.
fn map(batch: usize, shape: Shape) -> Map {
    Map::new(shape.channels, batch * shape.height, shape.width)
}

/// Maps of a batch in memory.
#[derive(Clone, Debug)]
pub struct CpuTensor {
    block: Arc<Block>,
    batch: usize,
    shape: Shape,
}

impl CpuTensor {
    fn map(&self) -> Map {
        map(self.batch, self.shape)
    }

    fn view(&self) -> MapRef<'_> {
        MapRef::new(self.map(), &self.block)
    }

    /// # Panics
    /// If the tensor is shared: only new and reused ones are written to.
    fn view_mut(&mut self) -> MapMut<'_> {
        let map = self.map();
        let Some(block) = Arc::get_mut(&mut self.block) else { panic!("a shared tensor is written to") };
        MapMut::new(map, block)
    }
}

// Where a function calls one of its own name, that is the inherent one of a module beside this.
impl Device for Cpu {
    type Tensor = CpuTensor;

    fn upload(&self, batch: usize, shape: Shape, values: &[f32]) -> CpuTensor {
        assert_eq!(values.len(), batch * shape.elements(), "{batch} of {shape:?}");
        let mut out = self.new_tensor(batch, shape);
        self.sample_pieces(&mut out, |sample, _, out| {
            let values = &values[sample * shape.elements()..][..shape.elements()];
            kernels::pack_planar(values, shape.channels, out);
        });
        out
    }

    fn download(&self, x: &CpuTensor) -> Vec<f32> {
        let elements = x.shape.elements();
        let mut values = vec![0.0; x.batch * elements];
        for (i, sample) in values.chunks_exact_mut(elements.max(1)).enumerate() {
            let pixels = x.shape.pixels();
            kernels::unpack_planar(
                x.view().with_pixels(i * pixels..(i + 1) * pixels),
                x.shape.channels,
                sample,
            );
        }
        values
    }

    fn add(&self, a: CpuTensor, b: &CpuTensor) -> CpuTensor {
        self.combine(a, b, 1.0)
    }

    fn sub(&self, a: CpuTensor, b: &CpuTensor) -> CpuTensor {
        self.combine(a, b, -1.0)
    }

    fn scale_samples(&self, x: CpuTensor, factors: &[f32]) -> CpuTensor {
        self.scale_samples(x, factors)
    }

    fn convolve(&self, x: &CpuTensor, matrix: &Matrix) -> CpuTensor {
        match matrix.conv {
            conv if conv.is_pointwise() && conv.groups == 1 => self.product(x, matrix),
            conv if conv.groups == 1 => self.convolution(x, matrix),
            _ => self.depthwise(x, matrix),
        }
    }

    fn convolve_input(
        &self,
        shape: Shape,
        matrix: &Matrix,
        dy: &CpuTensor,
        into: Option<CpuTensor>,
    ) -> CpuTensor {
        match matrix.conv {
            conv if conv.is_pointwise() && conv.groups == 1 => self.product_input(matrix, dy, into),
            conv if conv.groups == 1 => self.convolution_input(shape, matrix, dy, into),
            _ => self.depthwise_input(shape, matrix, dy, into),
        }
    }

    fn convolve_weight(&self, x: &CpuTensor, matrix: &Matrix, dy: &CpuTensor, dweight: &mut [f32]) {
        match matrix.conv {
            conv if conv.is_pointwise() && conv.groups == 1 => self.product_weight(x, matrix, dy, dweight),
            conv if conv.groups == 1 => self.convolution_weight(x, matrix, dy, dweight),
            _ => self.depthwise_weight(x, matrix, dy, dweight),
        }
    }

    fn channel_sums(&self, dy: &CpuTensor, dbias: &mut [f32]) {
        let [sums] = self.sum_parts(dy, |_, pixels, [sums]: [&mut [f32]; 1]| {
            kernels::add_sums(self.isa, dy.view().with_pixels(pixels), sums);
        });
        add_to(dbias, &sums);
    }

    fn moments(&self, x: &CpuTensor) -> Moments {
        self.moments(x)
    }

    fn normalise(
        &self,
        x: &CpuTensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        bias: &[f32],
    ) -> CpuTensor {
        self.normalise(x, moments, eps, weight, bias)
    }

    fn normalise_gradient(
        &self,
        x: &CpuTensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        constant: bool,
        dy: CpuTensor,
        wanted: bool,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> Option<CpuTensor> {
        self.normalise_gradient(x, moments, eps, weight, constant, dy, wanted, dweight, dbias)
    }

    fn scale_channels(&self, x: CpuTensor, scale: &[f32]) -> CpuTensor {
        self.scale_channels(x, scale)
    }

    fn scale_gradient(&self, x: &CpuTensor, dy: &CpuTensor, dscale: &mut [f32]) {
        let [_, products] = self.products(dy, x, &vec![0.0; x.shape.channels]);
        add_to(dscale, &products);
    }

    fn layer_norm(&self, x: &CpuTensor, eps: f64, weight: &[f32], bias: &[f32]) -> CpuTensor {
        self.layer_norm(x, eps, weight, bias)
    }

    fn layer_norm_gradient(
        &self,
        x: &CpuTensor,
        eps: f64,
        weight: &[f32],
        dy: CpuTensor,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> CpuTensor {
        self.layer_norm_gradient(x, eps, weight, dy, dweight, dbias)
    }

    fn activate(&self, x: &CpuTensor, activation: Activation) -> CpuTensor {
        let activation = kernel_activation(activation);
        let mut out = self.new_tensor(x.batch, x.shape);
        self.pieces(&mut out, |tile, mut out| {
            kernels::copy(self.isa, tile.of(x.view()), out.reborrow());
            kernels::activate(self.isa, activation, out);
        });
        out
    }

    fn activate_gradient(&self, x: &CpuTensor, activation: Activation, dy: CpuTensor) -> CpuTensor {
        let activation = kernel_activation(activation);
        let (mut out, dy) = self.reuse_or_new(dy);
        self.pieces(&mut out, |tile, out| {
            let dy = dy.as_ref().map(|dy| tile.of(dy.view()));
            kernels::activate_gradient(self.isa, activation, tile.of(x.view()), dy, out);
        });
        out
    }

    fn attend(&self, qkv: &CpuTensor, attention: &Attention) -> CpuTensor {
        self.attend(qkv, attention)
    }

    fn attend_gradient(&self, qkv: &CpuTensor, attention: &Attention, dy: &CpuTensor) -> CpuTensor {
        self.attend_gradient(qkv, attention, dy)
    }

    fn look(&self, qkv: [&CpuTensor; 3], attention: &Attention, seen: Seen<[u32]>) -> CpuTensor {
        self.look(qkv, attention, seen)
    }

    fn look_gradient(
        &self,
        qkv: [&CpuTensor; 3],
        attention: &Attention,
        seen: Seen<[u32]>,
        dy: &CpuTensor,
    ) -> [CpuTensor; 3] {
        self.look_gradient(qkv, attention, seen, dy)
    }

    fn mean_pool(&self, x: &CpuTensor) -> CpuTensor {
        self.mean_pool(x)
    }

    fn mean_pool_gradient(&self, shape: Shape, dy: &CpuTensor) -> CpuTensor {
        self.mean_pool_gradient(shape, dy)
    }

    fn gate(&self, x: &CpuTensor, gate: &CpuTensor) -> CpuTensor {
        self.gate(x, gate)
    }

    fn gate_gradient(&self, x: &CpuTensor, gate: &CpuTensor, dy: CpuTensor) -> (CpuTensor, CpuTensor) {
        self.gate_gradient(x, gate, dy)
    }

    fn embed(&self, batch: usize, ids: &[u32], table: &[f32], width: usize) -> CpuTensor {
        self.embed(batch, ids, table, width)
    }

    fn embed_gradient(&self, ids: &[u32], dy: &CpuTensor, dtable: &mut [f32]) {
        self.embed_gradient(ids, dy, dtable);
    }

    fn add_rows(&self, x: &CpuTensor, rows: &[f32]) -> CpuTensor {
        self.add_rows(x, rows)
    }

    fn add_rows_gradient(&self, dy: &CpuTensor, drows: &mut [f32]) {
        self.add_rows_gradient(dy, drows);
    }

    fn prepend(&self, x: &CpuTensor, token: &[f32]) -> CpuTensor {
        self.prepend(x, token)
    }

    fn prepend_gradient(&self, shape: Shape, dy: &CpuTensor, dtoken: &mut [f32]) -> CpuTensor {
        self.prepend_gradient(shape, dy, dtoken)
    }

    fn select(&self, x: &CpuTensor, places: &[usize]) -> CpuTensor {
        self.select(x, places)
    }

    fn select_gradient(&self, shape: Shape, places: &[usize], dy: &CpuTensor) -> CpuTensor {
        self.select_gradient(shape, places, dy)
    }

    fn take(&self, x: &CpuTensor, places: &[usize]) -> CpuTensor {
        self.take(x, places)
    }

    fn take_gradient(&self, shape: Shape, places: &[usize], dy: &CpuTensor) -> CpuTensor {
        self.take_gradient(shape, places, dy)
    }
}

const fn kernel_activation(activation: Activation) -> kernels::Activation {
    match activation {
        Activation::Gelu => kernels::Activation::Gelu,
        Activation::QuickGelu => kernels::Activation::QuickGelu,
        Activation::Relu => kernels::Activation::Relu,
        Activation::Sigmoid => kernels::Activation::Sigmoid,
    }
}

/// Adds sums, as many as there are channels.
fn add_to(to: &mut [f32], sums: &[f64]) {
    to.iter_mut().zip(sums).for_each(|(to, sum)| *to += *sum as f32);
}
