//! What can go wrong.

use mobileclip_engine::EngineError;

/// Why there is no caption.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that writes no captions.
    #[error("{variant} writes no captions; coca_ViT-B-32 and coca_ViT-L-14 do")]
    NoCaptioner {
        /// The model's variant.
        variant: String,
    },
    /// A setting that cannot be.
    #[error("{0}")]
    Settings(String),
    /// Weights or an input that the engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Logits that are no numbers.
    #[error("the decoder gives values that are not finite: the weights are damaged")]
    NotFinite,
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
