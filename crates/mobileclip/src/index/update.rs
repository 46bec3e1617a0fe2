//! Bringing an index up to date with the folders.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::segment::{Row, State, embedding_bytes};
use super::store::Index;
use super::walk::{Found, Stamp, find_photos};
use super::{Embed, ModelNote};

/// How an update goes about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UpdateOptions {
    /// How many photos are given to the model at once.
    pub batch: usize,
    /// After how many photos at the latest their embeddings are made durable.
    pub commit_photos: usize,
    /// After what time at the latest, at the end of the batch; for models that take seconds for a photo.
    pub commit_after: Duration,
    /// Tries photos again that had no embedding last time, even if they have not changed.
    pub is_retrying_failed: bool,
    /// Drops what the index knows of a root even if the root no longer holds any photo.
    pub is_dropping_emptied_roots: bool,
}

impl Default for UpdateOptions {
    fn default() -> Self {
        Self {
            batch: 64,
            commit_photos: 500,
            commit_after: Duration::from_secs(60),
            is_retrying_failed: false,
            is_dropping_emptied_roots: false,
        }
    }
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many photos have been tried.
    pub done: usize,
    /// How many are to be tried.
    pub total: usize,
    /// How many of those that were tried have no embedding.
    pub failed: usize,
}

/// What an update did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Photos that were embedded, new or changed.
    pub embedded: usize,
    /// Photos that were in the index already and have not changed.
    pub unchanged: usize,
    /// Photos that were taken out of the index because they are gone.
    pub removed: usize,
    /// Photos without embedding and folders that could not be read, and why. With those of earlier runs that are still so.
    pub failed: Vec<(PathBuf, String)>,
    /// How many of `failed` were not tried again because they have not changed since they failed.
    pub failed_before: usize,
    /// Whether the caller stopped the update. What was embedded by then is in the index.
    pub is_interrupted: bool,
}

