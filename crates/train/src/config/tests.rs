//! What recipes are taken and refused.

use super::*;

const LEAST: [(&str, &str, &str); 2] = [("data", "shards", "a/{0,1}.tar,b.tar"), ("run", "steps", "5")];

fn fails(set: &[(&str, &str, &str)], part: &str) {
    let all: Vec<_> = LEAST.iter().chain(set).copied().collect();
    let error = Config::read(None, &all).unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[test]
fn fields_are_set_by_name() {
    let set = [("optimiser", "lr", "1e-3"), ("model", "variant", "some.toml"), ("run", "recompute", "true")];
    let all: Vec<_> = LEAST.iter().chain(&set).copied().collect();
    let config = Config::read(None, &all).unwrap();
    assert_eq!(config.data.shards, ["a/{0,1}.tar", "b.tar"]);
    assert_eq!((config.optimiser.lr, config.run.recompute), (1e-3, true));
    assert_eq!(config.model.variant, "some.toml");
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert!(Config::FIELDS.len() > 50 && Config::FIELDS.iter().all(|field| !field.help.is_empty()));
}

#[test]
fn unknown_fields_and_contradictions_are_named() {
    fails(&[("run", "bach", "3")], "no field run.bach");
    fails(&[("run", "batch", "many")], "run.batch = many");
    fails(&[("run", "epochs", "3")], "exactly one must be given, 2 are");
    fails(&[("run", "accumulate", "3")], "does not divide");
    fails(&[("loss", "distill_weight", "1")], "must be recorded");
    let teachers =
        [("data", "augment", "recorded"), ("loss", "teacher_widths", "8,8"), ("loss", "distill_weight", "1")];
    let three = [&teachers[..], &[("loss", "teacher_scales", "1,2,3")]].concat();
    fails(&three, "3 logit scales for 2 teachers");
    let one = [&LEAST[..], &teachers[..], &[("loss", "teacher_scales", "70")]].concat();
    assert!(Config::read(None, &one).is_ok());
    fails(&[("data", "captions", "class")], "data.classnames");
    fails(&[("data", "synthetic", "(")], "data.synthetic");
    fails(&[("optimiser", "lr", "nan")], "optimiser.lr");
}

#[test]
fn the_length_is_counted_in_steps() {
    let config = |name: &str, value: &str| {
        Config::read(None, &[("data", "shards", "a.tar"), ("run", "batch", "10"), ("run", name, value)])
            .unwrap()
    };
    assert_eq!(config("steps", "7").steps(3).unwrap(), 7);
    assert_eq!(config("samples", "99").steps(3).unwrap(), 9);
    assert_eq!(config("epochs", "1.5").steps(100).unwrap(), 15);
    assert!(config("epochs", "0.5").steps(10).is_err());
}
