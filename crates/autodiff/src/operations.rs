//! The operations of the tape: each one's forward beside its backward.

use std::rc::Rc;

use mobileclip_arch::{Activation, Attention, Conv, Part, Seen, Shape};

use crate::device::{Device, Matrix, Moments};
use crate::parameters::Parameters;
use crate::tape::Step;

/// Where operations run and find their weights.
pub(crate) struct Context<'a, D> {
    pub device: &'a D,
    pub parameters: &'a Parameters,
}

/// Something that a device computes from some inputs and parameters (by their places in [`Parameters`]).
pub(crate) trait Operation<D: Device> {
    /// A function of inputs and parameters: it may run again.
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor;
    /// Gives the inputs' and the parameters' gradients.
    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor);
    /// Whether `backward` reads the value of input `i`.
    fn needs_input(&self, i: usize) -> bool;
    /// Whether its output is made again for a gradient that reads it, rather than kept: one pass over inputs that `backward`
    /// needs anyway.
    fn is_remade(&self) -> bool {
        false
    }
    /// The parameters it reads.
    fn parameters(&self) -> Vec<usize> {
        Vec::new()
    }
}

/// A convolution or linear layer.
pub(crate) struct Convolution {
    pub conv: Conv,
    pub is_transposed: bool,
    pub weight: usize,
    pub bias: Option<usize>,
    /// Which parts of them it uses.
    pub parts: [Part; 2],
    /// Whether the weight is trained: else its input is not needed.
    pub is_trained: bool,
}

impl Convolution {
    fn matrix<'a, D>(&self, context: &Context<'a, D>) -> Matrix<'a> {
        Matrix {
            conv: self.conv,
            is_transposed: self.is_transposed,
            weight: part(context.parameters.values(self.weight), self.parts[0]),
            bias: self.bias.map(|bias| part(context.parameters.values(bias), self.parts[1])),
        }
    }
}

impl<D: Device> Operation<D> for Convolution {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.convolve(&inputs[0], &self.matrix(context))
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let (device, matrix) = (step.context.device, self.matrix(step.context));
        if self.is_trained {
            let x = step.input(0);
            if let Some(dweight) = step.parameter(self.weight) {
                let range = self.parts[0].range(dweight.len());
                device.convolve_weight(&x, &matrix, &dy, &mut dweight[range]);
            }
        }
        if let Some(dbias) = self.bias.and_then(|bias| step.parameter(bias)) {
            let range = self.parts[1].range(dbias.len());
            device.channel_sums(&dy, &mut dbias[range]);
        }
        if step.wants(0) {
            let earlier = step.earlier(0);
            let dx = device.convolve_input(step.shape(0), &matrix, &dy, earlier);
            step.give(0, dx);
        }
    }

    fn needs_input(&self, _: usize) -> bool {
        self.is_trained
    }

    fn parameters(&self) -> Vec<usize> {
        std::iter::once(self.weight).chain(self.bias).collect()
    }
}

fn part(values: &[f32], part: Part) -> &[f32] {
    &values[part.range(values.len())]
}

/// BatchNorm with moments of the batch, or with running ones, which are `constant`.
pub(crate) struct BatchNorm {
    pub weight: usize,
    pub bias: usize,
    pub eps: f64,
    pub moments: Moments,
    pub constant: bool,
}

impl<D: Device> Operation<D> for BatchNorm {
    // The moments were found when the operation was recorded; made again, they would be the same.
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        let values = |index| context.parameters.values(index);
        let (weight, bias) = (values(self.weight), values(self.bias));
        context.device.normalise(&inputs[0], &self.moments, self.eps, weight, bias)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let weight = step.context.parameters.values(self.weight);
        let (mut dweight, mut dbias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let dx = step.context.device.normalise_gradient(
            &step.input(0),
            &self.moments,
            self.eps,
            weight,
            self.constant,
            dy,
            step.wants(0),
            &mut dweight,
            &mut dbias,
        );
        step.add_both([self.weight, self.bias], [dweight, dbias]);
        if let Some(dx) = dx {
            step.give(0, dx);
        }
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }

