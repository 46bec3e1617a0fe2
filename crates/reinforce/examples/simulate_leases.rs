//! Thousands of processes that share a list of shards by leases, in simulated time: what stragglers, lost processes, uneven clocks and
//! sleeping machines cost (docs/scale.md).
//!
//!     cargo run --release -p mobileclip-reinforce --example simulate_leases
//!     cargo run --release -p mobileclip-reinforce --example simulate_leases -- shards=200000 workers=10000 seconds=85 seed=1
//!
//! Processes decide by the functions that `mobileclip reinforce` runs on ([`mobileclip_reinforce::schedule`]); here are only the clock, the requests
//! and what goes wrong. A request takes 20 to 60 ms, and what it sees is the state at its end; so two processes may see the same
//! free or ended lease. The same seed gives the same numbers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use mobileclip_reinforce::schedule::{Numbers, Sightings, Step, Tried, Walk, is_renewal_due};

/// Microseconds of true time.
type Time = u64;
const SECOND: Time = 1_000_000;
/// The width of a bin in which requests are counted, for their peak.
const BIN: Time = 10 * SECOND;
/// Names that one answer to a listing has.
const LISTED: usize = 1000;
/// How much shards differ: the deviation of the logarithm of their time.
const SPREAD: f64 = 0.2;
/// The share of a shard's time that its writing takes besides.
const WRITING: f64 = 0.1;
/// Up to so many shards are asked for one by one.
const FEW: usize = 16;

/// What is simulated.
#[derive(Clone, Debug)]
struct Setting {
    workers: usize,
    shards: usize,
    /// Mean seconds that a shard takes a usual process.
    seconds: f64,
    term: Duration,
    seed: u64,
    troubles: Troubles,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default)]
struct Troubles {
    /// The share of processes that take five times as long.
    stragglers: f64,
    /// The share of processes that die in an hour, at any moment, and whether another takes their place two minutes later.
    lost_an_hour: f64,
    is_replaced: bool,
    /// Clocks run faster or slower by up to this share, and start anywhere.
    skew: f64,
    /// The share of shards during which the process stands still for up to three terms.
    sleeps: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Outcome {
    seconds: f64,
    /// The work over the power of all processes.
    ideal_seconds: f64,
    /// Shards that were finished more than once.
    doubled: usize,
    /// Shards that were begun and left, or lost with their process.
    abandoned: usize,
    /// Leases of others that were taken over.
    takeovers: usize,
    lists: u64,
    reads: u64,
    writes: u64,
    /// The most requests a second, over ten seconds.
    peak: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Start,
    Step,
    /// A pause is over, and the mark of a long list was looked for.
    Woken,
    /// What the listing showed is there.
    Looked,
    /// The shard and its lease were looked at.
    Seen(usize),
    /// The new lease is written, in place of an ended one or of none.
    Begun(usize, bool),
    /// The lease was read again, and the shard is not finished.
    Confirmed(usize),
    /// It is time to renew the lease of the work that was begun then.
    Renew(Time),
    /// The work that was begun then is done.
    Finish(Time),
    Die,
}

/// When, in which order, to whom (the place and the process there), and what.
type Event = (Time, u64, usize, u32, What);

/// A process's work on a shard.
#[derive(Clone, Copy, Debug)]
struct Work {
    begun: Time,
    shard: usize,
    renewed: Duration,
    renewals: u64,
    /// When the process stands still.
    sleep: (Time, Time),
    /// When the shard is computed and is written out, during which its lease is not renewed.
    written_from: Time,
}

struct Worker {
    /// Another one in each process.
    owner: u32,
    walk: Walk,
    seen: Sightings<usize, (u32, u64)>,
    work: Option<Work>,
    speed: f64,
    clock: (f64, f64),
}

struct World {
    setting: Setting,
    random: Random,
    events: BinaryHeap<Reverse<Event>>,
    number: u64,
    workers: Vec<Worker>,
    owners: u32,
    finished: Numbers,
    is_marked: bool,
    leased: Numbers,
    /// Who holds them, and how often they were renewed.
    leases: HashMap<usize, (u32, u64)>,
    outcome: Outcome,
    bins: Vec<u64>,
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// About normal: the sum of twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }
}

fn simulate(setting: &Setting) -> Outcome {
    let shards = setting.shards;
    let mut world = World {
        setting: setting.clone(),
        random: Random(setting.seed),
        events: BinaryHeap::new(),
        number: 0,
        workers: Vec::new(),
        owners: 0,
        finished: Numbers::none(shards),
        is_marked: false,
        leased: Numbers::none(shards),
        leases: HashMap::new(),
        outcome: Outcome::default(),
        bins: Vec::new(),
    };
    let mut power = 0.0;
    for id in 0..setting.workers {
        let is_straggler = world.random.share() < setting.troubles.stragglers;
        let speed = if is_straggler { 0.2 } else { 1.0 };
        power += speed;
        let worker = world.worker(speed);
        world.workers.push(worker);
        // A queue starts a job's processes within a minute.
        let start = (world.random.share() * 60e6) as Time;
        world.at(start, id, What::Start);
    }
    while let Some(Reverse((now, _, id, owner, what))) = world.events.pop() {
        if world.workers[id].owner == owner {
            world.happens(now, id, what);
        }
    }
    world.outcome.ideal_seconds =
        shards as f64 * setting.seconds * ((SPREAD * SPREAD / 2.0).exp() + WRITING) / power;
    world.outcome.peak =
        world.bins.iter().copied().max().unwrap_or_default() as f64 * SECOND as f64 / BIN as f64;
    world.outcome
}

impl World {
    fn worker(&mut self, speed: f64) -> Worker {
        let (shards, term) = (self.setting.shards, self.setting.term);
        let rate = 1.0 + self.setting.troubles.skew * (2.0 * self.random.share() - 1.0);
        let clock = (self.random.share() * 1e12, rate);
        self.owners += 1;
        let walk = Walk::new(shards, self.random.next(), term);
        Worker { owner: self.owners, walk, seen: Sightings::new(term), work: None, speed, clock }
    }

