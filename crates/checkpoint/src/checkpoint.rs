//! A checkpoint: a file of weights that is known to hold a variant.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use mobileclip_arch::{Dialect, Form, Image, Preprocess, Stem, TensorSpec, Variant, Weights};

use crate::detect;
use crate::dialect::Canonical;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::file::TensorFile;
use crate::fit::{Origin, Place};
use crate::hints::Hints;
use crate::limits::Limits;
use crate::locate::Location;
use crate::view::TensorView;

/// What the caller knows better.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The variant, where weights and names do not tell, or a variant of one's own.
    pub variant: Option<Variant>,
    /// Whether the named variant may have another context length than it says: that of the file's text positions.
    pub any_context: bool,
    /// What the file may ask of us.
    pub limits: Limits,
}

impl Options {
    /// Options that name the variant.
    pub fn of(variant: &Variant) -> Options {
        Options { variant: Some(variant.clone()), ..Options::default() }
    }
}

/// Where a checkpoint's preprocessing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreprocessSource {
    /// `preprocess_cfg` of the configuration beside the weights.
    Config,
    /// The published weights that the file's name speaks of (`dfn5b`, …).
    Name,
    /// The variant: what its published weights were trained with.
    Variant,
}

/// A file of weights that holds exactly one variant's tensors, by canonical name.
///
/// ```no_run
/// # fn main() -> Result<(), mobileclip_checkpoint::Error> {
/// let checkpoint = mobileclip_checkpoint::Checkpoint::open("mobileclip_s0.pt")?;
/// println!("{} in {:?} form", checkpoint.variant().name, checkpoint.form());
/// let scale = checkpoint.get("logit_scale").expect("every variant has one").to_f32()?[0].exp();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Checkpoint {
    file: TensorFile,
    variant: Variant,
    dialect: Dialect,
    form: Form,
    preprocess: Preprocess,
    preprocess_source: PreprocessSource,
    warnings: Vec<String>,
    /// In the manifest's order.
    places: Vec<Place>,
    index: HashMap<String, usize>,
}

