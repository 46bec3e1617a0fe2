//! Which variant a file holds.

use std::path::Path;

use mobileclip_arch::{Dialect, Image, Variant, variants};

use crate::config::Config;
use crate::dialect::Canonical;
use crate::error::{Error, Listing, Result};
use crate::file::TensorFile;
use crate::fit::Fit;
use crate::hints::{self, Hints};

/// Rows of positions that a text tower may have, as many as a variant may say.
const MOST_POSITIONS: usize = 65536;

/// A variant and how it lies over the file, with what should be told.
pub(crate) struct Detected {
    pub variant: Variant,
    pub fit: Fit,
    pub warnings: Vec<String>,
}

/// The variant that the caller names: it is taken if the weights are its own.
pub(crate) fn given(
    file: &TensorFile,
    names: &Canonical,
    config: Option<&(std::path::PathBuf, Config)>,
    variant: &Variant,
) -> Result<Detected> {
    let fit = Fit::of(file, names, variant)?;
    let mut warnings = Vec::new();
    if let Some((path, config)) = config {
        let differences = config.model_cfg.differences(variant);
        if !differences.is_empty() {
            warnings.push(format!("{} contradicts the variant: {}", path.display(), differences.join("; ")));
        }
    }
    finish(file, variant, fit, warnings)
}

/// Finds the variant by the weights' names and shapes; where several fit that compute differently, by the configuration, else
/// by the names of the file and its folders.
pub(crate) fn find(
    file: &TensorFile,
    names: &Canonical,
    config: Option<&(std::path::PathBuf, Config)>,
    hints: &Hints,
) -> Result<Detected> {
    let all = &of_this_context(file, names);
    let described: Vec<&Variant> = match config {
        Some((path, config)) => described(path, config, all)?,
        None => all.iter().collect(),
    };
    let mut fits = Vec::new();
    for variant in described {
        fits.push((variant, Fit::of(file, names, variant)?));
    }
    if !fits.iter().any(|(_, fit)| fit.misfit.total() == 0) {
        return Err(nearest(file, names, fits, config.is_some(), hints, all));
    }
    fits.retain(|(_, fit)| fit.misfit.total() == 0);
    // Names of the first package's files say who trained them; a bare file of canonical names may be a converted one.
    if config.is_none()
        && names.dialect == Dialect::Mobileclip
        && fits.iter().any(|(v, _)| v.dialect == names.dialect)
    {
        fits.retain(|(v, _)| v.dialect == names.dialect);
    }
    let candidates: Vec<&Variant> = fits.iter().map(|(v, _)| *v).collect();
    let chosen = choose(file.path(), config.map(|(_, c)| c), hints, names.dialect, &candidates)?;
    let mut warnings = Vec::new();
    if config.is_none()
        && let Some(named) = hints.named(all)
        && !candidates.iter().any(|c| same_features(c, named, true))
    {
        warnings.push(format!("the name speaks of {}, the weights are those of {}", named.name, chosen.name));
    }
    let fit = fits.into_iter().find(|(v, _)| v.name == chosen.name).map(|(_, fit)| fit);
    let fit = fit.map_or_else(|| Fit::of(file, names, chosen), Ok)?;
    finish(file, chosen, fit, warnings)
}

/// All variants, captioners with the context that the file has: one architecture is published with several, and only the rows
/// of its positions tell.
fn of_this_context(file: &TensorFile, names: &Canonical) -> Vec<Variant> {
    let mut all = variants().to_vec();
    for variant in all.iter_mut().filter(|variant| variant.captioner.is_some()) {
        take_context(file, names, variant);
    }
    all
}

/// Gives a variant the context that the rows of the file's text positions say.
pub(crate) fn take_context(file: &TensorFile, names: &Canonical, variant: &mut Variant) {
    let source = names.tensors.get(&variant.text.positions_name());
    let shape = source.and_then(|source| file.get(&source.name)).map(|view| view.shape());
    // A captioner's class token has the last row.
    let more = usize::from(variant.captioner.is_some());
    if let Some(&[rows @ 2..=MOST_POSITIONS, _]) = shape {
        variant.text.context = rows - more;
    }
}

