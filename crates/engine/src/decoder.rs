//! Texts that are continued token by token: a captioner's decoder with what it keeps of each text.

use std::sync::{Arc, RwLock};

use mobileclip_arch::{Coca, Weights};
use mobileclip_graph::Graph;
use mobileclip_kernels::{Isa, Pool, Precision};

use crate::attend::KeysValues;
use crate::error::EngineError;
use crate::tower::{Input, Output, Tower};

/// What the decoder reads of one image, for any number of texts about it.
#[derive(Debug)]
pub struct Memory(pub(crate) Vec<KeysValues>);

impl Memory {
    /// Of what the tower of `Graph::trace_memory` gave for an image; `width` is the decoder's.
    pub fn of(width: usize, output: Output) -> Self {
        let mut maps = output.taps.into_iter().map(|tap| tap.values);
        let pairs = std::iter::from_fn(|| maps.next().zip(maps.next()));
        Self(pairs.map(|(keys, values)| KeysValues::of_planar(width, keys, &values)).collect())
    }
}

/// A text about an image, with the keys and values of its tokens so far. A clone continues on its own.
#[derive(Clone, Debug)]
pub struct Text {
    pub(crate) image: Arc<Memory>,
    pub(crate) layers: Vec<KeysValues>,
    len: usize,
    capacity: usize,
}

impl Text {
    /// How many tokens it has.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no tokens.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The tokens of one run: whose they are, and which texts.
pub(crate) struct TextStep<'t> {
    /// Text and place of each token.
    pub places: Vec<(usize, usize)>,
    pub texts: RwLock<Vec<&'t mut Text>>,
}

/// A captioner's text tower and decoder, packed for one instruction set. It can be used by many threads at once.
pub struct Decoder {
    tower: Tower,
    width: usize,
    caches: usize,
    context: usize,
}

impl Decoder {
    /// Packs the weights, for products in `precision`; `texts` is how many are usually continued together.
    ///
    /// # Errors
    /// As [`Tower::new`].
    pub fn new(
        coca: &Coca,
        weights: Arc<dyn Weights>,
        isa: Isa,
        pool: Arc<Pool>,
        texts: usize,
        precision: Precision,
    ) -> Result<Self, EngineError> {
        let graph = Graph::trace_step(coca, weights.as_ref());
        let tower = Tower::new(graph, weights, isa, pool, (1, texts), precision)?;
        let context = coca.variant().text.context;
        Ok(Self { tower, width: coca.width(), caches: coca.caches(), context })
    }

    /// An empty text about an image, of at most `capacity` tokens.
    pub fn text(&self, image: &Arc<Memory>, capacity: usize) -> Text {
        let capacity = capacity.min(self.context);
        let layers = (0..self.caches).map(|_| KeysValues::new(self.width, capacity)).collect();
        Text { image: Arc::clone(image), layers, len: 0, capacity }
    }

    /// Continues texts by one or more ids each, all at once, and gives for each id the logits of the one that follows it. The
    /// bits do not depend on which texts are together.
    ///
    /// # Errors
    /// If a text would exceed its capacity or an id is not in the vocabulary; nothing is continued then.
    pub fn step(&self, texts: &mut [&mut Text], ids: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        let mut places = Vec::new();
        for (index, (text, ids)) in texts.iter().zip(ids).enumerate() {
            if text.len + ids.len() > text.capacity {
                return Err(EngineError::TextLength {
                    capacity: text.capacity,
                    wanted: text.len + ids.len(),
                });
            }
            places.extend((0..ids.len()).map(|i| (index, text.len + i)));
        }
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<u32> = ids.iter().flat_map(|ids| ids.iter().copied()).collect();
        let step =
            TextStep { places, texts: RwLock::new(texts.iter_mut().map(|text| &mut **text).collect()) };
        let logits = self.tower.run_step(Input::Ids(&all), &step)?;
        texts.iter_mut().zip(ids).for_each(|(text, ids)| text.len += ids.len());
        Ok(logits.chunks_exact(logits.len() / all.len()).map(<[f32]>::to_vec).collect())
    }
}
