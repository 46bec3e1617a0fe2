//! The reading that computes nothing: names, shapes, parameter and operation counts.

use std::cell::{Cell, RefCell};

use crate::model::Tower;
use crate::names::Names;
use crate::ops::{Activation, Attention, Conv, Linear, Ops, Part, Positions, Seen, Shape, Take};
use crate::variant::Variant;

/// In which form of a checkpoint a tensor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// In both.
    Any,
    /// Only with its parallel branches unfused, as training needs them.
    Train,
    /// Only with fused branches (`reparam_conv`).
    Deploy,
}

/// What a tensor is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A learnt parameter.
    Parameter,
    /// A running statistic of BatchNorm.
    Statistic,
    /// BatchNorm's count of batches, an int64 scalar that inference never reads.
    Counter,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The canonical name.
    pub name: String,
    /// The stored shape.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Where it stands.
    pub form: Form,
    /// The tower it belongs to; `logit_scale` and the decoder of captions belong to none.
    pub tower: Option<Tower>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}

/// What a checkpoint of a variant holds, and what the towers cost.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Every tensor of either form, in the program's order.
    pub tensors: Vec<TensorSpec>,
    /// Multiply-adds of convolutions and matrix products of the fused image tower at the trained resolution.
    pub image_multiply_adds: u64,
    /// The same of the text tower at the full context.
    pub text_multiply_adds: u64,
}

impl Manifest {
    /// Reads the variant's program.
    pub fn of(variant: &Variant) -> Self {
        let counter = Counter::default();
        variant.declare_scale(&counter);
        let mut multiply_adds = [0; 2];
        for (tower, count) in [Tower::Image, Tower::Text].into_iter().zip(&mut multiply_adds) {
            counter.tower.set(Some(tower));
            variant.encode(tower, &counter, &variant.input(tower));
            *count = counter.multiply_adds.take();
        }
        if let Some(coca) = variant.coca() {
            counter.tower.set(None);
            let tokens = |count| Shape::tokens(coca.width(), count);
            let memory = coca.memory(&counter, &tokens(coca.image_tokens()));
            coca.logits(&counter, &tokens(variant.text.context), &memory);
        }
        let [image_multiply_adds, text_multiply_adds] = multiply_adds;
        Self { tensors: counter.tensors.into_inner(), image_multiply_adds, text_multiply_adds }
    }

    /// The tensors of one form; [`Form::Any`] stands for neither.
    pub fn of_form(&self, form: Form) -> impl Iterator<Item = &TensorSpec> {
        self.tensors.iter().filter(move |t| t.form == Form::Any || t.form == form)
    }

    /// Whether the two forms differ at all.
    pub fn has_branches(&self) -> bool {
        self.tensors.iter().any(|t| t.form != Form::Any)
    }

    /// Learnt parameters of the decoder of captions.
    pub fn decoder_parameters(&self) -> u64 {
        let own = self.tensors.iter().filter(|t| t.tower.is_none() && t.name != "logit_scale");
        own.map(TensorSpec::elements).sum()
    }

    /// Learnt parameters of a form, of one tower or (with `None`) of the whole model.
    pub fn parameters(&self, form: Form, tower: Option<Tower>) -> u64 {
        self.of_form(form)
            .filter(|t| t.role == Role::Parameter && (tower.is_none() || t.tower == tower))
            .map(TensorSpec::elements)
            .sum()
    }
}

#[derive(Default)]
struct Counter {
    names: Names,
    tower: Cell<Option<Tower>>,
    form: Cell<Option<Form>>,
    tensors: RefCell<Vec<TensorSpec>>,
    multiply_adds: Cell<u64>,
}

impl Counter {
    fn tensor(&self, name: String, shape: &[usize], role: Role) {
        let form = self.form.get().unwrap_or(Form::Any);
        let spec = TensorSpec { name, shape: shape.to_vec(), role, form, tower: self.tower.get() };
        self.tensors.borrow_mut().push(spec);
    }

    fn parameter_of(&self, name: &str, leaf: &str, shape: &[usize]) {
        self.tensor(self.names.leaf(name, leaf), shape, Role::Parameter);
    }

    /// A parameter that is asked for part by part is listed once.
    fn stacked(&self, name: &str, part: Part, shape: &[usize]) {
        let full = self.names.of(name);
        let is_listed = || self.tensors.borrow().iter().rev().any(|t| t.name == full);
        if part == Part::WHOLE || !is_listed() {
            self.parameter_of(name, "", shape);
        }
    }

    /// Branches cost nothing: what runs is their sum.
    fn count(&self, multiply_adds: u64) {
        if self.form.get() != Some(Form::Train) {
            self.multiply_adds.set(self.multiply_adds.get().saturating_add(multiply_adds));
        }
    }

    fn in_form<R>(&self, form: Form, body: impl FnOnce() -> R) -> R {
        let outer = self.form.replace(Some(form));
        let result = body();
        self.form.set(outer);
        result
    }
}

