//! What a process does next, as a function of what it sees: no clock, no files. [`run`](crate::run) acts on it, and so does a simulation of
//! ten thousand processes (`examples/simulate_leases.rs`); nothing else needs to be public.

mod numbers;

use std::collections::HashMap;
use std::hash::Hash;
use std::mem::take;
use std::time::Duration;

pub use numbers::Numbers;

/// Leases are renewed so many times in a term.
const RENEWALS: u32 = 4;
/// Shards of others that a process without work of its own looks at now and then.
const WATCHED: usize = 8;
/// Shards that one answer to a listing names, as object stores have it.
const LISTED: usize = 1000;
/// The longest first pause.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether a lease that was renewed then is to be renewed now, by its holder's clock.
pub fn is_renewal_due(renewed: Duration, now: Duration, term: Duration) -> bool {
    now.saturating_sub(renewed) >= term / RENEWALS
}

/// The leases of others, and since when they have not changed. Clocks are not compared: times are those of one process's own clock, which only has
/// to run evenly.
#[derive(Clone, Debug)]
pub struct Sightings<K, S> {
    term: Duration,
    seen: HashMap<K, (S, Duration)>,
}

impl<K: Hash + Eq, S: PartialEq> Sightings<K, S> {
    /// Nothing was seen yet.
    pub fn new(term: Duration) -> Self {
        Self { term, seen: HashMap::new() }
    }

    /// Takes note of a lease; whether it has stayed as it is for longer than a term, so that its holder is taken for dead.
    pub fn has_ended(&mut self, lease: K, state: S, now: Duration) -> bool {
        match self.seen.get(&lease) {
            Some((known, since)) if *known == state => now.saturating_sub(*since) > self.term,
            _ => {
                self.seen.insert(lease, (state, now));
                false
            }
        }
    }

    /// Forgets a lease.
    pub fn forget(&mut self, lease: &K) {
        self.seen.remove(lease);
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// List the shards that are finished and those that are leased; then [`Walk::looked`].
    Look,
    /// Make this shard if it is not finished and its lease can be had; then [`Walk::tried`].
    Try(usize),
    /// Others work on all that is left.
    Wait(Duration),
    /// All shards are finished.
    Done,
}

/// What became of a shard that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// This process has made it.
    Made,
    /// It is finished.
    Finished,
    /// Another process works on it.
    Taken,
}

/// The way of one process through the list of shards.
///
/// A process alone goes through the list in its order. Whoever meets others goes on at a place drawn at random, so that ten thousand do not
/// ask for the same shards one after the other, and lists what is finished again rather than ask for more shards than a listing costs. After
/// each shard it glances at one of the others', so that those of the dead are found before the end; who has no work left watches a few, ever less
/// often.
#[derive(Clone, Debug)]
pub struct Walk {
    /// Shards that are neither finished nor taken, as far as is known.
    free: Numbers,
    /// The next one is the first from here on.
    place: usize,
    /// Shards that others work on, and those of them that are watched.
    taken: Numbers,
    watch: Vec<usize>,
    /// How many of these were found as they were since the last pause, and how many looks that took.
    watched: usize,
    looks: usize,
    /// One of them is looked at before the next free one.
    glances: bool,
    /// Shards in a row that others had finished or taken.
    misses: usize,
    /// So many are borne before a listing, which costs as much: two requests each.
    patience: usize,
    must_look: bool,
    pause: Duration,
    least_pause: Duration,
    most_pause: Duration,
    draws: u64,
}

impl Walk {
    /// The way through so many shards. The seed should be another one in each process.
    pub fn new(shards: usize, seed: u64, term: Duration) -> Self {
        let least_pause = (term / 8).min(PAUSE);
        Self {
            free: Numbers::all(shards),
            place: 0,
            taken: Numbers::none(shards),
            watch: Vec::new(),
            watched: 0,
            looks: 0,
            glances: false,
            misses: 0,
            patience: WATCHED.max(shards / LISTED / 2),
            must_look: true,
            pause: least_pause,
            least_pause,
            most_pause: term / 2,
            draws: seed,
        }
    }

    /// How many shards are not known to be finished.
    pub fn open(&self) -> usize {
        self.free.len() + self.taken.len()
    }