    fn at(&mut self, time: Time, id: usize, what: What) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, id, self.workers[id].owner, what)));
    }

    /// When so many requests, one after the other, have been answered.
    fn after(&mut self, now: Time, reads: u64, writes: u64) -> Time {
        self.outcome.reads += reads;
        self.outcome.writes += writes;
        (0..reads + writes).fold(now, |time, _| self.request(time))
    }

    fn request(&mut self, time: Time) -> Time {
        let bin = (time / BIN) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
        time + 20_000 + (self.random.share() * 40e3) as Time
    }

    /// A process's own clock.
    fn clock(&self, id: usize, now: Time) -> Duration {
        let (start, rate) = self.workers[id].clock;
        Duration::from_micros((start + now as f64 * rate) as u64)
    }

    fn is_ours(&self, id: usize, shard: usize) -> bool {
        self.leases.get(&shard).is_some_and(|(owner, _)| *owner == self.workers[id].owner)
    }

    fn happens(&mut self, now: Time, id: usize, what: What) {
        match what {
            What::Start => {
                let troubles = self.setting.troubles;
                if troubles.lost_an_hour > 0.0 {
                    let death = self.random.exponential(3600.0 / troubles.lost_an_hour);
                    self.at(now + (death * 1e6) as Time, id, What::Die);
                }
                self.at(now, id, What::Step);
            }
            What::Step => self.step(now, id),
            What::Woken => {
                if self.workers[id].walk.is_long() && self.is_marked {
                    self.workers[id].walk.finish();
                }
                self.at(now, id, What::Step);
            }
            What::Looked => {
                let (finished, leased) = (&self.finished, &self.leased);
                self.workers[id].walk.looked(finished, leased);
                self.at(now, id, What::Step);
            }
            What::Seen(shard) => self.seen(now, id, shard),
            What::Begun(shard, replaces) => {
                if self.leases.contains_key(&shard) && !replaces {
                    return self.tried(now, id, shard, Tried::Taken);
                }
                self.outcome.takeovers += usize::from(replaces);
                let owner = self.workers[id].owner;
                self.leases.insert(shard, (owner, 0));
                self.leased.insert(shard);
                let time = self.after(now, 2, 0);
                self.at(time, id, What::Confirmed(shard));
            }
            What::Confirmed(shard) => match (self.is_ours(id, shard), self.finished.contains(shard)) {
                (false, _) => self.tried(now, id, shard, Tried::Taken),
                (true, true) => {
                    self.release(now, id, shard);
                    self.tried(now, id, shard, Tried::Finished);
                }
                (true, false) => self.work(now, id, shard),
            },
            What::Renew(begun) => self.renew(now, id, begun),
            What::Finish(begun) => self.finish(now, id, begun),
            What::Die => {
                self.outcome.abandoned += usize::from(self.workers[id].work.is_some());
                let speed = self.workers[id].speed;
                let next = self.worker(speed);
                self.workers[id] = next;
                if self.setting.troubles.is_replaced && self.finished.len() < self.setting.shards {
                    self.at(now + 120 * SECOND, id, What::Start);
                }
            }
        }
    }

    fn step(&mut self, now: Time, id: usize) {
        match self.workers[id].walk.step() {
            Step::Done => {
                if !std::mem::replace(&mut self.is_marked, true) {
                    self.after(now, 0, 1);
                }
                // Its death no longer counts.
                self.owners += 1;
                self.workers[id].owner = self.owners;
            }
            Step::Look => {
                // Two names a finished shard, one a lease, in two folders; or two requests for each of a few.
                let open = self.workers[id].walk.open();
                let pages =
                    self.finished.len() / LISTED + (self.finished.len() + self.leased.len()) / LISTED + 2;
                let time = match open <= FEW {
                    true => self.after(now, 2 * open as u64, 0),
                    false => {
                        self.outcome.lists += pages as u64;
                        (0..pages).fold(now, |time, _| self.request(time))
                    }
                };
                self.at(time, id, What::Looked);
            }
            Step::Try(shard) => {
                let time = self.after(now, 2, 0);
                self.at(time, id, What::Seen(shard));
            }
            Step::Wait(pause) => {
                let (_, rate) = self.workers[id].clock;
                let woken = now + (pause.as_micros() as f64 / rate) as Time;
                let time = if self.workers[id].walk.is_long() { self.after(woken, 1, 0) } else { woken };
                self.at(time, id, What::Woken);
            }
        }
    }

    fn seen(&mut self, now: Time, id: usize, shard: usize) {
        if self.finished.contains(shard) {
            return self.tried(now, id, shard, Tried::Finished);
        }
        let clock = self.clock(id, now);
        let worker = &mut self.workers[id];
        let replaces = match self.leases.get(&shard) {
            None => false,
            Some(&state) if worker.seen.has_ended(shard, state, clock) => {
                worker.seen.forget(&shard);
                true
            }
            Some(_) => return self.tried(now, id, shard, Tried::Taken),
        };
        let time = self.after(now, 0, 1);
        self.at(time, id, What::Begun(shard, replaces));
    }

    fn tried(&mut self, now: Time, id: usize, shard: usize, tried: Tried) {
        self.workers[id].walk.tried(shard, tried);
        self.at(now, id, What::Step);
    }

    fn work(&mut self, now: Time, id: usize, shard: usize) {
        let Setting { seconds, term, troubles, .. } = self.setting;
        let work = seconds * (SPREAD * self.random.normal()).exp() / self.workers[id].speed;
        let work = (work * 1e6) as Time;
        let writing = (seconds * WRITING * 1e6) as Time;
        let sleep = match self.random.share() < troubles.sleeps {
            true => {
                let begin = now + (self.random.share() * (work + writing) as f64) as Time;
                (begin, begin + (self.random.share() * 3.0 * term.as_micros() as f64) as Time)
            }
            false => (now, now),
        };
        let asleep = sleep.1 - sleep.0;
        let written_from = now + work + if sleep.0 < now + work { asleep } else { 0 };
        let renewed = self.clock(id, now);
        self.workers[id].work = Some(Work { begun: now, shard, renewed, renewals: 0, sleep, written_from });
        self.at(now + work + writing + asleep, id, What::Finish(now));
        self.at_renewal(now, id);
    }

    /// A holder looks at its lease as soon as that is due, or as it no longer stands still.
    fn at_renewal(&mut self, now: Time, id: usize) {
        let Some(work) = self.workers[id].work else { return };
        let (_, rate) = self.workers[id].clock;
        let mut time = now;
        while !is_renewal_due(work.renewed, self.clock(id, time), self.setting.term) {
            time += (1e6 / rate) as Time;
        }
        let (begin, end) = work.sleep;
        let time = if (begin..end).contains(&time) { end } else { time };
        if time < work.written_from {
            self.at(time, id, What::Renew(work.begun));
        }
    }

    fn renew(&mut self, now: Time, id: usize, begun: Time) {
        let Some(Work { shard, renewals, .. }) = self.workers[id].work.filter(|work| work.begun == begun)
        else {
            return;
        };
        let time = self.after(now, 1, 1);
        if !self.is_ours(id, shard) {
            self.outcome.abandoned += 1;
            self.workers[id].work = None;
            return self.tried(time, id, shard, Tried::Taken);
        }
        let (owner, renewed) = (self.workers[id].owner, self.clock(id, now));
        self.leases.insert(shard, (owner, renewals + 1));
        if let Some(work) = &mut self.workers[id].work {
            (work.renewals, work.renewed) = (renewals + 1, renewed);
        }
        self.at_renewal(now, id);
    }

    fn finish(&mut self, now: Time, id: usize, begun: Time) {
        // What was begun may have been left.
        let Some(Work { shard, .. }) = self.workers[id].work.take_if(|work| work.begun == begun) else {
            return;
        };
        // The note, then the shard.
        let time = self.after(now, 0, 2);
        match self.finished.contains(shard) {
            true => self.outcome.doubled += 1,
            false => {
                self.finished.insert(shard);
                self.outcome.seconds = time as f64 / 1e6;
            }
        }
        self.release(now, id, shard);
        self.tried(time, id, shard, Tried::Made);
    }

    fn release(&mut self, now: Time, id: usize, shard: usize) {
        self.after(now, 1, 1);
        if self.is_ours(id, shard) {
            self.leases.remove(&shard);
            self.leased.remove(shard);
        }
    }
}

