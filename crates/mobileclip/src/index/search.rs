//! Exact search: every embedding is compared with the query.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::thread;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::error::{Error, Result};
use super::note::{ModelNote, Note};
use super::segment::{State, push_embedding, read};
use super::store::check_model;

/// So many numbers are worth a thread of their own: a tenth of a millisecond, which starting one takes.
const NUMBERS_PER_THREAD_MIN: usize = 1 << 20;
const LANES: usize = 16;

/// A photo that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its absolute path.
    pub path: PathBuf,
    /// The cosine of the angle between the query's embedding and the photo's, the latter rounded to f16.
    pub score: f32,
}

/// An index in memory, to be searched many times.
pub struct Searcher {
    model: ModelNote,
    paths: Vec<String>,
    /// [photos, dimension]. As f16, for the time of a search is the time of reading this from memory.
    embeddings: Vec<f16>,
    threads: usize,
}

impl Searcher {
    /// Loads the index in `dir`. Another process may write it meanwhile: what is loaded is one of its commits.
    ///
    /// # Errors
    /// [`Error::OtherModel`] if the index is not one of `model`, [`Error::NotAnIndex`], [`Error::Note`], [`Error::Version`],
    /// [`Error::Segment`] or [`Error::Io`].
    pub fn load(dir: impl AsRef<Path>, model: &ModelNote) -> Result<Self> {
        let dir = dir.as_ref();
        let mut note = Note::read(dir)?;
        check_model(dir, &note.model, model)?;
        loop {
            let error = match Self::from_note(dir, &note) {
                Ok(searcher) => return Ok(searcher),
                Err(error) => error,
            };
            // A compaction may have removed a segment since the note was read; then there is a newer note.
            let newer = Note::read(dir)?;
            if newer == note {
                return Err(error);
            }
            note = newer;
        }
    }

    fn from_note(dir: &Path, note: &Note) -> Result<Self> {
        let mut seen = HashSet::new();
        let (mut paths, mut embeddings) = (Vec::new(), Vec::new());
        // From the last row to the first: the first that is met of a path is the one that counts.
        for segment in note.segments.iter().rev() {
            for row in read(dir, segment, note.model.dimension)?.into_iter().rev() {
                if !seen.insert(row.path.clone()) {
                    continue;
                }
                if let State::Embedded(bytes) = row.state {
                    push_embedding(&mut embeddings, &bytes);
                    paths.push(row.path);
                }
            }
        }
        let threads = thread::available_parallelism().map_or(1, |n| n.get().min(8));
        Ok(Self { model: note.model.clone(), paths, embeddings, threads })
    }

    /// Sets how many threads a search may take: as many as there are cores, at most 8, if this is not called. The answer is
    /// the same for any number.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Which model's embeddings these are.
    pub fn model(&self) -> &ModelNote {
        &self.model
    }

    /// How many photos there are to be found.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// The photos' paths, in no particular order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(Path::new)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The `top_k` photos (all of them if there are fewer) that are nearest to the query, best first, those of one score
    /// by path. The query need not be normalised.
    ///
    /// # Errors
    /// [`Error::QueryDimension`], or [`Error::Query`] if it holds numbers that are not finite, or zeros alone.
    pub fn search(&self, query: &[f32], top_k: usize) -> Result<Vec<Hit>> {
        let expected = self.model.dimension;
        if query.len() != expected {
            return Err(Error::QueryDimension { found: query.len(), expected });
        }
        let norm = query.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(Error::Query { reason: format!("its norm is {norm}") });
        }
        #[allow(clippy::cast_possible_truncation)] // The rounding is meant.
        let query: Vec<f32> = query.iter().map(|&x| (f64::from(x) / norm) as f32).collect();

        let scores = self.scores(&query);
        let mut best: Vec<(f32, &String)> = scores.into_iter().zip(&self.paths).collect();
        let order = |a: &(f32, &String), b: &(f32, &String)| match b.0.total_cmp(&a.0) {
            Ordering::Equal => a.1.cmp(b.1),
            unequal => unequal,
        };
        if top_k < best.len() {
            best.select_nth_unstable_by(top_k, order);
            best.truncate(top_k);
        }
        best.sort_unstable_by(order);
        Ok(best.into_iter().map(|(score, path)| Hit { path: PathBuf::from(path), score }).collect())
    }

    /// The score of each photo.
    fn scores(&self, query: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.paths.len()];
        let threads = self.threads.min(self.embeddings.len() / NUMBERS_PER_THREAD_MIN + 1);
        let rows = self.paths.len().div_ceil(threads).max(1);
        let parts = self.embeddings.chunks(rows * query.len()).zip(scores.chunks_mut(rows));
        thread::scope(|scope| {
            for (embeddings, scores) in parts {
                let work = move || {
                    let mut numbers = vec![0.0; query.len()];
                    for (embedding, score) in embeddings.chunks_exact(query.len()).zip(scores) {
                        embedding.convert_to_f32_slice(&mut numbers);
                        *score = dot(&numbers, query);
                    }
                };
                if threads == 1 {
                    work();
                } else {
                    scope.spawn(work);
                }
            }
        });
        scores
    }
}

/// The scalar product, in one fixed order of additions; lanes, so that the compiler may use vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}
