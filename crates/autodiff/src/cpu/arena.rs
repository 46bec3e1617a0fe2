//! Buffers that are used again: a step asks for the same sizes as the one before, and fresh memory costs page faults.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobileclip_kernels::Buffer;

/// Buffers that nobody holds, by length.
#[derive(Debug, Default)]
pub(super) struct Arena {
    free: Mutex<BTreeMap<usize, Vec<Buffer>>>,
}

impl Arena {
    /// At least `len` f32 with any finite numbers in them: a free buffer of nearly that length, or a new one.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Block {
        let len = len.max(1);
        let mut free = self.free();
        let found = free.range(len..=len + len / 8).next().map(|(&length, _)| length);
        let reused = found.and_then(|length| {
            let list = free.get_mut(&length)?;
            let buffer = list.pop();
            if list.is_empty() {
                free.remove(&length);
            }
            buffer
        });
        drop(free);
        Block { buffer: reused.unwrap_or_else(|| Buffer::zeroed(len)), home: Arc::clone(self) }
    }

    /// A list is whole at every moment, so a thread that panicked with it did no harm.
    fn free(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<Buffer>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Block {
    buffer: Buffer,
    home: Arc<Arena>,
}

impl Drop for Block {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        self.home.free().entry(buffer.len()).or_default().push(buffer);
    }
}

impl Deref for Block {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer
    }
}
