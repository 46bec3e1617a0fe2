//! The captioner's training loss and its gradients against open_clip's.

use mobileclip_arch::{Manifest, Shape};
use mobileclip_autodiff::{Cpu, Gradients, Parameters, Train, TrainOptions};
use mobileclip_testing::compare::{assert_close, relative_error};
use mobileclip_testing::formula::{self, Formula};
use mobileclip_testing::golden::{self, array, count, number, numbers, triple};
use mobileclip_testing::toys::toy;

/// What issue 9 promises of first gradients; single precision itself misses 4e-6.
const TOLERANCE: f64 = 1e-4;

/// Two-sided cross-entropy of normalised features, and its gradients for the features before they are normalised.
fn contrastive(images: &[Vec<f64>], texts: &[Vec<f64>], scale: f64) -> (f64, [Vec<f32>; 2]) {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let unit = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.iter().map(|v| v / dot(row, row).sqrt()).collect()).collect()
    };
    let (u, v) = (unit(images), unit(texts));
    let batch = u.len();
    let logits: Vec<Vec<f64>> = u.iter().map(|u| v.iter().map(|v| scale * dot(u, v)).collect()).collect();
    let mut loss = 0.0;
    let mut gradients = vec![vec![0.0; batch]; batch];
    for i in 0..batch {
        let (row, column): (Vec<f64>, Vec<f64>) = (0..batch).map(|j| (logits[i][j], logits[j][i])).unzip();
        for (scores, is_row) in [(row, true), (column, false)] {
            let sum = scores.iter().map(|s| s.exp()).sum::<f64>();
            loss += (sum.ln() - scores[i]) / (2 * batch) as f64;
            for (j, score) in scores.iter().enumerate() {
                let gradient = (score.exp() / sum - f64::from(u8::from(i == j))) / (2 * batch) as f64;
                let (a, b) = if is_row { (i, j) } else { (j, i) };
                gradients[a][b] += gradient;
            }
        }
    }
    let back = |x: &[Vec<f64>], unit: &[Vec<f64>], other: &[Vec<f64>], at: &dyn Fn(usize, usize) -> f64| {
        let of_row = |i: usize| -> Vec<f32> {
            let d: Vec<f64> = (0..unit[i].len())
                .map(|c| scale * (0..batch).map(|j| at(i, j) * other[j][c]).sum::<f64>())
                .collect();
            let (along, norm) = (dot(&unit[i], &d), dot(&x[i], &x[i]).sqrt());
            d.iter().zip(&unit[i]).map(|(d, u)| ((d - u * along) / norm) as f32).collect()
        };
        (0..batch).flat_map(of_row).collect()
    };
    let dimages = back(images, &u, &v, &|i, j| gradients[i][j]);
    let dtexts = back(texts, &v, &u, &|i, j| gradients[j][i]);
    (loss, [dimages, dtexts])
}

/// The mean over all labels that are no padding of −log p, times `weight`, and its gradient; `logits` are `[batch][V][T]`.
fn captions(logits: &[f32], ids: &[Vec<u32>], vocabulary: usize, weight: f64) -> (f64, Vec<f32>) {
    let tokens = ids[0].len();
    let labels: usize = ids.iter().flat_map(|row| &row[1..]).filter(|&&id| id != 0).count();
    let (mut loss, mut gradient) = (0.0, vec![0.0; logits.len()]);
    for (sample, row) in ids.iter().enumerate() {
        for (place, &label) in row[1..].iter().enumerate().filter(|&(_, &id)| id != 0) {
            let at = |c: usize| (sample * vocabulary + c) * tokens + place;
            let exp: Vec<f64> = (0..vocabulary).map(|c| f64::from(logits[at(c)]).exp()).collect();
            let sum: f64 = exp.iter().sum();
            loss -= weight / labels as f64 * (exp[label as usize] / sum).ln();
            for (c, exp) in exp.iter().enumerate() {
                let is_label = f64::from(u8::from(c == label as usize));
                gradient[at(c)] = (weight / labels as f64 * (exp / sum - is_label)) as f32;
            }
        }
    }
    (loss, gradient)
}

#[test]
fn loss_and_gradients_of_the_toy_are_the_golden_ones() {
    let json = golden::json("captioner/loss.json");
    let variant = toy("toy_coca");
    let coca = variant.coca().unwrap();
    let manifest = Manifest::of(&variant);
    let parameters = Parameters::new(&manifest, &Formula::of(&manifest));
    let ids: Vec<Vec<u32>> = array(&json["text_ids"])
        .iter()
        .map(|row| array(row).iter().map(|id| count(id) as u32).collect())
        .collect();
    let shape = Shape::new(3, 32, 32);
    let pixels: Vec<f32> = array(&json["image_labels"])
        .iter()
        .flat_map(|label| {
            formula::pixels(label.as_str().unwrap(), shape, triple(&json["mean"]), triple(&json["std"]))
        })
        .map(|v| v as f32)
        .collect();
    for (threads, recomputes) in [(1, false), (2, true)] {
        let cpu = Cpu::new(threads);
        let train = Train::new(&cpu, &parameters, TrainOptions { recomputes, ..TrainOptions::default() });
        let image = coca.image(&train, &train.images(ids.len(), 32, 32, &pixels));
        let text = coca.text(&train, &train.texts(ids.len(), &ids.concat()));
        let memory = coca.memory(&train, &image.tokens);
        let logits = coca.logits(&train, &text.tokens, &memory);
        drop(memory);
        let features = |x| -> Vec<Vec<f64>> {
            let rows: Vec<f64> = train.rows(x).iter().map(|&v| f64::from(v)).collect();
            rows.chunks(variant.embed_dim).map(<[f64]>::to_vec).collect()
        };
        let (images, texts) = (features(&image.features), features(&text.features));
        let scale = number(&json["log_scale"]).exp();
        let (contrastive_loss, [dimages, dtexts]) = contrastive(&images, &texts, scale);
        let (caption_loss, dlogits) = captions(&train.rows(&logits), &ids, variant.text.vocabulary, 2.0);
        let losses = [contrastive_loss, caption_loss, contrastive_loss + caption_loss];
        let expected = ["contrastive_loss", "caption_loss", "total"].map(|key| number(&json[key]));
        assert_close("losses", &losses, &expected, 1e-5);
        let mut gradients = Gradients::new(&parameters);
        let seeds = [(image.features, &dimages[..]), (text.features, &dtexts[..]), (logits, &dlogits[..])];
        train.backward(&seeds, &mut gradients);
        let mut checked = 0;
        for row in array(&json["grad"]).iter().filter(|row| row["name"] != "logit_scale") {
            let name = row["name"].as_str().unwrap();
            let gradient = gradients.get(parameters.index(name).unwrap()).unwrap();
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!(
                (norm / number(&row["norm"]) - 1.0).abs() < TOLERANCE,
                "{name}: {norm}, expected {}",
                row["norm"]
            );
            let values: Vec<Vec<f64>> = array(&row["values"]).iter().map(numbers).collect();
            let got: Vec<f64> = values.iter().map(|v| f64::from(gradient[v[0] as usize])).collect();
            let expected: Vec<f64> = values.iter().map(|v| v[1]).collect();
            // Some of these few are near zero: against the tensor's norm they still say whether the place is right.
            let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let error = relative_error(&got, &expected);
            assert!(error < TOLERANCE || largest < 1e-3 * norm, "{name}: {error:e}");
            checked += 1;
        }
        assert_eq!(checked, 128);
    }
}
