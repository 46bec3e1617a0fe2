//! Whether a file holds a variant: every tensor there, none left over, all shapes right.

use std::collections::{BTreeMap, HashSet};

use mobileclip_arch::{Form, Manifest, Role, TensorSpec, Variant};

use crate::dialect::{Canonical, How};
use crate::error::{Listing, Misfit, Result};
use crate::file::TensorFile;

/// Where a canonical tensor's elements come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The tensor of this name in the file, as it is.
    Stored(String),
    /// The matrix of this name in the file, transposed.
    Transposed(String),
    /// Zeros: a bias that the file's dialect does not have.
    Zeros,
}

/// A canonical tensor of a checkpoint that fits.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub spec: TensorSpec,
    pub origin: Origin,
}

/// A variant laid over a file.
#[derive(Debug)]
pub(crate) struct Fit {
    pub form: Form,
    /// In the manifest's order.
    pub places: Vec<Place>,
    pub misfit: Misfit,
    /// A bias of zeros was added or left out, because two dialects of one model differ in it.
    pub zero_bias: bool,
}

impl Fit {
    /// Lays `variant` over the file in the form (train or deploy) that fits better.
    ///
    /// # Errors
    /// Only if a bias had to be looked at and its data are damaged; what does not fit is in [`Fit::misfit`].
    pub(crate) fn of(file: &TensorFile, names: &Canonical, variant: &Variant) -> Result<Fit> {
        let manifest = Manifest::of(variant);
        let train = lay(file, names, &manifest, Form::Train)?;
        if !manifest.has_branches() {
            return Ok(Fit { form: Form::Any, ..train });
        }
        let deploy = lay(file, names, &manifest, Form::Deploy)?;
        Ok(if deploy.misfit.total() < train.misfit.total() { deploy } else { train })
    }
}

/// The bias of the projection: the first package has none, timm's towers always.
fn is_head_bias(name: &str) -> bool {
    matches!(name, "visual.trunk.head.fc.bias" | "visual.trunk.head.bias")
}

fn lay(file: &TensorFile, names: &Canonical, manifest: &Manifest, form: Form) -> Result<Fit> {
    let mut places = Vec::new();
    let mut misfit = Misfit::default();
    let mut used = HashSet::new();
    let mut zero_bias = false;
    for spec in manifest.of_form(form) {
        used.insert(spec.name.as_str());
        let Some(source) = names.tensors.get(&spec.name) else {
            if is_head_bias(&spec.name) && names.dialect == mobileclip_arch::Dialect::Mobileclip {
                zero_bias = true;
                places.push(Place { spec: spec.clone(), origin: Origin::Zeros });
            } else if spec.role == Role::Counter {
                // Never read by inference, and some tools drop integers.
                places.push(Place { spec: spec.clone(), origin: Origin::Zeros });
            } else {
                misfit.missing.push(|| format!("`{}`", spec.name));
            }
            continue;
        };
        let found = file.get(&source.name).map_or(&[][..], |t| t.shape());
        if fits(found, &spec.shape, source.how) {
            let stored = source.name.clone();
            let origin = match source.how {
                How::Same | How::Reshape => Origin::Stored(stored),
                How::Transpose => Origin::Transposed(stored),
            };
            places.push(Place { spec: spec.clone(), origin });
        } else {
            misfit.misshapen.push(|| {
                format!("`{}`: {found:?} instead of {:?}", source.name, stored_shape(spec, source.how))
            });
        }
    }
    let extra: BTreeMap<&str, &str> = names
        .tensors
        .iter()
        .filter(|(canonical, _)| !used.contains(canonical.as_str()))
        .map(|(canonical, source)| (source.name.as_str(), canonical.as_str()))
        .collect();
    for (stored, canonical) in extra {
        if is_head_bias(canonical)
            && let Some(bias) = file.get(stored)
            && bias.to_f32()?.iter().all(|&b| b == 0.0)
        {
            zero_bias = true;
            continue;
        }
        misfit.extra.push(|| format!("`{stored}`"));
    }
    Ok(Fit { form, places, misfit, zero_bias })
}

/// Whether a stored shape can stand for the canonical one.
fn fits(found: &[usize], wanted: &[usize], how: How) -> bool {
    let squeezed = |shape: &[usize]| shape.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    match how {
        // Scalars are stored as [] or [1] (logit_scale).
        How::Same if wanted.is_empty() => squeezed(found).is_empty(),
        How::Same => found == wanted,
        How::Reshape => squeezed(found) == squeezed(wanted),
        How::Transpose => found.len() == 2 && found.iter().rev().eq(wanted),
    }
}

/// The canonical shape as the file's dialect would store it, for messages.
fn stored_shape(spec: &TensorSpec, how: How) -> Vec<usize> {
    match how {
        How::Transpose => spec.shape.iter().rev().copied().collect(),
        How::Same | How::Reshape => spec.shape.clone(),
    }
}

impl Misfit {
    /// How many tensors do not fit.
    pub fn total(&self) -> usize {
        [&self.missing, &self.extra, &self.misshapen].into_iter().map(Listing::total).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_may_differ_only_as_the_dialect_says() {
        assert!(fits(&[1], &[], How::Same) && fits(&[], &[], How::Same) && !fits(&[2], &[], How::Same));
        assert!(fits(&[2, 3], &[2, 3], How::Same) && !fits(&[1, 2, 3], &[2, 3], How::Same));
        assert!(fits(&[1, 1, 7, 5], &[7, 5], How::Reshape) && fits(&[1, 1, 7, 5], &[1, 7, 5], How::Reshape));
        assert!(!fits(&[1, 1, 5, 7], &[7, 5], How::Reshape));
        assert!(fits(&[2, 3], &[3, 2], How::Transpose) && !fits(&[3, 2], &[3, 2], How::Transpose));
        assert!(!fits(&[3, 2, 1], &[1, 2, 3], How::Transpose));
    }
}
