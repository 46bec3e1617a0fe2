//! One step's forward and backward.

use std::collections::HashMap;

use mobileclip_arch::{Ops, Variant};
use mobileclip_autodiff::{
    BatchStatistics, Cpu, Device, Gradients, Ledger, Parameters, Tensor, Train, TrainOptions,
};

use crate::loss::{Captions, Losses, Objective, ObjectiveError, Pairs, Prompts};
use crate::next_word;
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
    /// Images of a class are positives of each other; nothing, or one for each image, None standing for a class of its own.
    pub classes: Vec<Option<String>>,
    /// Token ids of a prompt for each class, `[classes, tokens]`, if the objective classifies; of several micro-batches the first has them.
    pub prompts: Vec<u32>,
    /// The prompt of each image's class, if there are prompts.
    pub labels: Vec<Option<usize>>,
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
    prompts: Vec<f32>,
}

/// What a forward pass leaves for the walk back.
struct Passed<D: Device> {
    images: Tensor<D>,
    texts: Tensor<D>,
    /// The decoder's, if words are to be predicted.
    logits: Option<Tensor<D>>,
}

/// Both towers over one micro-batch, texts of all sets and prompts in one pass; and the decoder if it is to predict `words`.
fn forward<D: Device + 'static>(
    variant: &Variant,
    train: &Train<'_, D>,
    batch: &Batch,
    words: bool,
) -> (Passed<D>, Features) {
    let (height, width) = batch.size;
    let pixels = train.images(batch.count, height, width, &batch.images);
    let ids = [&batch.captions.concat()[..], &batch.prompts].concat();
    let ids = train.texts(ids.len() / variant.text.context, &ids);
    let passed = match variant.coca().filter(|_| words) {
        None => Passed {
            images: variant.encode_image(train, &pixels),
            texts: variant.encode_text(train, &ids),
            logits: None,
        },
        Some(coca) => {
            let (image, text) = (coca.image(train, &pixels), coca.text(train, &ids));
            let memory = coca.memory(train, &image.tokens);
            // Nothing follows the last id.
            let logits = coca.logits(train, &train.trim(&text.tokens, 0, 1), &memory);
            Passed { images: image.features, texts: text.features, logits: Some(logits) }
        }
    };
    let mut rows = train.rows(&passed.texts);
    let of_set = batch.count * variant.embed_dim;
    let prompts = rows.split_off(of_set * batch.captions.len());
    let captions = rows.chunks(of_set).map(<[f32]>::to_vec).collect();
    let features = Features { images: train.rows(&passed.images), captions, prompts };
    (passed, features)
}

/// Walks back over one micro-batch. `of_features` are the gradients of images and texts, if those count; a predicted word counts
/// with `weight`. Returns the words' loss.
fn backward(
    cpu: &Cpu,
    variant: &Variant,
    (train, passed): (Train<'_, Cpu>, Passed<Cpu>),
    batch: &Batch,
    of_features: Option<[&[f32]; 2]>,
    weight: f64,
    gradients: &mut Gradients,
) -> (f64, Vec<BatchStatistics>) {
    let Passed { images, texts, logits } = passed;
    let mut seeds = Vec::new();
    if let Some([of_images, of_texts]) = of_features {
        seeds.extend([(images, of_images), (texts, of_texts)]);
    }
    let mut of_words;
    let mut loss = 0.0;
    if let Some(logits) = logits {
        of_words = train.rows(&logits);
        let ids = batch.captions.concat();
        let (context, vocabulary) = (ids.len() / batch.count.max(1), variant.text.vocabulary);
        loss = next_word::surprise(cpu.pool(), &mut of_words, &ids, context, vocabulary, weight);
        seeds.push((logits, &of_words));
    }
    (loss, train.backward(&seeds, gradients))
}

/// Adds the gradients of the objective over one batch, given as one or several micro-batches.
///
/// Several micro-batches keep the full contrastive batch: all features come first, without a record; then each micro-batch
/// runs again, with one, and walks back from its rows of the loss's gradient. Feature gradients are those of the whole
/// batch; so is the logit scale's, which the published trainer multiplies by the number of micro-batches. BatchNorm's
/// moments are each micro-batch's own, and count once, where the published trainer counts both passes. A captioner's words count
/// equally, in whichever micro-batch they stand.
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
    let pass = |index: usize, records: bool| {
        let first_sample = batches[..index].iter().map(|b| b.count).sum();
        Train::new(cpu, parameters, TrainOptions { first_sample, records, ..options })
    };
    let words = objective.caption_weight() > 0.0 && variant.captioner.is_some();
    if let Some(batch) = batches.iter().find(|batch| words && batch.captions.len() != 1) {
        return Err(ObjectiveError::OneCaptionSet(batch.captions.len()));
    }
    let weight = objective.caption_weight() / labels(batches).max(1) as f64;
    if let [batch] = batches {
        let train = pass(0, true);
        let (passed, features) = forward(variant, &train, batch, words);
        let mut found = loss(cpu, variant, parameters, objective, batches, &[features], gradients)?;
        let of_texts = [found.captions.concat(), found.prompts].concat();
        let of_features = objective.compares().then_some([&found.images[..], &of_texts]);
        let passed = (train, passed);
        let (caption, statistics) = backward(cpu, variant, passed, batch, of_features, weight, gradients);
        found.losses.caption = words.then_some(caption);
        return Ok(Outcome { losses: found.losses, statistics });
    }
    let features = |(index, batch)| forward(variant, &pass(index, false), batch, false).1;
    let features: Vec<Features> = batches.iter().enumerate().map(features).collect();
    let mut found = loss(cpu, variant, parameters, objective, batches, &features, gradients)?;
    let (mut caption, mut statistics, mut first) = (0.0, Vec::new(), 0);
    for (index, batch) in batches.iter().enumerate() {
        let rows = first * variant.embed_dim..(first + batch.count) * variant.embed_dim;
        first += batch.count;
        let train = pass(index, true);
        let (passed, _) = forward(variant, &train, batch, words);
        let of_captions = found.captions.iter().flat_map(|set| &set[rows.clone()]);
        let of_prompts = found.prompts.iter().filter(|_| !batch.prompts.is_empty());
        let of_texts: Vec<f32> = of_captions.chain(of_prompts).copied().collect();
        let of_features = objective.compares().then_some([&found.images[rows], &of_texts]);
        let passed = (train, passed);
        let (loss, seen) = backward(cpu, variant, passed, batch, of_features, weight, gradients);
        caption += loss;
        statistics.extend(seen);
    }
    found.losses.caption = words.then_some(caption);
    Ok(Outcome { losses: found.losses, statistics })
}