impl Index {
    /// Embeds what is new or changed (by size and time of modification) in some folders, and drops what is gone from them.
    /// What the index knows of other folders stays.
    ///
    /// Photos are stored by their absolute paths, without links in those of the roots. A photo that the model cannot embed
    /// is reported, and not tried again before it changes. What lies under a folder that cannot be read stays as it is.
    /// `progress` is called before the first and after each batch and may stop the update.
    ///
    /// # Errors
    /// [`Error::OtherModel`]; [`Error::Root`] if a root cannot be read, and [`Error::EmptiedRoot`] if it no longer holds any
    /// photo though it did (see [`UpdateOptions::is_dropping_emptied_roots`]), and then nothing was changed;
    /// [`Error::Embedder`] if the model breaks its word; [`Error::Io`]. What was committed before an error stays.
    pub fn update(
        &mut self,
        roots: &[PathBuf],
        embedder: &dyn Embed,
        options: &UpdateOptions,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<Report> {
        let model = embedder.model();
        self.check_model(&model)?;
        let mut report = Report::default();
        let (to_embed, gone) = self.plan(roots, options, &mut report)?;
        report.removed = gone.len();
        self.commit(&gone)?;

        let mut now = Progress { done: 0, total: to_embed.len(), failed: 0 };
        let mut pending: Vec<Row> = Vec::new();
        let mut last_commit = Instant::now();
        let mut flow = progress(&now);
        for batch in to_embed.chunks(options.batch.clamp(1, options.commit_photos.max(1))) {
            if flow.is_break() {
                report.is_interrupted = true;
                break;
            }
            if pending.len() + batch.len() > options.commit_photos
                || last_commit.elapsed() >= options.commit_after
            {
                self.commit(&pending)?;
                pending.clear();
                last_commit = Instant::now();
            }
            let failed_until_now = report.failed.len();
            let rows = embed(batch, embedder, &model, &mut report.failed)?;
            report.embedded += rows.iter().filter(|row| matches!(row.state, State::Embedded(_))).count();
            pending.extend(rows);
            now.done += batch.len();
            now.failed += report.failed.len() - failed_until_now;
            flow = progress(&now);
        }
        self.commit(&pending)?;
        self.compact()?;
        Ok(report)
    }

    /// What is to be embedded, and the rows that say what is gone.
    fn plan(
        &self,
        roots: &[PathBuf],
        options: &UpdateOptions,
        report: &mut Report,
    ) -> Result<(Vec<Found>, Vec<Row>)> {
        let refuse =
            |root: &Path, error: std::io::Error| Error::Root { root: root.into(), reason: error.to_string() };
        let roots: Vec<PathBuf> = roots
            .iter()
            .map(|root| fs::canonicalize(root).map_err(|e| refuse(root, e)))
            .collect::<Result<_>>()?;
        let walk = find_photos(&roots).map_err(|(root, error)| refuse(&root, error))?;
        report.failed = walk.failed;

        let mut to_embed = Vec::new();
        let mut present: HashSet<&str> = HashSet::new();
        for found in &walk.photos {
            let Some(path) = found.path.to_str() else {
                report.failed.push((found.path.clone(), "its name is not UTF-8; rename it".to_owned()));
                continue;
            };
            present.insert(path);
            match self.entries.get(path).filter(|entry| entry.stamp == found.stamp) {
                Some(entry) => match &entry.failed {
                    None => report.unchanged += 1,
                    Some(_) if options.is_retrying_failed => to_embed.push(found.clone()),
                    Some(reason) => {
                        report.failed.push((found.path.clone(), reason.clone()));
                        report.failed_before += 1;
                    }
                },
                None => to_embed.push(found.clone()),
            }
        }

        let is_below = |path: &Path, places: &[PathBuf]| places.iter().any(|place| path.starts_with(place));
        let gone = |path: &&String| {
            let way = Path::new(path.as_str());
            !present.contains(path.as_str()) && is_below(way, &roots) && !is_below(way, &walk.unknown)
        };
        let row = |path: &String| Row { path: path.clone(), stamp: Stamp::default(), state: State::Removed };
        let gone: Vec<Row> = self.entries.keys().filter(gone).map(row).collect();

        // The folder on which a disk is not mounted is there, and empty. Forgetting a whole disk should be somebody's wish.
        for root in roots.iter().filter(|_| !options.is_dropping_emptied_roots) {
            let known = gone.iter().filter(|row| Path::new(&row.path).starts_with(root)).count();
            if known > 0 && !walk.photos.iter().any(|found| found.path.starts_with(root)) {
                return Err(Error::EmptiedRoot { root: root.clone(), known });
            }
        }
        Ok((to_embed, gone))
    }
}

/// The rows of some photos. Stamps are those of the walk: a photo that is changed meanwhile is embedded again next time.
fn embed(
    photos: &[Found],
    embedder: &dyn Embed,
    model: &ModelNote,
    failed: &mut Vec<(PathBuf, String)>,
) -> Result<Vec<Row>> {
    // What cannot even be opened says nothing about the photo (rights, a share that went away): no row, so that the next run
    // tries again.
    let can_be_opened = |found: &&Found| match File::open(&found.path) {
        Ok(_) => true,
        Err(error) => {
            failed.push((found.path.clone(), error.to_string()));
            false
        }
    };
    let photos: Vec<&Found> = photos.iter().filter(can_be_opened).collect();
    let paths: Vec<PathBuf> = photos.iter().map(|found| found.path.clone()).collect();
    let results = if paths.is_empty() { Vec::new() } else { embedder.embed_files(&paths) };
    let broken = |found: String, expected: String| Error::Embedder { found, expected };
    if results.len() != paths.len() {
        return Err(broken(format!("{} results", results.len()), format!("{} photos", paths.len())));
    }
    let mut rows = Vec::with_capacity(paths.len());
    for (found, result) in photos.into_iter().zip(results) {
        let state = match result {
            Ok(embedding) if embedding.len() != model.dimension => {
                let expected = format!("{} ({} expected)", found.path.display(), model.dimension);
                return Err(broken(format!("{} numbers", embedding.len()), expected));
            }
            // Normalised numbers fit; what does not would be infinite as f16.
            Ok(embedding) if embedding.iter().all(|x| x.abs() <= 2.0) => {
                State::Embedded(embedding_bytes(&embedding))
            }
            Ok(_) => State::Failed("its embedding is not a unit vector of finite numbers".to_owned()),
            Err(reason) => State::Failed(reason),
        };
        if let State::Failed(reason) = &state {
            failed.push((found.path.clone(), reason.clone()));
        }
        let path = found.path.to_str().unwrap_or_default().to_owned();
        rows.push(Row { path, stamp: found.stamp, state });
    }
    Ok(rows)
}
