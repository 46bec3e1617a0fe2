//! Embeddings of a set's pictures and of texts, through the store.

use std::ops::{ControlFlow, Range};

use mobileclip::{Model, normalized};
use mobileclip_shards::{Fault, Matrix, Tally};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::set::EvalSet;
use crate::store::{Chunk, EmbeddingStore};

/// Rows that are stored together, and lost together if a run is interrupted.
const CHUNK: usize = 256;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What is worked on: `pictures`, `texts`, or a probe's `passes` over its training pictures.
    pub what: &'static str,
    /// How many of them are done.
    pub done: usize,
    /// How many there are.
    pub total: usize,
    /// How many failed.
    pub failed: usize,
}

/// Is told how far a run is, and says whether it goes on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// A model and the place where its embeddings are kept.
pub struct Encoder<'m> {
    model: &'m Model,
    store: Option<&'m EmbeddingStore>,
    /// Everything about the model that its embeddings depend on.
    fingerprint: String,
}

/// An embedding, or why there is none.
type Row = std::result::Result<Vec<f32>, Fault>;

/// Embeddings of the pictures that could be read.
pub(crate) struct Pictures {
    /// Normalised, a row each.
    pub rows: Matrix,
    /// The numbers in the set of the pictures that have a row.
    pub kept: Vec<usize>,
    /// Those that have none.
    pub faults: Tally,
}

impl<'m> Encoder<'m> {
    /// An encoder; without a store, everything is computed each time.
    pub fn new(model: &'m Model, store: Option<&'m EmbeddingStore>) -> Self {
        let decode = model.decode_options();
        // Instruction sets differ in the last bits, and the same run shall give the same bits.
        let fingerprint = format!(
            "{} {} upright {} pixels {} bytes {}",
            model.fingerprint(),
            model.instruction_set(),
            decode.apply_orientation,
            decode.max_pixels,
            decode.max_file_bytes
        );
        Self { model, store, fingerprint }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        self.model
    }

    /// Embeds a set's pictures.
    pub(crate) fn pictures(&self, set: &EvalSet, watch: Watch<'_>) -> Result<Pictures> {
        let mut faults = Tally::default();
        let mut kept = Vec::new();
        let mut values = Vec::new();
        let chunks = (0..set.len()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(set.len()));
        for range in chunks {
            let mut hash = self.key("picture");
            set.fingerprint(range.clone(), &mut hash);
            let mut failed = faults.total();
            let chunk = self.through(hash, range.clone(), &mut |range| {
                let rows = self.encode_pictures(set, range.clone())?;
                failed += rows.iter().filter(|row| row.is_err()).count();
                go_on(watch(Progress { what: "pictures", done: range.end, total: set.len(), failed }))?;
                Ok(rows)
            })?;
            for (i, row) in range.clone().zip(chunk.rows) {
                match row {
                    Ok(row) => {
                        kept.push(i);
                        values.extend(row);
                    }
                    Err(fault) => faults.add(&fault),
                }
            }
            let failed = faults.total();
            go_on(watch(Progress { what: "pictures", done: range.end, total: set.len(), failed }))?;
        }
        if kept.is_empty() {
            let first = faults.first().first().map(ToString::to_string).unwrap_or_default();
            return Err(Error::NothingLeft { path: set.path.clone(), failed: faults.total(), first });
        }
        Ok(Pictures { rows: self.matrix(kept.len(), values), kept, faults })
    }

    fn encode_pictures(&self, set: &EvalSet, range: Range<usize>) -> Result<Vec<Row>> {
        let files: Vec<_> = range.clone().map(|i| set.picture(i)).collect();
        let readable: Vec<&Vec<u8>> = files.iter().flatten().collect();
        let mut features = self.model.features_of_pictures(&readable).into_iter();
        let mut rows = Vec::with_capacity(files.len());
        for (i, file) in range.zip(&files) {
            let features = match file {
                Err(fault) => Err(fault.clone()),
                Ok(_) => match features.next() {
                    Some(Ok(features)) => Ok(normalized(features)),
                    Some(Err(mobileclip::Error::Image(error))) => {
                        Err(set.picture_fault(i, error.to_string()))
                    }
                    // A damaged model fails for every picture alike.
                    Some(Err(error)) => return Err(error.into()),
                    None => Err(set.picture_fault(i, "no features".to_owned())),
                },
            };
            rows.push(features);
        }
        Ok(rows)
    }

    /// Embeds texts: normalised, a row each.
    pub(crate) fn texts(&self, texts: &[String], watch: Watch<'_>) -> Result<Matrix> {
        let mut values = Vec::new();
        let chunks = (0..texts.len()).step_by(CHUNK).map(|start| start..(start + CHUNK).min(texts.len()));
        for range in chunks {
            let mut hash = self.key("text");
            for text in texts.get(range.clone()).unwrap_or_default() {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
            let chunk = self.through(hash, range.clone(), &mut |range| {
                let rows = self.model.encode_texts(texts.get(range.clone()).unwrap_or_default())?;
                go_on(watch(Progress { what: "texts", done: range.end, total: texts.len(), failed: 0 }))?;
                Ok(rows.into_iter().map(Ok).collect())
            })?;
            values.extend(chunk.rows.into_iter().flatten().flatten());
            go_on(watch(Progress { what: "texts", done: range.end, total: texts.len(), failed: 0 }))?;
        }
        Ok(self.matrix(texts.len(), values))
    }

    fn matrix(&self, rows: usize, values: Vec<f32>) -> Matrix {
        let width = self.model.embed_dim();
        Matrix::new(rows, width, values).expect("every row has the model's width")
    }

    fn key(&self, kind: &str) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(format!("{} {kind}\n", self.fingerprint));
        hash
    }

    /// A chunk from the store; or computed, a few rows on each thread at a time, and stored.
    fn through(
        &self,
        hash: Sha256,
        range: Range<usize>,
        compute: &mut dyn FnMut(Range<usize>) -> Result<Vec<Row>>,
    ) -> Result<Chunk> {
        let key: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let width = self.model.embed_dim();
        if let Some(chunk) = self.store.and_then(|store| store.get(&key, range.len(), width)) {
            return Ok(chunk);
        }
        let step = 4 * self.model.threads();
        let mut rows = Vec::new();
        for start in range.clone().step_by(step) {
            rows.extend(compute(start..(start + step).min(range.end))?);
        }
        let chunk = Chunk { rows };
        if let Some(store) = self.store {
            store.put(&key, width, &chunk);
        }
        Ok(chunk)
    }
}

pub(crate) fn go_on(flow: ControlFlow<()>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}
