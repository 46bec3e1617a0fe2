//! What is minimised: CLIP's loss, distillation from teachers and their sum over caption sets (arXiv:2311.17049, section 3;
//! arXiv:2508.20691), and SigLIP's pairwise form (arXiv:2303.15343).
//!
//! Everything is computed in double precision from features in single precision. With B images, rows I and T of features, and
//! the scale s: logits are s I Tᵀ. Losses are means over rows and, but for the pairwise ones, halves over both directions.

use std::collections::HashMap;

use mobileclip_kernels::Pool;

use crate::matrix::{log_softmax, product, product_transposed, transposed};
use crate::rows::Rows;

/// How images and texts of a batch are contrasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contrast {
    /// Softmax over the batch, in both directions (CLIP).
    Softmax,
    /// Every pair by itself (SigLIP); logits have a bias.
    Sigmoid,
}

/// Where several teachers are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeacherAverage {
    /// Their probabilities, as all published scripts do.
    Probabilities,
    /// Their logits are added, as if their rows were one teacher's.
    Logits,
}

/// The teachers whose embeddings stand side by side in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Teachers {
    widths: Vec<usize>,
    scales: Vec<f64>,
    biases: Vec<f64>,
    average: TeacherAverage,
}

/// Settings of an objective that contradict each other.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// Neither one number nor one for each teacher.
    #[error("{count} {what} for {teachers} teachers: give one for all, or one for each")]
    Count {
        /// `logit scales` or `logit biases`.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many teachers there are.
        teachers: usize,
    },
    /// With added logits there is one softmax, hence one scale.
    #[error("teachers whose logits are added have one logit scale and bias, not {0}")]
    OneScale(usize),
    /// A number out of range.
    #[error("{what} is {value}, must be {expected}")]
    Range {
        /// What it is.
        what: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// No teacher.
    #[error("distillation needs at least one teacher with a width of at least 1")]
    NoTeacher,
    /// No term counts.
    #[error("all loss weights are 0")]
    NoTerm,
    /// A captioner's batch with several sets of captions, or with none.
    #[error("a captioner's batch has one set of captions, not {0}")]
    OneCaptionSet(usize),
    /// A weight on distillation without teachers.
    #[error("the distillation loss has weight {0}, but there are no teachers")]
    WeightWithoutTeachers(f64),
    /// Rows of another width than the teachers have together.
    #[error("teacher embeddings of width {found}, the teachers have {expected} together")]
    TeacherWidth {
        /// The sum of the teachers' widths.
        expected: usize,
        /// The rows' width.
        found: usize,
    },
    /// A batch whose parts do not belong together.
    #[error("{what}: {found} rows, the batch has {expected}")]
    RowCount {
        /// Which rows.
        what: &'static str,
        /// Rows of the images.
        expected: usize,
        /// Rows of this part.
        found: usize,
    },
    /// Image and text features of different widths.
    #[error("text features of width {found}, image features of width {expected}")]
    FeatureWidth {
        /// The images' width.
        expected: usize,
        /// The texts' width.
        found: usize,
    },
    /// A label beyond the prompts.
    #[error("label {label}, but there are prompts for {classes} classes")]
    NoPrompt {
        /// The label.
        label: usize,
        /// The prompts.
        classes: usize,
    },
    /// Distillation without embeddings to learn from.
    #[error("the batch has no teacher embeddings for its {0}")]
    NoTeacherRows(&'static str),
}

impl Teachers {
    /// Teachers of these widths. No scale: 1 for each; one: the same for all. Biases are for [`Contrast::Sigmoid`] and count
    /// in the same way, none meaning 0.
    ///
    /// # Errors
    /// [`ObjectiveError`] if the counts contradict each other or a scale is not a positive number.
    pub fn new(
        widths: &[usize],
        scales: &[f64],
        biases: &[f64],
        average: TeacherAverage,
    ) -> Result<Teachers, ObjectiveError> {
        let teachers = widths.len();
        if teachers == 0 || widths.contains(&0) {
            return Err(ObjectiveError::NoTeacher);
        }
        if average == TeacherAverage::Logits
            && let Some(many) = [scales.len(), biases.len()].into_iter().find(|&n| n > 1)
        {
            return Err(ObjectiveError::OneScale(many));
        }
        let spread = |what, given: &[f64], default: f64| match given.len() {
            0 => Ok(vec![default; teachers]),
            1 => Ok(vec![given[0]; teachers]),
            count if count == teachers => Ok(given.to_vec()),
            count => Err(ObjectiveError::Count { what, count, teachers }),
        };
        let scales = spread("logit scales", scales, 1.0)?;
        let biases = spread("logit biases", biases, 0.0)?;
        if let Some(&value) = scales.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(ObjectiveError::Range {
                what: "a teacher's logit scale",
                value,
                expected: "positive",
            });
        }
        if let Some(&value) = biases.iter().find(|b| !b.is_finite()) {
            return Err(ObjectiveError::Range {
                what: "a teacher's logit bias",
                value,
                expected: "a number",
            });
        }
        Ok(Teachers { widths: widths.to_vec(), scales, biases, average })
    }

    /// Numbers of a row of all teachers.
    pub fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// First column, width, scale and bias of each group of columns that has logits of its own.
    fn groups(&self) -> Vec<(usize, usize, f64, f64)> {
        match self.average {
            TeacherAverage::Logits => vec![(0, self.width(), self.scales[0], self.biases[0])],
            TeacherAverage::Probabilities => {
                let mut first = 0;
                (0..self.widths.len())
                    .map(|t| {
                        let start = first;
                        first += self.widths[t];
                        (start, self.widths[t], self.scales[t], self.biases[t])
                    })
                    .collect()
            }
        }
    }

    /// The mean over groups of `probabilities(logits)` for logits scale a bᵀ + bias.
    fn mean(&self, pool: &Pool, a: Rows<'_>, b: Rows<'_>, probabilities: impl Fn(&mut Vec<f64>)) -> Vec<f64> {
        let groups = self.groups();
        let mut total = vec![0.0; a.count() * b.count()];
        for &(first, width, scale, bias) in &groups {
            let mut logits =
                product_transposed(pool, &a.columns(first, width), &b.columns(first, width), width);
            logits.iter_mut().for_each(|v| *v = scale * *v + bias);
            probabilities(&mut logits);
            total.iter_mut().zip(&logits).for_each(|(t, p)| *t += p / groups.len() as f64);
        }
        total
    }
}