    fn is_remade(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.weight, self.bias]
    }
}

/// LayerNorm over channels.
pub(crate) struct LayerNorm {
    pub weight: usize,
    pub bias: usize,
    pub eps: f64,
}

impl<D: Device> Operation<D> for LayerNorm {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        let values = |index| context.parameters.values(index);
        context.device.layer_norm(&inputs[0], self.eps, values(self.weight), values(self.bias))
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let weight = step.context.parameters.values(self.weight);
        let (mut dweight, mut dbias) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        let (device, x) = (step.context.device, step.input(0));
        let dx = device.layer_norm_gradient(&x, self.eps, weight, dy, &mut dweight, &mut dbias);
        step.add_both([self.weight, self.bias], [dweight, dbias]);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }

    fn is_remade(&self) -> bool {
        true
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.weight, self.bias]
    }
}

/// Channels times a parameter.
pub(crate) struct LayerScale {
    pub scale: usize,
    pub is_trained: bool,
}

impl<D: Device> Operation<D> for LayerScale {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.scale_channels(inputs[0].clone(), context.parameters.values(self.scale))
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let device = step.context.device;
        if self.is_trained {
            let x = step.input(0);
            if let Some(dscale) = step.parameter(self.scale) {
                device.scale_gradient(&x, &dy, dscale);
            }
        }
        if step.wants(0) {
            let dx = device.scale_channels(dy, step.context.parameters.values(self.scale));
            step.give(0, dx);
        }
    }

    fn needs_input(&self, _: usize) -> bool {
        self.is_trained
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.scale]
    }
}

/// a + b, or a − b.
pub(crate) struct Sum {
    pub is_difference: bool,
}

impl<D: Device> Operation<D> for Sum {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        match self.is_difference {
            true => context.device.sub(inputs[0].clone(), &inputs[1]),
            false => context.device.add(inputs[0].clone(), &inputs[1]),
        }
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        step.give(0, dy.clone());
        if !self.is_difference {
            return step.give(1, dy);
        }
        if step.wants(1) {
            let minus = vec![-1.0; step.shape(1).channels];
            let negative = step.context.device.scale_channels(dy, &minus);
            step.give(1, negative);
        }
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }
}

/// Samples times a factor: drop path.
pub(crate) struct ScaleSamples {
    pub factors: Vec<f32>,
}

impl<D: Device> Operation<D> for ScaleSamples {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.scale_samples(inputs[0].clone(), &self.factors)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.scale_samples(dy, &self.factors);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }
}

/// A pointwise nonlinearity.
pub(crate) struct Activate(pub Activation);

impl<D: Device> Operation<D> for Activate {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.activate(&inputs[0], self.0)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.activate_gradient(&step.input(0), self.0, dy);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }

    fn is_remade(&self) -> bool {
        true
    }
}

/// Self-attention from packed queries, keys and values.
pub(crate) struct Attend(pub Attention);

impl<D: Device> Operation<D> for Attend {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.attend(&inputs[0], &self.0)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.attend_gradient(&step.input(0), &self.0, &dy);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }
}

/// Attention with queries, keys and values apart.
pub(crate) struct Look {
    pub attention: Attention,
    /// The ids of all rows, where the last token of each is a class token ([`Seen::Padded`]).
    pub ids: Option<Rc<[u32]>>,
}

impl Look {
    fn seen(&self) -> Seen<'_, [u32]> {
        self.ids.as_deref().map_or(Seen::All, Seen::Padded)
    }
}

impl<D: Device> Operation<D> for Look {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.look([&inputs[0], &inputs[1], &inputs[2]], &self.attention, self.seen())
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let [q, k, v] = [0, 1, 2].map(|i| step.input(i));
        let given = step.context.device.look_gradient([&q, &k, &v], &self.attention, self.seen(), &dy);
        given.into_iter().enumerate().for_each(|(i, gradient)| step.give(i, gradient));
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }
}

