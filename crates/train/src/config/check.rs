//! What of a configuration is out of range, or contradicts itself.

use super::{Augment, Config};
use crate::error::{Error, Result};

impl Config {
    /// Whether fields contradict each other or are out of range.
    ///
    /// # Errors
    /// [`Error::Field`] with the field and the reason; [`Error::Objective`].
    pub fn check(&self) -> Result<()> {
        let Config { model, data, loss, teachers, eval, optimiser, run } = self;
        let refuse = |wrong: bool, field, reason: &str| match wrong {
            true => Err(Error::field(field, reason)),
            false => Ok(()),
        };
        let share = |v: f64| (0.0..=1.0).contains(&v);
        // No number is neither.
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let not_negative = |v: f64| v >= 0.0 && v.is_finite();
        refuse(data.shards.is_empty(), "data.shards", "no shards are given")?;
        let lengths = [run.steps.is_some(), run.samples.is_some(), run.epochs.is_some()];
        let given = lengths.iter().filter(|given| **given).count();
        refuse(
            given != 1,
            "run.steps, run.samples, run.epochs",
            &format!("exactly one must be given, {given} are"),
        )?;
        refuse(!run.epochs.is_none_or(positive), "run.epochs", "must be above 0")?;
        refuse(run.batch < 2, "run.batch", "must be at least 2: a batch of one has no negatives")?;
        refuse(run.accumulate == 0, "run.accumulate", "must be at least 1")?;
        let divides = run.batch.is_multiple_of(run.accumulate.max(1));
        refuse(
            !divides,
            "run.accumulate",
            &format!("{} does not divide the batch of {}", run.accumulate, run.batch),
        )?;
        refuse(run.checkpoint_every == 0, "run.checkpoint_every", "must be at least 1")?;
        refuse(run.log_every == 0, "run.log_every", "must be at least 1")?;
        refuse(eval.every == 0, "eval.every", "must be at least 1")?;
        refuse(
            run.keep == 0,
            "run.keep",
            "must be at least 1: the last checkpoint is what a run goes on from",
        )?;
        refuse(data.workers == 0 || data.workers > 1024, "data.workers", "must be 1 to 1024")?;
        refuse(!share(data.flip), "data.flip", "must be 0 to 1")?;
        refuse(!data.mix_synthetic.is_none_or(share), "data.mix_synthetic", "must be 0 to 1")?;
        refuse(!not_negative(data.cache_gb), "data.cache_gb", "must be at least 0")?;
        let [low, high] = data.crop_scale;
        refuse(
            !(0.0 < low && low <= high && high <= 1.0),
            "data.crop_scale",
            "must be two numbers, 0 < first <= second <= 1",
        )?;
        let [low, high] = data.crop_ratio;
        refuse(
            !(0.0 < low && low <= high && high.is_finite()),
            "data.crop_ratio",
            "must be two numbers, 0 < first <= second",
        )?;
        let places: Vec<&str> = data.captions.split(',').collect();
        let by_class = places.contains(&"class");
        refuse(
            by_class != data.classnames.is_some(),
            "data.classnames",
            "belongs to `class` in data.captions, and that to it",
        )?;
        let names_field = |place: &str| place.strip_prefix("json:").is_some_and(|field| !field.is_empty());
        let has_names = by_class || places.iter().any(|place| names_field(place));
        refuse(
            !has_names && data.names.is_none() && data.templates.is_some(),
            "data.templates",
            "belong to `class` or json:FIELD in data.captions",
        )?;
        let is_known = |place: &&str| ["class", "txt"].contains(place) || names_field(place);
        refuse(
            !places.iter().all(is_known),
            "data.captions",
            "must be txt, json:FIELD or class, or several with commas between",
        )?;
        refuse(!data.positives.as_deref().is_none_or(names_field), "data.positives", "must be json:FIELD")?;
        let classifies = loss.class_weight > 0.0;
        refuse(
            classifies != data.names.is_some(),
            "data.names",
            "belongs to loss.class_weight, and that to it",
        )?;
        refuse(
            classifies && data.positives.is_none(),
            "data.positives",
            "loss.class_weight needs the samples' classes",
        )?;
        if let Err(error) = regex::Regex::new(&data.synthetic) {
            let reason = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
            return Err(Error::field("data.synthetic", reason));
        }
        let recorded = data.augment == Augment::Recorded;
        let distills = loss.distill_weight > 0.0;
        let online = teachers.checkpoints.len();
        refuse(
            online > 0 && !distills,
            "teachers.checkpoints",
            "nothing is learnt from teachers: loss.distill_weight is 0",
        )?;
        refuse(
            distills && !recorded && online == 0,
            "data.augment",
            "the stored teacher embeddings are those of recorded augmentations; must be recorded if loss.distill_weight is above 0 \
             and there are no teachers.checkpoints",
        )?;
        refuse(
            data.mix_synthetic.is_some() && !recorded,
            "data.mix_synthetic",
            "needs reinforced shards, data.augment = \"recorded\"",
        )?;
        refuse(
            recorded && online == 0 && loss.teacher_widths.is_empty(),
            "loss.teacher_widths",
            "are needed to read reinforced shards",
        )?;
        refuse(
            !recorded && online == 0 && !loss.teacher_widths.is_empty(),
            "loss.teacher_widths",
            "there is no distillation: loss.distill_weight is 0 and data.augment not recorded",
        )?;
        refuse(
            model.context.is_some_and(|context| !(2..=65535).contains(&context)),
            "model.context",
            "must be 2 to 65535",
        )?;
        refuse(!positive(optimiser.lr), "optimiser.lr", "must be above 0")?;
        for (field, value) in [
            ("optimiser.beta1", Some(optimiser.beta1)),
            ("optimiser.beta2", optimiser.beta2),
            ("model.ema", model.ema),
        ] {
            refuse(value.is_some_and(|v| !(0.0..1.0).contains(&v)), field, "must be at least 0 and below 1")?;
        }
        refuse(!optimiser.eps.is_none_or(positive), "optimiser.eps", "must be above 0")?;
        refuse(!not_negative(optimiser.weight_decay), "optimiser.weight_decay", "must be at least 0")?;
        refuse(!optimiser.clip.is_none_or(positive), "optimiser.clip", "must be above 0")?;
        refuse(
            !(optimiser.layer_decay > 0.0 && optimiser.layer_decay <= 1.0),
            "optimiser.layer_decay",
            "must be above 0 and at most 1",
        )?;
        refuse(!(0.0..1.0).contains(&model.drop_path), "model.drop_path", "must be at least 0 and below 1")?;
        refuse(!positive(model.layer_scale), "model.layer_scale", "must be above 0")?;
        refuse(!(1.0..=100.0).contains(&model.logit_scale), "model.logit_scale", "must be 1 to 100")?;
        for pattern in &model.freeze {
            glob::Pattern::new(pattern)
                .map_err(|e| Error::field("model.freeze", format!("`{pattern}`: {e}")))?;
        }
        self.objective(loss.caption_weight.is_some()).map(drop)
    }
}
