//! The operations that the program is written in.

/// Channels, height and width of one sample's tensor. Tokens are pixels: `T` tokens of width `D` have shape
/// `(D, 1, T)`, a vector is `(D, 1, 1)`, and `T` token ids are `(1, 1, T)`. The batch never appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// C, or the width D of a token.
    pub channels: usize,
    /// H; 1 for tokens.
    pub height: usize,
    /// W; the number of tokens T for tokens.
    pub width: usize,
}

impl Shape {
    /// A map of shape C × H × W.
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// `count` tokens of width `width`.
    pub const fn tokens(width: usize, count: usize) -> Self {
        Self::new(width, 1, count)
    }

    /// H · W, or the number of tokens.
    pub const fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// C · H · W.
    pub const fn elements(&self) -> usize {
        self.channels * self.pixels()
    }

    /// The same pixels with other channels.
    pub const fn with_channels(&self, channels: usize) -> Self {
        Self::new(channels, self.height, self.width)
    }
}

/// A pointwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · Φ(x) with the exact Gaussian distribution function (erf), not the tanh form.
    Gelu,
    /// x · sigmoid(1.702 x), of OpenAI's models.
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
}

/// A two-dimensional convolution: weight `[out, in/groups, kh, kw]`, bias `[out]` if there is one.
///
/// Padding is with zeros, the same at both ends. With `groups = in` and `out = m · in`, input channel `i` makes the
/// outputs `m·i … m·i + m − 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Conv {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Step in both directions.
    pub stride: usize,
    /// Zero rows and columns at each end.
    pub padding: (usize, usize),
    /// Number of independent groups of channels.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv {
    /// A 1×1 convolution with bias, the same as a linear layer on every pixel.
    pub const fn pointwise(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: (1, 1), stride: 1, padding: (0, 0), groups: 1, bias: true }
    }

    /// A `kernel`-sized convolution of one group, with padding (k − 1) / 2 and without bias.
    pub const fn dense(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        let p = (kernel - 1) / 2;
        Self { inputs, outputs, kernel: (kernel, kernel), stride, padding: (p, p), groups: 1, bias: false }
    }

    /// A convolution in which every input channel stands alone and makes `outputs / inputs` outputs.
    pub const fn depthwise(inputs: usize, outputs: usize, kernel: (usize, usize), stride: usize) -> Self {
        let padding = ((kernel.0 - 1) / 2, (kernel.1 - 1) / 2);
        Self { inputs, outputs, kernel, stride, padding, groups: inputs, bias: false }
    }

    /// The same with a bias.
    pub const fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    /// Whether every output pixel depends on the input pixel at its own place only.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == (0, 0)
    }

    /// The weight's shape.
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.outputs, self.inputs / self.groups, self.kernel.0, self.kernel.1]
    }

    /// The shape of the output, or `None` if the padded input is smaller than the kernel.
    pub fn output(&self, input: Shape) -> Option<Shape> {
        let side = |n: usize, k: usize, p: usize| Some((n + 2 * p).checked_sub(k)? / self.stride + 1);
        let height = side(input.height, self.kernel.0, self.padding.0)?;
        let width = side(input.width, self.kernel.1, self.padding.1)?;
        Some(Shape::new(self.outputs, height, width))
    }

    /// Multiply-adds, padding taps counted.
    pub fn multiply_adds(&self, output: Shape) -> u64 {
        let [_, inputs, kh, kw] = self.weight_shape();
        (output.elements() as u64).saturating_mul((inputs * kh * kw) as u64)
    }
}

/// Which of several equal parts of a stored tensor, stacked along its rows, is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The part.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Part {
    /// The tensor as it is.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// The places of a part among the `len` numbers of the stored tensor.
    pub const fn range(&self, len: usize) -> std::ops::Range<usize> {
        let part = len / self.of;
        self.index * part..(self.index + 1) * part
    }
}

/// A linear layer on every pixel or token.
#[derive(Clone, Copy, Debug)]
pub struct Linear<'a> {
    /// The weight's name in the current scope.
    pub weight: &'a str,
    /// The bias's name in the current scope, if there is one.
    pub bias: Option<&'a str>,
    /// Input width.
    pub inputs: usize,
    /// Output width.
    pub outputs: usize,
    /// How the weight is stored: `[outputs, inputs]`, or transposed `[inputs, outputs]` as projections are.
    pub transposed: bool,
    /// Which part of the stored weight it is: queries, keys and values are often stacked. Only of untransposed ones.
    pub weight_part: Part,
    /// Which part of the stored bias it is.
    pub bias_part: Part,
}

impl<'a> Linear<'a> {
    /// `weight [outputs, inputs]` and `bias [outputs]`.
    pub const fn new(weight: &'a str, bias: &'a str, inputs: usize, outputs: usize) -> Self {
        let (weight_part, bias_part) = (Part::WHOLE, Part::WHOLE);
        Self { weight, bias: Some(bias), inputs, outputs, transposed: false, weight_part, bias_part }
    }