/// The loss: which terms, with which weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    contrast: Contrast,
    contrastive_weight: f64,
    distill_weight: f64,
    class_weight: f64,
    caption_weight: f64,
    teachers: Option<Teachers>,
}

/// What the terms that compare features count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weights {
    /// Images against their captions.
    pub contrastive: f64,
    /// The same as teachers see it.
    pub distill: f64,
    /// Images against a prompt for every class.
    pub class: f64,
}

/// One set of captions of a batch: row i belongs to image i.
#[derive(Clone, Copy, Debug)]
pub struct Captions<'a> {
    /// The student's features, of unit length.
    pub features: Rows<'a>,
    /// The teachers' embeddings, each of unit length.
    pub teacher: Option<Rows<'a>>,
}

/// A prompt for each class, and the images' classes.
#[derive(Clone, Copy, Debug)]
pub struct Prompts<'a> {
    /// The student's features, of unit length, a row for each class.
    pub features: Rows<'a>,
    /// The row that belongs to image i, if it has a class.
    pub labels: &'a [Option<usize>],
}

/// What a loss is computed of.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    /// The student's image features, of unit length.
    pub images: Rows<'a>,
    /// The teachers' image embeddings.
    pub teacher: Option<Rows<'a>>,
    /// True captions, then synthetic ones if there are any: losses are summed over the sets, whose texts are no negatives of
    /// each other.
    pub captions: Vec<Captions<'a>>,
    /// Row i's class, for the contrastive term: rows of a class are positives of each other (UniCL, arXiv:2204.03610, section 3.2).
    /// Empty: every row is a class of its own.
    pub classes: &'a [usize],
    /// For the class term.
    pub prompts: Option<Prompts<'a>>,
    /// What cosines are multiplied with.
    pub scale: f64,
    /// What is added to logits ([`Contrast::Sigmoid`] only).
    pub bias: f64,
}

