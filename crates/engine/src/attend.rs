//! Attention that the packed kernel does not do: over another sequence, over what texts keep, with padding. It is a small part
//! of any tower; loops run along keys and along channels, which the compiler vectorises without changing an order of sums.

use std::ops::Range;

use mobileclip_arch::{Attention, class_sees};
use mobileclip_kernels::{LANES, MapMut, MapRef};

/// Keys and values of some tokens.
#[derive(Clone, Debug)]
pub(crate) struct KeysValues {
    /// `[D][capacity]`
    keys: Vec<f32>,
    /// `[capacity][D]`
    values: Vec<f32>,
    width: usize,
    capacity: usize,
}

impl KeysValues {
    pub(crate) fn new(width: usize, capacity: usize) -> Self {
        Self { keys: vec![0.0; width * capacity], values: vec![0.0; width * capacity], width, capacity }
    }

    /// Of keys and values `[D][tokens]`.
    pub(crate) fn of_planar(width: usize, keys: Vec<f32>, values: &[f32]) -> Self {
        let capacity = keys.len() / width;
        let values = (0..values.len()).map(|i| values[i % width * capacity + i / width]).collect();
        Self { keys, values, width, capacity }
    }

    /// Of some tokens: these channels.
    fn gather(k: MapRef, v: MapRef, channels: Range<usize>, tokens: &[usize]) -> Self {
        let mut made = Self::new(channels.len(), tokens.len());
        for (place, &token) in tokens.iter().enumerate() {
            for (d, channel) in channels.clone().enumerate() {
                made.keys[d * made.capacity + place] = at(k, channel, token);
                made.values[place * made.width + d] = at(v, channel, token);
            }
        }
        made
    }

    /// How many tokens fit.
    pub(crate) const fn tokens(&self) -> usize {
        self.capacity
    }

    /// Puts a token's key and value at a place.
    pub(crate) fn put(&mut self, place: usize, key: &[f32], value: &[f32]) {
        for (d, k) in key.iter().enumerate() {
            self.keys[d * self.capacity + place] = *k;
        }
        self.values[place * self.width..][..self.width].copy_from_slice(value);
    }

    /// One query `[D]` over the first `seen` tokens, for all of the heads.
    pub(crate) fn attend(&self, head_width: usize, q: &[f32], seen: usize, out: &mut [f32]) {
        let scale = (1.0 / (head_width as f64).sqrt()) as f32;
        let mut scores = vec![0.0; seen];
        for (first, out) in (0..self.width).step_by(head_width).zip(out.chunks_exact_mut(head_width)) {
            scores.fill(0.0);
            for (d, q) in q[first..first + head_width].iter().enumerate() {
                let keys = &self.keys[(first + d) * self.capacity..][..seen];
                scores.iter_mut().zip(keys).for_each(|(score, k)| *score += q * k);
            }
            let factor = softmax(&mut scores, scale);
            out.fill(0.0);
            for (s, score) in scores.iter().enumerate() {
                let values = &self.values[s * self.width + first..][..head_width];
                out.iter_mut().zip(values).for_each(|(out, v)| *out += score * v);
            }
            out.iter_mut().for_each(|out| *out *= factor);
        }
    }
}

fn at(map: MapRef, channel: usize, pixel: usize) -> f32 {
    map.lanes(channel / LANES, pixel)[channel % LANES]
}

/// Turns scores into exponentials and returns one over their sum.
fn softmax(scores: &mut [f32], scale: f32) -> f32 {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = ((*score - largest) * scale).exp());
    (1.0 / scores.iter().copied().map(f64::from).sum::<f64>()) as f32
}

/// Which keys a query sees.
#[derive(Clone, Copy)]
pub(crate) enum Seen<'a> {
    /// All of them.
    All,
    /// Those up to itself; the class token behind these ids, what [`class_sees`] says.
    Padded(&'a [u32]),
}

/// Some heads of attention with q, k and v apart. `out` has the blocks of these heads only.
pub(crate) fn attend(
    attention: &Attention,
    [q, k, v]: [MapRef; 3],
    heads: Range<usize>,
    seen: Seen,
    mut out: MapMut,
) {
    let width = attention.head_width;
    let first = heads.start * width;
    let (mut query, mut mixed) = (vec![0.0; width], vec![0.0; width]);
    let all: Vec<usize> = (0..k.pixels()).collect();
    for head in heads {
        let channels = head * width..(head + 1) * width;
        let memory = KeysValues::gather(k, v, channels.clone(), &all);
        for t in 0..q.pixels() {
            query.iter_mut().zip(channels.clone()).for_each(|(value, channel)| *value = at(q, channel, t));
            match seen {
                Seen::Padded(ids) if t == ids.len() => {
                    let sees = |s: &usize| class_sees(|place| ids[place], *s);
                    let keys: Vec<usize> = all.iter().copied().filter(sees).collect();
                    let memory = KeysValues::gather(k, v, channels.clone(), &keys);
                    memory.attend(width, &query, keys.len(), &mut mixed);
                }
                Seen::Padded(_) => memory.attend(width, &query, t + 1, &mut mixed),
                Seen::All => memory.attend(width, &query, all.len(), &mut mixed),
            }
            for (value, channel) in mixed.iter().zip(channels.clone()) {
                let channel = channel - first;
                out.lanes_mut(channel / LANES, t)[channel % LANES] = *value;
            }
        }
    }
}
