//! A loaded model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use mobileclip_arch::{Dialect, Form, Tower as Which, Variant, Weights};
use mobileclip_checkpoint::{Checkpoint, Options, TensorFile};
use mobileclip_engine::{FeatureMap, Input, Isa, Output, Pool, Precision, Tower, end_of_text};
use mobileclip_graph::Graph;
use mobileclip_hub::{Hub, Progress};
use mobileclip_image::{DecodeOptions, Filter, Preprocess, RgbImage, decode_file};
use mobileclip_text::Tokenizer;

use crate::deploy::{Header, is_deploy};
use crate::error::{Error, Result};
use crate::source::{Source, SourceFile};

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The variant, where the weights fit several that compute differently, or one of one's own.
    pub variant: Option<Variant>,
    /// Threads that work on one input or batch; 0 stands for all of the processor's.
    pub threads: usize,
    /// Height and width of the images that the tower sees, if not those it was trained on.
    pub image_size: Option<(usize, usize)>,
    /// Decoding of files: limits, and whether the EXIF orientation is applied.
    pub decode: DecodeOptions,
    /// Decodes JPEGs at a half, a quarter or an eighth of their size where the tower's size allows it
    /// ([`DecodeOptions::reduce_to`]): quicker, but embeddings are a little off.
    pub fast_decode: bool,
    /// What numbers the towers multiply. Embeddings of different precisions are near each other, not equal: indexes, tables and
    /// caches of one are not mixed with those of another ([`Model::fingerprint`] differs).
    pub precision: Precision,
}

/// A model that encodes pictures and texts into one space. Cheap to share between threads; towers are packed when first
/// used.
pub struct Model {
    pub(crate) variant: Variant,
    pub(crate) preprocess: Preprocess,
    pub(crate) trained_preprocess: mobileclip_arch::Preprocess,
    pub(crate) source: Arc<Source>,
    /// The fused graphs of a deploy file.
    graphs: Option<(Graph, Graph)>,
    decode: DecodeOptions,
    tokenizer: OnceLock<Tokenizer>,
    image: OnceLock<Tower>,
    text: OnceLock<Tower>,
    packing: Mutex<()>,
    pub(crate) scale: f32,
    pool: Arc<Pool>,
    isa: Isa,
    precision: Precision,
}

impl Model {
    /// Loads a model directory, a checkpoint file, a deploy file, or a model by its name on the hub.
    ///
    /// ```no_run
    /// let model = mobileclip::Model::load("MobileCLIP2-S0")?;
    /// let photo = model.encode_file("photo.jpg".as_ref())?;
    /// let text = model.encode_text("a photo of a cat")?;
    /// println!("{}", model.logit(&photo, &text));
    /// # Ok::<(), mobileclip::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such model, or its file is damaged, ambiguous or of another family.
    pub fn load(path_or_name: &str) -> Result<Self> {
        Self::load_with(path_or_name, &LoadOptions::default(), &mut |_| {})
    }

    /// As [`Model::load`], with options, and with word of a download's progress.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_with(
        path_or_name: &str,
        options: &LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self> {
        Self::open(&locate(path_or_name, progress)?, options)
    }