/// Loss terms, weights applied, and gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// The contrastive term.
    pub contrastive: f64,
    /// The distillation term.
    pub distill: f64,
    /// The class term, if there are prompts.
    pub class: Option<f64>,
    /// The caption term, of captioners.
    pub caption: Option<f64>,
    /// Gradient of the images' features.
    pub images: Vec<f64>,
    /// Gradients of each set's text features.
    pub captions: Vec<Vec<f64>>,
    /// Gradients of the prompts' features.
    pub prompts: Vec<f64>,
    /// Gradient of the scale; times the scale, that of its logarithm, which is what models store.
    pub scale: f64,
    /// Gradient of the bias.
    pub bias: f64,
}

impl Losses {
    /// The sum of all terms.
    pub fn total(&self) -> f64 {
        self.contrastive + self.distill + self.class.unwrap_or_default() + self.caption.unwrap_or_default()
    }
}

impl Objective {
    /// Only the contrastive term.
    pub fn contrastive(contrast: Contrast) -> Objective {
        Objective {
            contrast,
            contrastive_weight: 1.0,
            distill_weight: 0.0,
            class_weight: 0.0,
            caption_weight: 0.0,
            teachers: None,
        }
    }

    /// A captioner's: CLIP's loss and that of the next words (arXiv:2205.01917, section 3.2), with weights. The published ones are 1
    /// and 2.
    ///
    /// # Errors
    /// [`ObjectiveError`] if a weight is negative or no number, or both are 0.
    pub fn captioner(contrastive_weight: f64, caption_weight: f64) -> Result<Objective, ObjectiveError> {
        check_weights(&[contrastive_weight, caption_weight])?;
        Ok(Objective { contrastive_weight, caption_weight, ..Objective::contrastive(Contrast::Softmax) })
    }

    /// Terms with weights, the second against teachers.
    ///
    /// # Errors
    /// [`ObjectiveError`] if a weight is negative or no number, all are 0, or distillation has a weight but no teacher.
    pub fn new(
        contrast: Contrast,
        weights: Weights,
        teachers: Option<Teachers>,
    ) -> Result<Objective, ObjectiveError> {
        let Weights { contrastive, distill, class } = weights;
        check_weights(&[contrastive, distill, class])?;
        if distill > 0.0 && teachers.is_none() {
            return Err(ObjectiveError::WeightWithoutTeachers(distill));
        }
        Ok(Objective {
            contrast,
            contrastive_weight: contrastive,
            distill_weight: distill,
            class_weight: class,
            caption_weight: 0.0,
            teachers,
        })
    }

    /// Whether the features of images and texts are compared at all.
    pub(crate) fn compares(&self) -> bool {
        self.contrastive_weight + self.distill_weight + self.class_weight > 0.0
    }

    /// Weight of the caption term.
    pub(crate) fn caption_weight(&self) -> f64 {
        self.caption_weight
    }

    /// Whether batches need a prompt for each class.
    pub fn classifies(&self) -> bool {
        self.class_weight > 0.0
    }

    /// Whether batches need teacher embeddings.
    pub fn distills(&self) -> bool {
        self.distill_weight > 0.0
    }

    /// The loss of a batch and its gradients.
    ///
    /// # Errors
    /// [`ObjectiveError`] if the parts of the batch do not belong together or teacher embeddings are missing.
    pub fn loss(&self, pool: &Pool, pairs: &Pairs<'_>) -> Result<Losses, ObjectiveError> {
        self.check(pairs)?;
        let (count, width) = (pairs.images.count(), pairs.images.width());
        let images = pairs.images.columns(0, width);
        let positives = positives(pairs.classes, count);
        let mut losses = Losses {
            contrastive: 0.0,
            distill: 0.0,
            class: None,
            caption: None,
            images: vec![0.0; images.len()],
            captions: Vec::new(),
            prompts: Vec::new(),
            scale: 0.0,
            bias: 0.0,
        };
        for captions in &pairs.captions {
            let texts = captions.features.columns(0, width);
            let cosines = product_transposed(pool, &images, &texts, width);
            let teachers = match (&self.teachers, pairs.teacher, captions.teacher) {
                (Some(teachers), Some(images), Some(texts)) if self.distills() => {
                    Some((teachers, images, texts))
                }
                _ => None,
            };
            let slopes = match self.contrast {
                Contrast::Softmax => {
                    self.softmax(pool, &cosines, pairs.scale, &positives, teachers, &mut losses)
                }
                Contrast::Sigmoid => self.sigmoid(pool, &cosines, pairs, &positives, teachers, &mut losses),
            };
            losses.bias += slopes.iter().sum::<f64>();
            losses.scale += slopes.iter().zip(&cosines).map(|(g, c)| g * c).sum::<f64>();
            let of_images = product(pool, &slopes, &texts, count, width);
            losses.images.iter_mut().zip(of_images).for_each(|(sum, g)| *sum += pairs.scale * g);
            let mut of_texts = product(pool, &transposed(&slopes, count), &images, count, width);
            of_texts.iter_mut().for_each(|g| *g *= pairs.scale);
            losses.captions.push(of_texts);
        }
        if let Some(prompts) = &pairs.prompts {
            self.classify(pool, &images, pairs.scale, prompts, &mut losses);
        }
        Ok(losses)
    }

