//! Products with packed weights: linear layers and 1x1 convolutions, with what follows them.
//!
//! `out[pixel][n] = act(sum over k of w[n][k] in[pixel][k] + bias[n]) + residual[pixel][n]`. The weights are cut into
//! panels of some blocks of output channels, `[K][16 blocks]` each; a call works on some panels for some pixels, so threads
//! may divide either. Each output element is one chain of multiply-adds over rising k whatever tile it falls into: bits do
//! not depend on how calls are divided. (Winograd panels combine two rows of a call: there, fix the pixel ranges.)
//!
//! Products of narrow numbers ([`Precision`]) have the same tiles with another instruction in them.

mod bytes;
mod file_order;
pub(crate) mod gradient;
mod operand;
mod pack;
mod pack_narrow;
mod pixel;
pub(crate) mod rows;
pub(crate) mod tile;
mod winograd;

use crate::activation::Activation;
use crate::buffer::Buffer;
use crate::isa::{Isa, Precision};
use crate::map::{Map, MapMut, MapRef};
use crate::simd::LANES;
use bytes::WeightScales;
pub use file_order::FileOrder;
use pack::Source;
use pack_narrow::narrow_len;
use pixel::Streams;
use std::ops::Range;
use tile::{Bytes, Pairs, Product, Single};

/// What is added after the activation.
#[derive(Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// What the output holds before the call.
    InPlace,
    /// Another map: blocks and pixels correspond to those of the output view.
    Map(MapRef<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `[K][16 width]`
    Plain,
    /// Products of a Strassen-Winograd level, see `winograd`.
    Winograd,
    /// `[K / 2][16 width]` pairs of bf16.
    Bf16,
    /// `[K / 4][16 width]` times four bytes.
    Bytes,
}

/// What the calls read instead of the input, see `operand`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Input,
    Sums,
    Bf16,
    Bytes,
}

/// Some blocks of output channels and where their weights are.
#[derive(Clone, Copy, Debug)]
struct Panel {
    form: Form,
    /// First block of output channels.
    block: usize,
    /// Vectors of a tile: the panel's blocks, or half of them in the Winograd form.
    width: usize,
    /// Start of the weights.
    offset: usize,
}

/// A weight matrix and bias, packed for one instruction set.
///
/// ```
/// use mobileclip_kernels::{Activation, Isa, Map, MapMut, MapRef, PackedGemm, Residual};
/// // 2 outputs of 3 inputs, for 5 pixels.
/// let gemm = PackedGemm::pack(Isa::detect(), 2, 3, &[1., 2., 3., 4., 5., 6.], Some(&[0.5, 0.0]));
/// let (from, to) = (Map::tokens(3, 5), Map::tokens(2, 5));
/// let mut input = vec![0.0; from.len()];
/// input[from.offset(0, 0, 4)..][..3].copy_from_slice(&[1.0, 1.0, 1.0]);
/// let mut output = vec![0.0; to.len()];
/// let (x, y) = (MapRef::new(from, &input), MapMut::new(to, &mut output));
/// gemm.run(x, &[], 0..gemm.panels(), Activation::None, Residual::None, y);
/// assert_eq!(output[to.offset(0, 0, 4)..][..2], [6.5, 15.0]);
/// ```
#[derive(Clone, Debug)]
pub struct PackedGemm {
    isa: Isa,
    n: usize,
    k: usize,
    panels: Vec<Panel>,
    bounds: Vec<usize>,
    operand: Operand,
    weights: Buffer,
    bias: Buffer,
    /// Of bytes: each output channel's scale, then each one's sum of bytes.
    scales: Buffer,
}

impl PackedGemm {
    /// Packs row-major weights `[n][k]` and a bias `[n]`.
    ///
    /// # Panics
    /// If a length is not what `n` and `k` say.
    pub fn pack(isa: Isa, n: usize, k: usize, weights: &[f32], bias: Option<&[f32]>) -> PackedGemm {
        let mut panels = Panels::default();
        panels.plain(Form::Plain, n.div_ceil(LANES), isa.shape().blocks, k);
        panels.pack(isa, Source { n, k, weights, is_transposed: false }, bias)
    }

