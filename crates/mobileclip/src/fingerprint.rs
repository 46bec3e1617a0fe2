//! A model's fingerprint: what tells whether stored embeddings are its own.

use mobileclip_engine::Precision;
use sha2::{Digest, Sha256};

use crate::model::Model;
use crate::source::SourceFile;

/// Numbers looked at in each tensor: runs of some, for each run costs a page of the file. A training step changes practically
/// all numbers, so these few tell.
const RUNS: usize = 8;
const RUN: usize = 8;

impl Model {
    /// 16 hexadecimal digits that depend on the variant, the preprocessing, the precision, the tensors' names and on numbers
    /// spread over all weights. Reading all of a large model would take longer than answering a query.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(serde_json::to_vec(&self.variant.image).unwrap_or_default());
        hash.update(serde_json::to_vec(&self.variant.text).unwrap_or_default());
        hash.update(serde_json::to_vec(&self.preprocess).unwrap_or_default());
        // f32 came before the others: its embeddings stay valid.
        if self.precision() != Precision::F32 {
            hash.update(self.precision().name());
        }
        let mut sample = |name: &str, bytes: &[u8], size: usize| {
            hash.update(name.as_bytes());
            let elements = bytes.len() / size.max(1);
            for i in 0..RUNS {
                let from = i * elements / RUNS;
                hash.update(&bytes[from * size..elements.min(from + RUN) * size]);
            }
        };
        match &self.source.file {
            SourceFile::Checkpoint(checkpoint) => {
                for tensor in checkpoint.tensors() {
                    let bytes = tensor.stored().and_then(|view| view.bytes().ok()).unwrap_or_default();
                    sample(&tensor.spec().name, &bytes, tensor.dtype().bytes());
                }
            }
            SourceFile::Deploy(file, _) => {
                for view in file.tensors() {
                    sample(view.name(), &view.bytes().unwrap_or_default(), view.dtype().bytes());
                }
            }
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}
