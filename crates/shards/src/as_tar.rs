//! Samples of any format as the bytes of a tar file: the form in which they can be read in any order.

use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Fault, Result};
use crate::limits::Limits;
use crate::reading::Reading;
use crate::stream::SampleStream;
use crate::write::{END, MemberOrder, append};

/// What was wrong with samples that are not among the bytes.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<Fault>>>);

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All so far.
    pub(crate) fn take(&self) -> Vec<Fault> {
        std::mem::take(&mut self.lock())
    }
}

/// A shard's samples, a tar file of them.
pub(crate) struct AsTar {
    samples: SampleStream,
    order: MemberOrder,
    faults: Faults,
    /// The members of a sample, and how many bytes of them were read.
    buffer: Vec<u8>,
    read: usize,
    is_ended: bool,
}

impl AsTar {
    /// Opens a shard; faults come to the list while it is read.
    pub(crate) fn open(path: &Path, limits: &Limits) -> Result<(Self, Faults, Reading)> {
        let samples = SampleStream::open(path, limits.clone())?;
        let (faults, reading) = (Faults::default(), samples.reading());
        let (order, buffer) = (MemberOrder::default(), Vec::new());
        Ok((
            Self { samples, order, faults: faults.clone(), buffer, read: 0, is_ended: false },
            faults,
            reading,
        ))
    }

    /// Fills the buffer with the next sample; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.read = 0;
        while self.buffer.is_empty() && !self.is_ended {
            match self.samples.next() {
                None => {
                    self.is_ended = true;
                    self.buffer.extend_from_slice(&END);
                }
                Some(Err(fault)) => self.faults.lock().push(fault),
                Some(Ok(sample)) => match self.order.of(&sample) {
                    Err((suffix, reason)) => self.faults.lock().push(sample.bad(&suffix, reason)),
                    Ok(members) => {
                        for member in members {
                            append(
                                &mut self.buffer,
                                &format!("{}.{}", sample.key(), member.suffix),
                                &member.bytes,
                            )?;
                        }
                    }
                },
            }
        }
        Ok(!self.buffer.is_empty())
    }
}

impl Read for AsTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.buffer.len() && !self.advance()? {
            return Ok(0);
        }
        let read = self.buffer.get(self.read..).unwrap_or_default().read(buffer)?;
        self.read += read;
        Ok(read)
    }
}
