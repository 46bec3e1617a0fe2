//! What a device computes: forward and backward of the operations that the architecture is made of.

use mobileclip_arch::{Activation, Attention, Conv, Seen, Shape};

/// The weights of a convolution or linear layer.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Geometry; pointwise for linear layers.
    pub conv: Conv,
    /// Whether the weights are `[inputs, outputs]` (pointwise only), else as [`Conv::weight_shape`] says.
    pub is_transposed: bool,
    /// The weights.
    pub weight: &'a [f32],
    /// `[outputs]`, if there is a bias.
    pub bias: Option<&'a [f32]>,
}

/// Moments of every channel over all pixels of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f64>,
    /// Variances, divided by the number of pixels.
    pub variance: Vec<f64>,
}

/// A place where batches of maps live and operations run.
///
/// Weights come in and their gradients go out as slices in checkpoint order; gradients are *added* to what is there. Shapes
/// fit each other, by the program. Tensors are handles: cloning one is cheap, and a device may write a result into a tensor
/// that it was given by value and that nobody else holds. Results are functions of the arguments alone, so that running an
/// operation again gives the same bits.
///
/// `into` of a gradient is what other uses of the same input have given; the result is the sum.
pub trait Device {
    /// Maps of a batch.
    type Tensor: Clone;

    /// Takes `[batch, C, H, W]`.
    fn upload(&self, batch: usize, shape: Shape, values: &[f32]) -> Self::Tensor;
    /// Gives `[batch, C, H, W]`.
    fn download(&self, x: &Self::Tensor) -> Vec<f32>;

    /// a + b.
    fn add(&self, a: Self::Tensor, b: &Self::Tensor) -> Self::Tensor;
    /// a − b.
    fn sub(&self, a: Self::Tensor, b: &Self::Tensor) -> Self::Tensor;
    /// Sample i times `factors[i]`.
    fn scale_samples(&self, x: Self::Tensor, factors: &[f32]) -> Self::Tensor;

    /// A convolution or linear layer.
    fn convolve(&self, x: &Self::Tensor, matrix: &Matrix) -> Self::Tensor;
    /// Its input's gradient, for an input of this shape.
    fn convolve_input(
        &self,
        shape: Shape,
        matrix: &Matrix,
        dy: &Self::Tensor,
        into: Option<Self::Tensor>,
    ) -> Self::Tensor;
    /// Its weights' gradient.
    fn convolve_weight(&self, x: &Self::Tensor, matrix: &Matrix, dy: &Self::Tensor, dweight: &mut [f32]);
    /// Sums over samples and pixels, for a bias.
    fn channel_sums(&self, dy: &Self::Tensor, dbias: &mut [f32]);

