//! From logits to what may come next, in the order of the published generator: minimum length, repetition penalty, filter, and
//! only then the temperature.

/// Which ids may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Filter {
    /// The best ones that make up this share of the probability; the one that crosses it is in.
    TopP(f64),
    /// So many of the best; those that are as good as the last are in, too.
    TopK(usize),
}

/// Applies minimum length and repetition penalty to logits after `ids`.
pub fn adjust(scores: &mut [f64], ids: &[u32], min_ids: usize, end: u32, repetition_penalty: f64) {
    if ids.len() < min_ids
        && let Some(score) = scores.get_mut(end as usize)
    {
        *score = f64::NEG_INFINITY;
    }
    if repetition_penalty != 1.0 {
        let mut seen = ids.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(score) = scores.get_mut(id as usize) {
                *score *= if *score < 0.0 { repetition_penalty } else { 1.0 / repetition_penalty };
            }
        }
    }
}

impl Filter {
    /// The ids that it leaves, in ascending order, and their probabilities at a temperature.
    pub fn keep(&self, scores: &[f64], temperature: f64) -> Vec<(usize, f64)> {
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut kept = match *self {
            Self::TopK(k) => {
                let last = best(scores, k).last().map_or(f64::NEG_INFINITY, |&id| scores[id]);
                (0..scores.len()).filter(|&id| scores[id] >= last && scores[id] > f64::NEG_INFINITY).collect()
            }
            Self::TopP(p) => {
                let exp = |id: usize| (scores[id] - largest).exp();
                let total: f64 = (0..scores.len()).map(exp).sum();
                most(scores, |kept| {
                    // An id stays if those from it downwards make up more than 1 − p: if those above make up less than p.
                    let mut above = 0.0;
                    kept.iter().position(|&id| {
                        let is_out = above >= p * total || scores[id] == f64::NEG_INFINITY;
                        above += exp(id);
                        is_out
                    })
                })
            }
        };
        kept.sort_unstable();
        let weight = |id: usize| ((scores[id] - largest) / temperature).exp();
        let total: f64 = kept.iter().map(|&id| weight(id)).sum();
        kept.into_iter().map(|id| (id, weight(id) / total)).collect()
    }
}

/// The `count` best ids, the best first; of equals, the later one.
pub(crate) fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(b.cmp(a));
    if count < ids.len() {
        ids.select_nth_unstable_by(count, order);
        ids.truncate(count);
    }
    ids.sort_unstable_by(order);
    ids
}

/// The best ids up to where `end` says, which looks at ever more of them: the few that matter are found without sorting all.
fn most(scores: &[f64], end: impl Fn(&[usize]) -> Option<usize>) -> Vec<usize> {
    let mut count = 64;
    loop {
        let mut ids = best(scores, count);
        if let Some(end) = end(&ids) {
            ids.truncate(end.max(1));
            return ids;
        }
        if ids.len() == scores.len() {
            return ids;
        }
        count = count.saturating_mul(8);
    }
}

/// The id whose share of 0…1 holds `unit`.
pub(crate) fn draw(kept: &[(usize, f64)], unit: f64) -> usize {
    let mut end = 0.0;
    let found = kept.iter().find(|(_, probability)| {
        end += probability;
        unit < end
    });
    found.or(kept.last()).map_or(0, |&(id, _)| id)
}

#[cfg(test)]
mod tests {
    use mobileclip_testing::golden::{self, array, count, number, numbers};

    use super::*;

    #[test]
    fn filters_keep_what_the_reference_keeps() {
        let json = golden::json("captioner/sampling.json");
        let mut checked = 0;
        for case in array(&json["filters"]) {
            let name = case["logits"].as_str().unwrap();
            let mut scores = numbers(&json["logits"][name]);
            let ids: Vec<u32> = array(&case["ids"]).iter().map(|id| count(id) as u32).collect();
            let penalty = number(&case["repetition_penalty"]);
            adjust(&mut scores, &ids, count(&case["min_seq_len"]), count(&case["eos"]) as u32, penalty);
            let filter = match case["kind"].as_str().unwrap() {
                "top_p" => Filter::TopP(number(&case["value"])),
                _ => Filter::TopK(count(&case["value"])),
            };
            let got = filter.keep(&scores, number(&case["temperature"]));
            let expected: Vec<usize> = array(&case["kept"]).iter().map(count).collect();
            assert_eq!(got.iter().map(|(id, _)| *id).collect::<Vec<_>>(), expected, "{case}");
            let probabilities = numbers(&case["probabilities"]);
            for (id, probability) in got {
                assert!((probability - probabilities[id]).abs() < 1e-8, "{case}: id {id} has {probability}");
            }
            checked += 1;
        }
        assert_eq!(checked, 70);
    }

    #[test]
    fn a_long_tail_is_looked_at_as_far_as_it_counts() {
        // Equal scores: three quarters of a thousand make up that share.
        let scores = vec![0.5; 1000];
        assert_eq!(Filter::TopP(0.75).keep(&scores, 1.0).len(), 750);
        assert_eq!(Filter::TopP(1.0).keep(&scores, 1.0).len(), 1000);
        assert_eq!(Filter::TopP(1e-9).keep(&scores, 1.0), [(999, 1.0)]);
        assert_eq!(Filter::TopK(5).keep(&scores, 1.0).len(), 1000);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let kept = [(3, 0.25), (5, 0.5), (9, 0.25)];
        for (unit, id) in [(0.0, 3), (0.249, 3), (0.25, 5), (0.749, 5), (0.75, 9), (1.0, 9)] {
            assert_eq!(draw(&kept, unit), id, "{unit}");
        }
    }
}
