//! Checkpoint files to tensors by canonical name.
