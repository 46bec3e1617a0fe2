//! What a file may ask of us.

/// Bounds that hold before anything is allocated. The defaults leave a factor of ten above the largest checkpoint of the
/// family (1,531 tensors; a training checkpoint holds three of each); raise a field if a file is refused for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a safetensors header.
    pub header_bytes: usize,
    /// Bytes of one pickle (`data.pkl`, or one of the five of a legacy file).
    pub pickle_bytes: usize,
    /// Values, stack places and memo slots of one pickle, each.
    pub pickle_values: usize,
    /// Bytes of one string in a pickle.
    pub string_bytes: usize,
    /// Members of a zip.
    pub zip_members: usize,
    /// Tensors in a file.
    pub tensors: usize,
    /// Dimensions of a tensor.
    pub rank: usize,
    /// Elements of a view that has more of them than its storage (an expanded tensor, stride 0): the file does not pay for
    /// these with its size.
    pub expanded_elements: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes: 16 << 20,
            pickle_bytes: 64 << 20,
            pickle_values: 1 << 20,
            string_bytes: 1 << 20,
            zip_members: 100_000,
            tensors: 50_000,
            rank: 8,
            expanded_elements: 1 << 24,
        }
    }
}