    /// Adds the cross-entropy of each image over all prompts, a mean over all images of which those without a class count 0.
    fn classify(&self, pool: &Pool, images: &[f64], scale: f64, prompts: &Prompts<'_>, losses: &mut Losses) {
        let (count, width) = (prompts.features.count(), prompts.features.width());
        let texts = prompts.features.columns(0, width);
        let cosines = product_transposed(pool, images, &texts, width);
        let mut log: Vec<f64> = cosines.iter().map(|c| scale * c).collect();
        log_softmax(pool, &mut log, count);
        let part = self.class_weight / prompts.labels.len() as f64;
        let (mut loss, mut slopes) = (0.0, vec![0.0; log.len()]);
        let rows = log.chunks_exact(count).zip(slopes.chunks_exact_mut(count));
        for ((log, slopes), label) in rows.zip(prompts.labels) {
            let Some(label) = *label else { continue };
            loss -= part * log[label];
            slopes.iter_mut().zip(log).for_each(|(slope, log)| *slope = part * log.exp());
            slopes[label] -= part;
        }
        losses.class = Some(loss);
        losses.scale += slopes.iter().zip(&cosines).map(|(g, c)| g * c).sum::<f64>();
        let of_images = product(pool, &slopes, &texts, count, width);
        losses.images.iter_mut().zip(of_images).for_each(|(sum, g)| *sum += scale * g);
        losses.prompts = product(pool, &transposed(&slopes, count), images, prompts.labels.len(), width);
        losses.prompts.iter_mut().for_each(|g| *g *= scale);
    }

    /// Adds cross-entropies of both directions and returns the logits' gradient.
    fn softmax(
        &self,
        pool: &Pool,
        cosines: &[f64],
        scale: f64,
        positives: &[Vec<usize>],
        teachers: Option<(&Teachers, Rows<'_>, Rows<'_>)>,
        losses: &mut Losses,
    ) -> Vec<f64> {
        let count = positives.len();
        let logits: Vec<f64> = cosines.iter().map(|c| scale * c).collect();
        let mut slopes = vec![0.0; count * count];
        let half = 0.5 / count as f64;
        for is_text in [false, true] {
            let mut log = if is_text { transposed(&logits, count) } else { logits.clone() };
            log_softmax(pool, &mut log, count);
            let weight = self.contrastive_weight * half;
            let mut of_direction: Vec<f64> = log.iter().map(|l| weight * l.exp()).collect();
            for (i, same) in positives.iter().enumerate() {
                let share = weight / same.len() as f64;
                for j in same {
                    losses.contrastive -= share * log[i * count + j];
                    of_direction[i * count + j] -= share;
                }
            }
            if let Some((teachers, images, texts)) = teachers {
                let (from, to) = if is_text { (texts, images) } else { (images, texts) };
                let targets = teachers.mean(pool, from, to, |logits| {
                    log_softmax(pool, logits, count);
                    logits.iter_mut().for_each(|v| *v = v.exp());
                });
                let weight = self.distill_weight * half;
                losses.distill -= weight * targets.iter().zip(&log).map(|(p, l)| p * l).sum::<f64>();
                let terms = of_direction.iter_mut().zip(log.iter().zip(&targets));
                terms.for_each(|(slope, (log, target))| *slope += weight * (log.exp() - target));
            }
            if is_text {
                of_direction = transposed(&of_direction, count);
            }
            slopes.iter_mut().zip(&of_direction).for_each(|(sum, g)| *sum += g);
        }
        slopes
    }