    /// Whether this shard is not known to be finished.
    pub fn is_open(&self, shard: usize) -> bool {
        self.free.contains(shard) || self.taken.contains(shard)
    }

    /// Whether it is a list so long that waiting processes should not list it again and again; then who has all of it leaves a mark.
    pub fn is_long(&self) -> bool {
        self.patience > WATCHED
    }

    /// All shards are finished, as somebody who has seen it says.
    pub fn finish(&mut self) {
        (self.free, self.taken) = (Numbers::none(0), Numbers::none(0));
    }

    /// What to do next.
    pub fn step(&mut self) -> Step {
        if self.open() == 0 {
            return Step::Done;
        }
        if self.must_look {
            return Step::Look;
        }
        let is_glance = take(&mut self.glances);
        let watched = if is_glance || self.free.is_empty() { self.next_watched() } else { None };
        match watched.or_else(|| self.free.iter_from(self.place).next()) {
            Some(shard) => Step::Try(shard),
            None => {
                (self.watched, self.looks) = (0, 0);
                // Where a listing costs no more than the watch, it shows as well what others have left.
                self.must_look = !self.is_long();
                let pause = self.pause;
                self.pause = (2 * pause).min(self.most_pause);
                Step::Wait(pause)
            }
        }
    }

    /// What a listing said.
    pub fn looked(&mut self, finished: &Numbers, leased: &Numbers) {
        (self.must_look, self.misses, self.watched) = (false, 0, 0);
        self.free.take_out(finished, true);
        self.taken.take_out(finished, true);
        let left = self.taken.take_out(leased, false);
        let others = self.free.take_out(leased, true);
        self.free.extend(&left);
        self.taken.extend(&others);
        self.watch.retain(|&shard| self.taken.contains(shard));
        if !others.is_empty() {
            self.turn();
        }
    }

    /// What became of the shard that [`Walk::step`] gave.
    pub fn tried(&mut self, shard: usize, tried: Tried) {
        let was_free = self.free.remove(shard);
        match (tried, was_free) {
            (Tried::Taken, true) => self.taken.insert(shard),
            (Tried::Taken, false) => self.watched += 1,
            _ => {
                self.taken.remove(shard);
                self.watch.retain(|&watched| watched != shard);
            }
        }
        if tried == Tried::Made {
            (self.misses, self.watched, self.looks, self.glances) = (0, 0, 0, true);
        } else if was_free || tried == Tried::Finished {
            self.misses += 1;
            self.must_look |= self.misses >= self.patience;
        }
        if was_free && tried != Tried::Made {
            self.turn();
        }
        if tried == Tried::Made {
            self.pause = self.least_pause;
        }
    }

    /// Goes on at another place of the list.
    fn turn(&mut self) {
        let rank = self.draw(self.free.len());
        self.place = self.free.nth(rank).unwrap_or_default();
    }

    /// The next shard to watch: always the same few, for an end is only seen by who has looked before.
    fn next_watched(&mut self) -> Option<usize> {
        if self.looks == WATCHED {
            return None;
        }
        self.looks += 1;
        if self.watched == self.watch.len() {
            let rank = self.draw(self.taken.len());
            let start = self.taken.nth(rank)?;
            let other = self.taken.iter_from(start).find(|shard| !self.watch.contains(shard))?;
            self.watch.push(other);
        }
        self.watch.get(self.watched).copied()
    }

    /// A number below `bound`; 0 if there is none.
    fn draw(&mut self, bound: usize) -> usize {
        self.draws = self.draws.wrapping_add(0x9E37_79B9_7F4A_7C15);
        usize::try_from(mix(self.draws) % (bound as u64).max(1)).unwrap_or_default()
    }
}

