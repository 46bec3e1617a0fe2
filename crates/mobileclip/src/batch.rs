//! Features of many files or texts, of which some may fail.

use std::path::Path;

use mobileclip_image::{decode, decode_file};

use crate::error::Result;
use crate::model::Model;

impl Model {
    /// Decodes many files and gives their features, not normalised: one file on each thread.
    pub fn features_of_files<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<Vec<f32>>> {
        self.in_parallel(paths, |path| {
            self.image_features(&decode_file(path.as_ref(), self.decode_options())?)
        })
    }

    /// Decodes many picture files that are in memory and gives their features, not normalised: one on each thread.
    pub fn features_of_pictures<B: AsRef<[u8]> + Sync>(&self, files: &[B]) -> Vec<Result<Vec<f32>>> {
        self.in_parallel(files, |file| self.image_features(&decode(file.as_ref(), self.decode_options())?))
    }

    /// The features of many texts, not normalised: one text on each thread.
    pub fn features_of_texts<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Vec<Result<Vec<f32>>> {
        self.in_parallel(texts, |text| self.text_features(text.as_ref()))
    }
}
