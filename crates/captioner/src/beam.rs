//! Beam search as it was published: scores are sums of raw logits, and hypotheses are compared by score over length. The
//! published form has several groups of beams that do not know of each other and so find the same; this is one of them.

use mobileclip_engine::Text;

use crate::captioner::{Captioner, Request, wide};
use crate::error::Result;
use crate::scores::{adjust, best};
use crate::settings::Settings;

/// A text that is still open.
struct Beam {
    text: Text,
    ids: Vec<u32>,
    seen: usize,
    score: f64,
}

/// The best closed texts.
struct Hypotheses {
    width: usize,
    /// Score over length, and the ids without the end mark.
    kept: Vec<(f64, Vec<u32>)>,
}

impl Hypotheses {
    fn add(&mut self, score: f64, ids: &[u32], len: usize) {
        self.kept.push((score / len as f64, ids.to_vec()));
        if self.kept.len() > self.width {
            // The worst goes, of equals the first.
            let worst =
                (0..self.kept.len()).fold(0, |w, i| if self.kept[i].0 < self.kept[w].0 { i } else { w });
            self.kept.remove(worst);
        }
    }

    fn worst(&self) -> f64 {
        self.kept.iter().map(|(score, _)| *score).fold(f64::INFINITY, f64::min)
    }
}

pub(crate) fn write(
    captioner: &Captioner,
    request: &Request,
    settings: &Settings,
    width: usize,
) -> Result<Vec<u32>> {
    let ids = if request.prompt.is_empty() { vec![settings.start] } else { request.prompt.to_vec() };
    let text = captioner.decoder.text(&request.picture.memory, settings.max_ids);
    let mut beams = vec![Beam { text, ids, seen: 0, score: 0.0 }];
    let mut closed = Hypotheses { width, kept: Vec::new() };
    let mut is_done = false;
    while !is_done && beams[0].ids.len() < settings.max_ids {
        // With the next id.
        let len = beams[0].ids.len() + 1;
        let candidates = candidates(captioner, &mut beams, settings, 2 * width)?;
        let attainable = candidates.first().map_or(0.0, |c| c.score) / len as f64;
        let mut next = Vec::with_capacity(width);
        for (rank, Candidate { beam, id, score }) in candidates.into_iter().enumerate() {
            let Beam { text, ids, seen, .. } = &beams[beam];
            if id == settings.end {
                if rank < width {
                    closed.add(score, ids, len);
                }
            } else if next.len() < width {
                let ids = ids.iter().copied().chain([id]).collect();
                next.push(Beam { text: text.clone(), ids, seen: *seen, score });
            }
            if next.len() == width {
                break;
            }
        }
        is_done = closed.kept.len() == width && closed.worst() >= attainable;
        beams = next;
    }
    if !is_done {
        beams.iter().for_each(|beam| closed.add(beam.score, &beam.ids, beam.ids.len()));
    }
    // Of equals the last.
    let best = closed.kept.into_iter().reduce(|best, other| if other.0 >= best.0 { other } else { best });
    let mut ids = best.map(|(_, ids)| ids).unwrap_or_default();
    if ids.len() < settings.max_ids {
        ids.push(settings.end);
    }
    Ok(ids)
}

struct Candidate {
    beam: usize,
    id: u32,
    score: f64,
}

/// The best continuations by one id of all beams, the best first.
fn candidates(
    captioner: &Captioner,
    beams: &mut [Beam],
    settings: &Settings,
    count: usize,
) -> Result<Vec<Candidate>> {
    let (mut texts, news): (Vec<&mut Text>, Vec<&[u32]>) =
        beams.iter_mut().map(|beam| (&mut beam.text, &beam.ids[beam.seen..])).unzip();
    let logits = captioner.decoder.step(&mut texts, &news)?;
    let (mut end, mut all) = (0, Vec::new());
    for (index, beam) in beams.iter_mut().enumerate() {
        end += beam.ids.len() - beam.seen;
        beam.seen = beam.ids.len();
        let mut scores = wide(&logits[end - 1])?;
        adjust(&mut scores, &beam.ids, settings.min_ids, settings.end, settings.repetition_penalty);
        let of_beam = best(&scores, count).into_iter();
        all.extend(of_beam.map(|id| Candidate {
            beam: index,
            id: id as u32,
            score: beam.score + scores[id],
        }));
    }
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(count);
    Ok(all)
}