fn finish(file: &TensorFile, variant: &Variant, fit: Fit, warnings: Vec<String>) -> Result<Detected> {
    if fit.misfit.total() > 0 {
        let (path, variant) = (file.path().to_path_buf(), variant.name.clone());
        return Err(Error::Mismatch { path, variant, misfit: Box::new(fit.misfit) });
    }
    Ok(Detected { variant: variant.clone(), fit, warnings })
}

/// The variants that a configuration describes.
fn described<'v>(path: &Path, config: &Config, all: &'v [Variant]) -> Result<Vec<&'v Variant>> {
    let differences: Vec<(&Variant, Vec<String>)> =
        all.iter().map(|v| (v, config.model_cfg.differences(v))).collect();
    let exact: Vec<&Variant> = differences.iter().filter(|(_, d)| d.is_empty()).map(|(v, _)| *v).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let nearest = differences.into_iter().min_by_key(|(_, d)| d.len()).map(|(_, d)| d).unwrap_or_default();
    let reason =
        format!("it describes no model of the family; the nearest differs: {}", Listing::from_iter(nearest));
    Err(Error::Config { path: path.to_path_buf(), reason })
}

/// One of `candidates`, which all fit.
fn choose<'v>(
    path: &Path,
    config: Option<&Config>,
    hints: &Hints,
    dialect: Dialect,
    candidates: &[&'v Variant],
) -> Result<&'v Variant> {
    let ambiguous = || {
        let candidates = candidates.iter().map(|v| v.name.clone()).collect();
        Error::Ambiguous { path: path.to_path_buf(), candidates }
    };
    // An OpenAI-style state dict never says its activation, even if only one variant of its size is known.
    let says_activation = config.is_some() || !candidates.iter().any(|v| hints::says_no_activation(v));
    let left = match hints.narrow(candidates) {
        Some(meant) => meant,
        None if says_activation => candidates.to_vec(),
        None => return Err(ambiguous()),
    };
    let has_preprocess = config.is_some_and(Config::has_preprocess);
    let (&first, rest) = left.split_first().ok_or_else(ambiguous)?;
    if !rest.iter().all(|other| same_features(first, other, has_preprocess)) {
        return Err(ambiguous());
    }
    // Of those that compute the same, the one whose files have these names.
    Ok(left.iter().copied().find(|v| v.dialect == dialect).unwrap_or(first))
}

/// Whether two variants that fit the same weights give the same features. Where the preprocessing comes from a configuration,
/// the variants' own does not count; a bias that only one of them has is zeros here, or only one would fit.
pub(crate) fn same_features(a: &Variant, b: &Variant, has_preprocess: bool) -> bool {
    let mut b = b.clone();
    if has_preprocess {
        b.preprocess = a.preprocess.clone();
    }
    match (&a.image, &mut b.image) {
        (Image::Mci(a), Image::Mci(b)) => b.head_bias = a.head_bias,
        (Image::TimmVit(a), Image::TimmVit(b)) => b.head_bias = a.head_bias,
        _ => {}
    }
    a.computes_as(&b)
}

/// The error when nothing fits: against the variant that was meant, or the nearest one.
fn nearest(
    file: &TensorFile,
    names: &Canonical,
    fits: Vec<(&Variant, Fit)>,
    is_described: bool,
    hints: &Hints,
    all: &[Variant],
) -> Error {
    let path = file.path().to_path_buf();
    let named = hints.named(all);
    // With most of its tensors in place, it is that model with a fault; else it is something else.
    let plausible = fits.into_iter().filter(|(_, fit)| is_described || fit.misfit.total() < fit.places.len());
    let best = plausible.min_by_key(|(variant, fit)| {
        let is_named = named.is_some_and(|n| n.name == variant.name);
        (!is_named, fit.misfit.total(), variant.dialect != names.dialect)
    });
    match best {
        Some((variant, fit)) => {
            Error::Mismatch { path, variant: variant.name.clone(), misfit: Box::new(fit.misfit) }
        }
        None => Error::UnknownModel { path, names: file.names().collect() },
    }
}
