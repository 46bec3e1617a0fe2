//! Models that are learnt from while training.

use mobileclip_image::Preprocess;

/// A model whose embeddings the student learns. The threads that make samples ready ask it, several at a time.
///
/// Answers must be functions of what is asked, so that a resumed run gets the same.
pub trait Teacher: Send + Sync {
    /// What a picture goes through before it.
    fn preprocess(&self) -> &Preprocess;
    /// Width of its embeddings.
    fn width(&self) -> usize;
    /// The embedding of a preprocessed picture `[3, height, width]`, of length 1.
    ///
    /// # Errors
    /// The reason, in words.
    fn image(&self, pixels: &[f32]) -> Result<Vec<f32>, String>;
    /// The embedding of a caption, of length 1.
    ///
    /// # Errors
    /// The reason, in words.
    fn text(&self, caption: &str) -> Result<Vec<f32>, String>;
}