/// Splitmix64's finaliser.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(120);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_does_not_change_for_a_term_has_ended() {
        let mut seen = Sightings::new(TERM);
        for (state, now, has_ended) in [
            (0, 50, false),
            (0, 170, false),
            (1, 171, false),
            (1, 291, false),
            (1, 292, true),
            (2, 293, false),
        ] {
            assert_eq!(seen.has_ended("a", state, at(now)), has_ended, "at {now}");
        }
        seen.forget(&"a");
        assert!(!seen.has_ended("a", 2, at(900)));
        assert!(!is_renewal_due(at(10), at(39), TERM) && is_renewal_due(at(10), at(40), TERM));
    }

    fn numbers(bound: usize, numbers: impl IntoIterator<Item = usize>) -> Numbers {
        let mut set = Numbers::none(bound);
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }

    /// A way after its first listing.
    fn walk(shards: usize, seed: u64, finished: &Numbers, leased: &Numbers) -> Walk {
        let mut walk = Walk::new(shards, seed, TERM);
        assert_eq!(walk.step(), Step::Look);
        walk.looked(finished, leased);
        walk
    }

    fn tries(walk: &mut Walk) -> usize {
        match walk.step() {
            Step::Try(shard) => shard,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_process_alone_goes_in_order() {
        let mut walk = walk(4, 7, &numbers(4, [1]), &Numbers::none(4));
        for expected in [0, 2, 3] {
            assert_eq!((tries(&mut walk), walk.is_open(expected)), (expected, true));
            walk.tried(expected, Tried::Made);
        }
        assert_eq!((walk.step(), walk.open()), (Step::Done, 0));
    }

    #[test]
    fn who_meets_others_turns_elsewhere_and_looks_again_when_there_are_many() {
        let none = Numbers::none(1000);
        let places: Vec<usize> = (0..50)
            .map(|seed| {
                let mut walk = walk(1000, seed, &none, &none);
                assert_eq!(tries(&mut walk), 0);
                walk.tried(0, Tried::Taken);
                tries(&mut walk)
            })
            .collect();
        assert!(places.iter().any(|&place| place > 800) && places.iter().any(|&place| place < 200));
        let mut walk = walk(1000, 1, &none, &numbers(1000, [0]));
        for _ in 0..WATCHED {
            let shard = tries(&mut walk);
            walk.tried(shard, Tried::Finished);
        }
        assert_eq!(walk.step(), Step::Look);
    }

    #[test]
    fn who_has_no_work_watches_a_few_ever_less_often() {
        let all = Numbers::all(100_000);
        let mut walk = walk(100_000, 1, &numbers(100_000, 20..100_000), &all);
        let (mut pauses, mut watched) = (Vec::new(), Vec::new());
        for _ in 0..6 * (WATCHED + 1) {
            match walk.step() {
                Step::Try(shard) => {
                    watched.push(shard);
                    walk.tried(shard, Tried::Taken);
                }
                Step::Wait(pause) => pauses.push(pause.as_secs()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        assert!(watched.chunks(WATCHED).all(|round| round == &watched[..WATCHED]));
        // One of them is finished: from the next round on another one takes its place.
        assert_eq!(tries(&mut walk), watched[0]);
        walk.tried(watched[0], Tried::Finished);
        let mut round = || {
            let mut round = Vec::new();
            while let Step::Try(shard) = walk.step() {
                round.push(shard);
                walk.tried(shard, Tried::Taken);
            }
            round
        };
        assert_eq!(round(), watched[1..WATCHED]);
        let second = round();
        assert_eq!(second[..WATCHED - 1], watched[1..WATCHED]);
        assert!(second.len() == WATCHED && !watched.contains(&second[WATCHED - 1]));
        walk.finish();
        assert_eq!(walk.step(), Step::Done);
    }

    #[test]
    fn what_others_have_left_is_free_again() {
        let mut walk = walk(10, 1, &Numbers::none(10), &Numbers::all(10));
        while let Step::Try(shard) = walk.step() {
            walk.tried(shard, Tried::Taken);
        }
        // A list of this length is looked at after each pause.
        assert_eq!(walk.step(), Step::Look);
        walk.looked(&numbers(10, 0..5), &numbers(10, 6..10));
        assert_eq!((tries(&mut walk), walk.open()), (5, 5));
    }

    #[test]
    fn a_shard_of_the_dead_is_glanced_at_between_shards() {
        let mut walk = walk(1000, 1, &Numbers::none(1000), &numbers(1000, [500]));
        let mut glances = Vec::new();
        for _ in 0..6 {
            let shard = tries(&mut walk);
            glances.push(shard == 500);
            walk.tried(shard, if shard == 500 { Tried::Taken } else { Tried::Made });
        }
        assert_eq!(glances, [false, true, false, true, false, true]);
        walk.tried(500, Tried::Finished);
        assert!(!walk.is_open(500));
    }
}
