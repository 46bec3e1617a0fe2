//! Captions of pictures.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mobileclip_arch::Weights;
use mobileclip_captioner::{Captioner, Picture, Request, Settings};
use mobileclip_image::{RgbImage, decode_file};

use crate::error::{Error, Result};
use crate::model::Model;

/// What captions are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptionOptions {
    /// How they are written.
    pub settings: Settings,
    /// How many of each picture.
    pub samples: usize,
    /// What they begin with, maybe nothing.
    pub beginning: String,
    /// Whether everything that the model wrote is wanted. If not, its first sentence, as the published generator cuts it: up to
    /// the first full stop, wherever that stands.
    pub whole: bool,
}

impl Default for CaptionOptions {
    /// One caption of each picture, as the published generator makes them.
    fn default() -> Self {
        Self { settings: Settings::default(), samples: 1, beginning: String::new(), whole: false }
    }
}

/// Writes captions with a model that can (the CoCa models); `M` is how the model is held, `&Model` or `Arc<Model>`.
///
/// ```no_run
/// let model = mobileclip::Model::load("coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k")?;
/// let writer = model.caption_writer()?;
/// let captions = writer.caption_files(&["photo.jpg".into()], &Default::default())?;
/// println!("{}", captions[0].as_ref().unwrap()[0]);
/// # Ok::<(), mobileclip::Error>(())
/// ```
pub struct CaptionWriter<M> {
    model: M,
    captioner: Captioner,
}

impl Model {
    /// Packs the captioner: image tower, text tower and decoder.
    ///
    /// # Errors
    /// If the model has none, is a deploy file (which keeps only what gives embeddings), or its weights are damaged.
    pub fn caption_writer(&self) -> Result<CaptionWriter<&Model>> {
        CaptionWriter::new(self)
    }

    fn caption_error(&self, source: mobileclip_captioner::Error) -> Error {
        Error::Captions { path: self.path().to_path_buf(), source }
    }
}

impl<M: Borrow<Model> + Sync> CaptionWriter<M> {
    /// Packs the captioner of a model: image tower, text tower and decoder.
    ///
    /// # Errors
    /// As [`Model::caption_writer`].
    pub fn new(held: M) -> Result<Self> {
        let model: &Model = held.borrow();
        if model.is_deploy() && model.variant.captioner.is_some() {
            return Err(Error::Fused { path: model.path().to_path_buf() });
        }
        let weights: Arc<dyn Weights> = model.source.clone();
        let (size, pool) = (model.preprocess.size, Arc::clone(model.pool()));
        let captioner = Captioner::new(&model.variant, weights, model.isa(), pool, size, model.precision());
        model.source.take_error()?;
        let captioner = captioner.map_err(|error| model.caption_error(error))?;
        Ok(Self { model: held, captioner })
    }

    fn model(&self) -> &Model {
        self.model.borrow()
    }

    /// Captions of pictures: for each as many as `options.samples`. What is by chance depends on the seed, the picture's name
    /// and the sample's number alone.
    ///
    /// # Errors
    /// If a picture cannot be resized, or the options contradict each other or the model.
    pub fn caption(
        &self,
        pictures: &[(&str, &RgbImage)],
        options: &CaptionOptions,
    ) -> Result<Vec<Vec<String>>> {
        let looked = self.model().in_parallel(pictures, |(_, image)| self.look(image));
        let looked = looked.into_iter().collect::<Result<Vec<Picture>>>()?;
        let names: Vec<&str> = pictures.iter().map(|(name, _)| *name).collect();
        self.write(&names, &looked.iter().collect::<Vec<_>>(), options)
    }

    /// Decodes files and writes their captions; a file's name without its folders is the picture's.
    ///
    /// # Errors
    /// If the options contradict each other or the model. What is wrong with a file stands in its place.
    pub fn caption_files(
        &self,
        paths: &[PathBuf],
        options: &CaptionOptions,
    ) -> Result<Vec<Result<Vec<String>>>> {
        let looked = self
            .model()
            .in_parallel(paths, |path| self.look(&decode_file(path, self.model().decode_options())?));
        let names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
        let seen: Vec<(&str, &Picture)> = names
            .iter()
            .zip(&looked)
            .filter_map(|(name, picture)| picture.as_ref().ok().map(|picture| (name.as_str(), picture)))
            .collect();
        let (names, pictures): (Vec<&str>, Vec<&Picture>) = seen.into_iter().unzip();
        let mut written = self.write(&names, &pictures, options)?.into_iter();
        let captions = looked.into_iter().map(|picture| picture.map(|_| written.next().unwrap_or_default()));
        Ok(captions.collect())
    }

    fn look(&self, image: &RgbImage) -> Result<Picture> {
        let pixels = self.model().preprocess.apply(image)?;
        let picture = self.captioner.look(self.model().preprocess.size, &pixels);
        picture.map_err(|error| self.model().caption_error(error))
    }

    fn write(
        &self,
        names: &[&str],
        pictures: &[&Picture],
        options: &CaptionOptions,
    ) -> Result<Vec<Vec<String>>> {
        let tokenizer = self.model().tokenizer();
        let mut prompt = tokenizer.encode(&options.beginning);
        // What is to be continued has no end mark.
        prompt.pop();
        let requests: Vec<Request> = names
            .iter()
            .zip(pictures)
            .flat_map(|(uid, picture)| {
                (0..options.samples).map(|sample| Request { picture, uid, sample, prompt: &prompt })
            })
            .collect();
        let written = self.captioner.write(&requests, &options.settings);
        self.model().source.take_error()?;
        let captions =
            written.map_err(|error| self.model().caption_error(error))?.into_iter().map(|mut ids| {
                if options.whole {
                    return text_of(&tokenizer.decode(&ids));
                }
                // The published generator fills rows up; where the model itself chose padding, it shows.
                ids.resize(options.settings.max_ids, options.settings.pad);
                tokenizer.caption(&ids)
            });
        let mut captions = captions.collect::<Vec<String>>().into_iter();
        Ok(names.iter().map(|_| captions.by_ref().take(options.samples).collect()).collect())
    }
}

/// Decoded ids without their marks.
fn text_of(decoded: &str) -> String {
    let text = decoded.strip_prefix("<start_of_text>").unwrap_or(decoded);
    text.strip_suffix("<end_of_text>").unwrap_or(text).trim().to_owned()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
