//! Zero-shot classification: labels in templates, one embedding for each label.

use crate::error::{Error, Result};
use crate::model::{Model, normalized};

/// The template when none is given.
pub const DEFAULT_TEMPLATE: &str = "a photo of a {}";

/// One label's embedding each.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    names: Vec<String>,
    embeddings: Vec<Vec<f32>>,
}

/// How well a label fits.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// The label.
    pub label: String,
    /// Softmax of the logits over all labels, 0 to 1.
    pub probability: f32,
    /// `logit_scale · cosine`.
    pub logit: f32,
}

impl Labels {
    /// Embeds every label in every template; a label's embeddings are averaged and normalised again (CLIP,
    /// arXiv:2103.00020, section 3.1.4).
    ///
    /// # Errors
    /// If there are no labels or templates, a template has no `{}`, or the model's weights are damaged.
    pub fn embed(model: &Model, names: &[String], templates: &[String]) -> Result<Self> {
        check(names, templates)?;
        let texts: Vec<String> = names
            .iter()
            .flat_map(|name| templates.iter().map(|template| template.replace("{}", name)))
            .collect();
        let embedded = model.encode_texts(&texts)?;
        let embeddings = embedded.chunks(templates.len()).map(mean).collect();
        Ok(Self { names: names.to_vec(), embeddings })
    }

    /// Labels whose embeddings are known, L2-normalised.
    pub fn from_parts(names: Vec<String>, embeddings: Vec<Vec<f32>>) -> Self {
        Self { names, embeddings }
    }

    /// The labels.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Their embeddings, in the same order.
    pub fn embeddings(&self) -> &[Vec<f32>] {
        &self.embeddings
    }

    /// Scores of a picture's normalised embedding, best first; equal ones keep the labels' order.
    pub fn scores(&self, model: &Model, image: &[f32]) -> Vec<Score> {
        let logits: Vec<f32> = self.embeddings.iter().map(|text| model.logit(image, text)).collect();
        let probabilities = softmax(&logits);
        let mut scores: Vec<Score> = (self.names.iter().zip(probabilities).zip(logits))
            .map(|((label, probability), logit)| Score { label: label.clone(), probability, logit })
            .collect();
        scores.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        scores
    }
}

/// Whether there is something to embed.
pub(crate) fn check(names: &[String], templates: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::NoLabels);
    }
    if templates.is_empty() {
        return Err(Error::NoTemplates);
    }
    match templates.iter().find(|template| !template.contains("{}")) {
        Some(template) => Err(Error::Template { template: template.clone() }),
        None => Ok(()),
    }
}

fn mean(embeddings: &[Vec<f32>]) -> Vec<f32> {
    if let [one] = embeddings {
        return one.clone();
    }
    let mut sum = vec![0.0; embeddings.first().map_or(0, Vec::len)];
    for embedding in embeddings {
        sum.iter_mut().zip(embedding).for_each(|(sum, v)| *sum += v);
    }
    // The length of the sum does not matter: it is normalised.
    normalized(sum)
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|&l| f64::from(l - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| (e / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::{mean, softmax};

    #[test]
    fn softmax_of_large_logits_is_finite_and_sums_to_one() {
        let p = softmax(&[1000.0, 999.0, -1000.0]);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((p[0] / p[1] - std::f32::consts::E).abs() < 1e-4);
    }

    #[test]
    fn the_mean_of_embeddings_has_length_one() {
        assert_eq!(mean(&[vec![1.0, 0.0], vec![0.0, 1.0]]), [0.5f32.sqrt(); 2]);
    }
}
