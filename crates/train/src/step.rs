//! One step's forward and backward.

use mobileclip_arch::Variant;
use mobileclip_autodiff::{BatchStatistics, Cpu, Gradients, Parameters, Tensor, Train, TrainOptions};

use crate::loss::{Captions, Losses, Objective, ObjectiveError, Pairs};
use crate::rows::{Normalised, Rows};

/// Images with their captions and what the teachers made of them.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Number of images.
    pub count: usize,
    /// Height and width of the images.
    pub size: (usize, usize),
    /// `[count, 3, height, width]`, normalised.
    pub images: Vec<f32>,
    /// For each set of captions (true ones, then synthetic ones): `[count, tokens]`.
    pub captions: Vec<Vec<u32>>,
    /// The teachers' image embeddings `[count, width of all teachers]`, or nothing.
    pub teacher_images: Vec<f32>,
    /// The teachers' text embeddings for each set of captions.
    pub teacher_captions: Vec<Vec<f32>>,
}

/// What a step's forward and backward gave, besides gradients.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The loss terms of the whole batch.
    pub losses: Losses,
    /// What BatchNorm saw, to be applied once.
    pub statistics: Vec<BatchStatistics>,
}

/// The features of a micro-batch as the loss wants them.
struct Features {
    images: Vec<f32>,
    captions: Vec<Vec<f32>>,
}

/// Both towers over one micro-batch, texts of all sets in one pass.
fn forward(variant: &Variant, train: &Train<'_, Cpu>, batch: &Batch) -> ([Tensor<Cpu>; 2], Features) {
    let (height, width) = batch.size;
    let images = variant.encode_image(train, &train.images(batch.count, height, width, &batch.images));
    let ids = batch.captions.concat();
    let texts = variant.encode_text(train, &train.texts(batch.count * batch.captions.len(), &ids));
    let rows = train.rows(&texts);
    let captions = rows.chunks(batch.count * variant.embed_dim).map(<[f32]>::to_vec).collect();
    let features = Features { images: train.rows(&images), captions };
    ([images, texts], features)
}

/// Adds the gradients of the objective over one batch, given as one or several micro-batches.
///
/// Several micro-batches keep the full contrastive batch: all features come first, without a record; then each micro-batch
/// runs again, with one, and walks back from its rows of the loss's gradient. Feature gradients are those of the whole
/// batch; so is the logit scale's, which the published trainer multiplies by the number of micro-batches. BatchNorm's
/// moments are each micro-batch's own, and count once, where the published trainer counts both passes.
///
/// # Errors
/// [`ObjectiveError`] if parts of the batch do not belong together.
///
/// # Panics
/// If a micro-batch holds other numbers of images, ids or embeddings than its `count` says.
pub fn gradients(
    cpu: &Cpu,
    variant: &Variant,
    parameters: &Parameters,
    objective: &Objective,
    batches: &[Batch],
    options: TrainOptions,
    gradients: &mut Gradients,
) -> Result<Outcome, ObjectiveError> {
    let options_of = |index: usize, records: bool| {
        let first_sample = batches[..index].iter().map(|b| b.count).sum();
        TrainOptions { first_sample, records, ..options }
    };
    if let [batch] = batches {
        let train = Train::new(cpu, parameters, options);
        let ([images, texts], features) = forward(variant, &train, batch);
        let found = loss(cpu, variant, parameters, objective, batches, &[features], gradients)?;
        let of_texts = found.captions.concat();
        let statistics = train.backward(&[(images, &found.images), (texts, &of_texts)], gradients);
        return Ok(Outcome { losses: found.losses, statistics });
    }
    let features: Vec<Features> = batches
        .iter()
        .enumerate()
        .map(|(index, batch)| {
            let train = Train::new(cpu, parameters, options_of(index, false));
            forward(variant, &train, batch).1
        })
        .collect();
    let found = loss(cpu, variant, parameters, objective, batches, &features, gradients)?;
    let (mut statistics, mut first) = (Vec::new(), 0);
    for (index, batch) in batches.iter().enumerate() {
        let rows = first * variant.embed_dim..(first + batch.count) * variant.embed_dim;
        first += batch.count;
        let train = Train::new(cpu, parameters, options_of(index, true));
        let ([images, texts], _) = forward(variant, &train, batch);
        let of_texts: Vec<f32> = found.captions.iter().flat_map(|set| &set[rows.clone()]).copied().collect();
        let seeds = [(images, &found.images[rows]), (texts, &of_texts[..])];
        statistics.extend(train.backward(&seeds, gradients));
    }
    Ok(Outcome { losses: found.losses, statistics })
}

