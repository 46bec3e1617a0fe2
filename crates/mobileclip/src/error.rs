//! What can go wrong between a path and a score.

use std::path::PathBuf;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] mobileclip_checkpoint::Error),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] mobileclip_hub::Error),
    /// A picture.
    #[error(transparent)]
    Image(#[from] mobileclip_image::Error),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] mobileclip_engine::EngineError),
    /// The engine, on the weights of a file.
    #[error("{path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with its weights.
        source: mobileclip_engine::EngineError,
    },
    /// Captions.
    #[error("{path}: {source}")]
    Captions {
        /// The file of the weights.
        path: PathBuf,
        /// Why there are none.
        source: mobileclip_captioner::Error,
    },
    /// A tower that cannot be written as an ONNX model.
    #[error("{path}: {source}")]
    Onnx {
        /// The file of the weights.
        path: PathBuf,
        /// Why.
        source: mobileclip_onnx::Error,
    },
    /// A deploy file that is none.
    #[error("{path}: not a deploy file of this version: {reason}")]
    Deploy {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A deploy file where a checkpoint is needed.
    #[error(
        "{path}: is a fused deploy file, which cannot be turned back; take the checkpoint that it was made from"
    )]
    Fused {
        /// The file.
        path: PathBuf,
    },
    /// A weight that half precision cannot hold.
    #[error("{path}: `{made_from}` holds values beyond 65504, the largest of f16; write bf16 or f32")]
    TooLarge {
        /// The checkpoint.
        path: PathBuf,
        /// The canonical names of what the weight was folded from.
        made_from: String,
    },
    /// A file could not be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Features that are NaN or infinite.
    #[error("{path}: the {tower:?} tower gave features that are not finite: its weights are damaged")]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tower.
        tower: mobileclip_arch::Tower,
    },
    /// A scope that the image tower does not have.
    #[error("the image tower has no scope `{scope}`; it has {known}")]
    UnknownScope {
        /// The scope asked for.
        scope: String,
        /// The scopes there are.
        known: String,
    },
    /// A template without a place for the label.
    #[error("template `{template}` has no {{}} for the label")]
    Template {
        /// The template.
        template: String,
    },
    /// Nothing to choose from.
    #[error("there are no labels")]
    NoLabels,
    /// Nothing to fill labels into.
    #[error("there are no templates")]
    NoTemplates,
    /// A row of token ids of another length than a tower that sees its padding was trained on.
    #[error("a row of {found} token ids; this text tower sees its padding, so rows must have {expected}")]
    TokenRow {
        /// Ids given.
        found: usize,
        /// The context's length.
        expected: usize,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
