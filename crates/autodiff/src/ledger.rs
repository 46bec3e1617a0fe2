//! A device that computes nothing and keeps the books: what a pass over a batch takes of memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use mobileclip_arch::{Activation, Attention, Seen, Shape};

use crate::device::{Device, Matrix, Moments};
use crate::operations::output_shape;

/// Channels of a block of [`Cpu`](crate::Cpu)'s layout, to whose multiples they are filled up.
const LANES: usize = 16;

/// Counts the bytes that [`Cpu`](crate::Cpu) would take from the system for tensors: it uses the buffers of dead ones again for new ones
/// of nearly the same length, and gives none back. What operations need for themselves (packed weights, a tile on each thread) is not
/// counted.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Rc<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// Bytes of all buffers.
    taken: Cell<u64>,
    /// How many buffers of a length nobody holds.
    free: RefCell<BTreeMap<u64, usize>>,
}

impl Ledger {
    /// Bytes of all buffers so far.
    pub fn bytes(&self) -> u64 {
        self.books.taken.get()
    }

    fn sheet(&self, batch: usize, shape: Shape) -> Sheet {
        let blocks = shape.channels.div_ceil(LANES);
        let wanted: u64 = [blocks, LANES, shape.pixels(), batch, 4].iter().map(|&n| n as u64).product();
        let mut free = self.books.free.borrow_mut();
        let found = free.range_mut(wanted..=wanted + wanted / 8).find(|(_, count)| **count > 0);
        let bytes = match found {
            Some((&bytes, count)) => {
                *count -= 1;
                bytes
            }
            None => {
                self.books.taken.set(self.books.taken.get() + wanted);
                wanted
            }
        };
        Sheet(Rc::new(Entry { batch, shape, bytes, books: Rc::clone(&self.books) }))
    }

    /// What is written in place of a tensor that nobody else holds.
    fn over(&self, x: Sheet) -> Sheet {
        if Rc::strong_count(&x.0) == 1 { x } else { self.like(&x) }
    }

    fn like(&self, x: &Sheet) -> Sheet {
        self.sheet(x.0.batch, x.0.shape)
    }
}

/// A tensor without numbers.
#[derive(Clone, Debug)]
pub struct Sheet(Rc<Entry>);

#[derive(Debug)]
struct Entry {
    batch: usize,
    shape: Shape,
    bytes: u64,
    books: Rc<Books>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        *self.books.free.borrow_mut().entry(self.bytes).or_default() += 1;
    }
}

impl Device for Ledger {
    type Tensor = Sheet;

    fn upload(&self, batch: usize, shape: Shape, _: &[f32]) -> Sheet {
        self.sheet(batch, shape)
    }

    fn download(&self, x: &Sheet) -> Vec<f32> {
        vec![0.0; x.0.batch * x.0.shape.elements()]
    }

    fn add(&self, a: Sheet, _: &Sheet) -> Sheet {
        self.over(a)
    }

    fn sub(&self, a: Sheet, _: &Sheet) -> Sheet {
        self.over(a)
    }

    fn scale_samples(&self, x: Sheet, _: &[f32]) -> Sheet {
        self.over(x)
    }

    fn convolve(&self, x: &Sheet, matrix: &Matrix) -> Sheet {
        self.sheet(x.0.batch, output_shape(&matrix.conv, x.0.shape))
    }

    fn convolve_input(&self, shape: Shape, _: &Matrix, dy: &Sheet, into: Option<Sheet>) -> Sheet {
        into.map_or_else(|| self.sheet(dy.0.batch, shape), |into| self.over(into))
    }

    fn convolve_weight(&self, _: &Sheet, _: &Matrix, _: &Sheet, _: &mut [f32]) {}

    fn channel_sums(&self, _: &Sheet, _: &mut [f32]) {}

    fn moments(&self, x: &Sheet) -> Moments {
        let channels = x.0.shape.channels;
        Moments { mean: vec![0.0; channels], variance: vec![0.0; channels] }
    }

    fn normalise(&self, x: &Sheet, _: &Moments, _: f64, _: &[f32], _: &[f32]) -> Sheet {
        self.like(x)
    }

