//! Whole runs of a small model: going on is as good as never having stopped, and nothing depends on threads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use mobileclip_arch::Variant;

use super::common::{Place, kill_after, log, plain, tensors, toy_variant, train};
use mobileclip_train::data::Source;
use mobileclip_train::{Config, Event, Helpers, Judge, Resume, plan, run, variant_of};

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let place = Place::new();
    let whole = place.config("whole");
    let expected = train(&whole, &Resume::Never).unwrap();
    assert_eq!((expected.step, expected.is_interrupted), (11, false));
    for kills in [&[2][..], &[5], &[4, 8], &[7, 9, 10]] {
        let config = place.config(&format!("killed{kills:?}"));
        for &step in kills {
            kill_after(&config, &Resume::Latest, step);
        }
        let report = train(&config, &Resume::Latest).unwrap();
        assert_eq!(log(&config), log(&whole), "{kills:?}");
        assert!(tensors(&report) == tensors(&expected), "{kills:?}");
    }
    // The numbers are those of training: the loss falls.
    let lines = log(&whole);
    assert!(lines.iter().all(|line| line.loss.is_finite() && line.gradient_norm > 0.0));
    assert_eq!(lines.last().unwrap().samples, 88);
    assert!(whole.run.out.join("loss.svg").is_file());
}

#[test]
fn everything_that_moves_is_kept() {
    let place = Place::new();
    let config = |out: &str| {
        let mut config = place.config(out);
        config.model.ema = Some(0.9);
        config.model.drop_path = 0.2;
        config.run.accumulate = 2;
        config.run.recompute = true;
        config.run.steps = Some(6);
        config.run.checkpoint_every = 2;
        config
    };
    let expected = train(&config("whole"), &Resume::Never).unwrap();
    kill_after(&config("killed"), &Resume::Never, 3);
    let report = train(&config("killed"), &Resume::Latest).unwrap();
    assert_eq!(log(&config("killed")), log(&config("whole")));
    let ema =
        |report: &mobileclip_train::Report| std::fs::read(report.checkpoint.join("ema.safetensors")).unwrap();
    assert!(ema(&report) == ema(&expected) && tensors(&report) == tensors(&expected));
    assert!(ema(&report) != tensors(&report)[0]);
    // Recomputing changes nothing, drop path does.
    let mut other = config("kept");
    other.run.recompute = false;
    train(&other, &Resume::Never).unwrap();
    assert_eq!(log(&other), log(&config("whole")));
    let mut other = config("dropless");
    other.model.drop_path = 0.0;
    train(&other, &Resume::Never).unwrap();
    assert_ne!(log(&other)[0].loss, log(&config("whole"))[0].loss);
}

