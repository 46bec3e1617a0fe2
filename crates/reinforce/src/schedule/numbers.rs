//! Sets of numbers below a bound.

/// A set of numbers below a bound, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    words: Vec<u64>,
    bound: usize,
    len: usize,
}

impl Numbers {
    /// No number.
    pub fn none(bound: usize) -> Self {
        Self { words: vec![0; bound.div_ceil(64)], bound, len: 0 }
    }

    /// All numbers below the bound.
    pub fn all(bound: usize) -> Self {
        let mut all = Self { words: vec![u64::MAX; bound.div_ceil(64)], bound, len: bound };
        if let (Some(last), used @ 1..) = (all.words.last_mut(), bound % 64) {
            *last = (1 << used) - 1;
        }
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it has this number.
    pub fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Adds a number, unless it is not below the bound.
    pub fn insert(&mut self, number: usize) {
        if let Some(word) = self.words.get_mut(number / 64).filter(|_| number < self.bound) {
            self.len += usize::from(*word >> (number % 64) & 1 == 0);
            *word |= 1 << (number % 64);
        }
    }

    /// Takes a number out; whether it was there.
    pub fn remove(&mut self, number: usize) -> bool {
        let was_there = self.contains(number);
        if was_there {
            self.words[number / 64] &= !(1 << (number % 64));
            self.len -= 1;
        }
        was_there
    }

    /// Takes out those that `others` has (or has not, if `has` is false), and gives them.
    pub fn take_out(&mut self, others: &Self, has: bool) -> Self {
        let mut taken = Self::none(self.bound);
        for ((word, taken), other) in self.words.iter_mut().zip(&mut taken.words).zip(&others.words) {
            *taken = *word & if has { *other } else { !*other };
            *word ^= *taken;
        }
        taken.count();
        self.count();
        taken
    }

    /// Adds those that `others` has.
    pub fn extend(&mut self, others: &Self) {
        self.words.iter_mut().zip(&others.words).for_each(|(word, other)| *word |= other);
        self.count();
    }

    fn count(&mut self) {
        self.len = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// The numbers from `start` on, then those before it.
    pub fn iter_from(&self, start: usize) -> impl Iterator<Item = usize> {
        let range = |from: usize, to: usize| {
            let words = self.words.iter().enumerate().take(to.div_ceil(64)).skip(from / 64);
            words
                .flat_map(bits)
                .skip_while(move |&number| number < from)
                .take_while(move |&number| number < to)
        };
        range(start, self.bound).chain(range(0, start))
    }

    /// The number before which there are so many others.
    pub fn nth(&self, mut rank: usize) -> Option<usize> {
        for (i, word) in self.words.iter().enumerate() {
            let ones = word.count_ones() as usize;
            if rank < ones {
                return bits((i, word)).nth(rank);
            }
            rank -= ones;
        }
        None
    }
}

/// The numbers of a word.
fn bits((i, &word): (usize, &u64)) -> impl Iterator<Item = usize> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
        rest &= rest - 1;
        Some(64 * i + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_those_of_the_standard_library() {
        use std::collections::BTreeSet;
        for bound in [0, 1, 63, 64, 65, 200] {
            let of =
                |step: usize| -> BTreeSet<usize> { (0..bound).filter(|i| i * i % 7 % step == 0).collect() };
            let numbers = |set: &BTreeSet<usize>| {
                let mut numbers = Numbers::none(bound);
                set.iter().for_each(|&number| numbers.insert(number));
                numbers
            };
            let all = Numbers::all(bound);
            assert!(all.iter_from(0).eq(0..bound) && all.len() == bound);
            let (a, b) = (of(2), of(3));
            let mut rest = numbers(&a);
            let taken = rest.take_out(&numbers(&b), true);
            assert_eq!(taken, numbers(&a.intersection(&b).copied().collect()));
            assert_eq!(rest, numbers(&a.difference(&b).copied().collect()));
            let mut not = numbers(&a);
            assert_eq!(not.take_out(&numbers(&b), false), rest);
            rest.extend(&taken);
            assert_eq!((&rest, rest.len()), (&numbers(&a), a.len()));
            for start in [0, 1, 62, 64, 130, bound] {
                let expected = a.range(start..).chain(a.range(..start)).copied();
                assert!(rest.iter_from(start).eq(expected), "{bound} {start}");
            }
            assert!((0..=a.len()).map(|rank| rest.nth(rank)).eq(a.iter().map(|&n| Some(n)).chain([None])));
            for number in [0, 63, bound, 1000] {
                assert_eq!(
                    (rest.contains(number), rest.remove(number)),
                    (a.contains(&number), a.contains(&number))
                );
                assert!(!rest.contains(number));
            }
        }
    }
}