    /// The same with part `index` of three of the bias, and of the weight if `stacked`.
    pub const fn third(self, index: usize, stacked: bool) -> Self {
        let part = Part { index, of: 3 };
        Self { weight_part: if stacked { part } else { Part::WHOLE }, bias_part: part, ..self }
    }

    /// A matrix `[inputs, outputs]` without bias, used as x · matrix.
    pub const fn projection(weight: &'a str, inputs: usize, outputs: usize) -> Self {
        Self { bias: None, transposed: true, ..Self::new(weight, "", inputs, outputs) }
    }

    /// The same layer as a 1×1 convolution.
    pub const fn as_conv(&self) -> Conv {
        Conv { bias: self.bias.is_some(), ..Conv::pointwise(self.inputs, self.outputs) }
    }

    /// The stored weight's shape.
    pub const fn weight_shape(&self) -> [usize; 2] {
        if self.transposed {
            [self.inputs, self.outputs]
        } else {
            [self.weight_part.of * self.outputs, self.inputs]
        }
    }

    /// The stored bias's length.
    pub const fn bias_len(&self) -> usize {
        self.bias_part.of * self.outputs
    }
}

/// Multi-head self-attention over the pixels of a tensor that holds q, k and v of all heads, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Attention {
    /// Number of heads.
    pub heads: usize,
    /// Width of one head; scores are scaled by its square root's inverse.
    pub head_width: usize,
    /// Whether a token sees only itself and what stands before it.
    pub is_causal: bool,
}

impl Attention {
    /// heads · head width.
    pub const fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Multiply-adds of both matrix products over `tokens` tokens (the causal half is not discounted).
    pub const fn multiply_adds(&self, tokens: usize) -> u64 {
        self.cross_multiply_adds(tokens, tokens)
    }

    /// The same of `queries` tokens that see `keys`.
    pub const fn cross_multiply_adds(&self, queries: usize, keys: usize) -> u64 {
        (2 * self.width() as u64).saturating_mul((queries as u64).saturating_mul(keys as u64))
    }
}

/// How a position table is fitted to another number of tokens than it was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The first rows are taken (text).
    Prefix,
    /// As a grid, bicubic with antialiasing (open_clip, timm). A row for the class token is kept as it is.
    Bicubic,
    /// As a flat list, linearly (the first package's B).
    Linear,
}

/// A learnt table of positions that is added to tokens.
#[derive(Clone, Copy, Debug)]
pub struct Positions<'a> {
    /// The stored shape: the last two dimensions are rows and width, leading ones are 1.
    pub shape: &'a [usize],
    /// Rows and columns of the trained grid (1 × context for text).
    pub grid: (usize, usize),
    /// Whether the first row belongs to a class token.
    pub class_row: bool,
    /// Rows and columns wanted now.
    pub target: (usize, usize),
    /// How to get there.
    pub resample: Resample,
}

/// Which token is taken out of a sequence.
#[derive(Clone, Debug)]
pub enum Take<'a, T> {
    /// The first (class token).
    First,
    /// The last (class token of a captioner's text).
    Last,
    /// The one at the largest id's place, the first such (end of text).
    EndOfText(&'a T),
}

/// What a query sees.
#[derive(Clone, Debug)]
pub enum Seen<'a, T: ?Sized> {
    /// All keys.
    All,
    /// Queries and keys are a row's `T` ids `(1, 1, T)` and a class token behind them. An id sees itself and those before it.
    /// The class token sees the first and every one whose *preceding* id is not [`PAD`]: open_clip's mask, shifted by one as it
    /// trained with it. So it sees the first padding, and itself only if the row has none at its end.
    Padded(&'a T),
}

/// The id that fills a row up.
pub const PAD: u32 = 0;

/// Whether column `key` is seen by the class token behind a row of `ids` ([`Seen::Padded`]).
pub fn class_sees(ids: impl Fn(usize) -> u32, key: usize) -> bool {
    key.checked_sub(1).is_none_or(|before| ids(before) != PAD)
}

/// A reading of the program.
///
/// `self` is shared, so calls nest; a reading that records uses interior mutability. Operations return no errors:
/// the [`Manifest`](crate::Manifest) reading has checked names and shapes before any other one runs.
pub trait Ops {
    /// What flows between operations.
    type Tensor: Clone;

    /// Runs `body` with `name.` in front of every name asked for inside.
    fn scope<R>(&self, name: &str, body: impl FnOnce(&Self) -> R) -> R;
    /// The shape of a tensor.
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// Marks `x` as the output of the current scope, for whoever asked for it.
    fn tap(&self, x: Self::Tensor) -> Self::Tensor;
    /// Declares a parameter that no operation uses (`logit_scale`).
    fn parameter(&self, name: &str, shape: &[usize]);

