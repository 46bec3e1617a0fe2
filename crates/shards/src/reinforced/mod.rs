//! What reinforced shards add to a sample: recorded augmentations, synthetic captions, and the teachers' embeddings of both
//! (multi-modal reinforcement, arXiv:2311.17049, section 3.1).

pub(crate) mod arrays;
mod augmentation;
mod write;

use std::collections::BTreeMap;

use serde_json::Value;

pub use augmentation::{Augmentation, Crop};
pub use mobileclip_image::augment::{Operation, Transform};
pub use write::{ArrayType, array_member};

use crate::error::{Fault, Result};
use crate::limits::Limits;
use crate::matrix::Matrix;
use crate::sample::Sample;

/// How far a teacher's part of a row may be from length 1; bf16 moves it by 2e-3.
const LENGTH_TOLERANCE: f64 = 2e-2;

/// What is known of a reinforced set besides its shards.
#[derive(Clone, Debug, Default)]
pub struct ReinforcementSpec {
    /// The width of each teacher's embedding, in the order of the columns. The shards do not say it. Without teachers no embeddings
    /// are read: their rows are empty.
    pub teacher_dims: Vec<usize>,
    /// What the names of the arrays end in, where a set has several (`image_emb`, `image_emb_other`).
    pub tag: String,
    /// Bounds.
    pub limits: Limits,
}

/// What teachers made of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Reinforcement {
    /// The recorded augmentations of the picture.
    pub augmentations: Vec<Augmentation>,
    /// The teachers' embeddings of the picture: row `i` of augmentation `i`. The teachers' parts stand side by side, each of
    /// length 1.
    pub image_embeddings: Matrix,
    /// The teachers' embeddings of the ground-truth captions.
    pub text_embeddings: Matrix,
    /// Synthetic captions, by the name of their set; sets that no teacher has embedded are left out.
    pub synthetic: Vec<CaptionSet>,
}

/// Synthetic captions of one captioner.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionSet {
    /// `syn_text`, `syn_text_dfn_mscoco38k`, ….
    pub name: String,
    /// The captions.
    pub captions: Vec<String>,
    /// The teachers' embeddings, row `i` of caption `i`.
    pub embeddings: Matrix,
}

impl Reinforcement {
    /// Reads `paug.json`, `syn.json` and `npz` or `pth.gz`, in either published layout: `text_emb` with the rows of the synthetic
    /// captions after those of the `texts` ground-truth captions, or an array `SET_emb` for each caption set.
    ///
    /// The picture and the caption are not looked at: the published halves of the sets have neither.
    ///
    /// # Errors
    /// If a member is missing or malformed; an array's shape does not fit; or a number in it is not finite, or a teacher's part of a row
    /// is not of length 1.
    pub fn read(sample: &Sample, texts: usize, spec: &ReinforcementSpec) -> Result<Self, Fault> {
        let bad = |member: &str, reason: String| sample.bad(member, reason);
        let parameters: BTreeMap<String, Value> = sample.json("paug.json")?;
        let augmentations = match parameters.get("param_aug") {
            Some(value) => augmentation::parse(value).map_err(|reason| bad("paug.json", reason))?,
            None => return Err(bad("paug.json", "has no `param_aug`".to_owned())),
        };
        let sets: BTreeMap<String, Vec<String>> = sample.json("syn.json")?;
        if spec.teacher_dims.is_empty() {
            let set = |(name, captions): (String, Vec<String>)| CaptionSet {
                embeddings: Matrix::without_columns(captions.len()),
                name,
                captions,
            };
            return Ok(Self {
                image_embeddings: Matrix::without_columns(augmentations.len()),
                text_embeddings: Matrix::without_columns(texts),
                synthetic: sets.into_iter().map(set).collect(),
                augmentations,
            });
        }
        let (member, mut arrays) = arrays::read(sample, &spec.limits)?;
        let take = |arrays: &mut arrays::Arrays, name: &str| {
            let name = format!("{name}{}", spec.tag);
            let matrix = arrays.remove(&name).ok_or_else(|| bad(member, format!("has no array `{name}`")))?;
            check(&matrix, &spec.teacher_dims)
                .map_err(|reason| bad(member, format!("`{name}`: {reason}")))?;
            Ok::<_, Fault>(matrix)
        };
        let image_embeddings = take(&mut arrays, "image_emb")?;
        if image_embeddings.rows() != augmentations.len() {
            let (rows, count) = (image_embeddings.rows(), augmentations.len());
            return Err(bad(member, format!("`image_emb`: {rows} rows for {count} augmentations")));
        }
        let mut text_embeddings = take(&mut arrays, "text_emb")?;
        if text_embeddings.rows() < texts {
            let rows = text_embeddings.rows();
            return Err(bad(member, format!("`text_emb`: {rows} rows for {texts} captions")));
        }
        let rest = text_embeddings.split_off(texts);
        let synthetic = match (rest.rows(), sets.len()) {
            (0, _) => {
                let mut embedded = Vec::new();
                for (name, captions) in sets {
                    if arrays.contains_key(&format!("{name}_emb{}", spec.tag)) {
                        let embeddings = take(&mut arrays, &format!("{name}_emb"))?;
                        embedded.push(CaptionSet { name, captions, embeddings });
                    }
                }
                embedded
            }
            (_, 1) => {
                let whole = |(name, captions)| CaptionSet { name, captions, embeddings: rest.clone() };
                sets.into_iter().map(whole).collect()
            }
            (rows, sets) => {
                let reason = format!(
                    "`text_emb`: {rows} rows of synthetic captions, of which set of {sets} is not said"
                );
                return Err(bad(member, reason));
            }
        };
        for CaptionSet { name, captions, embeddings } in &synthetic {
            if captions.len() != embeddings.rows() {
                let (rows, count) = (embeddings.rows(), captions.len());
                return Err(bad(member, format!("{rows} rows for the {count} captions of `{name}`")));
            }
        }
        Ok(Self { augmentations, image_embeddings, text_embeddings, synthetic })
    }
}

/// Whether rows are what teachers give: as wide as all of them, finite, each part of length 1.
fn check(matrix: &Matrix, teacher_dims: &[usize]) -> Result<(), String> {
    let width: usize = teacher_dims.iter().sum();
    if matrix.columns() != width {
        return Err(format!("{} columns, the teachers {teacher_dims:?} have {width}", matrix.columns()));
    }
    for row in 0..matrix.rows() {
        let mut rest = matrix.row(row);
        for (teacher, &width) in teacher_dims.iter().enumerate() {
            let Some((part, after)) = rest.split_at_checked(width) else { return Ok(()) };
            rest = after;
            if !part.iter().all(|v| v.is_finite()) {
                return Err(format!("row {row} has a number that is not finite"));
            }
            let length = part.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            if (length - 1.0).abs() > LENGTH_TOLERANCE {
                return Err(format!("row {row}: teacher {teacher}'s part has length {length:.4}, not 1"));
            }
        }
    }
    Ok(())
}