    /// Loads a model directory, a checkpoint file or a deploy file.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self> {
        let (source, variant, trained, graphs) = open_source(path, options)?;
        let side = variant.image_size();
        let size = options.image_size.unwrap_or((side, side));
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            threads => threads,
        };
        let log_scale = source.f32("logit_scale").first().copied().unwrap_or_default();
        source.take_error()?;
        // The first package clamps the scale to 100; open_clip trusts what training left.
        let scale = match variant.dialect {
            Dialect::Mobileclip => log_scale.exp().min(100.0),
            Dialect::OpenClip => log_scale.exp(),
        };
        Ok(Self {
            preprocess: preprocess(&trained, size),
            trained_preprocess: trained,
            source: Arc::new(source),
            graphs,
            decode: match options.fast_decode {
                // A photo may lie on its side.
                true => options.decode.with_reduction_to(size.0.max(size.1), size.0.max(size.1)),
                false => options.decode,
            },
            tokenizer: OnceLock::new(),
            image: OnceLock::new(),
            text: OnceLock::new(),
            packing: Mutex::default(),
            scale,
            pool: Arc::new(Pool::new(threads)),
            isa: Isa::detect(),
            precision: options.precision,
            variant,
        })
    }

    /// The variant it is.
    pub fn variant(&self) -> &Variant {
        &self.variant
    }

    /// The file its weights are in.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// What a picture goes through before the tower.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// How files are decoded.
    pub fn decode_options(&self) -> &DecodeOptions {
        &self.decode
    }

    /// What cosines are multiplied by: `exp(logit_scale)`.
    pub fn logit_scale(&self) -> f32 {
        self.scale
    }

    /// Width of the embeddings.
    pub fn embed_dim(&self) -> usize {
        self.variant.embed_dim
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set that it runs on: `avx512`, `avx2` or `scalar`.
    pub fn instruction_set(&self) -> &'static str {
        self.isa.name()
    }

    /// What numbers the towers multiply.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether the processor has instructions for the model's precision. Where not, other instructions give the
    /// same results, at about the speed of f32.
    pub fn is_precision_native(&self) -> bool {
        self.isa.has(self.precision)
    }

    /// The tokenizer of its texts: CLIP's, with the vocabulary that the text tower was trained on.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer.get_or_init(|| Tokenizer::of_size(self.variant.text.tokenizer_size()))
    }

    /// Token ids of a text, as many as the text tower takes; longer texts are cut and keep their end mark.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.tokenizer().tokenize(text, self.variant.text.context)
    }

    /// The L2-normalised embedding of a picture.
    ///
    /// # Errors
    /// If the picture cannot be resized to the tower's size, or the weights are damaged.
    pub fn encode_image(&self, image: &RgbImage) -> Result<Vec<f32>> {
        Ok(normalized(self.image_features(image)?))
    }

    /// The features of a picture, not normalised.
    ///
    /// # Errors
    /// As [`Model::encode_image`].
    pub fn image_features(&self, image: &RgbImage) -> Result<Vec<f32>> {
        self.pixel_features(&self.preprocess.apply(image)?)
    }

    /// The features of pixels that are preprocessed already, `[3, height, width]`.
    ///
    /// # Errors
    /// If there are not as many as [`Model::preprocess`] gives, or the weights are damaged.
    pub fn pixel_features(&self, pixels: &[f32]) -> Result<Vec<f32>> {
        let (height, width) = self.preprocess.size;
        let input = Input::Pixels { height, width, values: pixels };
        self.finite(Which::Image, self.tower(Which::Image)?.run(input)?)
    }

    /// The L2-normalised embedding of an image file.
    ///
    /// # Errors
    /// If it is no picture that can be read; as [`Model::encode_image`].
    pub fn encode_file(&self, path: &Path) -> Result<Vec<f32>> {
        self.encode_image(&decode_file(path, &self.decode)?)
    }

    /// The embeddings of many pictures, one picture on each thread; the same bits as one by one.
    ///
    /// # Errors
    /// The first picture's that fails.
    pub fn encode_images(&self, images: &[RgbImage]) -> Result<Vec<Vec<f32>>> {
        self.in_parallel(images, |image| self.encode_image(image)).into_iter().collect()
    }

    /// Decodes and encodes many files, one on each thread.
    pub fn encode_files(&self, paths: &[PathBuf]) -> Vec<Result<Vec<f32>>> {
        self.in_parallel(paths, |path| self.encode_file(path))
    }

    /// The L2-normalised embedding of a text.
    ///
    /// # Errors
    /// If the weights are damaged.
    pub fn encode_text(&self, text: &str) -> Result<Vec<f32>> {
        Ok(normalized(self.text_features(text)?))
    }

    /// The embeddings of many texts, one text on each thread; the same bits as one by one.
    ///
    /// # Errors
    /// If the weights are damaged.
    pub fn encode_texts<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>> {
        self.in_parallel(texts, |text| self.encode_text(text.as_ref())).into_iter().collect()
    }

    /// The features of a text, not normalised.
    ///
    /// # Errors
    /// If the weights are damaged.
    pub fn text_features(&self, text: &str) -> Result<Vec<f32>> {
        self.token_features(&self.tokenize(text))
    }

    /// The features of a row of token ids, not normalised.
    ///
    /// A causal tower reads only up to the end mark; the others see the padding, so the row must have the full length.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, the row does not have the context's length, or the weights are damaged.
    pub fn token_features(&self, ids: &[u32]) -> Result<Vec<f32>> {
        let context = self.variant.text.context;
        let ids = match self.variant.reads_padding() {
            false => ids.get(..=end_of_text(ids)).unwrap_or(ids),
            true if ids.len() == context => ids,
            true => return Err(Error::TokenRow { found: ids.len(), expected: context }),
        };
        self.finite(Which::Text, self.tower(Which::Text)?.run(Input::Ids(ids))?)
    }

    /// The scopes of the image tower whose outputs [`Model::feature_maps`] gives: `visual.trunk.stages.0`, ….
    pub fn feature_scopes(&self) -> Vec<String> {
        crate::scopes::of(&self.variant)
    }

    /// Outputs of the image tower's scopes for one picture, for dense prediction and the like: `[C][H][W]` each. The
    /// last map before pooling is `visual.trunk.final_conv` in hybrids.
    ///
    /// The weights are packed for this call alone; [`FeatureExtractor`] keeps them.
    ///
    /// # Errors
    /// If there is no such scope; as [`Model::encode_image`].
    pub fn feature_maps(&self, image: &RgbImage, scopes: &[&str]) -> Result<Vec<FeatureMap>> {
        self.feature_extractor(scopes)?.run(image)
    }

    /// The image tower with these scopes' outputs kept.
    ///
    /// # Errors
    /// If there is no such scope, the model is a deploy file (whose scopes are fused away), or the weights are damaged.
    pub fn feature_extractor(&self, scopes: &[&str]) -> Result<FeatureExtractor<'_>> {
        let known = self.feature_scopes();
        if let Some(scope) = scopes.iter().find(|scope| !known.iter().any(|known| known == **scope)) {
            return Err(Error::UnknownScope { scope: (*scope).to_owned(), known: known.join(", ") });
        }
        if self.graphs.is_some() {
            return Err(Error::Deploy {
                path: self.path().to_path_buf(),
                reason: "feature maps need the checkpoint that it was made from".to_owned(),
            });
        }
        let graph = Graph::trace(&self.variant, Which::Image, self.source.as_ref(), scopes);
        Ok(FeatureExtractor { model: self, tower: self.pack(graph)? })
    }

    /// `logit_scale · cosine` of two normalised embeddings.
    pub fn logit(&self, image: &[f32], text: &[f32]) -> f32 {
        self.scale * dot(image, text)
    }

    /// The packed tower, for benchmarks and profiles.
    ///
    /// # Errors
    /// If the weights are damaged.
    pub fn tower(&self, which: Which) -> Result<&Tower> {
        let slot = match which {
            Which::Image => &self.image,
            Which::Text => &self.text,
        };
        if let Some(tower) = slot.get() {
            return Ok(tower);
        }
        let _packing = self.packing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tower) = slot.get() {
            return Ok(tower);
        }
        let tower = self.pack(self.graph(which))?;
        Ok(slot.get_or_init(|| tower))
    }

    /// Whether it is a deploy file, whose graphs are made already.
    pub(crate) fn is_deploy(&self) -> bool {
        self.graphs.is_some()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// A tower's fused graph: the deploy file's, or one traced over the checkpoint.
    pub(crate) fn graph(&self, which: Which) -> Graph {
        match (&self.graphs, which) {
            (Some((image, _)), Which::Image) => image.clone(),
            (Some((_, text)), Which::Text) => text.clone(),
            (None, _) => Graph::trace(&self.variant, which, self.source.as_ref(), &[]),
        }
    }

    fn pack(&self, graph: Graph) -> Result<Tower> {
        let weights = Arc::clone(&self.source);
        let usual = match graph.tower {
            Which::Image => self.preprocess.size,
            Which::Text => (1, self.variant.text.context),
        };
        let tower = Tower::new(graph, weights, self.isa, Arc::clone(&self.pool), usual, self.precision);
        // What the file says of its damage is clearer than what the engine saw of it.
        self.source.take_error()?;
        tower.map_err(|source| Error::Weights { path: self.path().to_path_buf(), source })
    }

    /// Features, unless something in the weights made them NaN or infinite.
    fn finite(&self, tower: Which, output: Output) -> Result<Vec<f32>> {
        self.source.take_error()?;
        match output.features.iter().all(|v| v.is_finite()) {
            true => Ok(output.features),
            false => Err(Error::NotFinite { path: self.path().to_path_buf(), tower }),
        }
    }

    /// `f` of every item: one item on each thread, and what does not fill all threads with all of them for each item.
    ///
    /// # Panics
    /// If `f` does.
    pub fn in_parallel<T: Sync, R: Send + Sync>(&self, items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let (together, rest) = items.split_at(items.len() / self.threads() * self.threads());
        let results: Vec<OnceLock<R>> = together.iter().map(|_| OnceLock::new()).collect();
        // While the pool is busy with the items, the engine inside stays on its thread.
        self.pool.for_each(together.len(), |_, i| {
            results[i].get_or_init(|| f(&together[i]));
        });
        results.into_iter().filter_map(OnceLock::into_inner).chain(rest.iter().map(f)).collect()
    }
}

