/// Where a [`BitReader`] stands, to go on later.
#[derive(Clone, Copy, Default)]
pub(crate) struct BitPosition {
    next: usize,
    buffer: u64,
    count: u32,
}

/// Reads bits from bytes without stuffing; the last 8 bytes must be zeros, and more zeros follow them.
#[derive(Clone)]
pub(crate) struct BitReader<'a> {
    data: &'a [u8],
    at: BitPosition,
}

impl<'a> BitReader<'a> {
    pub fn new(data: &'a [u8], at: BitPosition) -> Self {
        Self { data, at }
    }

    pub fn position(&self) -> BitPosition {
        self.at
    }

    /// Whether more bits were taken than the first `length` bytes have.
    #[inline]
    pub fn is_past(&self, length: usize) -> bool {
        self.at.next * 8 - self.at.count as usize > 8 * length
    }

    /// Fills the buffer to 56 bits or more.
    #[inline(always)]
    pub fn refill(&mut self) {
        let next = self.data.get(self.at.next..).and_then(|rest| rest.first_chunk::<8>());
        // Bits of a byte that does not fit any more are stored too; the next call stores the same ones again.
        self.at.buffer |= next.map_or(0, |bytes| u64::from_be_bytes(*bytes)) >> self.at.count;
        self.at.next += ((63 - self.at.count) >> 3) as usize;
        self.at.count |= 56;
    }

    /// Fills the buffer if it has fewer than `n` bits (up to 56).
    #[inline(always)]
    pub fn ensure(&mut self, n: u32) {
        if self.at.count < n {
            self.refill();
        }
    }

    /// The next `n` bits (1 to 32), which must be in the buffer.
    #[inline(always)]
    pub fn peek(&self, n: u32) -> u32 {
        (self.at.buffer >> (64 - n)) as u32
    }

    /// Drops `n` bits (0 to 63), which must be in the buffer.
    #[inline(always)]
    pub fn consume(&mut self, n: u32) {
        self.at.buffer <<= n & 63;
        self.at.count = self.at.count.wrapping_sub(n);
    }

    /// Takes `n` bits (0 to 16), which must be in the buffer.
    #[inline(always)]
    pub fn take(&mut self, n: u32) -> u32 {
        let bits = (self.at.buffer >> 1 >> (63 - n)) as u32;
        self.consume(n);
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_and_zeros_follow() {
        let mut data: Vec<u8> = (0..40u8).map(|i| i.wrapping_mul(73) ^ 0x5A).collect();
        data.extend([0; 8]);
        let bit = |i: usize| data.get(i / 8).map_or(0, |b| u32::from(b >> (7 - i % 8) & 1));
        let mut reader = BitReader::new(&data, BitPosition::default());
        let mut at = 0;
        let mut n = 1;
        while at < 8 * data.len() + 100 {
            reader.refill();
            let expected = (at..at + n).fold(0, |sum, i| sum << 1 | bit(i));
            assert_eq!(reader.peek(n as u32), expected, "{n} bits at {at}");
            assert_eq!(reader.take(n as u32), expected, "{n} bits at {at}");
            at += n;
            assert_eq!(reader.is_past(data.len()), at > 8 * data.len(), "at {at}");
            n = n % 16 + 1;
        }
        assert_eq!(reader.take(0), 0);
    }
}