/// The texts of a micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct Texts {
    /// Sets of captions, one for each image.
    pub sets: usize,
    /// Prompts of classes.
    pub prompts: usize,
}

/// Bytes that the activations of a micro-batch of `count` images with these texts take, and their gradients; found by running the program on
/// a [`Ledger`].
pub fn activation_bytes(
    variant: &Variant,
    parameters: &Parameters,
    objective: &Objective,
    count: usize,
    texts: Texts,
    options: TrainOptions,
) -> u64 {
    let (side, words) = (variant.image_size(), objective.caption_weight() > 0.0);
    let batch = Batch {
        count,
        size: (side, side),
        images: vec![0.0; count * 3 * side * side],
        captions: vec![vec![0; count * variant.text.context]; texts.sets],
        prompts: vec![0; texts.prompts * variant.text.context],
        ..Batch::default()
    };
    let ledger = Ledger::default();
    let train = Train::new(&ledger, parameters, options);
    let (passed, _) = forward(variant, &train, &batch, words);
    let Passed { images, texts, logits } = passed;
    // Gradients are as large as what they belong to.
    let gradients = [Some(&images), Some(&texts), logits.as_ref()].map(|x| x.map(|x| train.rows(x)));
    let outputs = [Some(images), Some(texts), logits].into_iter().zip(&gradients);
    let seeds: Vec<_> = outputs.filter_map(|(x, gradient)| Some((x?, &gradient.as_ref()?[..]))).collect();
    train.backward(&seeds, &mut Gradients::new(parameters));
    // Words' scores stand beside the device's while their loss is computed.
    let scores = gradients[2].as_ref().map_or(0, |scores| 4 * scores.len() as u64);
    ledger.bytes() + scores
}

/// The words that a captioner is to predict, over all micro-batches.
fn labels(batches: &[Batch]) -> usize {
    let of = |batch: &Batch| {
        let ids = batch.captions.concat();
        next_word::labels(&ids, ids.len() / batch.count.max(1))
    };
    batches.iter().map(of).sum()
}

/// The loss of the whole batch, and the gradients of its features.
struct OfFeatures {
    losses: Losses,
    images: Vec<f32>,
    /// Of each set's texts.
    captions: Vec<Vec<f32>>,
    prompts: Vec<f32>,
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
    let prompts: Vec<f32> = features.iter().flat_map(|f| &f.prompts).copied().collect();
    let prompts = Normalised::new(Rows::new(&prompts, width));
    let labels: Vec<Option<usize>> = batches.iter().flat_map(|b| &b.labels).copied().collect();
    let has_prompts = objective.classifies() && prompts.rows().count() > 0;
    let classes = numbered(batches.iter().flat_map(|b| &b.classes));
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
        classes: &classes,
        prompts: has_prompts.then_some(Prompts { features: prompts.rows(), labels: &labels }),
        scale,
        bias: bias.map_or(0.0, |index| f64::from(parameters.values(index)[0])),
    };
    let losses = objective.loss(cpu.pool(), &pairs)?;
    for (index, gradient) in [(log_scale, losses.scale * scale), (bias, losses.bias)] {
        if let Some(index) = index.filter(|&index| objective.compares() && parameters.is_trained(index)) {
            gradients.sum(index)[0] += gradient as f32;
        }
    }
    let of_images = images.gradient(&losses.images);
    let of_texts = texts.iter().zip(&losses.captions).map(|(texts, g)| texts.gradient(g)).collect();
    let of_prompts = if has_prompts { prompts.gradient(&losses.prompts) } else { Vec::new() };
    Ok(OfFeatures { losses, images: of_images, captions: of_texts, prompts: of_prompts })
}

/// A number for each class; those that have none get their own.
fn numbered<'a>(classes: impl Iterator<Item = &'a Option<String>>) -> Vec<usize> {
    let mut known = HashMap::new();
    let mut number = |(row, class): (usize, &'a Option<String>)| match class {
        Some(class) => *known.entry(class).or_insert(row),
        None => row,
    };
    classes.enumerate().map(&mut number).collect()
}
