//! The record of a forward pass, and the walk back.
//!
//! Memory: a value lives as long as the program holds its handle, or a recorded operation needs it for its gradient, unless
//! it is made again by one cheap operation from values that are kept anyway. With recomputation, values inside a closed segment (from one `tap` to the next) live only as long as the program holds them;
//! the walk back runs the segment's operations again from the values at its borders. Operations are functions of their
//! inputs, so nothing changes but time and memory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use mobileclip_arch::Shape;

use crate::device::Device;
use crate::operations::{Context, Operation};
use crate::parameters::Gradients;

/// A value of the forward pass.
pub(crate) struct Node<D: Device> {
    id: usize,
    pub batch: usize,
    pub shape: Shape,
    /// Whether a gradient is wanted for it, or for something that it was made of.
    pub is_differentiated: bool,
    segment: usize,
    /// The entry that makes it again when it is gone and was not kept, see [`Operation::is_remade`].
    remade_by: Option<usize>,
    value: RefCell<Option<D::Tensor>>,
    /// Whether the program still has a handle.
    is_held: Cell<bool>,
    /// Whether a gradient needs the value.
    is_needed: Cell<bool>,
    /// Whether its segment is closed, so that it can be made again.
    is_closed: Cell<bool>,
    /// Whether an operation of a later segment reads it: then it is not made again.
    is_border: Cell<bool>,
}

impl<D: Device> Node<D> {
    /// # Panics
    /// If the value is gone, which it is not while the program holds a handle.
    pub fn value(&self) -> D::Tensor {
        self.kept().unwrap_or_else(|| panic!("the value of node {} is gone", self.id))
    }

    fn kept(&self) -> Option<D::Tensor> {
        self.value.borrow().clone()
    }

    fn release(&self) {
        let can_go = !self.is_needed.get() || self.is_closed.get() && !self.is_border.get();
        if !self.is_held.get() && can_go {
            self.value.take();
        }
    }
}

/// The program's handle of a node.
pub(crate) struct Handle<D: Device>(pub Rc<Node<D>>);

impl<D: Device> Drop for Handle<D> {
    fn drop(&mut self) {
        self.0.is_held.set(false);
        self.0.release();
    }
}

struct Entry<D: Device> {
    operation: Box<dyn Operation<D>>,
    inputs: Vec<Rc<Node<D>>>,
    output: Rc<Node<D>>,
}

/// Recorded operations, in order.
pub(crate) struct Tape<D: Device> {
    entries: Vec<Entry<D>>,
    nodes: usize,
    segment: usize,
    recomputes: bool,
}

impl<D: Device> Tape<D> {
    pub fn new(recomputes: bool) -> Self {
        Self { entries: Vec::new(), nodes: 0, segment: 0, recomputes }
    }

    /// A node that no recorded operation made.
    pub fn leaf(&mut self, batch: usize, shape: Shape, value: D::Tensor) -> Handle<D> {
        self.node(batch, shape, value, false, None)
    }

    fn node(
        &mut self,
        batch: usize,
        shape: Shape,
        value: D::Tensor,
        is_differentiated: bool,
        remade_by: Option<usize>,
    ) -> Handle<D> {
        self.nodes += 1;
        Handle(Rc::new(Node {
            id: self.nodes,
            batch,
            shape,
            is_differentiated,
            segment: self.segment,
            remade_by,
            value: RefCell::new(Some(value)),
            is_held: Cell::new(true),
            is_needed: Cell::new(false),
            is_closed: Cell::new(false),
            is_border: Cell::new(false),
        }))
    }

    /// A node that `operation` made, recorded.
    pub fn record(
        &mut self,
        operation: Box<dyn Operation<D>>,
        inputs: Vec<Rc<Node<D>>>,
        shape: Shape,
        batch: usize,
        value: D::Tensor,
    ) -> Handle<D> {
        let remade_by = operation.is_remade().then_some(self.entries.len());
        let output = self.node(batch, shape, value, true, remade_by);
        for (i, input) in inputs.iter().enumerate() {
            if operation.needs_input(i) && input.remade_by.is_none() {
                input.is_needed.set(true);
            }
            if self.recomputes && input.segment != self.segment {
                // What is made again reads it, whether or not a gradient does.
                input.is_needed.set(true);
                input.is_border.set(true);
            }
        }
        self.entries.push(Entry { operation, inputs, output: Rc::clone(&output.0) });
        output
    }

