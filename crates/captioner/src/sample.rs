//! One id after the other, by chance or the best.

use std::collections::VecDeque;

use mobileclip_engine::Text;

use crate::captioner::{Captioner, Request, wide};
use crate::error::Result;
use crate::random::unit;
use crate::scores::{adjust, best, draw};
use crate::settings::{Method, Settings};

/// A text that is being written.
struct Row {
    request: usize,
    text: Text,
    ids: Vec<u32>,
    /// How many of the ids the decoder has seen.
    seen: usize,
}

impl Row {
    fn is_finished(&self, settings: &Settings) -> bool {
        let last = self.ids.last();
        last == Some(&settings.end) || last == Some(&settings.pad) || self.ids.len() == settings.max_ids
    }
}

/// Finished texts leave the batch, waiting ones take their places.
pub(crate) fn write(
    captioner: &Captioner,
    requests: &[Request],
    settings: &Settings,
) -> Result<Vec<Vec<u32>>> {
    let mut waiting: VecDeque<usize> = (0..requests.len()).collect();
    let mut rows: Vec<Row> = Vec::new();
    let mut written = vec![Vec::new(); requests.len()];
    while !waiting.is_empty() || !rows.is_empty() {
        while rows.len() < settings.batch
            && let Some(request) = waiting.pop_front()
        {
            let Request { picture, prompt, .. } = &requests[request];
            let ids = if prompt.is_empty() { vec![settings.start] } else { prompt.to_vec() };
            let text = captioner.decoder.text(&picture.memory, settings.max_ids);
            rows.push(Row { request, text, ids, seen: 0 });
        }
        let mut open = Vec::with_capacity(rows.len());
        for mut row in rows {
            if !row.is_finished(settings) && row.ids.len() + 1 == settings.max_ids {
                // The last place is the end mark's, whatever the model says.
                row.ids.push(settings.end);
            }
            match row.is_finished(settings) {
                true => written[row.request] = row.ids,
                false => open.push(row),
            }
        }
        rows = open;
        let (mut texts, news): (Vec<&mut Text>, Vec<&[u32]>) =
            rows.iter_mut().map(|row| (&mut row.text, &row.ids[row.seen..])).unzip();
        let logits = captioner.decoder.step(&mut texts, &news)?;
        // Of a beginning's ids only the last one's logits matter.
        let mut end = 0;
        for row in &mut rows {
            end += row.ids.len() - row.seen;
            row.seen = row.ids.len();
            let next = next(&logits[end - 1], row, &requests[row.request], settings)?;
            row.ids.push(next);
        }
    }
    Ok(written)
}

fn next(logits: &[f32], row: &Row, request: &Request, settings: &Settings) -> Result<u32> {
    let mut scores = wide(logits)?;
    adjust(&mut scores, &row.ids, settings.min_ids, settings.end, settings.repetition_penalty);
    let id = match settings.method {
        Method::Sample(filter) => {
            let kept = filter.keep(&scores, settings.temperature);
            draw(&kept, unit(settings.seed, request.uid, request.sample, row.ids.len()))
        }
        Method::Greedy | Method::Beam { .. } => best(&scores, 1)[0],
    };
    Ok(id as u32)
}
