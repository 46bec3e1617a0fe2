//! A process or a machine that dies at any step of a commit loses nothing that was committed and doubles nothing.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// Dies at a given step: that step is done by half at most, and all later ones fail.
struct DyingDisk {
    /// Steps until death.
    left: Mutex<usize>,
    /// If the power goes too, what was not made durable is lost: undone here, in this order.
    power_cut: Option<Mutex<VecDeque<Undo>>>,
    died: Arc<Mutex<bool>>,
}

enum Undo {
    /// A file's bytes are not on the disk.
    Write(PathBuf),
    /// An entry of a folder is not on the disk: the entry, and what it was before.
    Entry(PathBuf, Option<Vec<u8>>),
}

impl DyingDisk {
    fn new(steps: usize, is_power_cut: bool) -> (Self, Arc<Mutex<bool>>) {
        let died = Arc::new(Mutex::new(false));
        let power_cut = is_power_cut.then(Mutex::default);
        (Self { left: Mutex::new(steps), power_cut, died: died.clone() }, died)
    }

    /// `do_half` is what may have happened of the step on which death comes.
    fn step(&self, do_half: impl FnOnce()) -> io::Result<()> {
        let dead = || Err(io::Error::other("died"));
        let mut died = self.died.lock().unwrap();
        if *died {
            return dead();
        }
        let mut left = self.left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return Ok(());
        }
        *died = true;
        do_half();
        for undo in self.power_cut.iter().flat_map(|log| std::mem::take(&mut *log.lock().unwrap())) {
            match undo {
                Undo::Write(path) => {
                    if let Ok(bytes) = fs::read(&path) {
                        fs::write(&path, &bytes[..bytes.len() / 3]).unwrap();
                    }
                }
                Undo::Entry(path, Some(bytes)) => fs::write(path, bytes).unwrap(),
                Undo::Entry(path, None) => {
                    let _ = fs::remove_file(path);
                }
            }
        }
        dead()
    }

    fn log(&self, undo: impl FnOnce() -> Undo) {
        if let Some(log) = &self.power_cut {
            log.lock().unwrap().push_front(undo());
        }
    }

    fn durable(&self, is_durable: impl Fn(&Undo) -> bool) {
        if let Some(log) = &self.power_cut {
            log.lock().unwrap().retain(|undo| !is_durable(undo));
        }
    }
}

impl Disk for DyingDisk {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|| fs::write(path, &bytes[..bytes.len() / 2]).unwrap())?;
        self.log(|| Undo::Write(path.into()));
        RealDisk.write(path, bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.durable(|undo| matches!(undo, Undo::Write(written) if written == path));
        RealDisk.sync(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.log(|| Undo::Entry(to.into(), fs::read(to).ok()));
        RealDisk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.durable(|undo| matches!(undo, Undo::Entry(..)));
        RealDisk.sync_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| ())?;
        self.log(|| Undo::Entry(path.into(), fs::read(path).ok()));
        RealDisk.remove(path)
    }
}

const OPTIONS: UpdateOptions = UpdateOptions {
    batch: 2,
    commit_photos: 4,
    commit_after: Duration::from_secs(600),
    is_retrying_failed: false,
    is_dropping_emptied_roots: true,
};

