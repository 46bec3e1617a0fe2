//! What a shard may ask of us.

/// Bounds that hold before anything is allocated; raise a field if a shard is refused for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one member. A larger one costs its sample, which is a fault; its bytes are passed over.
    pub member_bytes: u32,
    /// Bytes of all members of one sample.
    pub sample_bytes: u64,
    /// Members of one sample.
    pub sample_members: usize,
    /// Bytes of a long member name or of a block of extended attributes.
    pub name_bytes: u32,
    /// Bytes of an array after it was unpacked.
    pub array_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            member_bytes: 256 << 20,
            sample_bytes: 512 << 20,
            sample_members: 256,
            name_bytes: 64 << 10,
            array_bytes: 256 << 20,
        }
    }
}
