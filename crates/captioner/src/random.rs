//! Chance without a state: a number is a function of what it decides, so that it depends on no batch and no order.

/// The number in 0 <= u < 1 that decides id `place` of sample `sample` about the picture `uid`.
pub(crate) fn unit(seed: u64, uid: &str, sample: usize, place: usize) -> f64 {
    // FNV-1a, then splitmix64's finaliser of one key after the other.
    let name =
        uid.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let key = [seed, name, sample as u64, place as u64]
        .into_iter()
        .fold(0, |key, part: u64| mix(key ^ part.wrapping_add(0x9E37_79B9_7F4A_7C15)));
    (key >> 11) as f64 / (1u64 << 53) as f64
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn numbers_are_even_and_each_key_counts() {
        let n = 4000;
        let mean = (0..n).map(|i| unit(1, "a", i / 30, i % 30)).sum::<f64>() / n as f64;
        // Five standard deviations of a mean of uniform numbers.
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / (n as f64).sqrt(), "{mean}");
        let all = [
            unit(1, "a", 0, 1),
            unit(2, "a", 0, 1),
            unit(1, "b", 0, 1),
            unit(1, "a", 1, 1),
            unit(1, "a", 0, 2),
        ];
        assert!((0..5).all(|i| (0..i).all(|j| all[i] != all[j])), "{all:?}");
    }
}