/// Updates with a disk that dies at `step`, then again with one that does not, and checks all that was promised. Whether
/// it died.
fn die_and_go_on(place: &Place, step: usize, is_power_cut: bool) -> bool {
    let (disk, died) = DyingDisk::new(step, is_power_cut);
    let toy = Toy::new();
    let before: Vec<PathBuf> = match Searcher::load(place.dir(), &toy.model()) {
        Ok(searcher) => sorted(searcher.paths().map(Path::to_owned)),
        Err(_) => vec![],
    };
    let to_do = to_do(place);
    let result = place.update_with(&toy, &OPTIONS, Box::new(disk));
    let died = *died.lock().unwrap();
    // Death while strays are removed is no failure of the update, which is done by then.
    assert!(died || result.is_ok(), "{:?}", result.err());
    let asked = toy.take_asked();

    // A reader may come before the next writer.
    if let Ok(searcher) = Searcher::load(place.dir(), &toy.model()) {
        let found = sorted(searcher.paths().map(Path::to_owned));
        assert!(found.is_sorted_by(|a, b| a < b), "doubled: {found:?}");
        for path in before.iter().filter(|path| !found.contains(path)) {
            let content = place.photos.get(&name_in(&place.root(), path));
            assert!(content.is_none_or(|c| c.starts_with(b"broken")), "lost {path:?}");
        }
    } else {
        assert!(before.is_empty(), "the index is lost");
    }

    place.update_with(&toy, &OPTIONS, Box::new(RealDisk)).unwrap();
    let asked_again = toy.take_asked();
    place.assert_index_is_folder();
    // At most what one commit holds is done again.
    assert!(asked >= to_do || died, "{asked} of {to_do}");
    assert!(
        (to_do..=to_do + OPTIONS.commit_photos).contains(&(asked + asked_again)),
        "{asked} and {asked_again} of {to_do}"
    );
    assert_eq!(place.update(&toy).embedded, 0);
    died
}

/// How many photos the index does not know as they are.
fn to_do(place: &Place) -> usize {
    let Ok(index) = Index::open(place.dir()) else { return place.photos.len() };
    let stamp = |name: &String| Stamp::of(&fs::metadata(place.root().join(name)).unwrap());
    let is_known = |name: &&String| {
        let entry = index.entries.get(place.root().join(name).to_str().unwrap());
        entry.is_some_and(|entry| entry.stamp == stamp(name))
    };
    place.photos.len() - place.photos.keys().filter(is_known).count()
}

/// Lets the update of what `prepare` makes die at each of its steps in turn.
fn die_at_each_step(prepare: impl Fn() -> Place) {
    for is_power_cut in [false, true] {
        let mut step = 0;
        while die_and_go_on(&prepare(), step, is_power_cut) {
            step += 1;
        }
        assert!(step > 10, "only {step} steps");
    }
}

#[test]
fn death_in_the_first_run() {
    die_at_each_step(|| {
        let mut place = Place::with_photos(11);
        place.put("bad.jpg", b"broken");
        place
    });
}

#[test]
fn death_while_photos_are_replaced_and_dropped() {
    die_at_each_step(|| {
        let mut place = Place::with_photos(12);
        place.update_with(&Toy::new(), &OPTIONS, Box::new(RealDisk)).unwrap();
        // A third of the rows die, so that the run ends with a compaction.
        (0..3).for_each(|i| place.put(&format!("{i:03}.jpg"), b"changed"));
        place.remove("005.jpg");
        place.put("006.jpg", b"broken");
        place.put("new.jpg", b"new");
        place
    });
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Break(u8),
    Remove(u8),
    Update,
    Die(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..24u8, any::<u8>()).prop_map(|(photo, content)| Step::Put(photo, content)),
        1 => (0..24u8).prop_map(Step::Break),
        2 => (0..24u8).prop_map(Step::Remove),
        1 => Just(Step::Update),
        2 => (0..40usize, any::<bool>()).prop_map(|(step, power)| Step::Die(step, power)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::with_cases(48) })]
    #[test]
    fn any_history_ends_with_the_folder(steps in prop::collection::vec(step(), 1..40)) {
        let mut place = Place::new();
        let name = |photo: u8| format!("{}/{photo}.jpg", photo % 3);
        for step in steps {
            match step {
                Step::Put(photo, content) => place.put(&name(photo), &[content]),
                Step::Break(photo) => place.put(&name(photo), b"broken"),
                Step::Remove(photo) => place.remove(&name(photo)),
                Step::Update => {
                    let toy = Toy::new();
                    place.update_with(&toy, &OPTIONS, Box::new(RealDisk)).unwrap();
                    place.assert_index_is_folder();
                }
                Step::Die(step, is_power_cut) => {
                    die_and_go_on(&place, step, is_power_cut);
                }
            }
        }
        place.update_with(&Toy::new(), &OPTIONS, Box::new(RealDisk)).unwrap();
        place.assert_index_is_folder();
    }
}