    /// Ends a segment: what is inside can be made again.
    pub fn close_segment(&mut self) {
        if !self.recomputes {
            return;
        }
        for entry in self.entries.iter().rev().take_while(|e| e.output.segment == self.segment) {
            entry.output.is_closed.set(true);
            entry.output.release();
        }
        self.segment += 1;
    }

    /// Walks back from gradients of some nodes, adding to the parameters' gradients.
    pub fn backward(
        mut self,
        context: &Context<'_, D>,
        seeds: Vec<(Rc<Node<D>>, D::Tensor)>,
        parameters: &mut Gradients,
    ) {
        let mut gradients = HashMap::new();
        for (node, gradient) in seeds {
            give(context.device, &mut gradients, &node, gradient);
        }
        let mut restored = usize::MAX;
        while let Some(last) = self.entries.last() {
            if self.recomputes && last.output.segment != restored {
                restored = last.output.segment;
                self.restore(context, restored);
            }
            let Some(entry) = self.entries.pop() else { return };
            if let Some(dy) = gradients.remove(&entry.output.id) {
                let (inputs, entries) = (&entry.inputs, &self.entries[..]);
                let mut step = Step { context, inputs, entries, gradients: &mut gradients, parameters };
                entry.operation.backward(&mut step, dy);
            }
        }
    }

    /// Makes the values of the last segment again.
    fn restore(&self, context: &Context<'_, D>, segment: usize) {
        let first = self.entries.iter().rposition(|e| e.output.segment != segment).map_or(0, |i| i + 1);
        for entry in &self.entries[first..] {
            if entry.output.remade_by.is_none() {
                value_of(context, &self.entries, &entry.output, Some(entry));
            }
        }
    }
}

/// The value of a node, made again by `entry` (or the one that is known to) if it is gone, and kept until the walk has
/// passed the node.
fn value_of<D: Device>(
    context: &Context<'_, D>,
    entries: &[Entry<D>],
    node: &Node<D>,
    entry: Option<&Entry<D>>,
) -> D::Tensor {
    let maker = entry.or_else(|| entries.get(node.remade_by?));
    let (None, Some(entry)) = (node.kept(), maker) else { return node.value() };
    let inputs: Vec<D::Tensor> =
        entry.inputs.iter().map(|input| value_of(context, entries, input, None)).collect();
    let value = entry.operation.forward(context, &inputs);
    *node.value.borrow_mut() = Some(value.clone());
    value
}

fn give<D: Device>(
    device: &D,
    gradients: &mut HashMap<usize, D::Tensor>,
    node: &Node<D>,
    gradient: D::Tensor,
) {
    let sum = match gradients.remove(&node.id) {
        Some(earlier) => device.add(earlier, &gradient),
        None => gradient,
    };
    gradients.insert(node.id, sum);
}

/// What one operation's backward reads and writes.
pub(crate) struct Step<'a, D: Device> {
    pub context: &'a Context<'a, D>,
    inputs: &'a [Rc<Node<D>>],
    /// What was recorded before.
    entries: &'a [Entry<D>],
    gradients: &'a mut HashMap<usize, D::Tensor>,
    parameters: &'a mut Gradients,
}

impl<D: Device> Step<'_, D> {
    /// The value of input `i`, for which [`Operation::needs_input`] holds.
    pub fn input(&self, i: usize) -> D::Tensor {
        value_of(self.context, self.entries, &self.inputs[i], None)
    }

    pub fn shape(&self, i: usize) -> Shape {
        self.inputs[i].shape
    }

    /// Whether input `i` wants a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.inputs[i].is_differentiated
    }

    /// Takes what other uses of input `i` have given so far; the caller gives the sum.
    pub fn earlier(&mut self, i: usize) -> Option<D::Tensor> {
        self.gradients.remove(&self.inputs[i].id)
    }

    /// Adds to the gradient of input `i`, if it wants one.
    pub fn give(&mut self, i: usize, gradient: D::Tensor) {
        if self.wants(i) {
            give(self.context.device, self.gradients, &self.inputs[i], gradient);
        }
    }

    /// The sum for a trained parameter.
    pub fn parameter(&mut self, index: usize) -> Option<&mut [f32]> {
        self.context.parameters.is_trained(index).then(|| self.parameters.sum(index))
    }

    /// Adds to the sums of two parameters, each if it is trained.
    pub fn add_both(&mut self, indices: [usize; 2], values: [Vec<f32>; 2]) {
        for (index, values) in indices.into_iter().zip(values) {
            if let Some(sum) = self.parameter(index) {
                sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
            }
        }
    }
}
