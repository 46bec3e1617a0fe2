//! The reading itself: names to parameters, operations to the tape.

use std::cell::RefCell;
use std::rc::Rc;

use mobileclip_arch::{
    Activation, Attention, Conv, Linear, Names, Ops, Part, Positions, Resample, Seen, Shape, Take, Tower,
};

use crate::device::{Device, Moments};
use crate::operations::{
    Activate, AddPositions, Attend, BatchNorm, ClassToken, Context, Convolution, Embed, Gate, LayerNorm,
    LayerScale, Look, MeanPool, Operation, ScaleSamples, Select, Sum, TakePixel, output_shape,
};
use crate::parameters::{BatchStatistics, Gradients, Parameters};
use crate::random::Random;
use crate::tape::{Handle, Node, Tape};

/// Where BatchNorm's moments come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchNormMode {
    /// From the batch, and running statistics move; but for those that are frozen (whose weight is not trained).
    Batch,
    /// From the running statistics, which stay as they are (evaluation, frozen towers).
    Running,
}

/// How a pass runs.
#[derive(Clone, Copy, Debug)]
pub struct TrainOptions {
    /// Where BatchNorm's moments come from.
    pub batch_norm: BatchNormMode,
    /// Whether operations are recorded; without it there is no backward and hardly any memory.
    pub records: bool,
    /// Whether the activations between two taps are made again in backward instead of kept.
    pub recomputes: bool,
    /// The largest probability with which drop path drops a residual branch (that of the last block).
    pub drop_path: f64,
    /// Key of everything random: of (run, step).
    pub random: Random,
    /// Number of the first sample within the step, so that micro-batches draw what the whole batch would.
    pub first_sample: usize,
}

impl Default for TrainOptions {
    /// A recorded pass with moments of the batch and without drop path.
    fn default() -> Self {
        Self {
            batch_norm: BatchNormMode::Batch,
            records: true,
            recomputes: false,
            drop_path: 0.0,
            random: Random::new(0),
            first_sample: 0,
        }
    }
}

/// What flows between operations: maps of a batch, or its token ids.
pub struct Tensor<D: Device>(Value<D>);

enum Value<D: Device> {
    Map(Rc<Handle<D>>),
    Ids { batch: usize, ids: Rc<[u32]> },
}

impl<D: Device> Clone for Tensor<D> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Value::Map(handle) => Value::Map(Rc::clone(handle)),
            Value::Ids { batch, ids } => Value::Ids { batch: *batch, ids: Rc::clone(ids) },
        })
    }
}

impl<D: Device> Tensor<D> {
    /// # Panics
    /// If these are ids: the program gives ids only to `embed` and `take`.
    fn node(&self) -> &Rc<Node<D>> {
        match &self.0 {
            Value::Map(handle) => &handle.0,
            Value::Ids { .. } => panic!("token ids are no map"),
        }
    }

    fn ids(&self) -> (usize, &Rc<[u32]>) {
        match &self.0 {
            Value::Ids { batch, ids } => (*batch, ids),
            Value::Map(_) => panic!("a map is no token ids"),
        }
    }
}

/// One pass: implements [`Ops`], then walks back.
pub struct Train<'a, D: Device> {
    device: &'a D,
    parameters: &'a Parameters,
    options: TrainOptions,
    names: Names,
    tape: RefCell<Tape<D>>,
    statistics: RefCell<Vec<BatchStatistics>>,
}

