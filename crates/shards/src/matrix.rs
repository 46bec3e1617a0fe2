//! Rows of embeddings.

/// A matrix of f32, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// `None` if there are not `rows x columns` values.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Option<Self> {
        (rows.checked_mul(columns) == Some(values.len())).then_some(Self { rows, columns, values })
    }

    /// Rows of nothing.
    pub(crate) fn without_columns(rows: usize) -> Self {
        Self { rows, columns: 0, values: Vec::new() }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How long a row is.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, `[rows][columns]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Row `i`; empty if there is none.
    pub fn row(&self, i: usize) -> &[f32] {
        let start = i.saturating_mul(self.columns);
        self.values.get(start..start.saturating_add(self.columns)).unwrap_or_default()
    }

    /// Splits off all rows from `row` on.
    pub(crate) fn split_off(&mut self, row: usize) -> Self {
        let row = row.min(self.rows);
        let values = self.values.split_off(row * self.columns);
        let rows = std::mem::replace(&mut self.rows, row) - row;
        Self { rows, columns: self.columns, values }
    }
}