impl Ops for Counter {
    type Tensor = Shape;

    fn scope<R>(&self, name: &str, body: impl FnOnce(&Self) -> R) -> R {
        self.names.scope(name, || body(self))
    }

    fn shape(&self, x: &Shape) -> Shape {
        *x
    }

    fn tap(&self, x: Shape) -> Shape {
        x
    }

    fn parameter(&self, name: &str, shape: &[usize]) {
        self.parameter_of(name, "", shape);
    }

    fn conv(&self, name: &str, x: &Shape, conv: &Conv) -> Shape {
        self.parameter_of(name, "weight", &conv.weight_shape());
        if conv.bias {
            self.parameter_of(name, "bias", &[conv.outputs]);
        }
        // The trained resolution fits every kernel of a variant that passed its checks; a map of one pixel stays one.
        let output = conv.output(*x).unwrap_or(Shape::new(conv.outputs, 1, 1));
        self.count(conv.multiply_adds(output));
        output
    }

    fn linear(&self, x: &Shape, linear: &Linear) -> Shape {
        self.stacked(linear.weight, linear.weight_part, &linear.weight_shape());
        if let Some(bias) = linear.bias {
            self.stacked(bias, linear.bias_part, &[linear.bias_len()]);
        }
        let output = x.with_channels(linear.outputs);
        self.count(linear.as_conv().multiply_adds(output));
        output
    }

    fn batch_norm(&self, name: &str, x: &Shape, _eps: f64) -> Shape {
        for leaf in ["weight", "bias"] {
            self.parameter_of(name, leaf, &[x.channels]);
        }
        for leaf in ["running_mean", "running_var"] {
            self.tensor(self.names.leaf(name, leaf), &[x.channels], Role::Statistic);
        }
        self.tensor(self.names.leaf(name, "num_batches_tracked"), &[], Role::Counter);
        *x
    }

    fn layer_scale(&self, name: &str, x: &Shape) -> Shape {
        self.parameter_of(name, "", &[x.channels, 1, 1]);
        *x
    }

    fn branches(
        &self,
        name: &str,
        x: &Shape,
        fused: &Conv,
        train: impl FnOnce(&Self, &Shape) -> Shape,
    ) -> Shape {
        self.in_form(Form::Train, || train(self, x));
        self.in_form(Form::Deploy, || self.conv(name, x, fused))
    }

    fn add(&self, a: &Shape, b: &Shape) -> Shape {
        debug_assert_eq!(a, b);
        *a
    }

    fn sub(&self, a: &Shape, b: &Shape) -> Shape {
        self.add(a, b)
    }

    fn layer_norm(&self, name: &str, x: &Shape, _eps: f64) -> Shape {
        for leaf in ["weight", "bias"] {
            self.parameter_of(name, leaf, &[x.channels]);
        }
        *x
    }

    fn activation(&self, x: &Shape, _activation: Activation) -> Shape {
        *x
    }

    fn attention(&self, qkv: &Shape, attention: &Attention) -> Shape {
        self.count(attention.multiply_adds(qkv.pixels()));
        qkv.with_channels(attention.width())
    }

    fn cross_attention(&self, [q, k, _]: [&Shape; 3], attention: &Attention, _seen: Seen<Shape>) -> Shape {
        self.count(attention.cross_multiply_adds(q.pixels(), k.pixels()));
        Shape::tokens(attention.width(), q.pixels())
    }

    fn mean_pool(&self, x: &Shape) -> Shape {
        Shape::new(x.channels, 1, 1)
    }

    fn gate(&self, x: &Shape, _gate: &Shape) -> Shape {
        *x
    }

    fn embed(&self, name: &str, ids: &Shape, vocabulary: usize, width: usize) -> Shape {
        self.parameter_of(name, "", &[vocabulary, width]);
        ids.with_channels(width)
    }

    fn positions(&self, name: &str, x: &Shape, positions: &Positions) -> Shape {
        self.parameter_of(name, "", positions.shape);
        *x
    }

    fn class_token(&self, name: &str, x: &Shape, shape: &[usize]) -> Shape {
        self.parameter_of(name, "", shape);
        Shape::tokens(x.channels, x.pixels() + 1)
    }

    fn append_token(&self, name: &str, x: &Shape) -> Shape {
        self.class_token(name, x, &[x.channels])
    }

    fn queries(&self, name: &str, _like: &Shape, count: usize, width: usize) -> Shape {
        self.parameter_of(name, "", &[count, width]);
        Shape::tokens(width, count)
    }

    fn trim(&self, x: &Shape, front: usize, back: usize) -> Shape {
        Shape::tokens(x.channels, x.pixels() - front - back)
    }

    fn take(&self, x: &Shape, _which: Take<Shape>) -> Shape {
        Shape::new(x.channels, 1, 1)
    }
}