impl<'a, D: Device + 'static> Train<'a, D> {
    /// A pass over these parameters.
    pub fn new(device: &'a D, parameters: &'a Parameters, options: TrainOptions) -> Self {
        Self {
            device,
            parameters,
            options,
            names: Names::default(),
            tape: RefCell::new(Tape::new(options.recomputes)),
            statistics: RefCell::default(),
        }
    }

    /// A batch of images: `[batch, 3, height, width]`, normalised.
    ///
    /// # Panics
    /// If there are not so many values.
    pub fn images(&self, batch: usize, height: usize, width: usize, values: &[f32]) -> Tensor<D> {
        let shape = Tower::Image.input(height, width);
        let value = self.device.upload(batch, shape, values);
        self.tensor(self.tape.borrow_mut().leaf(batch, shape, value))
    }

    /// A batch of token rows: `[batch, tokens]`.
    ///
    /// # Panics
    /// If the ids are no such rows.
    pub fn texts(&self, batch: usize, ids: &[u32]) -> Tensor<D> {
        assert!(batch > 0 && ids.len().is_multiple_of(batch), "{} ids in {batch} rows", ids.len());
        Tensor(Value::Ids { batch, ids: ids.into() })
    }

    /// The numbers of features `(C, 1, 1)`: a row for each sample. Of maps: `[batch, C, H, W]`.
    pub fn rows(&self, x: &Tensor<D>) -> Vec<f32> {
        self.device.download(&x.node().value())
    }

    /// Walks back from gradients of features (in the layout of [`Train::rows`]), adding to the parameters' gradients. Returns
    /// what BatchNorm saw, to be applied once in a step.
    ///
    /// # Panics
    /// If a gradient has not the feature's length.
    pub fn backward(
        self,
        outputs: &[(Tensor<D>, &[f32])],
        gradients: &mut Gradients,
    ) -> Vec<BatchStatistics> {
        let context = Context { device: self.device, parameters: self.parameters };
        let seeds = outputs
            .iter()
            .filter(|(x, _)| x.node().is_differentiated)
            .map(|(x, gradient)| {
                let node = x.node();
                (Rc::clone(node), self.device.upload(node.batch, node.shape, gradient))
            })
            .collect();
        self.tape.into_inner().backward(&context, seeds, gradients);
        self.statistics.into_inner()
    }

    /// Ends the pass without gradients and returns what BatchNorm saw.
    pub fn finish(self) -> Vec<BatchStatistics> {
        self.statistics.into_inner()
    }

    fn tensor(&self, handle: Handle<D>) -> Tensor<D> {
        Tensor(Value::Map(Rc::new(handle)))
    }

    /// # Panics
    /// If the parameters have no such tensor: they were made from the program's own manifest.
    fn place(&self, name: String) -> usize {
        self.parameters.index(&name).unwrap_or_else(|| panic!("the parameters have no `{name}`"))
    }

    fn leaf(&self, name: &str, leaf: &str) -> usize {
        self.place(self.names.leaf(name, leaf))
    }

    /// Runs an operation and records it if a gradient may be wanted.
    fn run(
        &self,
        operation: impl Operation<D> + 'static,
        inputs: &[&Tensor<D>],
        batch: usize,
        shape: Shape,
    ) -> Tensor<D> {
        let nodes: Vec<Rc<Node<D>>> = inputs.iter().map(|x| Rc::clone(x.node())).collect();
        let values: Vec<D::Tensor> = nodes.iter().map(|node| node.value()).collect();
        let context = Context { device: self.device, parameters: self.parameters };
        let value = operation.forward(&context, &values);
        let is_differentiated = nodes.iter().any(|node| node.is_differentiated)
            || operation.parameters().iter().any(|&index| self.parameters.is_trained(index));
        let mut tape = self.tape.borrow_mut();
        self.tensor(match self.options.records && is_differentiated {
            true => tape.record(Box::new(operation), nodes, shape, batch, value),
            false => tape.leaf(batch, shape, value),
        })
    }

    /// An operation on one map that keeps the batch.
    fn map(
        &self,
        operation: impl Operation<D> + 'static,
        x: &Tensor<D>,
        shape: impl FnOnce(Shape) -> Shape,
    ) -> Tensor<D> {
        let node = x.node();
        self.run(operation, &[x], node.batch, shape(node.shape))
    }

    fn convolution(
        &self,
        conv: Conv,
        is_transposed: bool,
        weight: usize,
        bias: Option<usize>,
    ) -> Convolution {
        let is_trained = self.parameters.is_trained(weight);
        Convolution { conv, is_transposed, weight, bias, parts: [Part::WHOLE; 2], is_trained }
    }
}

impl<D: Device + 'static> Ops for Train<'_, D> {
    type Tensor = Tensor<D>;

    fn scope<R>(&self, name: &str, body: impl FnOnce(&Self) -> R) -> R {
        self.names.scope(name, || body(self))
    }