impl Checkpoint {
    /// Opens a model directory or a bare file and finds out what it holds. No weights are read yet, but for small ones that
    /// decide.
    ///
    /// # Errors
    /// The file cannot be read ([`TensorFile::open`] says how), holds no variant of the family (all missing, extra and
    /// misshapen tensors in one [`Error::Mismatch`]), or holds several that compute differently and nothing tells which
    /// ([`Error::Ambiguous`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_with(path, &Options::default())
    }

    /// As [`Checkpoint::open`], with what the caller knows better.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; a named variant that the weights do not fit is an [`Error::Mismatch`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Checkpoint> {
        let location = Location::of(path.as_ref())?;
        let file = TensorFile::open_with(&location.weights, &options.limits)?;
        let names = Canonical::of(&file)?;
        let config = location.config.as_ref();
        let hints =
            Hints::of(&std::path::absolute(file.path()).unwrap_or_else(|_| file.path().to_path_buf()));
        let found = match &options.variant {
            Some(variant) if options.any_context => {
                let mut variant = variant.clone();
                detect::take_context(&file, &names, &mut variant);
                detect::given(&file, &names, config, &variant)?
            }
            Some(variant) => detect::given(&file, &names, config, variant)?,
            None => detect::find(&file, &names, config, &hints)?,
        };
        let variant = found.variant;
        let mut warnings = found.warnings;
        let trained = hints.tag_preprocess(&variant);
        let from_config =
            config.map(|(path, config)| config.preprocess(path, &variant)).transpose()?.flatten();
        let (preprocess, preprocess_source) = match (from_config, trained) {
            (Some(preprocess), _) => (preprocess, PreprocessSource::Config),
            (None, Some(preprocess)) => (preprocess, PreprocessSource::Name),
            (None, None) => (variant.preprocess.clone(), PreprocessSource::Variant),
        };
        if preprocess_source == PreprocessSource::Config {
            warnings.extend(contradictions(&preprocess, &variant));
        }
        if found.fit.zero_bias {
            warnings.push(zero_bias_warning(&variant));
        }
        warnings.extend(file.notes().iter().cloned());
        let index = found.fit.places.iter().enumerate().map(|(i, p)| (p.spec.name.clone(), i)).collect();
        let (form, places, dialect) = (found.fit.form, found.fit.places, names.dialect);
        Ok(Checkpoint {
            file,
            variant,
            dialect,
            form,
            preprocess,
            preprocess_source,
            warnings,
            places,
            index,
        })
    }

    /// The file that the weights are in.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The variant it holds.
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// The names that its file uses.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Train or deploy form; [`Form::Any`] for models without branches, where the two are one.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What an image must go through before the tower.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Where [`Checkpoint::preprocess`] was found.
    pub fn preprocess_source(&self) -> PreprocessSource {
        self.preprocess_source
    }

    /// What a person should know: contradictions of the configuration, things left aside.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All tensors by canonical name, in the manifest's order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.places.iter().map(|place| Tensor { checkpoint: self, place })
    }

    /// The tensor of this canonical name.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let place = self.places.get(*self.index.get(name)?)?;
        Some(Tensor { checkpoint: self, place })
    }

    /// Lends the weights to `read`, a reading of the program, which cannot fail by itself. If a tensor that it asked for is
    /// damaged or not finite, it was given zeros and its result is thrown away for the error.
    ///
    /// # Errors
    /// The first of the errors of [`Tensor::to_f32`].
    pub fn with_weights<R>(&self, read: impl FnOnce(&CheckedWeights<'_>) -> R) -> Result<R> {
        let weights = CheckedWeights { checkpoint: self, error: OnceLock::new() };
        let result = read(&weights);
        match weights.error.into_inner() {
            None => Ok(result),
            Some(error) => Err(error),
        }
    }
}

/// What zeros for the projection's bias mean: the first package has no such bias.
fn zero_bias_warning(variant: &Variant) -> String {
    let mut text = "the image projection's bias is zeros: weights of the first package, or converted from it"
        .to_string();
    if let Image::TimmVit(vit) = &variant.image
        && matches!(vit.stem, Stem::Convolutional { padding: 0, .. })
    {
        text +=
            ", which pads the first convolution; if it trained them, the variant is its own (mobileclip_b)";
    }
    text
}

fn contradictions(used: &Preprocess, variant: &Variant) -> Vec<String> {
    let trained = &variant.preprocess;
    let name = &variant.name;
    let mut found = Vec::new();
    if (used.mean, used.std) != (trained.mean, trained.std) {
        found.push(format!(
            "the configuration normalises with mean {:?} and std {:?}, {name} was trained with {:?} and {:?}",
            used.mean, used.std, trained.mean, trained.std
        ));
    }
    if used.interpolation != trained.interpolation {
        let (a, b) = (used.interpolation, trained.interpolation);
        found.push(format!("the configuration resizes {a:?}, {name} was trained with {b:?}"));
    }
    if used.resize_mode != trained.resize_mode {
        let (a, b) = (used.resize_mode, trained.resize_mode);
        found.push(format!("the configuration resizes by {a:?}, {name} was trained with {b:?}"));
    }
    found
}

/// A canonical tensor of a checkpoint, decoded when asked for.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    checkpoint: &'a Checkpoint,
    place: &'a Place,
}