fn main() {
    let mut setting = Setting {
        workers: 10_000,
        shards: 200_000,
        seconds: 85.0,
        term: Duration::from_secs(120),
        seed: 0,
        troubles: Troubles::default(),
    };
    for argument in std::env::args().skip(1) {
        let read = |value: &str| value.parse::<f64>().ok().filter(|value| *value >= 0.0);
        match argument.split_once('=').and_then(|(key, value)| Some((key, read(value)?))) {
            Some(("workers", value)) => setting.workers = value as usize,
            Some(("shards", value)) => setting.shards = value as usize,
            Some(("seconds", value)) => setting.seconds = value,
            Some(("term", value)) => setting.term = Duration::from_secs_f64(value),
            Some(("seed", value)) => setting.seed = value as u64,
            _ => {
                eprintln!("`{argument}`: expected workers=N, shards=N, seconds=S, term=S or seed=N");
                std::process::exit(2);
            }
        }
    }
    let Setting { workers, shards, seconds, term, seed, .. } = setting;
    println!(
        "{workers} processes, {shards} shards of {seconds} s, term {} s, seed {seed}\n",
        term.as_secs_f64()
    );
    println!(
        "| | wall-clock, s | of the ideal | done twice | abandoned | taken over | listings | reads | writes | requests a shard | a second | at the peak |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, troubles) in scenarios() {
        let begin = Instant::now();
        let Outcome { seconds, ideal_seconds, doubled, abandoned, takeovers, lists, reads, writes, peak } =
            simulate(&Setting { troubles, ..setting.clone() });
        let requests = (lists + reads + writes) as f64;
        println!(
            "| {name} | {seconds:.0} | {:.2} | {doubled} | {abandoned} | {takeovers} | {lists} | {reads} | {writes} | {:.1} | {:.0} | {peak:.0} |",
            seconds / ideal_seconds,
            requests / shards as f64,
            requests / seconds,
        );
        eprintln!("({name}: simulated in {:.1} s)", begin.elapsed().as_secs_f64());
    }
}

