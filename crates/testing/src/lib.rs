//! Formula weights, golden readers and comparison with useful messages.