    /// Packs row-major weights `[k][n]`: the product with the transpose, as the gradient of a linear layer's input needs it.
    ///
    /// # Panics
    /// As [`PackedGemm::pack`].
    pub fn pack_transposed(
        isa: Isa,
        n: usize,
        k: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> PackedGemm {
        let mut panels = Panels::default();
        panels.plain(Form::Plain, n.div_ceil(LANES), isa.shape().blocks, k);
        panels.pack(isa, Source { n, k, weights, is_transposed: true }, bias)
    }

    /// Packs for products of some precision. But for f32, each call needs the input as narrow numbers, see
    /// [`PackedGemm::make_operand`].
    ///
    /// # Panics
    /// As [`PackedGemm::pack`], and if sums of `k` products of bytes could overflow, see [`PackedGemm::LARGEST_INT8_K`].
    pub fn pack_as(
        precision: Precision,
        isa: Isa,
        n: usize,
        k: usize,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> PackedGemm {
        let form = match precision {
            Precision::F32 => return PackedGemm::pack(isa, n, k, weights, bias),
            Precision::Bf16 => Form::Bf16,
            Precision::Int8 => Form::Bytes,
        };
        assert!(precision != Precision::Int8 || k <= Self::LARGEST_INT8_K, "{k} products of bytes");
        let mut panels = Panels::default();
        panels.plain(form, n.div_ceil(LANES), isa.dot_shape().blocks, k);
        panels.pack(isa, Source { n, k, weights, is_transposed: false }, bias)
    }

    /// The most input channels of products of bytes: sums of 255 * 127 stay below 2^31.
    pub const LARGEST_INT8_K: usize = (i32::MAX / (255 * 127)) as usize;

    /// Packs with one Strassen-Winograd level: 7 multiplications where there were 8, for 1.75 times the memory and errors
    /// about 1.5 times as large.
    ///
    /// Rows of a call are combined in pairs (p, p + ceil(pixels / 2)): calls must not span samples, and their pixel ranges
    /// must be the same whatever the number of threads, else bits differ. Inputs have no border. Each call needs an
    /// operand made of its input, see [`PackedGemm::make_operand`].
    ///
    /// # Panics
    /// As [`PackedGemm::pack`].
    pub fn pack_winograd(isa: Isa, n: usize, k: usize, weights: &[f32], bias: Option<&[f32]>) -> PackedGemm {
        let widest = isa.shape().blocks;
        let mut panels = Panels::default();
        panels.winograd(n.div_ceil(LANES), widest, k);
        panels.pack(isa, Source { n, k, weights, is_transposed: false }, bias)
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    pub fn k(&self) -> usize {
        self.k
    }

    /// f32 of weights and bias as packed.
    pub fn packed_len(&self) -> usize {
        self.weights.len() + self.bias.len() + self.scales.len()
    }

    /// Whether the weights lie in memory that others hold too, such as a mapped file.
    pub fn is_shared(&self) -> bool {
        self.weights.is_shared()
    }

    /// Panels, the unit in which output channels can be divided.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }

    /// Panel i has the output blocks `bounds[i]..bounds[i + 1]`; as block bounds for [`Tiles`](crate::Tiles).
    pub fn panel_bounds(&self) -> &[usize] {
        &self.bounds
    }

    /// Multiplies, for all pixels of the views.
    ///
    /// * `input`: blocks ceil(k / 16); lanes beyond k are multiplied by zero, so they must be finite.
    /// * `operand`: from [`PackedGemm::make_operand`] for this very input; empty if packed by [`PackedGemm::pack`].
    /// * `out`: the blocks of `panels`; channels beyond n become `activation(0)` (+ residual).
    ///
    /// # Panics
    /// If shapes do not fit each other.
    pub fn run(
        &self,
        input: MapRef<'_>,
        operand: &[f32],
        panels: Range<usize>,
        activation: Activation,
        residual: Residual<'_>,
        mut out: MapMut<'_>,
    ) {
        assert!(panels.start <= panels.end && panels.end <= self.panels.len(), "panels {panels:?}");
        let first_block = self.bounds[panels.start];
        assert_eq!(input.blocks(), self.k.div_ceil(LANES), "blocks of the input");
        assert_eq!(out.blocks(), self.bounds[panels.end] - first_block, "blocks of the output");
        assert_eq!(input.pixels(), out.pixels(), "pixels");
        assert_eq!(operand.len(), self.operand_len(input.pixels()), "length of the operand");
        if let Residual::Map(r) = residual {
            assert_eq!((r.blocks(), r.pixels()), (out.blocks(), out.pixels()), "shape of the residual");
        }
        if out.pixels() == 0 {
            return;
        }
        let k_blocks = self.k.div_ceil(LANES);
        let mut left = &self.panels[panels];
        while !left.is_empty() {
            let streams = if out.pixels() == 1 { self.streams(left) } else { ONE_STREAM };
            for panel in &left[..streams.apart] {
                let job = tile::PanelJob {
                    isa: self.isa,
                    k_blocks,
                    weights: &self.weights[panel.offset..],
                    bias: &self.bias[panel.block * LANES..],
                    activation,
                    residual,
                    block: panel.block - first_block,
                };
                match panel.form {
                    Form::Plain if streams.count > 1 => {
                        pixel::panels::<Single>(&job, panel.width, streams, input, out.reborrow())
                    }
                    Form::Plain => tile::plain::<Single>(&job, panel.width, input, out.reborrow()),
                    Form::Winograd => winograd::panel(&job, panel.width, input, operand, out.reborrow()),
                    Form::Bf16 => {
                        let pairs = Map::tokens(k_blocks.div_ceil(Pairs::NUMBERS) * LANES, input.pixels());
                        let pairs = MapRef::new(pairs, operand);
                        match streams.count {
                            1 => tile::plain::<Pairs>(&job, panel.width, pairs, out.reborrow()),
                            _ => pixel::panels::<Pairs>(&job, panel.width, streams, pairs, out.reborrow()),
                        }
                    }
                    Form::Bytes => {
                        let (scales, of_weights) = self.scales.split_at(self.bias.len());
                        let at = panel.block * LANES;
                        let scales = WeightScales { scales: &scales[at..], sums: &of_weights[at..] };
                        bytes::panel(&job, panel.width, scales, operand, out.reborrow());
                    }
                }
            }
            left = &left[streams.count * streams.apart..];
        }
    }

    /// For a single pixel: which of the first panels are taken side by side. Each stream runs on from one panel to the next.
    fn streams(&self, panels: &[Panel]) -> Streams {
        let most = match panels[0].form {
            Form::Plain => self.isa.shape().streams,
            Form::Bf16 => self.isa.dot_shape().streams,
            Form::Winograd | Form::Bytes => 1,
        };
        let is_same = |panel: &&Panel| (panel.form, panel.width) == (panels[0].form, panels[0].width);
        let same = panels.iter().take_while(is_same).count();
        let count = same.min(most);
        let apart = same / count;
        let weights_apart = panels.get(apart).map_or(0, |next| next.offset - panels[0].offset);
        Streams { count, apart, weights_apart }
    }
}

const ONE_STREAM: Streams = Streams { count: 1, apart: 1, weights_apart: 0 };

/// Collects panels, then packs.
#[derive(Clone, Default)]
struct Panels {
    list: Vec<Panel>,
    block: usize,
    offset: usize,
}

impl Panels {
    fn push(&mut self, form: Form, width: usize, k: usize) {
        let k_blocks = k.div_ceil(LANES);
        self.list.push(Panel { form, block: self.block, width, offset: self.offset });
        let (blocks, len) = match form {
            Form::Plain => (width, k_blocks * LANES * width * LANES),
            Form::Winograd => (2 * width, winograd::panel_len(k_blocks, width)),
            Form::Bf16 => (width, narrow_len::<Pairs>(k, width)),
            Form::Bytes => (width, narrow_len::<Bytes>(k, width)),
        };
        self.block += blocks;
        self.offset += len;
    }

    /// Panels of `widest` blocks; an odd rest is joined to the last one, whose tile is then 8 x 3.
    fn plain(&mut self, form: Form, blocks: usize, widest: usize, k: usize) {
        let mut left = blocks;
        while left > 0 {
            let width = if widest == 2 && left == 3 { 3 } else { left.min(widest) };
            self.push(form, width, k);
            left -= width;
        }
    }

    /// Panels of 2 `widest` blocks; six at the end where two are left over; one that is left over stays plain.
    fn winograd(&mut self, blocks: usize, widest: usize, k: usize) {
        let mut left = blocks;
        while left >= 2 {
            let width = match (widest, left) {
                (1, _) | (_, 2 | 3) => 1,
                (_, 6 | 7) => 3,
                _ => 2,
            };
            self.push(Form::Winograd, width, k);
            left -= 2 * width;
        }
        self.plain(Form::Plain, left, widest, k);
    }

    fn pack(self, isa: Isa, source: Source<'_>, bias: Option<&[f32]>) -> PackedGemm {
        let (n, k) = (source.n, source.k);
        assert_eq!(Some(source.weights.len()), n.checked_mul(k), "weights of {n} x {k}");
        let (channels, weights) = (self.block * LANES, Buffer::zeroed(self.offset));
        let mut packed = self.finish(isa, n, k, weights, bias);
        for panel in &packed.panels {
            let out = &mut packed.weights[panel.offset..];
            match panel.form {
                Form::Plain => source.pack_plain(isa, panel.block, panel.width, out),
                Form::Winograd => source.pack_winograd(isa, panel.block, panel.width, out),
                Form::Bf16 => source.pack_bf16(isa, panel.block, panel.width, out),
                Form::Bytes => {
                    let (scales, sums) = packed.scales.split_at_mut(channels);
                    let at = panel.block * LANES;
                    source.pack_bytes(isa, panel.block, panel.width, out, &mut scales[at..], &mut sums[at..]);
                }
            }
        }
        packed
    }

    /// The product of these panels, whose weights are, or will be, packed.
    fn finish(self, isa: Isa, n: usize, k: usize, weights: Buffer, bias: Option<&[f32]>) -> PackedGemm {
        let has = |form| self.list.iter().any(|p| p.form == form);
        let operand = match () {
            () if has(Form::Winograd) => Operand::Sums,
            () if has(Form::Bf16) => Operand::Bf16,
            () if has(Form::Bytes) => Operand::Bytes,
            () => Operand::Input,
        };
        let channels = self.block * LANES;
        let mut packed = PackedGemm {
            isa,
            n,
            k,
            bounds: self.list.iter().map(|p| p.block).chain([self.block]).collect(),
            operand,
            weights,
            bias: Buffer::zeroed(channels),
            scales: Buffer::zeroed(if operand == Operand::Bytes { 2 * channels } else { 0 }),
            panels: self.list,
        };
        if let Some(bias) = bias {
            assert_eq!(bias.len(), n, "bias of {n} outputs");
            packed.bias[..n].copy_from_slice(bias);
        }
        packed
    }
}
