//! Attention with queries, keys and values apart, as captioners have it: plain loops, a sample to a task.

use mobileclip_arch::{Attention, Seen, Shape, class_sees};
use mobileclip_kernels::{self as kernels, Chunks};

use super::{Cpu, CpuTensor};

/// Rows `[tokens][D]` of one sample.
#[derive(Clone, Copy)]
struct Sample<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    width: usize,
    head_width: usize,
    /// The ids of the row, where the last query is a class token.
    ids: Option<&'a [u32]>,
}

impl<'a> Sample<'a> {
    /// A token's numbers of the head that starts at channel `first`.
    fn head(&self, rows: &'a [f32], token: usize, first: usize) -> &'a [f32] {
        &rows[token * self.width + first..][..self.head_width]
    }

    fn sees(&self, query: usize, key: usize) -> bool {
        match self.ids {
            None => true,
            Some(ids) if query == ids.len() => class_sees(|place| ids[place], key),
            Some(_) => key <= query,
        }
    }

    fn scale(&self) -> f32 {
        (self.head_width as f64).powf(-0.5) as f32
    }

    /// The weights of all keys, zero for those that are not seen.
    fn weights(&self, query: usize, first: usize) -> Vec<f32> {
        let q = self.head(self.q, query, first);
        let score = |key: usize| match self.sees(query, key) {
            true => self.scale() * dot(q, self.head(self.k, key, first)),
            false => f32::NEG_INFINITY,
        };
        let mut weights: Vec<f32> = (0..self.k.len() / self.width).map(score).collect();
        let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
        let sum = weights.iter().copied().map(f64::from).sum::<f64>() as f32;
        weights.iter_mut().for_each(|w| *w /= sum);
        weights
    }

    /// Each query of each head, as its number and its head's first channel.
    fn each(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (width, head_width) = (self.width, self.head_width);
        (0..self.q.len() / width).flat_map(move |t| (0..width).step_by(head_width).map(move |c| (t, c)))
    }

    fn forward(&self, out: &mut [f32]) {
        for (t, first) in self.each() {
            let out = &mut out[t * self.width + first..][..self.head_width];
            out.fill(0.0);
            for (key, weight) in self.weights(t, first).into_iter().enumerate() {
                add_scaled(out, weight, self.head(self.v, key, first));
            }
        }
    }

    fn backward(&self, dy: &[f32], [dq, dk, dv]: [&mut [f32]; 3]) {
        [&mut *dq, &mut *dk, &mut *dv].into_iter().for_each(|rows| rows.fill(0.0));
        for (t, first) in self.each() {
            let at = |token: usize| token * self.width + first..token * self.width + first + self.head_width;
            let (weights, dy) = (self.weights(t, first), &dy[at(t)]);
            let gradients: Vec<f32> =
                (0..weights.len()).map(|key| dot(dy, self.head(self.v, key, first))).collect();
            let mean = dot(&weights, &gradients);
            for (key, (weight, gradient)) in weights.into_iter().zip(gradients).enumerate() {
                let score = self.scale() * weight * (gradient - mean);
                add_scaled(&mut dv[at(key)], weight, dy);
                add_scaled(&mut dq[at(t)], score, self.head(self.k, key, first));
                add_scaled(&mut dk[at(key)], score, self.head(self.q, t, first));
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

impl Cpu {
    pub(super) fn look(
        &self,
        qkv: [&CpuTensor; 3],
        attention: &Attention,
        seen: Seen<'_, [u32]>,
    ) -> CpuTensor {
        let (batch, shape) = (qkv[0].batch, Shape::tokens(attention.width(), qkv[0].shape.pixels()));
        let rows = qkv.map(rows);
        let mut mixed = vec![0.0; batch * shape.elements()];
        let chunks = Chunks::new(&mut mixed, shape.elements().max(1));
        self.each(batch, 0, |sample, _| {
            of_sample(&rows, attention, &seen, batch, sample).forward(chunks.claim(sample));
        });
        self.tensor_of_rows(batch, shape, &mixed)
    }

    pub(super) fn look_gradient(
        &self,
        qkv: [&CpuTensor; 3],
        attention: &Attention,
        seen: Seen<'_, [u32]>,
        dy: &CpuTensor,
    ) -> [CpuTensor; 3] {
        let batch = dy.batch;
        let (rows, dy) = (qkv.map(rows), self::rows(dy));
        let mut given = qkv.map(|x| vec![0.0; batch * x.shape.elements()]);
        {
            let lens = given.each_ref().map(|rows| (rows.len() / batch).max(1));
            let [a, b, c] = &mut given;
            let chunks = [Chunks::new(a, lens[0]), Chunks::new(b, lens[1]), Chunks::new(c, lens[2])];
            self.each(batch, 0, |sample, _| {
                let of = of_sample(&rows, attention, &seen, batch, sample);
                let [dq, dk, dv] = &chunks;
                let given = [dq.claim(sample), dk.claim(sample), dv.claim(sample)];
                of.backward(part(&dy, batch, sample), given);
            });
        }
        std::array::from_fn(|i| self.tensor_of_rows(batch, qkv[i].shape, &given[i]))
    }

    fn tensor_of_rows(&self, batch: usize, shape: Shape, rows: &[f32]) -> CpuTensor {
        let mut out = self.new_tensor(batch, shape);
        kernels::pack_rows(rows, shape.channels, out.view_mut());
        out
    }
}

/// `[batch · tokens][D]`
fn rows(x: &CpuTensor) -> Vec<f32> {
    let mut rows = vec![0.0; x.batch * x.shape.elements()];
    kernels::unpack_rows(x.view(), x.shape.channels, &mut rows);
    rows
}

fn part<T>(of: &[T], batch: usize, sample: usize) -> &[T] {
    let len = of.len() / batch;
    &of[sample * len..][..len]
}

fn of_sample<'a>(
    [q, k, v]: &'a [Vec<f32>; 3],
    attention: &Attention,
    seen: &Seen<'a, [u32]>,
    batch: usize,
    sample: usize,
) -> Sample<'a> {
    let ids = match seen {
        Seen::All => None,
        Seen::Padded(ids) => Some(part(ids, batch, sample)),
    };
    let [q, k, v] = [q, k, v].map(|rows| part(rows, batch, sample));
    Sample { q, k, v, width: attention.width(), head_width: attention.head_width, ids }
}