/// Means over pixels.
pub(crate) struct MeanPool;

impl<D: Device> Operation<D> for MeanPool {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.mean_pool(&inputs[0])
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.mean_pool_gradient(step.shape(0), &dy);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }
}

/// Channels of every sample times its gate.
pub(crate) struct Gate;

impl<D: Device> Operation<D> for Gate {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.gate(&inputs[0], &inputs[1])
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let (x, gate) = (step.input(0), step.input(1));
        let (dx, dgate) = step.context.device.gate_gradient(&x, &gate, dy);
        step.give(0, dx);
        step.give(1, dgate);
    }

    fn needs_input(&self, _: usize) -> bool {
        true
    }

    fn is_remade(&self) -> bool {
        true
    }
}

/// Rows of a table.
pub(crate) struct Embed {
    pub batch: usize,
    pub ids: Rc<[u32]>,
    pub table: usize,
    pub width: usize,
}

impl<D: Device> Operation<D> for Embed {
    fn forward(&self, context: &Context<'_, D>, _: &[D::Tensor]) -> D::Tensor {
        context.device.embed(self.batch, &self.ids, context.parameters.values(self.table), self.width)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let device = step.context.device;
        if let Some(dtable) = step.parameter(self.table) {
            device.embed_gradient(&self.ids, &dy, dtable);
        }
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.table]
    }
}

/// The first numbers of a table of positions, a row for each pixel, added.
pub(crate) struct AddPositions {
    pub table: usize,
    pub len: usize,
}

impl<D: Device> Operation<D> for AddPositions {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.add_rows(&inputs[0], &context.parameters.values(self.table)[..self.len])
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let device = step.context.device;
        if let Some(dtable) = step.parameter(self.table) {
            device.add_rows_gradient(&dy, &mut dtable[..self.len]);
        }
        step.give(0, dy);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.table]
    }
}

/// A learnt token in front.
pub(crate) struct ClassToken {
    pub token: usize,
}

impl<D: Device> Operation<D> for ClassToken {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.prepend(&inputs[0], context.parameters.values(self.token))
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let (device, shape) = (step.context.device, step.shape(0));
        let mut dtoken = vec![0.0; shape.channels];
        let dx = device.prepend_gradient(shape, &dy, &mut dtoken);
        if let Some(sum) = step.parameter(self.token) {
            sum.iter_mut().zip(dtoken).for_each(|(sum, v)| *sum += v);
        }
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }

    fn parameters(&self) -> Vec<usize> {
        vec![self.token]
    }
}

/// Some pixels of every sample, each once.
pub(crate) struct Select {
    pub places: Vec<usize>,
}

impl<D: Device> Operation<D> for Select {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.select(&inputs[0], &self.places)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.select_gradient(step.shape(0), &self.places, &dy);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }
}

/// One pixel of every sample.
pub(crate) struct TakePixel {
    pub places: Vec<usize>,
}

impl<D: Device> Operation<D> for TakePixel {
    fn forward(&self, context: &Context<'_, D>, inputs: &[D::Tensor]) -> D::Tensor {
        context.device.take(&inputs[0], &self.places)
    }

    fn backward(&self, step: &mut Step<'_, D>, dy: D::Tensor) {
        let dx = step.context.device.take_gradient(step.shape(0), &self.places, &dy);
        step.give(0, dx);
    }

    fn needs_input(&self, _: usize) -> bool {
        false
    }
}

/// The shape of a convolution's output.
///
/// # Panics
/// If the padded input is smaller than the kernel.
pub(crate) fn output_shape(conv: &Conv, input: Shape) -> Shape {
    let output = conv.output(input);
    output.unwrap_or_else(|| panic!("{input:?} is smaller than the kernel of {conv:?}"))
}