/// An image tower that keeps some scopes' outputs.
pub struct FeatureExtractor<'m> {
    model: &'m Model,
    tower: Tower,
}

impl FeatureExtractor<'_> {
    /// The kept outputs for one picture, in the program's order.
    ///
    /// # Errors
    /// As [`Model::encode_image`].
    pub fn run(&self, image: &RgbImage) -> Result<Vec<FeatureMap>> {
        let (height, width) = self.model.preprocess.size;
        let values = self.model.preprocess.apply(image)?;
        Ok(self.tower.run(Input::Pixels { height, width, values: &values })?.taps)
    }
}

type Opened = (Source, Variant, mobileclip_arch::Preprocess, Option<(Graph, Graph)>);

fn open_source(path: &Path, options: &LoadOptions) -> Result<Opened> {
    if path.is_file() {
        let file = TensorFile::open(path)?;
        if is_deploy(&file) {
            let Header { variant, preprocess, image, text, packed } = Header::read(&file)?;
            let source = Source::new(SourceFile::Deploy(Arc::new(file), packed));
            return Ok((source, variant, preprocess, Some((image, text))));
        }
    }
    let checkpoint = open_checkpoint(path, options.variant.as_ref())?;
    let (variant, preprocess) = (checkpoint.variant().clone(), checkpoint.preprocess().clone());
    Ok((Source::new(SourceFile::Checkpoint(Box::new(checkpoint))), variant, preprocess, None))
}