#[test]
fn workers_change_nothing_and_bad_samples_are_counted() {
    let place = Place::new();
    let mut entries = plain(0..20);
    entries[6].1.truncate(40); // 0003.png
    entries.retain(|(name, _)| name != "0011.txt");
    place.shard("0.tar", &entries);
    let one = place.config("one");
    let mut many = place.config("many");
    many.data.workers = 5;
    many.data.ahead = 3;
    many.run.threads = 2;
    let mut messages = Vec::new();
    let report = run(
        &{
            let mut config = one.clone();
            config.data.workers = 1;
            config
        },
        &Resume::Never,
        Helpers::default(),
        &mut |event| {
            if let Event::Skipped(message) = event {
                messages.push(message.to_owned());
            }
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    let other = train(&many, &Resume::Never).unwrap();
    assert_eq!(log(&one), log(&many));
    assert_eq!(report.skipped, other.skipped);
    // 88 good samples out of epochs of 38 and two bad ones each.
    assert_eq!(report.skipped.keys().collect::<Vec<_>>(), ["bad png", "no txt"]);
    assert!((4..=6).contains(&report.skipped.values().sum::<u64>()), "{:?}", report.skipped);
    assert!(messages.iter().any(|m| m.contains("0.tar: sample `0003`: `png`")), "{messages:?}");
    assert!(messages.iter().any(|m| m.contains("sample `0011`: has no `txt`")));
}

#[test]
fn samples_of_a_class_are_positives() {
    let place = Place::new();
    let mut entries = plain(0..8);
    for i in 0..7 {
        // Texts, a number, something else, and one without.
        let class = [r#""cat""#, r#""dog""#, r#""cat""#, "3", "3", "null", "[1]"][i];
        entries.push((format!("{i:04}.json"), format!(r#"{{"class": {class}}}"#).into_bytes()));
    }
    entries.sort();
    place.shard("classes.tar", &entries);
    let mut config = place.config("alone");
    config.data.shards = vec![place.path("classes.tar").display().to_string()];
    config.run.steps = Some(1);
    let alone = train(&config, &Resume::Never).map(|_| log(&config)).unwrap();
    config.data.positives = Some("json:class".to_owned());
    let variant = variant_of(&config).unwrap();
    let source = Source::open(&config, &variant, Vec::new(), &mut |_| {}).unwrap();
    let classes: Vec<_> = (0..8).map(|number| source.item(0, number).unwrap().class).collect();
    let expected = [Some("cat"), Some("dog"), Some("cat"), Some("3"), Some("3"), None, None, None];
    assert_eq!(classes, expected.map(|class| class.map(str::to_owned)));
    config.run.out = place.path("together");
    let together = train(&config, &Resume::Never).map(|_| log(&config)).unwrap();
    assert_ne!(alone[0].contrastive_loss, together[0].contrastive_loss);
    // The same batch in two halves is the same classes.
    config.run.out = place.path("halves");
    config.run.accumulate = 2;
    config.data.positives = Some("json:nothing".to_owned());
    let nothing = train(&config, &Resume::Never).map(|_| log(&config)).unwrap();
    config.run.out = place.path("halves-of-classes");
    config.data.positives = Some("json:class".to_owned());
    let halves = train(&config, &Resume::Never).map(|_| log(&config)).unwrap();
    assert_ne!(nothing[0].contrastive_loss, halves[0].contrastive_loss);
    config.data.positives = Some("class".to_owned());
    assert!(
        train(&config, &Resume::Never)
            .unwrap_err()
            .to_string()
            .contains("data.positives: must be json:FIELD")
    );
}

#[test]
fn classes_with_names_are_told_apart() {
    let place = Place::new();
    let mut entries = plain(0..8);
    for i in 0..8 {
        let class = ["cat", "dog", "sea urchin"][i % 3];
        entries.push((format!("{i:04}.json"), format!(r#"{{"class": "{class}"}}"#).into_bytes()));
    }
    entries.sort();
    place.shard("classes.tar", &entries);
    std::fs::write(place.path("names.txt"), "sea urchin\ncat\ndog\n").unwrap();
    let mut config = place.config("whole");
    config.data.shards = vec![place.path("classes.tar").display().to_string()];
    config.data.positives = Some("json:class".to_owned());
    config.data.names = Some(place.path("names.txt"));
    config.loss.class_weight = 1.0;
    config.run.steps = Some(6);
    config.run.accumulate = 2;
    let variant = variant_of(&config).unwrap();
    let source = Source::open(&config, &variant, Vec::new(), &mut |_| {}).unwrap();
    let labels: Vec<_> = (0..3).map(|number| source.item(0, number).unwrap().label).collect();
    assert_eq!(labels, [Some(1), Some(2), Some(0)]);
    assert_eq!(source.prompts(0).len(), 3 * variant.text.context);
    let whole = train(&config, &Resume::Never).unwrap();
    let lines = log(&config);
    let class = |at: usize| lines[at].class_loss.unwrap();
    assert!(class(5) < class(0) && class(0) > 0.5, "{} {}", class(0), class(5));
    assert!((lines[0].loss - lines[0].contrastive_loss - class(0)).abs() < 1e-12);
    // A killed run draws the same prompts.
    let killed = Config {
        run: mobileclip_train::config::RunConfig { out: place.path("killed"), ..config.run.clone() },
        ..config.clone()
    };
    kill_after(&killed, &Resume::Never, 5);
    assert_eq!(tensors(&train(&killed, &Resume::Latest).unwrap()), tensors(&whole));
    assert_eq!(log(&killed), lines);
    // With prompts there is more to keep.
    let activations = |config: &Config| plan(config, &mut |_| {}).unwrap().activation_bytes;
    let without = Config {
        data: mobileclip_train::config::DataConfig { names: None, ..config.data.clone() },
        ..config.clone()
    };
    let without = Config { loss: Default::default(), ..without };
    assert!(activations(&config) > activations(&without));

    let refused = |config: &Config| train(config, &Resume::Never).unwrap_err().to_string();
    let mut wrong = Config {
        data: mobileclip_train::config::DataConfig { positives: None, ..config.data.clone() },
        ..config.clone()
    };
    wrong.run.out = place.path("wrong");
    assert!(refused(&wrong).contains("data.positives: loss.class_weight needs the samples' classes"));
    wrong.data = config.data.clone();
    wrong.data.names = None;
    assert!(refused(&wrong).contains("data.names: belongs to loss.class_weight"));
    std::fs::write(place.path("names.txt"), "cat\ncat\n").unwrap();
    wrong.data = config.data.clone();
    assert!(refused(&wrong).contains("`cat` stands there twice"));
    std::fs::write(place.path("names.txt"), "cat\ndog\n").unwrap();
    let source = Source::open(&config, &variant, Vec::new(), &mut |_| {}).unwrap();
    assert!(source.item(0, 2).unwrap_err().message.contains("class `sea urchin` is not in data.names"));
}

#[test]
fn an_interrupt_writes_a_checkpoint() {
    let place = Place::new();
    let config = place.config("run");
    let report = run(&config, &Resume::Never, Helpers::default(), &mut |event| match event {
        Event::Step(line, steps) if line.step == 3 => {
            assert_eq!(steps, 11);
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
    .unwrap();
    assert_eq!((report.step, report.is_interrupted), (3, true));
    assert!(report.checkpoint.ends_with("checkpoints/step-00000003"));
    // Another run into the same folder would overwrite it.
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("step-00000003") && error.contains("--resume latest"), "{error}");
    let report = train(&config, &Resume::Latest).unwrap();
    train(&place.config("whole"), &Resume::Never).unwrap();
    assert_eq!(log(&config), log(&place.config("whole")));
    // Steps 3, 4, 8 and 11 were kept, of which the last three are left.
    let kept = std::fs::read_dir(config.run.out.join("checkpoints")).unwrap().count();
    assert_eq!((kept, report.step), (3, 11));
}

#[test]
fn what_is_frozen_stays() {
    let place = Place::new();
    let first = train(&place.config("first"), &Resume::Never).unwrap();
    let mut config = place.config("second");
    config.model.start = Some(first.checkpoint.join("student.safetensors"));
    config.model.freeze = vec!["visual.*".to_owned()];
    config.optimiser.layer_decay = 0.5;
    config.run.steps = Some(2);
    let second = train(&config, &Resume::Never).unwrap();
    let open = |report: &mobileclip_train::Report| {
        mobileclip_checkpoint::TensorFile::open(report.checkpoint.join("student.safetensors")).unwrap()
    };
    let (before, after) = (open(&first), open(&second));
    for view in before.tensors() {
        let same = view.bytes().unwrap() == after.get(view.name()).unwrap().bytes().unwrap();
        assert_eq!(same, view.name().starts_with("visual."), "{}", view.name());
    }
    config.model.freeze = vec!["visaul.*".to_owned()];
    config.run.out = place.path("third");
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("`visaul.*` matches no tensor"), "{error}");
}

#[test]
fn trouble_is_named_and_no_checkpoint_is_lost() {
    let place = Place::new();
    let fails = |config: &mobileclip_train::Config, part: &str| {
        let error = train(config, &Resume::Latest).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let mut config = place.config("missing");
    config.data.shards = vec![place.path("{0..3}.tar").display().to_string()];
    fails(&config, "2 of the shards are not there, the first is");

    // A file where the run's folder should be.
    std::fs::write(place.path("file"), "").unwrap();
    fails(&place.config("file"), "file");

    // A full disk, as the log meets it.
    #[cfg(target_os = "linux")]
    {
        let config = place.config("full");
        std::fs::create_dir(&config.run.out).unwrap();
        std::os::unix::fs::symlink("/dev/full", config.run.out.join("log.jsonl")).unwrap();
        fails(&config, "log.jsonl: No space left on device");
    }

    // A checkpoint that cannot take its name: those before it stay, and the run goes on from the last.
    let config = place.config("blocked");
    let blocked = config.run.out.join("checkpoints/step-00000008");
    let result = run(&config, &Resume::Never, Helpers::default(), &mut |event| {
        if let Event::Saved(path) = event
            && path.ends_with("step-00000004")
        {
            std::fs::write(&blocked, "in the way").unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(result.unwrap_err().to_string().contains("step-00000008"));
    assert!(config.run.out.join("checkpoints/step-00000004/state.json").is_file());
    std::fs::remove_file(&blocked).unwrap();
    train(&config, &Resume::Latest).unwrap();
    train(&place.config("whole"), &Resume::Never).unwrap();
    assert_eq!(log(&config), log(&place.config("whole")));

    // A damaged checkpoint: the one before it is taken, and that is said.
    let last = config.run.out.join("checkpoints/step-00000011/optimiser.safetensors");
    let bytes = std::fs::read(&last).unwrap();
    std::fs::write(&last, &bytes[..bytes.len() / 2]).unwrap();
    let mut notes = String::new();
    let watch = &mut |event: Event<'_>| {
        if let Event::Note(note) = event {
            notes += note;
        }
        ControlFlow::Continue(())
    };
    assert_eq!(run(&config, &Resume::Latest, Helpers::default(), watch).unwrap().step, 11);
    assert!(notes.contains("step-00000011") && notes.contains("before it is taken"), "{notes}");
    assert_eq!(log(&config), log(&place.config("whole")));

    // Other data than the run was begun with.
    let mut config = config.clone();
    config.data.shards = vec![place.path("0.tar").display().to_string()];
    fails(&config, "20 samples, the run was begun with 40");
}

#[test]
fn a_truncated_shard_gives_what_it_has() {
    let place = Place::new();
    let bytes = std::fs::read(place.path("1.tar")).unwrap();
    std::fs::write(place.path("1.tar"), &bytes[..bytes.len() / 2]).unwrap();
    let mut messages = String::new();
    let report = run(&place.config("run"), &Resume::Never, Helpers::default(), &mut |event| {
        if let Event::Skipped(message) = event {
            messages += message;
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(report.step, 11);
    assert!(messages.contains("1.tar: damaged at byte"), "{messages}");
}

#[test]
fn a_set_without_a_good_sample_ends_the_run() {
    let place = Place::new();
    let entries: Vec<_> = plain(0..6).into_iter().filter(|(name, _)| name.ends_with("png")).collect();
    place.shard("0.tar", &entries);
    let mut config = place.config("run");
    config.data.shards = vec![place.path("0.tar").display().to_string()];
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("no sample of 6 can be used") && error.contains("has no `txt`"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let place = Place::new();
    let mut config = place.config("run");
    // Without clipping, this throws the weights out of the range of f32.
    config.optimiser.lr = 1e30;
    config.optimiser.warmup = 0;
    config.optimiser.clip = None;
    config.run.checkpoint_every = 1;
    let error = train(&config, &Resume::Never).unwrap_err().to_string();
    assert!(error.starts_with("step ") && error.contains("the last good checkpoint is"), "{error}");
    assert!(error.contains("the batch: 00"), "{error}");
}

#[test]
fn a_plan_counts_what_a_run_takes() {
    let place = Place::new();
    let config = place.config("run");
    let found = plan(&config, &mut |_| {}).unwrap();
    assert_eq!((found.samples, found.steps), (40, 11));
    let [image, text, all] = found.parameters;
    assert_eq!((image + text + 1, found.trained), (all, all));
    assert_eq!((found.state_bytes, found.checkpoint_bytes), (16 * all, 12 * all));
    // Many times the first convolution's map: 8 samples of 16 x 16 pixels in a block of 16 channels.
    assert!(found.activation_bytes > 8 * 8 * 16 * 16 * 16 * 4, "{}", found.activation_bytes);
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config.clone();
        change(&mut config);
        plan(&config, &mut |_| {}).unwrap().activation_bytes
    };
    // Everything is so much for each sample.
    assert_eq!(with(&|config| config.run.accumulate = 2), found.activation_bytes / 2);
    // With many blocks, one of them at a time is less than all.
    let deep = toy_variant(128).replace("depths = [1, 1, 2, 1]", "depths = [12, 1, 2, 1]");
    std::fs::write(place.path("deep.toml"), deep).unwrap();
    let deep = |recompute: bool| {
        with(&|config| {
            config.model.variant = place.path("deep.toml").display().to_string();
            config.run.recompute = recompute;
        })
    };
    assert!(deep(true) < deep(false) * 3 / 4, "{} and {}", deep(true), deep(false));
    assert!(with(&|config| config.model.freeze = vec!["visual.*".to_owned()]) < found.activation_bytes);
    assert!(!config.run.out.exists());
}

#[test]
fn what_is_measured_is_in_the_log() {
    let place = Place::new();
    let config = |out: &str| {
        let mut config = place.config(out);
        config.eval.sets = vec!["a folder".to_owned()];
        config.eval.every = 3;
        config
    };
    // The mean of a tensor: a measure that sees whether it got the weights of that step.
    let judge = |path: &Path, variant: &Variant| {
        assert_eq!(variant.name, "train_toy");
        let file = mobileclip_checkpoint::TensorFile::open(path).unwrap();
        let values = file.get("visual.trunk.head.fc.weight").unwrap().to_f32().unwrap().to_vec();
        let mean = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len() as f64;
        Ok(BTreeMap::from([("set acc1".to_owned(), mean)]))
    };
    let go = |config: &Config, judge: Judge<'_>, stop: u64| {
        let helpers = Helpers { judge: Some(judge), ..Helpers::default() };
        run(config, &Resume::Latest, helpers, &mut |event| match event {
            Event::Step(line, _) if line.step == stop => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let whole = config("whole");
    go(&whole, &mut judge.clone(), 0).unwrap();
    let lines = log(&whole);
    let measured: Vec<u64> = lines.iter().filter(|line| !line.measured.is_empty()).map(|l| l.step).collect();
    assert_eq!(measured, [3, 6, 9, 11]);
    let values: BTreeSet<u64> =
        lines.iter().flat_map(|line| line.measured.values()).map(|v| v.to_bits()).collect();
    assert_eq!(values.len(), 4);
    assert!(whole.run.out.join("measured.svg").is_file() && !whole.run.out.join(".lent").exists());
    let stopped = config("stopped");
    go(&stopped, &mut judge.clone(), 5).unwrap();
    // What a killed run leaves unfinished goes away.
    let left = [".lent", "checkpoints/.writing-x"].map(|name| stopped.run.out.join(name));
    left.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
    go(&stopped, &mut judge.clone(), 0).unwrap();
    assert_eq!(log(&stopped), lines);
    assert!(left.iter().all(|path| !path.exists()));
    assert_eq!(std::fs::read_dir(stopped.run.out.join("tensorboard")).unwrap().count(), 2);
    // A measure that fails ends nothing; nobody to measure is a mistake.
    let failing = &mut |_: &Path, _: &Variant| Err("no pictures".to_owned());
    assert_eq!(go(&config("failing"), failing, 0).unwrap().step, 11);
    let error = train(&config("nobody"), &Resume::Never).unwrap_err().to_string();
    assert!(error.contains("eval.sets"), "{error}");
}