    /// Convolution with `name.weight` and, if asked for, `name.bias`.
    fn conv(&self, name: &str, x: &Self::Tensor, conv: &Conv) -> Self::Tensor;
    /// A linear layer on every pixel.
    fn linear(&self, x: &Self::Tensor, linear: &Linear) -> Self::Tensor;
    /// BatchNorm over channels: weight, bias, running mean and variance, eps inside the root.
    fn batch_norm(&self, name: &str, x: &Self::Tensor, eps: f64) -> Self::Tensor;
    /// Multiplies every channel by the parameter `name`, stored as `[C, 1, 1]`.
    fn layer_scale(&self, name: &str, x: &Self::Tensor) -> Self::Tensor;
    /// A sum of linear maps of `x`, which a deploy-form checkpoint stores as one convolution `fused` named `name`.
    fn branches(
        &self,
        name: &str,
        x: &Self::Tensor,
        fused: &Conv,
        train: impl FnOnce(&Self, &Self::Tensor) -> Self::Tensor,
    ) -> Self::Tensor;
    /// a + b.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Self::Tensor;
    /// a − b.
    fn sub(&self, a: &Self::Tensor, b: &Self::Tensor) -> Self::Tensor;

    /// Drops a residual branch of some samples in training (arXiv:1603.09382), more often the nearer `depth` is to 1; `name`
    /// keys the choice. Nothing happens elsewhere.
    fn drop_path(&self, _name: &str, x: &Self::Tensor, _depth: f64) -> Self::Tensor {
        x.clone()
    }

    /// LayerNorm over the channels of every pixel.
    fn layer_norm(&self, name: &str, x: &Self::Tensor, eps: f64) -> Self::Tensor;
    /// A pointwise nonlinearity.
    fn activation(&self, x: &Self::Tensor, activation: Activation) -> Self::Tensor;
    /// `(3·D, H, W)` → `(D, H, W)`.
    fn attention(&self, qkv: &Self::Tensor, attention: &Attention) -> Self::Tensor;
    /// Attention with q, k and v apart: q `(D, ·, T)` and k, v `(D, ·, S)` → `(D, 1, T)`. [`Attention::is_causal`] is not looked
    /// at.
    fn cross_attention(
        &self,
        qkv: [&Self::Tensor; 3],
        attention: &Attention,
        seen: Seen<Self::Tensor>,
    ) -> Self::Tensor;
    /// The mean over pixels: `(C, H, W)` → `(C, 1, 1)`.
    fn mean_pool(&self, x: &Self::Tensor) -> Self::Tensor;
    /// Multiplies every channel of `x` by the entry of `gate`, `(C, 1, 1)`.
    fn gate(&self, x: &Self::Tensor, gate: &Self::Tensor) -> Self::Tensor;

    /// Rows of the table `name` `[vocabulary, width]`: ids `(1, 1, T)` → `(width, 1, T)`.
    fn embed(&self, name: &str, ids: &Self::Tensor, vocabulary: usize, width: usize) -> Self::Tensor;
    /// Adds a table of positions.
    fn positions(&self, name: &str, x: &Self::Tensor, positions: &Positions) -> Self::Tensor;
    /// Puts the parameter `name`, stored with `shape`, in front: `(D, H, W)` → `(D, 1, H·W + 1)`.
    fn class_token(&self, name: &str, x: &Self::Tensor, shape: &[usize]) -> Self::Tensor;
    /// Puts the parameter `name` `[D]` behind: `(D, 1, T)` → `(D, 1, T + 1)`.
    fn append_token(&self, name: &str, x: &Self::Tensor) -> Self::Tensor;
    /// The parameter `name` `[count, width]` as tokens, the same for every sample of the batch that `like` belongs to.
    fn queries(&self, name: &str, like: &Self::Tensor, count: usize, width: usize) -> Self::Tensor;
    /// All tokens but the first `front` and the last `back`.
    fn trim(&self, x: &Self::Tensor, front: usize, back: usize) -> Self::Tensor;
    /// One token: `(D, 1, T)` → `(D, 1, 1)`.
    fn take(&self, x: &Self::Tensor, which: Take<Self::Tensor>) -> Self::Tensor;
}

/// A reading that continues texts token by token, for generation.
///
/// What flows are tokens that were not there yet, of any of several texts: `(D, 1, T)` for `T` of them. Which text and which
/// place in it a token has, and what of the texts and their images was computed before, is the reading's to keep.
pub trait StepOps: Ops {
    /// Adds to each token the row of its place.
    fn positions_in_text(&self, name: &str, x: &Self::Tensor, positions: &Positions) -> Self::Tensor;
    /// Causal self-attention of each token over those of its own text up to itself, in cache `layer`: q, k and v
    /// `(3·D, 1, T)` → `(D, 1, T)`.
    fn cached_attention(&self, qkv: &Self::Tensor, layer: usize, attention: &Attention) -> Self::Tensor;
    /// Attention of each token over the tokens of its text's image: layer `layer` of [`Coca::memory`](crate::Coca::memory).
    fn image_attention(&self, q: &Self::Tensor, layer: usize, attention: &Attention) -> Self::Tensor;
}