/// Opens a model directory or a checkpoint file.
///
/// # Errors
/// If the file is damaged, ambiguous or of another family.
pub fn open_checkpoint(path: &Path, variant: Option<&Variant>) -> Result<Checkpoint> {
    let options = variant.map_or_else(Options::default, Options::of);
    Checkpoint::open_with(path, &options).map_err(|error| {
        let is_fused = path.is_file() && TensorFile::open(path).is_ok_and(|file| is_deploy(&file));
        if is_fused { Error::Fused { path: path.to_path_buf() } } else { error.into() }
    })
}

/// The path of a model: a path that exists, or a name on the hub, loaded if it is not in the cache.
///
/// # Errors
/// If there is neither.
pub fn locate(path_or_name: &str, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let path = Path::new(path_or_name);
    if path.exists() || path_or_name.starts_with(['.', '/']) {
        return Ok(path.to_path_buf());
    }
    let hub = Hub::from_env()?;
    let resolved = match hub.cached(path_or_name)? {
        Some(resolved) => resolved,
        None => hub.resolve(path_or_name, progress)?,
    };
    // A folder with a configuration is opened as such; a bare file speaks for itself.
    Ok(if resolved.config.is_some() { resolved.dir } else { resolved.weights })
}

fn preprocess(trained: &mobileclip_arch::Preprocess, size: (usize, usize)) -> Preprocess {
    use mobileclip_arch::{Interpolation, ResizeMode};
    Preprocess {
        size,
        resize_mode: match trained.resize_mode {
            ResizeMode::Shortest => mobileclip_image::ResizeMode::Shortest,
            ResizeMode::Squash => mobileclip_image::ResizeMode::Squash,
        },
        interpolation: match trained.interpolation {
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Bicubic => Filter::Bicubic,
        },
        mean: trained.mean,
        std: trained.std,
        ..Preprocess::default()
    }
}

/// Scaled to length 1, as torch's `normalize` does it (a row of zeros stays one).
pub fn normalized(mut features: Vec<f32>) -> Vec<f32> {
    let norm = dot(&features, &features).sqrt().max(1e-12);
    features.iter_mut().for_each(|v| *v /= norm);
    features
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

/// The form a checkpoint's weights are in.
pub fn form_name(form: Form) -> &'static str {
    match form {
        Form::Train => "train",
        Form::Deploy => "reparameterised",
        Form::Any => "only one",
    }
}

impl crate::index::Embed for Model {
    fn model(&self) -> crate::index::ModelNote {
        let (mut name, mut fingerprint) = (self.variant.name.clone(), self.fingerprint());
        if self.precision != Precision::F32 {
            name.push_str(&format!(", {}", self.precision));
        }
        // Photos that lie on their side have other embeddings.
        if !self.decode.apply_orientation {
            name.push_str(", photos as stored");
            fingerprint.push_str("-stored");
        }
        if self.decode.reduce_to.is_some() {
            name.push_str(", fast decoding");
            fingerprint.push_str("-fast");
        }
        crate::index::ModelNote { name, fingerprint, dimension: self.embed_dim() }
    }

    fn embed_files(&self, paths: &[PathBuf]) -> Vec<std::result::Result<Vec<f32>, String>> {
        self.encode_files(paths).into_iter().map(|embedding| embedding.map_err(|e| e.to_string())).collect()
    }
}
