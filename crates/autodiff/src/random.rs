//! Random numbers without a state: each is a function of what it is for, so that a resumed run draws the same ones.

/// A stream of random numbers that belongs to a key.
///
/// ```
/// use mobileclip_autodiff::Random;
/// let draw = |step| Random::new(7).with(step).with_name("blocks.0.drop_path").unit();
/// assert_eq!(draw(3), draw(3));
/// assert_ne!(draw(3), draw(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Random {
        Random(mix(seed))
    }

    /// The stream of this key and a number.
    #[must_use]
    pub const fn with(self, number: u64) -> Random {
        Random(mix(self.0 ^ mix(number.wrapping_add(0x9E37_79B9_7F4A_7C15))))
    }

    /// The stream of this key and a name.
    #[must_use]
    pub fn with_name(self, name: &str) -> Random {
        // FNV-1a.
        self.with(
            name.bytes().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)),
        )
    }

    /// The key's number in 0 <= u < 1, a multiple of 2^-53.
    pub const fn unit(self) -> f64 {
        (mix(self.0 ^ 0x5851_F42D_4C95_7F2D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finaliser of splitmix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_and_independent_of_neighbouring_keys() {
        let n = 20_000;
        let draw = |i: u64| Random::new(1).with(2).with_name("a.drop_path").with(i).unit();
        let mean = (0..n).map(draw).sum::<f64>() / n as f64;
        let product = (0..n).map(|i| (draw(i) - 0.5) * (draw(i + 1) - 0.5)).sum::<f64>() / n as f64;
        // Five standard deviations of a mean of uniform numbers, and of a product of two.
        assert!((mean - 0.5).abs() < 5.0 * 0.289 / (n as f64).sqrt(), "{mean}");
        assert!(product.abs() < 5.0 / 12.0 / (n as f64).sqrt(), "{product}");
        assert!((0..n).all(|i| (0.0..1.0).contains(&draw(i))));
    }
}