    /// Moments over the batch, for BatchNorm.
    fn moments(&self, x: &Self::Tensor) -> Moments;
    /// BatchNorm with these moments.
    fn normalise(
        &self,
        x: &Self::Tensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        bias: &[f32],
    ) -> Self::Tensor;
    /// The gradients of BatchNorm: of weight and bias always; of the input if wanted, through the moments too unless they are
    /// `constant` (running statistics).
    fn normalise_gradient(
        &self,
        x: &Self::Tensor,
        moments: &Moments,
        eps: f64,
        weight: &[f32],
        constant: bool,
        dy: Self::Tensor,
        wanted: bool,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> Option<Self::Tensor>;
    /// Channels times `scale`.
    fn scale_channels(&self, x: Self::Tensor, scale: &[f32]) -> Self::Tensor;
    /// The sums over samples and pixels of dy · x, for a scale.
    fn scale_gradient(&self, x: &Self::Tensor, dy: &Self::Tensor, dscale: &mut [f32]);

    /// LayerNorm over channels.
    fn layer_norm(&self, x: &Self::Tensor, eps: f64, weight: &[f32], bias: &[f32]) -> Self::Tensor;
    /// Its gradients.
    fn layer_norm_gradient(
        &self,
        x: &Self::Tensor,
        eps: f64,
        weight: &[f32],
        dy: Self::Tensor,
        dweight: &mut [f32],
        dbias: &mut [f32],
    ) -> Self::Tensor;
    /// A nonlinearity.
    fn activate(&self, x: &Self::Tensor, activation: Activation) -> Self::Tensor;
    /// Its gradient.
    fn activate_gradient(&self, x: &Self::Tensor, activation: Activation, dy: Self::Tensor) -> Self::Tensor;
    /// Self-attention of every sample.
    fn attend(&self, qkv: &Self::Tensor, attention: &Attention) -> Self::Tensor;
    /// Its gradient.
    fn attend_gradient(&self, qkv: &Self::Tensor, attention: &Attention, dy: &Self::Tensor) -> Self::Tensor;

    /// Attention of every sample with queries, keys and values apart: `(D, 1, T)`.
    fn look(&self, qkv: [&Self::Tensor; 3], attention: &Attention, seen: Seen<[u32]>) -> Self::Tensor;
    /// The gradients of queries, keys and values.
    fn look_gradient(
        &self,
        qkv: [&Self::Tensor; 3],
        attention: &Attention,
        seen: Seen<[u32]>,
        dy: &Self::Tensor,
    ) -> [Self::Tensor; 3];

    /// Means over the pixels of every sample: `(C, 1, 1)`.
    fn mean_pool(&self, x: &Self::Tensor) -> Self::Tensor;
    /// Its gradient, for an input of this shape.
    fn mean_pool_gradient(&self, shape: Shape, dy: &Self::Tensor) -> Self::Tensor;
    /// Channels of every sample times the entries of `gate`, `(C, 1, 1)`.
    fn gate(&self, x: &Self::Tensor, gate: &Self::Tensor) -> Self::Tensor;
    /// Its gradients, of `x` and of `gate`.
    fn gate_gradient(
        &self,
        x: &Self::Tensor,
        gate: &Self::Tensor,
        dy: Self::Tensor,
    ) -> (Self::Tensor, Self::Tensor);

    /// Rows of a table `[vocabulary, width]` for `batch` rows of ids: `(width, 1, T)`.
    fn embed(&self, batch: usize, ids: &[u32], table: &[f32], width: usize) -> Self::Tensor;
    /// The table's gradient.
    fn embed_gradient(&self, ids: &[u32], dy: &Self::Tensor, dtable: &mut [f32]);
    /// Adds row p of `rows` `[H·W, C]` to pixel p of every sample.
    fn add_rows(&self, x: &Self::Tensor, rows: &[f32]) -> Self::Tensor;
    /// The rows' gradient.
    fn add_rows_gradient(&self, dy: &Self::Tensor, drows: &mut [f32]);
    /// Puts `token` `[C]` in front of the pixels of every sample: `(C, 1, H·W + 1)`.
    fn prepend(&self, x: &Self::Tensor, token: &[f32]) -> Self::Tensor;
    /// Its gradients: of an input of this shape, and of the token.
    fn prepend_gradient(&self, shape: Shape, dy: &Self::Tensor, dtoken: &mut [f32]) -> Self::Tensor;
    /// These pixels of every sample, in this order: `(C, 1, places)`.
    fn select(&self, x: &Self::Tensor, places: &[usize]) -> Self::Tensor;
    /// Its gradient, for an input of this shape; no place comes twice.
    fn select_gradient(&self, shape: Shape, places: &[usize], dy: &Self::Tensor) -> Self::Tensor;
    /// One pixel of every sample: `(C, 1, 1)`.
    fn take(&self, x: &Self::Tensor, places: &[usize]) -> Self::Tensor;
    /// Its gradient, for an input of this shape.
    fn take_gradient(&self, shape: Shape, places: &[usize], dy: &Self::Tensor) -> Self::Tensor;
}