fn scenarios() -> Vec<(&'static str, Troubles)> {
    let none = Troubles::default();
    let all = Troubles { stragglers: 0.01, lost_an_hour: 0.05, is_replaced: true, skew: 0.01, sleeps: 0.001 };
    vec![
        ("nothing goes wrong", none),
        ("1 % of processes five times as slow", Troubles { stragglers: 0.01, ..none }),
        (
            "5 % an hour die, and are replaced after 2 min",
            Troubles { lost_an_hour: 0.05, is_replaced: true, ..none },
        ),
        ("20 % an hour die, and are not replaced", Troubles { lost_an_hour: 0.2, ..none }),
        ("clocks run up to 1 % fast or slow", Troubles { skew: 0.01, ..none }),
        ("during 0.1 % of shards the machine sleeps, up to 6 min", Troubles { sleeps: 0.001, ..none }),
        ("all of it", all),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(troubles: Troubles) -> Setting {
        Setting { workers: 40, shards: 400, seconds: 60.0, term: Duration::from_secs(120), seed: 5, troubles }
    }

    #[test]
    fn every_shard_is_finished_whatever_goes_wrong_and_seeds_repeat() {
        for (name, troubles) in scenarios() {
            let outcome = simulate(&setting(troubles));
            assert!(outcome.seconds >= outcome.ideal_seconds, "{name}: {outcome:?}");
            assert!((outcome.ideal_seconds - 673.0).abs() < 60.0, "{name}: {outcome:?}");
            assert_eq!(simulate(&setting(troubles)), outcome, "{name}");
        }
    }

    #[test]
    fn where_nothing_goes_wrong_nothing_is_done_twice() {
        let outcome = simulate(&setting(Troubles::default()));
        assert_eq!((outcome.doubled, outcome.abandoned, outcome.takeovers), (0, 0, 0));
        assert!(outcome.seconds < 1.5 * outcome.ideal_seconds, "{outcome:?}");
    }

    #[test]
    fn sleepers_and_the_dead_are_replaced() {
        let troubles = Troubles { sleeps: 0.3, lost_an_hour: 1.0, is_replaced: true, ..Troubles::default() };
        let outcome = simulate(&setting(troubles));
        assert!(
            outcome.doubled > 0 && outcome.abandoned > 0 && outcome.takeovers > outcome.doubled,
            "{outcome:?}"
        );
    }
}
