//! The model, packed, and what it is asked.

use std::sync::Arc;

use mobileclip_arch::{Variant, Weights};
use mobileclip_engine::{Decoder, Input, Isa, Memory, Pool, Precision, Tower};
use mobileclip_graph::Graph;

use crate::beam;
use crate::error::{Error, Result};
use crate::sample;
use crate::settings::{Method, Settings};

/// Texts that the packed weights are laid out for.
const USUAL_TEXTS: usize = 8;

/// A captioner, packed for one instruction set. It can be used by many threads at once.
pub struct Captioner {
    context: usize,
    vocabulary: usize,
    width: usize,
    images: Tower,
    pub(crate) decoder: Decoder,
}

/// A picture as the captioner saw it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The picture's features, not normalised: those of `Variant::encode_image`.
    pub features: Vec<f32>,
    pub(crate) memory: Arc<Memory>,
}

/// A caption that is wanted.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Of which picture.
    pub picture: &'a Picture,
    /// The picture's name: with the seed and `sample`, the key of everything by chance.
    pub uid: &'a str,
    /// Which of several captions of it.
    pub sample: usize,
    /// The ids that the text begins with; if there are none, the start mark.
    pub prompt: &'a [u32],
}

impl Captioner {
    /// Packs the weights, for products in `precision`. `size` is the height and width of the pictures.
    ///
    /// # Errors
    /// If the variant has no captioner, or the weights are damaged.
    pub fn new(
        variant: &Variant,
        weights: Arc<dyn Weights>,
        isa: Isa,
        pool: Arc<Pool>,
        size: (usize, usize),
        precision: Precision,
    ) -> Result<Self> {
        let coca = variant.coca().ok_or_else(|| Error::NoCaptioner { variant: variant.name.clone() })?;
        let graph = Graph::trace_memory(&coca, weights.as_ref());
        let images = Tower::new(graph, Arc::clone(&weights), isa, Arc::clone(&pool), size, precision)?;
        let decoder = Decoder::new(&coca, weights, isa, pool, USUAL_TEXTS, precision)?;
        let (context, vocabulary) = (variant.text.context, variant.text.vocabulary);
        Ok(Self { context, vocabulary, width: coca.width(), images, decoder })
    }

    /// Looks at a picture: normalised pixels `[3][height][width]`.
    ///
    /// # Errors
    /// If there are not so many pixels.
    pub fn look(&self, (height, width): (usize, usize), pixels: &[f32]) -> Result<Picture> {
        let mut output = self.images.run(Input::Pixels { height, width, values: pixels })?;
        let features = std::mem::take(&mut output.features);
        Ok(Picture { features, memory: Arc::new(Memory::of(self.width, output)) })
    }

    /// Writes captions: for each request the ids from the start mark on, up to and with the end mark (or the padding that the
    /// model itself chose), or as many as are allowed. They do not depend on which requests are together.
    ///
    /// # Errors
    /// If settings or prompts contradict each other or the model, or the weights are damaged.
    pub fn write(&self, requests: &[Request], settings: &Settings) -> Result<Vec<Vec<u32>>> {
        settings.check(self.context, self.vocabulary)?;
        if let Some(long) = requests.iter().find(|request| request.prompt.len() >= settings.max_ids) {
            let (len, most) = (long.prompt.len(), settings.max_ids);
            return Err(Error::Settings(format!("a beginning of {len} ids leaves no room in {most}")));
        }
        match settings.method {
            Method::Beam { width } => {
                let each = requests.iter().map(|request| beam::write(self, request, settings, width));
                each.collect()
            }
            Method::Greedy | Method::Sample(_) => sample::write(self, requests, settings),
        }
    }
}

/// Logits as numbers to compute with.
pub(crate) fn wide(logits: &[f32]) -> Result<Vec<f64>> {
    match logits.iter().all(|v| v.is_finite()) {
        true => Ok(logits.iter().map(|&v| f64::from(v)).collect()),
        false => Err(Error::NotFinite),
    }
}
