//! Random numbers that depend on what they are for and on nothing else: the counter-based generator Philox4x32-10
//! (Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).

/// The stream of one augmentation of one sample.
///
/// The key is the seed; the counter holds the uid's 64-bit hash (FNV-1a), the augmentation's number and the number of the block of four
/// draws. So the numbers are the same whoever draws them, in whatever order, on every platform.
#[derive(Clone, Debug)]
pub(super) struct Draws {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draws {
    pub(super) fn new(seed: u64, uid: &str, index: u32) -> Draws {
        let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3);
        let uid = halves(uid.bytes().fold(0xCBF2_9CE4_8422_2325, fnv));
        Draws { key: halves(seed), counter: [0, index, uid[0], uid[1]], block: [0; 4], used: 4 }
    }

    fn next(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        let drawn = self.block[self.used];
        self.used += 1;
        drawn
    }

    /// A number in 0 <= u < 1, a multiple of 2⁻⁵³.
    pub(super) fn unit(&mut self) -> f64 {
        let bits = (u64::from(self.next()) << 32 | u64::from(self.next())) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    /// A number in low <= u <= high.
    pub(super) fn between(&mut self, [low, high]: [f64; 2]) -> f64 {
        low + (high - low) * self.unit()
    }

    /// One of 0, 1, …, `count` - 1; 0 if there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        // The product's error against an even choice is below count / 2⁶⁴.
        let bits = u64::from(self.next()) << 32 | u64::from(self.next());
        ((u128::from(bits) * count as u128) >> 64) as usize
    }
}

fn halves(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [low0, high0] = halves(u64::from(counter[0]) * 0xD251_1F53);
        let [low1, high1] = halves(u64::from(counter[2]) * 0xCD9E_8D57);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the authors' Random123 library.
    #[test]
    fn philox_gives_its_known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]),
            (
                [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344],
                [0xA409_3822, 0x299F_31D0],
                [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox(counter, key), answer);
        }
    }

    #[test]
    fn streams_differ_in_each_part_of_their_key() {
        let first = |seed, uid, index| Draws::new(seed, uid, index).unit();
        let all =
            [first(1, "a", 0), first(2, "a", 0), first(1, "b", 0), first(1, "a", 1), first(1 << 32, "a", 0)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|b| a != b), "{all:?}");
        }
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
    }

    #[test]
    fn draws_are_even() {
        let n = 20_000;
        let mut draws = Draws::new(3, "sample", 0);
        let mean = (0..n).map(|_| draws.unit()).sum::<f64>() / f64::from(n);
        // Five standard deviations.
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / f64::from(n).sqrt(), "{mean}");
        let mut counts = [0; 14];
        (0..n).for_each(|_| counts[draws.below(14)] += 1);
        assert!(counts.iter().all(|&c: &i32| (c - n / 14).abs() < 5 * 37), "{counts:?}");
        assert_eq!(draws.below(0), 0);
    }
}
