//! Features as rows.

/// `[count, width]` numbers, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` numbers.
    ///
    /// # Panics
    /// If the values are no whole rows, or the width is 0.
    pub fn new(values: &'a [f32], width: usize) -> Rows<'a> {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} numbers in rows of {width}",
            values.len()
        );
        Rows { values, width }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// All numbers, row by row.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The numbers of columns `first..first + width`, in double precision.
    pub(crate) fn columns(&self, first: usize, width: usize) -> Vec<f64> {
        self.values
            .chunks_exact(self.width)
            .flat_map(|row| row[first..first + width].iter().map(|v| f64::from(*v)))
            .collect()
    }
}

/// The least length that a row is divided by, as in PyTorch's `normalize`.
const SHORTEST: f64 = 1e-12;

/// Rows divided by their lengths, and what the gradient needs.
#[derive(Clone, Debug)]
pub struct Normalised {
    values: Vec<f32>,
    lengths: Vec<f64>,
    width: usize,
}

impl Normalised {
    /// Divides each row of features by its length.
    pub fn new(rows: Rows<'_>) -> Normalised {
        let mut values = rows.values.to_vec();
        let lengths = values
            .chunks_exact_mut(rows.width)
            .map(|row| {
                let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(SHORTEST);
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
                length
            })
            .collect();
        Normalised { values, lengths, width: rows.width }
    }

    /// The rows.
    pub fn rows(&self) -> Rows<'_> {
        Rows { values: &self.values, width: self.width }
    }

    /// The gradient of the features from that of the rows: (g − row (row · g)) / length.
    ///
    /// # Panics
    /// If there are not as many numbers as features.
    pub fn gradient(&self, of_rows: &[f64]) -> Vec<f32> {
        assert_eq!(of_rows.len(), self.values.len(), "numbers of the gradient");
        let rows = self.values.chunks_exact(self.width).zip(of_rows.chunks_exact(self.width));
        rows.zip(&self.lengths)
            .flat_map(|((row, g), length)| {
                let along: f64 = row.iter().zip(g).map(|(r, g)| f64::from(*r) * g).sum();
                row.iter().zip(g).map(move |(r, g)| ((g - f64::from(*r) * along) / length) as f32)
            })
            .collect()
    }
}
