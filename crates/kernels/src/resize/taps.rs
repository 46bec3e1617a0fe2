//! The weights of one axis.

/// The integer filter of one axis: output `i` is the sum of `weights[j] * source[start + j]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps {
    source_len: usize,
    longest: usize,
    /// Where each output's weights start in `weights`, and one entry for the end.
    offsets: Vec<usize>,
    starts: Vec<usize>,
    weights: Vec<i32>,
}

impl Taps {
    /// An empty table over a source of `source_len` samples.
    pub fn new(source_len: usize) -> Taps {
        Taps { source_len, longest: 0, offsets: vec![0], starts: Vec::new(), weights: Vec::new() }
    }

    /// Appends an output: `weights` (scaled by 2²²) stand at the source samples `start..`.
    ///
    /// # Panics
    /// If the weights reach beyond the source, or `start` lies before the previous output's.
    pub fn push(&mut self, start: usize, weights: &[i32]) {
        assert!(
            start.checked_add(weights.len()).is_some_and(|end| end <= self.source_len),
            "{} weights at {start} reach beyond a source of {}",
            weights.len(),
            self.source_len
        );
        assert!(self.starts.last().is_none_or(|&last| last <= start), "outputs must come in order");
        self.longest = self.longest.max(weights.len());
        self.starts.push(start);
        self.weights.extend_from_slice(weights);
        self.offsets.push(self.weights.len());
    }

    /// Number of source samples.
    pub fn source_len(&self) -> usize {
        self.source_len
    }

    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is no output.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The most weights that an output has.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// First source index and weights of output `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Taps::len`].
    pub fn output(&self, i: usize) -> (usize, &[i32]) {
        (self.starts[i], &self.weights[self.offsets[i]..self.offsets[i + 1]])
    }
}
