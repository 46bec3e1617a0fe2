//! The order of an epoch.

use mobileclip_autodiff::Random;

/// All samples in the order of an epoch: by a random number that each draws for itself, so that a sample's place among the
/// others depends on nothing else.
pub(super) fn order(random: Random, epoch: u64, samples: u32) -> Vec<u32> {
    let random = random.with_name("order").with(epoch);
    let mut keyed: Vec<(u64, u32)> =
        (0..samples).map(|sample| (random.with(u64::from(sample)).unit().to_bits(), sample)).collect();
    // Numbers of 0 to 1 are in the order of their bits; equal ones, of which there may be a few, go by the sample.
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, sample)| sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_permutations_of_their_own() {
        let [first, second] = [0, 1].map(|epoch| order(Random::new(3), epoch, 1000));
        assert_ne!(first, second);
        assert_eq!(first, order(Random::new(3), 0, 1000));
        let mut sorted = second.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        // A sample less does not move the others.
        let fewer: Vec<u32> = first.iter().copied().filter(|&s| s != 999).collect();
        assert_eq!(fewer, order(Random::new(3), 0, 999));
    }
}