    fn normalise_gradient(
        &self,
        _: &Sheet,
        _: &Moments,
        _: f64,
        _: &[f32],
        _: bool,
        dy: Sheet,
        wanted: bool,
        _: &mut [f32],
        _: &mut [f32],
    ) -> Option<Sheet> {
        wanted.then(|| self.over(dy))
    }

    fn scale_channels(&self, x: Sheet, _: &[f32]) -> Sheet {
        self.over(x)
    }

    fn scale_gradient(&self, _: &Sheet, _: &Sheet, _: &mut [f32]) {}

    fn layer_norm(&self, x: &Sheet, _: f64, _: &[f32], _: &[f32]) -> Sheet {
        self.like(x)
    }

    fn layer_norm_gradient(
        &self,
        _: &Sheet,
        _: f64,
        _: &[f32],
        dy: Sheet,
        _: &mut [f32],
        _: &mut [f32],
    ) -> Sheet {
        self.over(dy)
    }

    fn activate(&self, x: &Sheet, _: Activation) -> Sheet {
        self.like(x)
    }

    fn activate_gradient(&self, _: &Sheet, _: Activation, dy: Sheet) -> Sheet {
        self.over(dy)
    }

    fn attend(&self, qkv: &Sheet, attention: &Attention) -> Sheet {
        self.sheet(qkv.0.batch, qkv.0.shape.with_channels(attention.width()))
    }

    fn attend_gradient(&self, qkv: &Sheet, _: &Attention, _: &Sheet) -> Sheet {
        self.like(qkv)
    }

    fn look(&self, [q, ..]: [&Sheet; 3], attention: &Attention, _: Seen<[u32]>) -> Sheet {
        self.sheet(q.0.batch, Shape::tokens(attention.width(), q.0.shape.pixels()))
    }

    fn look_gradient(&self, qkv: [&Sheet; 3], _: &Attention, _: Seen<[u32]>, _: &Sheet) -> [Sheet; 3] {
        qkv.map(|x| self.like(x))
    }

    fn mean_pool(&self, x: &Sheet) -> Sheet {
        self.sheet(x.0.batch, Shape::new(x.0.shape.channels, 1, 1))
    }

    fn mean_pool_gradient(&self, shape: Shape, dy: &Sheet) -> Sheet {
        self.sheet(dy.0.batch, shape)
    }

    fn gate(&self, x: &Sheet, _: &Sheet) -> Sheet {
        self.like(x)
    }

    fn gate_gradient(&self, _: &Sheet, gate: &Sheet, dy: Sheet) -> (Sheet, Sheet) {
        (self.over(dy), self.like(gate))
    }

    fn embed(&self, batch: usize, ids: &[u32], _: &[f32], width: usize) -> Sheet {
        self.sheet(batch, Shape::tokens(width, ids.len() / batch.max(1)))
    }

    fn embed_gradient(&self, _: &[u32], _: &Sheet, _: &mut [f32]) {}

    fn add_rows(&self, x: &Sheet, _: &[f32]) -> Sheet {
        self.like(x)
    }

    fn add_rows_gradient(&self, _: &Sheet, _: &mut [f32]) {}

    fn prepend(&self, x: &Sheet, _: &[f32]) -> Sheet {
        self.sheet(x.0.batch, Shape::tokens(x.0.shape.channels, x.0.shape.pixels() + 1))
    }

    fn prepend_gradient(&self, shape: Shape, dy: &Sheet, _: &mut [f32]) -> Sheet {
        self.sheet(dy.0.batch, shape)
    }

    fn select(&self, x: &Sheet, places: &[usize]) -> Sheet {
        self.sheet(x.0.batch, Shape::tokens(x.0.shape.channels, places.len()))
    }

    fn select_gradient(&self, shape: Shape, _: &[usize], dy: &Sheet) -> Sheet {
        self.sheet(dy.0.batch, shape)
    }

    fn take(&self, x: &Sheet, _: &[usize]) -> Sheet {
        self.sheet(x.0.batch, Shape::new(x.0.shape.channels, 1, 1))
    }

    fn take_gradient(&self, shape: Shape, _: &[usize], dy: &Sheet) -> Sheet {
        self.sheet(dy.0.batch, shape)
    }
}