impl<'a> Tensor<'a> {
    /// The canonical name, shape and role.
    pub fn spec(&self) -> &'a TensorSpec {
        &self.place.spec
    }

    /// The tensor in the file; `None` for a bias of zeros that the file's dialect does not have.
    pub fn stored(&self) -> Option<TensorView<'a>> {
        match &self.place.origin {
            Origin::Stored(name) | Origin::Transposed(name) => self.checkpoint.file.get(name),
            Origin::Zeros => None,
        }
    }

    /// The element type in the file (f32 for a bias of zeros).
    pub fn dtype(&self) -> Dtype {
        self.stored().map_or(Dtype::F32, |view| view.dtype())
    }

    /// The elements in row-major order of [`TensorSpec::shape`]; borrowed from the map where the file holds f32 in this order.
    ///
    /// # Errors
    /// The data are damaged ([`TensorView::bytes`]), or a value is NaN or infinite ([`Error::NotFinite`]).
    pub fn to_f32(&self) -> Result<Cow<'a, [f32]>> {
        let Some(view) = self.stored() else { return Ok(Cow::Owned(vec![0.0; self.elements()])) };
        let values = view.to_f32()?;
        // One pass that vectorises, the slow look for the place only if it fails.
        if !values.iter().fold(true, |all, v| all & v.is_finite()) {
            let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
            return Err(self.not_finite(at, f64::from(values.get(at).copied().unwrap_or(f32::NAN))));
        }
        Ok(match self.place.origin {
            Origin::Transposed(_) => Cow::Owned(transpose(&values, &self.place.spec.shape)),
            _ => values,
        })
    }

    /// As [`Tensor::to_f32`], in double precision.
    ///
    /// # Errors
    /// As [`Tensor::to_f32`].
    pub fn to_f64(&self) -> Result<Vec<f64>> {
        let Some(view) = self.stored() else { return Ok(vec![0.0; self.elements()]) };
        let values = view.to_f64()?;
        if let Some((at, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(self.not_finite(at, value));
        }
        Ok(match self.place.origin {
            Origin::Transposed(_) => transpose(&values, &self.place.spec.shape),
            _ => values,
        })
    }

    fn elements(&self) -> usize {
        self.place.spec.shape.iter().product()
    }

    fn not_finite(&self, index: usize, value: f64) -> Error {
        let key = self.stored().map_or(self.place.spec.name.as_str(), |view| view.name());
        Error::NotFinite {
            path: self.checkpoint.file.path().to_path_buf(),
            key: key.to_string(),
            index,
            value,
        }
    }
}

impl std::fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {:?}", self.place.spec.name, self.place.spec.shape)
    }
}

/// The matrix of `shape` whose transpose `values` holds.
fn transpose<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let rows = shape.first().copied().unwrap_or(1);
    (0..rows).flat_map(|row| values.iter().skip(row).step_by(rows.max(1)).copied()).collect()
}

/// A checkpoint's weights as a reading takes them, lent by [`Checkpoint::with_weights`].
#[derive(Debug)]
pub struct CheckedWeights<'a> {
    checkpoint: &'a Checkpoint,
    error: OnceLock<Error>,
}

impl<'a> CheckedWeights<'a> {
    fn read<T>(
        &self,
        name: &str,
        zeros: impl FnOnce(usize) -> T,
        read: impl FnOnce(Tensor<'a>) -> Result<T>,
    ) -> T {
        let Some(tensor) = self.checkpoint.get(name) else {
            // A reading that asks for what the manifest does not list is a mistake of ours.
            debug_assert!(false, "no tensor `{name}` in {}", self.checkpoint.variant.name);
            return zeros(0);
        };
        read(tensor).unwrap_or_else(|error| {
            self.error.get_or_init(|| error);
            zeros(tensor.elements())
        })
    }
}

impl Weights for CheckedWeights<'_> {
    fn contains(&self, name: &str) -> bool {
        self.checkpoint.index.contains_key(name)
    }

    fn f32(&self, name: &str) -> Cow<'_, [f32]> {
        self.read(name, |n| Cow::Owned(vec![0.0; n]), |tensor| tensor.to_f32())
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        self.read(name, |n| vec![0.0; n], |tensor| tensor.to_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn transposes() {
        // Stored [3, 2], wanted [2, 3].
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], &[2, 3]), [1, 3, 5, 2, 4, 6]);
        assert!(transpose::<u8>(&[], &[0, 3]).is_empty());
    }
}