    fn shape(&self, x: &Tensor<D>) -> Shape {
        match &x.0 {
            Value::Map(handle) => handle.0.shape,
            Value::Ids { batch, ids } => Shape::tokens(1, ids.len() / batch),
        }
    }

    fn tap(&self, x: Tensor<D>) -> Tensor<D> {
        self.tape.borrow_mut().close_segment();
        x
    }

    fn parameter(&self, _name: &str, _shape: &[usize]) {}

    fn conv(&self, name: &str, x: &Tensor<D>, conv: &Conv) -> Tensor<D> {
        let bias = conv.bias.then(|| self.leaf(name, "bias"));
        let operation = self.convolution(*conv, false, self.leaf(name, "weight"), bias);
        self.map(operation, x, |shape| output_shape(conv, shape))
    }

    fn linear(&self, x: &Tensor<D>, linear: &Linear) -> Tensor<D> {
        let bias = linear.bias.map(|bias| self.place(self.names.of(bias)));
        let weight = self.place(self.names.of(linear.weight));
        let parts = [linear.weight_part, linear.bias_part];
        let operation =
            Convolution { parts, ..self.convolution(linear.as_conv(), linear.transposed, weight, bias) };
        self.map(operation, x, |shape| shape.with_channels(linear.outputs))
    }

    fn batch_norm(&self, name: &str, x: &Tensor<D>, eps: f64) -> Tensor<D> {
        let [running_mean, running_var, counter] =
            ["running_mean", "running_var", "num_batches_tracked"].map(|leaf| self.leaf(name, leaf));
        let (weight, bias) = (self.leaf(name, "weight"), self.leaf(name, "bias"));
        // A frozen BatchNorm keeps its statistics, too.
        let constant =
            self.options.batch_norm == BatchNormMode::Running || !self.parameters.is_trained(weight);
        let node = x.node();
        let moments = if constant {
            let values = |i| self.parameters.values(i).iter().map(|v| f64::from(*v)).collect();
            Moments { mean: values(running_mean), variance: values(running_var) }
        } else {
            let moments = self.device.moments(&node.value());
            self.statistics.borrow_mut().push(BatchStatistics {
                running_mean,
                running_var,
                counter,
                mean: moments.mean.clone(),
                variance: moments.variance.clone(),
                count: node.batch * node.shape.pixels(),
            });
            moments
        };
        self.map(BatchNorm { weight, bias, eps, moments, constant }, x, |shape| shape)
    }

    fn layer_scale(&self, name: &str, x: &Tensor<D>) -> Tensor<D> {
        let scale = self.leaf(name, "");
        let is_trained = self.parameters.is_trained(scale);
        self.map(LayerScale { scale, is_trained }, x, |shape| shape)
    }

