//! What can go wrong with augmentations.

/// Why there is no configuration, no parameters or no augmented picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used.
    #[error("augmentation configuration: `{key}`: {reason}")]
    Config {
        /// Where: `rand_augment.num_ops`.
        key: String,
        /// What is expected there and what was found.
        reason: String,
    },
    /// Stored parameters do not fit the configuration, or are none.
    #[error("augmentation parameters: `{key}`: {reason}")]
    Parameters {
        /// Where: `param_aug[3].rand_augment[0]`.
        key: String,
        /// What is expected there and what was found.
        reason: String,
    },
    /// The parameters do not fit the picture.
    #[error("augmentation `{key}`: {reason}")]
    Picture {
        /// The transformation.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A picture could not be resized.
    #[error(transparent)]
    Image(#[from] crate::Error),
}