    /// Adds the pairwise terms and returns the logits' gradient.
    fn sigmoid(
        &self,
        pool: &Pool,
        cosines: &[f64],
        pairs: &Pairs<'_>,
        positives: &[Vec<usize>],
        teachers: Option<(&Teachers, Rows<'_>, Rows<'_>)>,
        losses: &mut Losses,
    ) -> Vec<f64> {
        let count = positives.len();
        // A label of a teacher is soft, between −1 and 1, as published.
        let soft = teachers.map(|(teachers, images, texts)| {
            teachers.mean(pool, images, texts, |logits| {
                logits.iter_mut().for_each(|v| *v = 2.0 / (1.0 + (-*v).exp()) - 1.0);
            })
        });
        let part = 1.0 / count as f64;
        let mut slopes = vec![0.0; count * count];
        for (i, slope) in slopes.iter_mut().enumerate() {
            let logit = pairs.scale * cosines[i] + pairs.bias;
            let hard = if positives[i / count].contains(&(i % count)) { 1.0 } else { -1.0 };
            let (loss, of_logit) = pair(hard, logit);
            losses.contrastive += self.contrastive_weight * part * loss;
            *slope += self.contrastive_weight * part * of_logit;
            if let Some(soft) = &soft {
                let (loss, of_logit) = pair(soft[i], logit);
                losses.distill += self.distill_weight * part * loss;
                *slope += self.distill_weight * part * of_logit;
            }
        }
        slopes
    }

    fn check(&self, pairs: &Pairs<'_>) -> Result<(), ObjectiveError> {
        let (expected, width) = (pairs.images.count(), pairs.images.width());
        let rows = |what, rows: Rows<'_>| match rows.count() {
            found if found == expected => Ok(()),
            found => Err(ObjectiveError::RowCount { what, expected, found }),
        };
        if !matches!(pairs.classes.len(), found if found == 0 || found == expected) {
            let found = pairs.classes.len();
            return Err(ObjectiveError::RowCount { what: "classes", expected, found });
        }
        if let Some(Prompts { features, labels }) = &pairs.prompts {
            let (classes, found) = (features.count(), labels.len());
            if found != expected {
                return Err(ObjectiveError::RowCount { what: "labels", expected, found });
            }
            if let Some(&found) = labels.iter().flatten().find(|label| **label >= classes) {
                return Err(ObjectiveError::NoPrompt { label: found, classes });
            }
            if features.width() != width {
                return Err(ObjectiveError::FeatureWidth { expected: width, found: features.width() });
            }
        }
        for captions in &pairs.captions {
            rows("text features", captions.features)?;
            if captions.features.width() != width {
                let found = captions.features.width();
                return Err(ObjectiveError::FeatureWidth { expected: width, found });
            }
        }
        let Some(teachers) = self.teachers.as_ref().filter(|_| self.distills()) else { return Ok(()) };
        let texts = pairs.captions.iter().map(|captions| ("texts", captions.teacher));
        for (what, found) in std::iter::once(("images", pairs.teacher)).chain(texts) {
            let found = found.ok_or(ObjectiveError::NoTeacherRows(what))?;
            rows("teacher embeddings", found)?;
            if found.width() != teachers.width() {
                let (expected, found) = (teachers.width(), found.width());
                return Err(ObjectiveError::TeacherWidth { expected, found });
            }
        }
        Ok(())
    }
}

/// For each row those of its class, itself included.
fn positives(classes: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut rows: HashMap<usize, Vec<usize>> = HashMap::new();
    for (row, class) in classes.iter().enumerate() {
        rows.entry(*class).or_default().push(row);
    }
    let of = |row| classes.get(row).map_or_else(|| vec![row], |class| rows[class].clone());
    (0..count).map(of).collect()
}

/// Whether these can be the weights of a sum.
fn check_weights(weights: &[f64]) -> Result<(), ObjectiveError> {
    if let Some(&value) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        let expected = "a number of at least 0";
        return Err(ObjectiveError::Range { what: "a loss weight", value, expected });
    }
    match weights.iter().sum::<f64>() > 0.0 {
        true => Ok(()),
        false => Err(ObjectiveError::NoTerm),
    }
}

/// −log sigmoid(label · logit) and its slope along the logit.
fn pair(label: f64, logit: f64) -> (f64, f64) {
    let z = label * logit;
    let loss = (-z).max(0.0) + (-z.abs()).exp().ln_1p();
    (loss, -label / (1.0 + z.exp()))
}