    fn branches(
        &self,
        _name: &str,
        x: &Tensor<D>,
        _fused: &Conv,
        train: impl FnOnce(&Self, &Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        train(self, x)
    }

    fn add(&self, a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
        let node = a.node();
        self.run(Sum { is_difference: false }, &[a, b], node.batch, node.shape)
    }

    fn sub(&self, a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
        let node = a.node();
        self.run(Sum { is_difference: true }, &[a, b], node.batch, node.shape)
    }

    fn drop_path(&self, name: &str, x: &Tensor<D>, depth: f64) -> Tensor<D> {
        let rate = self.options.drop_path * depth;
        if rate <= 0.0 {
            return x.clone();
        }
        // Kept branches are scaled up, so that the expectation stays.
        let keep = 1.0 - rate;
        let random = self.options.random.with_name(&self.names.of(name));
        let factor = |sample: usize| {
            let number = random.with((self.options.first_sample + sample) as u64).unit();
            if number < keep { (1.0 / keep) as f32 } else { 0.0 }
        };
        let factors = (0..x.node().batch).map(factor).collect();
        self.map(ScaleSamples { factors }, x, |shape| shape)
    }

    fn layer_norm(&self, name: &str, x: &Tensor<D>, eps: f64) -> Tensor<D> {
        let (weight, bias) = (self.leaf(name, "weight"), self.leaf(name, "bias"));
        self.map(LayerNorm { weight, bias, eps }, x, |shape| shape)
    }

    fn activation(&self, x: &Tensor<D>, activation: Activation) -> Tensor<D> {
        self.map(Activate(activation), x, |shape| shape)
    }

    fn attention(&self, qkv: &Tensor<D>, attention: &Attention) -> Tensor<D> {
        self.map(Attend(*attention), qkv, |shape| shape.with_channels(attention.width()))
    }

    fn cross_attention(
        &self,
        qkv: [&Tensor<D>; 3],
        attention: &Attention,
        seen: Seen<Tensor<D>>,
    ) -> Tensor<D> {
        let ids = match seen {
            Seen::All => None,
            Seen::Padded(ids) => Some(Rc::clone(ids.ids().1)),
        };
        let q = qkv[0].node();
        let shape = Shape::tokens(attention.width(), q.shape.pixels());
        self.run(Look { attention: *attention, ids }, &qkv, q.batch, shape)
    }

    fn mean_pool(&self, x: &Tensor<D>) -> Tensor<D> {
        self.map(MeanPool, x, |shape| Shape::new(shape.channels, 1, 1))
    }

    fn gate(&self, x: &Tensor<D>, gate: &Tensor<D>) -> Tensor<D> {
        let node = x.node();
        self.run(Gate, &[x, gate], node.batch, node.shape)
    }

    fn embed(&self, name: &str, ids: &Tensor<D>, _vocabulary: usize, width: usize) -> Tensor<D> {
        let (batch, ids) = ids.ids();
        let operation = Embed { batch, ids: Rc::clone(ids), table: self.leaf(name, ""), width };
        self.run(operation, &[], batch, Shape::tokens(width, ids.len() / batch))
    }

    /// # Panics
    /// If the table has to be resampled: models are trained at the size that their table is for.
    fn positions(&self, name: &str, x: &Tensor<D>, positions: &Positions) -> Tensor<D> {
        let fits = positions.grid == positions.target || positions.resample == Resample::Prefix;
        assert!(
            fits,
            "`{}` has {:?} positions, not {:?}",
            self.names.of(name),
            positions.grid,
            positions.target
        );
        let operation = AddPositions { table: self.leaf(name, ""), len: self.shape(x).elements() };
        self.map(operation, x, |shape| shape)
    }

    fn class_token(&self, name: &str, x: &Tensor<D>, _shape: &[usize]) -> Tensor<D> {
        let token = self.leaf(name, "");
        self.map(ClassToken { token }, x, |shape| Shape::tokens(shape.channels, shape.pixels() + 1))
    }

    fn append_token(&self, name: &str, x: &Tensor<D>) -> Tensor<D> {
        let tokens = self.shape(x).pixels();
        let in_front = self.class_token(name, x, &[]);
        let places = (1..=tokens).chain([0]).collect();
        self.map(Select { places }, &in_front, |shape| shape)
    }

    fn queries(&self, name: &str, like: &Tensor<D>, count: usize, width: usize) -> Tensor<D> {
        let batch = like.node().batch;
        let ids = (0..batch).flat_map(|_| 0..count as u32).collect();
        let operation = Embed { batch, ids, table: self.leaf(name, ""), width };
        self.run(operation, &[], batch, Shape::tokens(width, count))
    }

    fn trim(&self, x: &Tensor<D>, front: usize, back: usize) -> Tensor<D> {
        let places: Vec<usize> = (front..self.shape(x).pixels() - back).collect();
        let tokens = places.len();
        self.map(Select { places }, x, |shape| Shape::tokens(shape.channels, tokens))
    }

    fn take(&self, x: &Tensor<D>, which: Take<Tensor<D>>) -> Tensor<D> {
        let places = match which {
            Take::First => vec![0; x.node().batch],
            Take::Last => vec![x.node().shape.pixels() - 1; x.node().batch],
            Take::EndOfText(ids) => {
                let (batch, ids) = ids.ids();
                ids.chunks_exact((ids.len() / batch).max(1)).map(end_of_text).collect()
            }
        };
        self.map(TakePixel { places }, x, |shape| Shape::new(shape.channels, 1, 1))
    }
}

/// The place of the largest id, the first such.
fn end_of_text(ids: &[u32]) -> usize {
    (0..ids.len()).fold(0, |best, i| if ids[i] > ids[best] { i } else { best })
}