/// The loss of the whole batch, and the gradients of its features.
struct OfFeatures {
    losses: Losses,
    images: Vec<f32>,
    /// Of each set's texts.
    captions: Vec<Vec<f32>>,
}

/// Computes them, and adds the gradients of logit scale and bias.
fn loss(
    cpu: &Cpu,
    variant: &Variant,
    parameters: &Parameters,
    objective: &Objective,
    batches: &[Batch],
    features: &[Features],
    gradients: &mut Gradients,
) -> Result<OfFeatures, ObjectiveError> {
    let width = variant.embed_dim;
    let sets = batches.iter().map(|b| b.captions.len()).max().unwrap_or(0);
    let images: Vec<f32> = features.iter().flat_map(|f| &f.images).copied().collect();
    let images = Normalised::new(Rows::new(&images, width));
    let texts: Vec<Normalised> = (0..sets)
        .map(|set| {
            let rows: Vec<f32> =
                features.iter().filter_map(|f| f.captions.get(set)).flatten().copied().collect();
            Normalised::new(Rows::new(&rows, width))
        })
        .collect();
    let count = images.rows().count();
    let teacher_images: Vec<f32> = batches.iter().flat_map(|b| &b.teacher_images).copied().collect();
    let teacher_texts: Vec<Vec<f32>> = (0..sets)
        .map(|set| batches.iter().filter_map(|b| b.teacher_captions.get(set)).flatten().copied().collect())
        .collect();
    let teacher = |what, values: &'_ [f32]| match values.len() {
        0 => Ok(None),
        len if count > 0 && len.is_multiple_of(count) => Ok(Some(len / count)),
        found => Err(ObjectiveError::RowCount { what, expected: count, found }),
    };
    let image_width = teacher("numbers of the images' teacher embeddings", &teacher_images)?;
    let log_scale = parameters.index("logit_scale");
    let bias = parameters.index("logit_bias");
    let scale = log_scale.map_or(1.0, |index| f64::from(parameters.values(index)[0]).exp());
    let pairs = Pairs {
        images: images.rows(),
        teacher: image_width.map(|width| Rows::new(&teacher_images, width)),
        captions: texts
            .iter()
            .zip(&teacher_texts)
            .map(|(texts, embeddings)| {
                let width = teacher("numbers of the texts' teacher embeddings", embeddings)?;
                let teacher = width.map(|width| Rows::new(embeddings, width));
                Ok(Captions { features: texts.rows(), teacher })
            })
            .collect::<Result<_, ObjectiveError>>()?,
        scale,
        bias: bias.map_or(0.0, |index| f64::from(parameters.values(index)[0])),
    };
    let losses = objective.loss(cpu.pool(), &pairs)?;
    for (index, gradient) in [(log_scale, losses.scale * scale), (bias, losses.bias)] {
        if let Some(index) = index.filter(|&index| parameters.is_trained(index)) {
            gradients.sum(index)[0] += gradient as f32;
        }
    }
    let of_images = images.gradient(&losses.images);
    let of_texts = texts.iter().zip(&losses.captions).map(|(texts, g)| texts.gradient(g)).collect();
    Ok(OfFeatures { losses, images: of_images, captions: of_texts })
}
