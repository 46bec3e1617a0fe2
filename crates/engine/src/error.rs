//! What can go wrong in the engine.

use mobileclip_arch::Tower;

/// Why a tower could not be prepared or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A weight is NaN or infinite.
    #[error("tensor `{name}` holds {value} at element {index}: the checkpoint is damaged")]
    NotFinite {
        /// The tensor, or what was folded from it.
        name: String,
        /// The number.
        value: f32,
        /// Its place, row-major.
        index: usize,
    },
    /// No kernel does this.
    #[error("`{name}`: {what} is not supported")]
    Unsupported {
        /// The operation's canonical name.
        name: String,
        /// What it is.
        what: String,
    },
    /// An input that the graph has no shapes for.
    #[error("the {tower:?} tower cannot take an input of {height}×{width}")]
    InputSize {
        /// The tower.
        tower: Tower,
        /// Rows (1 for tokens).
        height: usize,
        /// Columns, or tokens.
        width: usize,
    },
    /// A buffer that does not hold what its sizes say.
    #[error("the input holds {found} values, {height}×{width} needs {expected}")]
    InputLength {
        /// Rows (1 for tokens).
        height: usize,
        /// Columns, or tokens.
        width: usize,
        /// Values needed.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token id {id} at position {position} is not below the vocabulary's {vocabulary}")]
    Token {
        /// The id.
        id: u32,
        /// Its place in the row.
        position: usize,
        /// Number of ids.
        vocabulary: usize,
    },
    /// A text that is continued beyond its end.
    #[error("a text of {wanted} tokens, there is room for {capacity}")]
    TextLength {
        /// Tokens that fit.
        capacity: usize,
        /// Tokens that there would be.
        wanted: usize,
    },
    /// Pixels for a text tower or ids for an image tower.
    #[error("the {tower:?} tower got the other tower's kind of input")]
    InputKind {
        /// The tower.
        tower: Tower,
    },
}
